"""Stripping: which image shows a whole head, where the brain in it is, and what a model of brains is shown of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from keras import ops
from scipy import ndimage

from regzoo import hub
from regzoo.errors import InvalidError, RegzooError
from regzoo.models import RegistrationModel, zoo
from regzoo.registration.scores import Side
from regzoo.world.images import Image
from regzoo.world.matrices import about, map_points
from regzoo.world.resampling import resample
from regzoo.world.views import from_batch, to_batch, view

_BRIGHT = 0.1  # of an image's range
_BRAIN, _TOUCHING = 2.2, 2500.0  # litres, and mm² of a face of the image's box
"""Up to which an image is surely of a brain alone: 175 brains had at most 1.99 and 1,052, 20 raw heads at least 2.52
and 9,590 (`python tests/benchmarks/heads.py told DATA --finder none`)."""
_LEAST = 0.4  # litres
_NEAR, _AROUND = 6.0, 0.2
"""Millimetres around a brain, and volumes of it that are bright beyond, from which on an image is a head: around the
175 brains there was 0.02 at most, around the 20 raw heads 0.39 at least (the same, by `--finder head-mr-strip`)."""
_SURE = 3.0  # logarithm of odds beyond which the mask's edge is not moved
_MARGIN = 10.0  # mm left around a brain


@dataclass(frozen=True)
class Shown:
    """What a model is shown of two sides.

    Args:
        sides: Fixed and moving side; a head's image is its brain alone, cropped around it.
        masks: `fixed_mask` and `moving_mask`, of heads alone, on the images' own grids.
        facts: What `result.json` says of it; empty if nothing was stripped.
    """

    sides: tuple[Side, Side]
    masks: Mapping[str, Image] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)


def shown(model: RegistrationModel, sides: tuple[Side, Side], strip: bool) -> Shown:
    """Finds heads among the images of a model that was made for brains alone, and strips them.

    Args:
        model: Its card's `input.strip` names the zoo's model that finds the brain; any other model sees all.
        sides: Fixed and moving side.
        strip: Whether to look at all.

    Raises:
        RegzooError: If there is no model of that name, or it is damaged.
    """
    name = model.card.input.strip
    heads = {
        f"{which}_mask": side
        for which, side in zip(("fixed", "moving"), sides, strict=True)
        if strip and name is not None and not is_bare(side.image)
    }
    if not heads:
        return Shown(sides)
    finder = _finder(name)
    found = {which: brain_mask(side.image, finder) for which, side in heads.items()}
    masks = {which: mask for which, mask in found.items() if mask is not None}
    if not masks:
        return Shown(sides)
    card = finder.card
    facts = {"name": card.name, "version": card.version, "sha256": card.digest}
    facts |= {which.removesuffix("_mask"): round(_litres(mask), 3) for which, mask in masks.items()}
    named = zip(("fixed_mask", "moving_mask"), sides, strict=True)
    seen = (replace(s, image=brain_alone(s.image, masks[which])) if which in masks else s for which, s in named)
    return Shown(tuple(seen), masks, {"stripped": facts})


_kept: dict[str, RegistrationModel] = {}


def _finder(name: str) -> RegistrationModel:
    """Returns the model that finds brains, which is loaded once."""
    try:
        entry = hub.take(name)
    except RegzooError as error:
        raise InvalidError(
            f"The images may be whole heads, and {error} --no-strip registers them as they are."
        ) from error
    if entry.card.digest not in _kept:
        _kept.clear()
        _kept[entry.card.digest] = zoo.load(entry)
    return _kept[entry.card.digest]


def is_bare(image: Image) -> bool:
    """Tells whether there is surely nothing around a brain: one value around what is no larger than a brain.

    What is shown hardly touches the border of the image either, as a neck does. Of what is not so surely bare, the
    network tells.

    Args:
        image: One channel.
    """
    litres, touching = extent(image)
    return litres <= _BRAIN and touching <= _TOUCHING


def extent(image: Image) -> tuple[float, float]:
    """Returns litres of what is not background, and the most mm² of it on a face of the image's box."""
    array, sizes = image.array, image.spacing
    faces = [np.take(array, end, axis) for axis in range(3) for end in (0, -1)]
    background = np.median(np.concatenate([face.ravel() for face in faces]))
    areas = [np.prod(np.delete(sizes, axis)) for axis in range(3) for _ in range(2)]
    touching = max(float((face != background).sum() * area) for face, area in zip(faces, areas, strict=True))
    return float((array != background).sum() * np.prod(sizes)) / 1e6, touching


def brain_mask(image: Image, finder: RegistrationModel) -> Image | None:
    """Finds the brain in a head.

    Args:
        image: One channel, any grid.
        finder: A model of masks, which the zoo gave.

    Returns:
        The mask, uint8, on the image's grid: one part, without holes. None if no brain is found, or hardly anything is
        bright around it, so that it is no head.
    """
    mask, around = find_brain(image, finder)
    return mask if around >= _AROUND and _litres(mask) >= _LEAST else None


def find_brain(image: Image, finder: RegistrationModel) -> tuple[Image, float]:
    """Finds the brain in any image.

    Args:
        image: One channel, any grid.
        finder: A model of masks, which the zoo gave.

    Returns:
        The mask as `brain_mask` has it, empty if none is found; and how much is bright further than 6 mm from it, in
        volumes of the brain.
    """
    seen = view(image, finder.card.input)
    batch = to_batch(seen.image, len(finder.card.input.shape))
    odds = from_batch(ops.convert_to_numpy(finder.predict_on_batch({"image": batch})["mask"]), 3)[..., 0]
    inside = _whole(odds > 0)
    if not inside.any():
        return Image(np.zeros(image.shape, "uint8"), image.affine), 0.0
    far = ndimage.distance_transform_edt(~inside, seen.grid.spacing) > _NEAR
    around = float(((seen.image[..., 0] > _BRIGHT) & far).sum() / inside.sum())
    odds = np.clip(np.where(inside, np.where(odds > 0, odds, 1.0), np.where(odds > 0, -1.0, odds)), -_SURE, _SURE)
    found = resample(Image(odds.astype("float32"), seen.grid.affine), image.grid, outside=-_SURE, antialias=False)
    return Image((found.array > 0).astype("uint8"), image.affine), around


def brain_alone(image: Image, mask: Image) -> Image:
    """Returns what a mask leaves of an image, the image's lowest value around it, cropped so that it is in the middle.

    Args:
        image: One channel.
        mask: On its grid, not empty.
    """
    box = ndimage.find_objects((mask.array != 0).astype("uint8"))[0]
    margin = np.ceil(_MARGIN / image.spacing).astype(int)
    alone = np.where(mask.array[box] != 0, image.array[box], image.array.min())
    alone = np.pad(alone, [(n, n) for n in margin], constant_values=image.array.min())
    first = map_points(image.affine, np.array([axis.start for axis in box]) - margin)
    affine = about(image.affine[:3, :3], np.zeros(3), first)
    return replace(image, array=alone, affine=affine)


def _whole(inside: np.ndarray) -> np.ndarray:
    """Returns the largest part of a mask, with its holes."""
    parts, count = ndimage.label(inside)
    largest = parts == 1 + np.bincount(parts.ravel())[1:].argmax() if count else inside
    return ndimage.binary_fill_holes(largest)


def _litres(mask: Image) -> float:
    return float((mask.array != 0).sum() * np.prod(mask.spacing)) / 1e6
