"""What a registration is given, read and checked: two images and what says more of them."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from regzoo.errors import InvalidError, RegzooError, invalid
from regzoo.io.landmarks import Landmarks, check_paired, read_landmarks
from regzoo.io.volumes import is_array
from regzoo.registration.scores import Side
from regzoo.world.alignment import Start
from regzoo.world.images import Image, Source, check_beside, overlap_gap
from regzoo.world.labels import like_a_series, mask, shared_labels
from regzoo.world.matrices import checked_points
from regzoo.world.padding import padding, without_padding

Points = str | os.PathLike | np.ndarray


def read_images(fixed: Source, moving: Source, spacing: Sequence[float] | None) -> tuple[Image, Image]:
    """Returns both images; `spacing` is that of those that are arrays.

    Raises:
        InvalidError: If one has channels, or there is a spacing and no array.
    """
    sources = {"fixed": fixed, "moving": moving}
    if spacing is not None and not any(is_array(source) for source in sources.values()):
        raise invalid("spacing", "none, for fixed and moving are no arrays and have their own", spacing)
    images = []
    for name, source in sources.items():
        with _naming(name):
            images.append(Image.of(source, name, spacing=spacing if is_array(source) else None))
    for name, image in zip(sources, images, strict=True):
        if image.channels is not None:
            raise invalid(name, "one value a voxel", f"{image.channels} channels")
    return tuple(images)


def read_side(name: str, image: Image, labels: Source | None, points: np.ndarray | None = None) -> Side:
    """Returns an image, the lowest of its values in place of padding, with its labels and landmarks."""
    labels = None if labels is None else _beside(f"{name}_labels", labels, image)
    where = padding(image)
    return Side(without_padding(image, where) if where is not None else image, labels, points, where)


def read_both_points(fixed: Points | None, moving: Points | None) -> dict[str, np.ndarray | None]:
    """Returns the landmarks of each side, (N, 3) in RAS mm, by the side's name; both name the same, row by row."""
    given = {"fixed": fixed, "moving": moving}
    found = {name: _landmarks(f"{name}_points", points) for name, points in given.items() if points is not None}
    if len(found) == 2:
        check_paired(*found.values())
    return {name: found[name].points if name in found else None for name in given}


def open_geometry(*sides: Side) -> list[str]:
    """Says what the headers of the images leave open."""
    named = zip(("fixed", "moving"), sides, strict=True)
    return [f"{name}: {side.image.remark}" for name, side in named if side.image.remark]


def twins(fixed: Side, moving: Side) -> list[str]:
    """Says that one image was given twice."""
    same = fixed.image.grid.same_as(moving.image.grid) and np.array_equal(fixed.image.array, moving.image.array)
    return ["fixed and moving are the same image."] if same else []


def stacked(*sides: Side) -> list[str]:
    """Says that channels of labels look like a series, which cannot be told from labels that lie on each other."""
    named = zip(("fixed", "moving"), sides, strict=True)
    return [
        f"{name}_labels: their {side.labels.channels} volumes lie on each other, and are taken for as many labels. If "
        "they are one label at several times, give one volume."
        for name, side in named
        if side.labels is not None and like_a_series(side.labels)
    ]


def padded(*sides: Side) -> list[str]:
    """Says how much of the images is padding."""
    named = zip(("fixed", "moving"), sides, strict=True)
    return [
        f"{name}: {100 * side.padding.mean():.0f} % of the voxels are padding and no anatomy; they are left out, and "
        f"taken for {side.image.array.min():g}."
        for name, side in named
        if side.padding is not None
    ]


def masks_of(sides: tuple[Side, Side], given: Mapping[str, Image]) -> dict[str, Image]:
    """Returns the given masks without what is padded, by name; where nothing is given, what is not padded."""
    found = dict(given)
    for name, side in zip(("fixed_mask", "moving_mask"), sides, strict=True):
        if side.padding is not None:
            inside = given[name].array != 0 if name in given else True
            found[name] = Image((inside & ~side.padding).astype("uint8"), side.image.affine)
    return found


def read_masks(sides: tuple[Side, Side], fixed: Source | None, moving: Source | None) -> dict[str, Image]:
    """Returns the masks that there are, by name."""
    given = {"fixed_mask": (sides[0], fixed), "moving_mask": (sides[1], moving)}
    return {name: _beside(name, mask, side.image) for name, (side, mask) in given.items() if mask is not None}


def guiding_labels(fixed: Side, moving: Side) -> tuple[Image, Image]:
    """Returns the labels that both images have, one channel each."""
    if fixed.labels is None or moving.labels is None:
        raise invalid("guided", "fixed_labels and moving_labels", "not both")
    shared = shared_labels(fixed.labels, moving.labels)
    if not shared:
        raise invalid("guided", "a label that both images have", "none")
    return tuple(
        Image(np.stack([mask(side.labels, each) for each in shared], axis=-1).astype("float32"), side.labels.affine)
        for side in (fixed, moving)
    )


def check_overlap(fixed: Image, moving: Image, start: Start) -> None:
    """Refuses images that have no place in common in scanner coordinates, if these are trusted."""
    gap = overlap_gap(fixed.grid, moving.grid)
    if gap > 0 and start == "world":
        raise InvalidError(
            f"fixed and moving do not overlap in world space (gap {gap:.0f} mm). "
            'Check the affines, or pass start="center" (--start center).'
        )


@contextmanager
def _naming(argument: str) -> Iterator[None]:
    """Says which argument it was that could not be read: `fixed_labels: x.nii.gz is not a readable image ...`."""
    try:
        yield
    except RegzooError as error:
        if str(error).startswith(argument):
            raise
        raise type(error)(f"{argument}: {error}") from error


def _beside(name: str, labels: Source, image: Image) -> Image:
    """Reads labels or a mask that must lie on an image's grid; an array lies there."""
    with _naming(name):
        labels = Image.of(labels, name, labels=True, affine=image.affine if is_array(labels) else None)
    if name.endswith("mask") and labels.channels is not None:
        raise invalid(name, "one value a voxel", f"{labels.channels} channels")
    check_beside(name, labels, image, f"the grid of the {name.split('_')[0]} image")
    return labels


def _landmarks(name: str, points: Points) -> Landmarks:
    if isinstance(points, str | os.PathLike):
        with _naming(name):
            return read_landmarks(points)
    points = checked_points(name, points)
    if not len(points):
        raise invalid(name, "a CSV file, or RAS mm of shape (N, 3)", "no points")
    return Landmarks(points)
