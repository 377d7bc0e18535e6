"""register: two images and a model in; the moved image, a transform, figures, warnings and a picture out."""

import json
import os
import time
from collections.abc import Iterator, Mapping
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
from regzoo.images import Grid, Image, overlap_gap, resample
from regzoo.models import ConditionalModel, RegistrationModel
from regzoo.pairs import from_batch, own_grid, place, to_batch
from regzoo.points import read_points
from regzoo.scores import Side, doubts, in_view, misfits, overlap, present, score, shared_labels, unscored
from regzoo.transforms import Transform

Source = str | os.PathLike | Image
Alignment = Literal["center", "world"]


@dataclass(frozen=True)
class Result:
    """What a registration gives.

    Args:
        fixed: The fixed image as read.
        moving: The moving image as read.
        start: The transform that the model started from: identity, or the shift of one image centre to the other.
        facts: What `result.json` holds: scores before and after, Jacobian figures, seconds, model, warnings.
        moved: The moving image on the fixed image's grid, sampled once; None where there is no transform.
        transform: From fixed to moving space, RAS mm; its grid is the fixed image's. None for a conditional model,
            which predicts labels on the fixed image without one.
        fixed_labels: Label map of the fixed image, if given.
        moving_labels: Label map of the moving image, if given.
        moved_labels: Label map of the moving image on the fixed image's grid, if given; or the predicted one.
    """

    fixed: Image
    moving: Image
    start: Transform
    facts: dict = field(default_factory=dict)
    moved: Image | None = None
    transform: Transform | None = None
    fixed_labels: Image | None = None
    moving_labels: Image | None = None
    moved_labels: Image | None = None

    def save(self, folder: str | os.PathLike) -> Path:
        """Writes moved.nii.gz, moved_labels.nii.gz, transform.nii.gz (what there is), report.png and result.json.

        All files appear together, once all of them are written; what an earlier result left and this one lacks goes.

        Args:
            folder: Output folder.

        Returns:
            The folder.
        """
        folder = Path(folder)
        parts = {"moved": self.moved, "moved_labels": self.moved_labels, "transform": self.transform}
        with atomic_folder(folder) as path:
            for name, part in parts.items():
                if part is not None:
                    part.save(path / f"{name}.nii.gz")
            with _clock(self.facts["seconds"], "picture"):
                report.picture(self, path / "report.png")
            (path / "result.json").write_text(
                json.dumps(_plain(self.facts), indent=2, allow_nan=False) + "\n", encoding="utf-8"
            )
        for name, part in parts.items():
            if part is None:
                (folder / f"{name}.nii.gz").unlink(missing_ok=True)
        return folder


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
    pair = _Pair(model, fixed_side, moving_side, alignment)
    return (_segment if isinstance(model, ConditionalModel) else _align)(model, pair, seconds)


class _Pair:
    """Both sides of a pair and the network's grids on them."""

    def __init__(self, model: RegistrationModel, fixed: Side, moving: Side, alignment: Alignment | None) -> None:
        self.inputs = model.card.input.model_copy(update={"alignment": alignment} if alignment else {})
        self.fixed, self.moving = fixed, moving
        self.grid = own_grid(fixed.image, self.inputs)
        centred = self.inputs.alignment == "center"
        self.moving_grid = own_grid(moving.image, self.inputs) if centred else self.grid
        if self.moving_grid.shape != self.grid.shape:
            slices = self.moving_grid.shape[2], self.grid.shape[2]
            advice = 'Pass alignment="world" to compare them by their places.'
            raise invalid("moving", f"{slices[1]} slices, as fixed has, for a 2-D model", slices[0], advice)
        # Both grids have the same voxels: this puts a point of one where the same voxel lies in the other.
        self.start = Transform.linear(self.moving_grid.affine @ np.linalg.inv(self.grid.affine), fixed.image.grid)

    def batch(self) -> dict[str, np.ndarray]:
        """Returns both images as the network sees them; for a 2-D one, every slice is a pair."""
        sides = (("fixed", self.fixed.image, self.grid), ("moving", self.moving.image, self.moving_grid))
        placed = ((name, _placed(name, image, grid, self.inputs)) for name, image, grid in sides)
        return {name: to_batch(array, len(self.inputs.shape)) for name, array in placed}

    def array(self, tensor: object) -> np.ndarray:
        """Turns what a network gives back into (I, J, K, C)."""
        return from_batch(ops.convert_to_numpy(tensor), len(self.inputs.shape))

    def facts(self, model: RegistrationModel, scores: dict, warnings: list[str], seconds: dict) -> dict:
        """Returns what both kinds of results tell."""
        return {
            "model": _model_facts(model.card),
            "start": self.inputs.alignment,
            "scores": scores,
            "warnings": unscored(self.fixed, self.moving)
            + misfits(model.card, self.fixed.image, self.moving.image)
            + warnings,
            "seconds": seconds,
        }


def _align(model: RegistrationModel, pair: _Pair, seconds: dict[str, float]) -> Result:
    """Registers by a model that gives a field."""
    fixed, moving, start = pair.fixed, pair.moving, pair.start
    grid = fixed.image.grid
    with _clock(seconds, "network"):
        transform = _transform(model.predict_on_batch(pair.batch()), pair).then(start)
        transform = Transform(transform.steps, grid)
    with _clock(seconds, "warp"):
        moved = _moved(transform, moving.image, grid)
        labels = moving.labels and transform.apply_labels(moving.labels, grid)
    with _clock(seconds, "scores"):
        seen = in_view(start, moving.image, grid) & in_view(transform, moving.image, grid)
        scores = {
            "before": score(fixed, moving, start, _moved(start, moving.image, grid), seen),
            "after": score(fixed, moving, transform, moved, seen),
        }
        jacobian = metrics.jacobian_statistics(transform.jacobian_determinant(grid))
    facts = pair.facts(model, scores, doubts(scores, jacobian), seconds) | {"jacobian": jacobian}
    return Result(
        fixed=fixed.image,
        moving=moving.image,
        moved=moved,
        transform=transform,
        start=start,
        facts=facts,
        fixed_labels=fixed.labels,
        moving_labels=moving.labels,
        moved_labels=labels,
    )


