"""register: two images and a model in; the moved image, a transform, figures, warnings and a picture out."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from keras import ops

from regzoo import backend, metrics, report, zoo
from regzoo.cards import Card
from regzoo.checks import InvalidError, invalid
from regzoo.config import InputConfig
from regzoo.files import atomic_folder
from regzoo.images import Grid, Image, overlap_gap
from regzoo.models import RegistrationModel
from regzoo.pairs import own_grid, place
from regzoo.points import read_points
from regzoo.transforms import Transform

Source = str | os.PathLike | Image
Alignment = Literal["center", "world"]


@dataclass(frozen=True)
class Result:
    """What a registration gives.

    Args:
        fixed: The fixed image as read.
        moving: The moving image as read.
        moved: The moving image on the fixed image's grid, sampled once.
        transform: From fixed to moving space, RAS mm; its grid is the fixed image's.
        start: The transform that the model started from: identity, or the shift of one image centre to the other.
        facts: What `result.json` holds: scores before and after, Jacobian figures, seconds, model, warnings.
        fixed_labels: Label map of the fixed image, if given.
        moving_labels: Label map of the moving image, if given.
        moved_labels: Label map of the moving image on the fixed image's grid, if given.
    """

    fixed: Image
    moving: Image
    moved: Image
    transform: Transform
    start: Transform
    facts: dict = field(default_factory=dict)
    fixed_labels: Image | None = None
    moving_labels: Image | None = None
    moved_labels: Image | None = None

    def save(self, folder: str | os.PathLike) -> Path:
        """Writes moved.nii.gz, moved_labels.nii.gz (if any), transform.nii.gz, report.png and result.json.

        All files appear together, once all of them are written.

        Args:
            folder: Output folder.

        Returns:
            The folder.
        """
        folder = Path(folder)
        with atomic_folder(folder) as path:
            self.moved.save(path / "moved.nii.gz")
            if self.moved_labels is not None:
                self.moved_labels.save(path / "moved_labels.nii.gz")
            self.transform.save(path / "transform.nii.gz")
            with _clock(self.facts["seconds"], "picture"):
                report.picture(self, path / "report.png")
            (path / "result.json").write_text(
                json.dumps(_plain(self.facts), indent=2, allow_nan=False) + "\n", encoding="utf-8"
            )
        if self.moved_labels is None:
            (folder / "moved_labels.nii.gz").unlink(missing_ok=True)  # an earlier result's, which is not this one's
        return folder


@dataclass(frozen=True)
class _Side:
    """One side of a pair: image, labels and points."""

    image: Image
    labels: Image | None
    points: np.ndarray | None


def register(
    fixed: Source,
    moving: Source,
    model: str | os.PathLike | RegistrationModel,
    *,
    fixed_labels: Source | None = None,
    moving_labels: Source | None = None,
    fixed_points: str | os.PathLike | None = None,
    moving_points: str | os.PathLike | None = None,
    alignment: Alignment | None = None,
) -> Result:
    """Registers the moving image to the fixed image.

    Args:
        fixed: Image or file; the result lies on its grid.
        moving: Image or file; any shape, spacing and orientation.
        model: Name or folder of a zoo entry, or what `regzoo.load` gave.
        fixed_labels: Label map on the fixed image's grid; only scored, never shown to the model.
        moving_labels: Label map on the moving image's grid; moved, and scored if both are given.
        fixed_points: CSV of landmarks `x,y,z` in RAS mm.
        moving_points: The same landmarks in the moving image, row by row.
        alignment: How to start: `"center"`, image centre on image centre, or `"world"`, scanner coordinates.
            None: as the model was trained.

    Returns:
        The result; `result.save(folder)` writes it.

    Raises:
        RegzooError: If an input cannot be used; the message says which and what to do.
    """
    seconds: dict[str, float] = {}
    if alignment not in (None, *get_args(Alignment)):
        raise invalid("alignment", "'center', 'world' or None", repr(alignment))
    with _clock(seconds, "load"):
        model = model if isinstance(model, RegistrationModel) else zoo.load(model)
    if not hasattr(model, "card"):
        raise invalid("model", "a model with a card, as regzoo.load gives it", f"a {type(model).__name__} without")
    with _clock(seconds, "read"):
        fixed_side = _read("fixed", fixed, fixed_labels, fixed_points)
        moving_side = _read("moving", moving, moving_labels, moving_points)
    _check_points(fixed_side.points, moving_side.points)
    _check_overlap(fixed_side.image, moving_side.image, alignment)
    inputs = model.card.input.model_copy(update={"alignment": alignment} if alignment else {})
    with _clock(seconds, "network"):
        start, transform = _predict(model, inputs, fixed_side.image, moving_side.image)
    grid = fixed_side.image.grid
    with _clock(seconds, "warp"):
        moved = _moved(transform, moving_side.image, grid)
        labels = moving_side.labels and transform.apply_labels(moving_side.labels, grid)
    with _clock(seconds, "scores"):
        seen = _in_view(start, moving_side.image, grid) & _in_view(transform, moving_side.image, grid)
        scores = {
            "before": _scores(fixed_side, moving_side, start, _moved(start, moving_side.image, grid), seen),
            "after": _scores(fixed_side, moving_side, transform, moved, seen),
        }
        jacobian = metrics.jacobian_statistics(transform.jacobian_determinant(grid))
    facts = {
        "model": _model_facts(model.card),
        "start": inputs.alignment,
        "scores": scores,
        "jacobian": jacobian,
        "warnings": _unscored(fixed_side, moving_side)
        + _warnings(model.card, fixed_side.image, moving_side.image, scores, jacobian),
        "seconds": seconds,
    }
    return Result(
        fixed=fixed_side.image,
        moving=moving_side.image,
        moved=moved,
        transform=transform,
        start=start,
        facts=facts,
        fixed_labels=fixed_side.labels,
        moving_labels=moving_side.labels,
        moved_labels=labels,
    )


@contextmanager
def _clock(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[step] = round(time.perf_counter() - start, 3)


def _read(name: str, image: Source, labels: Source | None, points: str | os.PathLike | None) -> _Side:
    image = image if isinstance(image, Image) else Image.read(image)
    if labels is not None and not isinstance(labels, Image):
        labels = Image.read(labels, labels=True)
    if labels is not None and not labels.grid.same_as(image.grid):
        expected = f"the grid of the {name} image, shape {image.shape}"
        received = f"shape {labels.shape}" if labels.shape != image.shape else "another affine"
        raise invalid(f"{name}_labels", expected, received)
    return _Side(image, labels, None if points is None else read_points(points))


def _check_points(fixed: np.ndarray | None, moving: np.ndarray | None) -> None:
    if fixed is not None and moving is not None and len(fixed) != len(moving):
        raise invalid("moving_points", f"{len(fixed)} landmarks, as many as fixed_points", len(moving))


def _check_overlap(fixed: Image, moving: Image, alignment: Alignment | None) -> None:
    gap = overlap_gap(fixed.grid, moving.grid)
    if gap > 0 and alignment != "center":
        raise InvalidError(
            f"fixed and moving do not overlap in world space (gap {gap:.0f} mm). "
            'Check the affines, or pass alignment="center" (--alignment center).'
        )


def _predict(model: RegistrationModel, inputs: InputConfig, fixed: Image, moving: Image) -> tuple[Transform, Transform]:
    """Runs the network on its own grid; returns the start and the whole transform, both from fixed to moving mm."""
    grid = own_grid(fixed, inputs)
    moving_grid = own_grid(moving, inputs) if inputs.alignment == "center" else grid
    batch = {
        "fixed": _placed("fixed", fixed, grid, inputs),
        "moving": _placed("moving", moving, moving_grid, inputs),
    }
    ddf = ops.convert_to_numpy(model.predict_on_batch(batch)["ddf"])[0]
    # Both grids have the same voxels: this puts a point of one where the same voxel lies in the other.
    start = Transform.linear(moving_grid.affine @ np.linalg.inv(grid.affine), fixed.grid)
    transform = Transform.from_voxel_ddf(ddf, grid).then(start)
    return start, Transform(transform.steps, fixed.grid)


def _placed(name: str, image: Image, grid: Grid, inputs: InputConfig) -> np.ndarray:
    try:
        return place(image, None, grid, inputs).image[None]
    except InvalidError as error:
        raise InvalidError(f"{name}: {error}") from error


def _moved(transform: Transform, moving: Image, grid: Grid) -> Image:
    """Moves an image with its lowest value around it: 0 is background in MR, but water in CT."""
    return transform.apply_image(moving, grid, outside=float(moving.array.min()))


def _in_view(transform: Transform, moving: Image, grid: Grid) -> np.ndarray:
    """Tells which voxels of `grid` show a place inside the moving image, where nothing is blended with outside."""
    ones = Image(np.ones(moving.shape, np.float32), moving.affine)
    return transform.apply_image(ones, grid).array > 0.999


def _scores(fixed: _Side, moving: _Side, transform: Transform, moved: Image, seen: np.ndarray) -> dict:
    """Returns what the given labels and points allow to say, and the correlation of the images where `seen`."""
    scores: dict = {"ncc": _correlation(fixed.image.array[seen], moved.array[seen])}
    if fixed.labels is not None and moving.labels is not None:
        labels = transform.apply_labels(moving.labels, fixed.image.grid).array
        shared = np.intersect1d(np.unique(fixed.labels.array), np.unique(moving.labels.array))
        shared = [int(label) for label in shared if label]
        scores["dice"] = metrics.dice(fixed.labels.array, labels, shared)
        scores["hd95"] = {
            label: metrics.hd95(fixed.labels.array == label, labels == label, fixed.image.spacing) for label in shared
        }
        scores["mean_dice"] = float(np.mean(list(scores["dice"].values()))) if shared else float("nan")
    if fixed.points is not None and moving.points is not None:
        errors = metrics.tre(fixed.points, moving.points, transform)
        scores["tre"] = {"mean": float(errors.mean()), "sd": float(errors.std()), "max": float(errors.max())}
    return scores


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Returns Pearson's correlation, nan for no values or constant ones."""
    if not a.size or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _model_facts(card: Card) -> dict:
    digest = next(file.sha256 for file in card.files if file.path == "model.safetensors")
    return {"name": card.name, "version": card.version, "sha256": digest, "backend": backend.NAME}