def _transform(prediction: Mapping[str, object], pair: _Pair) -> Transform:
    """Turns a prediction in voxels of the network's grid into a transform in mm: from the fixed grid to the moving."""
    flat = len(pair.inputs.shape) == 2
    linear = None
    if "matrix" in prediction and (not flat or pair.grid.shape[2] == 1):
        matrix = _embedded(ops.convert_to_numpy(prediction["matrix"])[0])
        linear = Transform.linear(pair.grid.affine @ matrix @ np.linalg.inv(pair.grid.affine))
        if "dense" not in prediction:
            return linear
    ddf = pair.array(prediction["ddf" if linear is None else "dense"])
    if flat:
        ddf = np.concatenate([ddf, np.zeros_like(ddf[..., :1])], axis=-1)
    dense = Transform.from_voxel_ddf(ddf, pair.grid)
    return dense if linear is None else dense.then(linear)


def _embedded(matrix: np.ndarray) -> np.ndarray:
    """Returns a matrix (D, D + 1) as (4, 4)."""
    dims, full = len(matrix), np.eye(4)
    full[:dims, :dims], full[:dims, 3] = matrix[:, :dims], matrix[:, dims]
    return full


def _segment(model: ConditionalModel, pair: _Pair, seconds: dict[str, float]) -> Result:
    """Predicts the moving image's labels on the fixed image; there is no transform."""
    fixed, moving = pair.fixed, pair.moving
    if moving.labels is None:
        raise invalid("moving_labels", "labels, which a conditional model carries to the fixed image", None)
    if fixed.points is not None or moving.points is not None:
        raise InvalidError("Landmarks need a transform, and a conditional model has none. Leave them out.")
    wanted, grid = present(moving.labels), fixed.image.grid
    if not wanted:
        raise invalid("moving_labels", "at least one label", "an empty map")
    with _clock(seconds, "network"):
        placed = place(moving.image, moving.labels, pair.moving_grid, pair.inputs, wanted)
        labels = to_batch(placed.channels(range(len(wanted))), len(pair.inputs.shape))
        batch = pair.batch() | {"moving_labels": labels}
        predicted = Image(pair.array(model.predict_on_batch(batch)["labels"]), pair.grid.affine)
        labels = _like(moving.labels, resample(predicted, grid), wanted)
    with _clock(seconds, "scores"):
        scores = {"before": {}, "after": {}}
        if fixed.labels is not None:
            shared = shared_labels(fixed.labels, moving.labels)
            laid = pair.start.apply_labels(moving.labels, grid)
            scores = {"before": overlap(fixed.labels, laid, shared), "after": overlap(fixed.labels, labels, shared)}
    facts = pair.facts(model, scores, [], seconds)
    facts["transform"] = "none: a conditional model predicts the labels on the fixed image directly"
    return Result(
        fixed=fixed.image,
        moving=moving.image,
        start=pair.start,
        facts=facts,
        fixed_labels=fixed.labels,
        moving_labels=moving.labels,
        moved_labels=labels,
    )


def _like(given: Image, probabilities: Image, wanted: list[int]) -> Image:
    """Returns predicted probabilities, one channel for each of `wanted`, as labels of the given kind."""
    array = probabilities.array
    if given.channels is None:
        best = np.array(wanted)[array.argmax(axis=-1)]
        return Image(np.where(array.max(axis=-1) >= 0.5, best, 0).astype(given.array.dtype), probabilities.affine)
    full = np.zeros((*array.shape[:3], given.channels), np.float32)
    full[..., [each - 1 for each in wanted]] = array
    return Image(full, probabilities.affine)


@contextmanager
def _clock(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[step] = round(time.perf_counter() - start, 3)


def _read(name: str, image: Source, labels: Source | None, points: str | os.PathLike | None) -> Side:
    image = image if isinstance(image, Image) else Image.read(image)
    if labels is not None and not isinstance(labels, Image):
        labels = Image.read(labels, labels=True)
    if labels is not None and not labels.grid.same_as(image.grid):
        expected = f"the grid of the {name} image, shape {image.shape}"
        received = f"shape {labels.shape}" if labels.shape != image.shape else "another affine"
        raise invalid(f"{name}_labels", expected, received)
    return Side(image, labels, None if points is None else read_points(points))


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


def _placed(name: str, image: Image, grid: Grid, inputs: InputConfig) -> np.ndarray:
    try:
        return place(image, None, grid, inputs).image
    except InvalidError as error:
        raise InvalidError(f"{name}: {error}") from error


def _moved(transform: Transform, moving: Image, grid: Grid) -> Image:
    """Moves an image with its lowest value around it: 0 is background in MR, but water in CT."""
    return transform.apply_image(moving, grid, outside=float(moving.array.min()))


def _model_facts(card: Card) -> dict:
    digest = next(file.sha256 for file in card.files if file.path == "model.safetensors")
    return {"name": card.name, "version": card.version, "sha256": digest, "backend": backend.NAME}


def _plain(value: object) -> object:
    """Returns facts as JSON can hold them: string keys, and null where there is no number."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(float(value), 6) if np.isfinite(value) else None
    return value