def _unscored(fixed: _Side, moving: _Side) -> list[str]:
    """Says which labels and landmarks were given but could not be scored. Moving ones alone are only moved."""
    found = []
    if fixed.labels is not None and moving.labels is None:
        found.append("fixed_labels were given without moving_labels: no overlap is scored.")
    if (fixed.points is None) != (moving.points is None):
        found.append("Landmarks were given for one image only: no landmark error is scored.")
    if fixed.labels is not None and moving.labels is not None:
        alone = np.setxor1d(np.unique(fixed.labels.array), np.unique(moving.labels.array))
        names = ", ".join(f"{label:g}" for label in alone if label)
        if names and fixed.labels.channels is None and moving.labels.channels is None:
            found.append(f"Labels in one of the two maps only, not scored: {names}.")
    return found


# SDlogJ of 0.5: a third of the voxels change their volume by more than a factor of 1.6.
_STRONG = 0.5


def _warnings(card: Card, fixed: Image, moving: Image, scores: dict, jacobian: dict) -> list[str]:
    """Says what makes the result doubtful."""
    found = []
    trained = np.abs(own_grid(fixed, card.input).affine[:3, :3]).sum(axis=1)  # along R, A, S, as below
    field = np.ptp(own_grid(fixed, card.input).box(), axis=0)
    for name, image in (("fixed", fixed), ("moving", moving)):
        spacing = np.abs(image.affine[:3, :3]).sum(axis=1)  # along R, A, S, near enough
        if np.any(spacing > 2 * trained) or np.any(spacing < trained / 4):
            found.append(
                f"{name}: spacing {_size(image.spacing)} is far from {_size(trained)}, which {card.name} was made for."
            )
        extent = np.ptp(image.grid.box(), axis=0)
        if np.any(extent > 1.5 * field):
            found.append(
                f"{name}: {_size(extent.round())} wide, while {card.name} sees {_size(field.round())} "
                "around its centre; beyond, the field is only continued."
            )
        elif np.any(extent < 0.4 * field):
            found.append(
                f"{name}: {_size(extent.round())} wide is far less than the {_size(field.round())} "
                f"that {card.name} was made for."
            )
    if jacobian["folds"] > 0.001:
        found.append(f"The field folds at {100 * jacobian['folds']:.2f} % of the voxels.")
    if jacobian["sdlogj"] > _STRONG:
        found.append(
            f"The field compresses and stretches strongly (SDlogJ {jacobian['sdlogj']:.2f}); "
            "do not measure volumes by it."
        )
    if np.isnan(scores["after"]["ncc"]):
        found.append("The images cannot be compared: nothing of the moving image is in view, or it is constant there.")
    elif scores["after"]["ncc"] < scores["before"]["ncc"]:
        found.append("The images correlate less after the registration than before; look at the picture.")
    return found


def _size(values: np.ndarray) -> str:
    return " x ".join(f"{value:.4g}" for value in values) + " mm"


def _plain(value: object) -> object:
    """Returns facts as JSON can hold them: string keys, and null where there is no number."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(float(value), 6) if np.isfinite(value) else None
    return value
