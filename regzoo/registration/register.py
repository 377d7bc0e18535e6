"""register: two images and a model in; the moved image, a transform, figures, warnings and a picture out."""

import os
from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np
from keras import ops

from regzoo import backend, classical
from regzoo.errors import InvalidError, invalid, unknown
from regzoo.io.landmarks import read_points
from regzoo.models import ConditionalModel, RegistrationModel, zoo
from regzoo.registration.candidates import misfits
from regzoo.registration.results import Result, clock
from regzoo.registration.scores import Side, alike, doubts, in_view, label_doubts, overlap, score, unscored
from regzoo.world import metrics
from regzoo.world.alignment import Alignment, aligned
from regzoo.world.images import Grid, Image, overlap_gap, resample
from regzoo.world.labels import mask, present, shared_labels
from regzoo.world.matrices import embedded
from regzoo.world.transforms import Transform
from regzoo.world.views import View, from_batch, spatial_field, start_matrix, to_batch, view

_ANY_CONTRAST = ("mi", "nmi", "mind")
Source = str | os.PathLike | Image


def register(
    fixed: Source,
    moving: Source,
    model: str | os.PathLike | RegistrationModel | None = None,
    *,
    method: str | Sequence[str] | None = None,
    refine: int = 0,
    loss: str = "lncc",
    iterations: int = 100,
    guided: bool = False,
    fixed_mask: Source | None = None,
    moving_mask: Source | None = None,
    fixed_labels: Source | None = None,
    moving_labels: Source | None = None,
    fixed_points: str | os.PathLike | None = None,
    moving_points: str | os.PathLike | None = None,
    alignment: Alignment | None = None,
) -> Result:
    """Registers the moving image to the fixed image, by a network or by optimisation.

    Args:
        fixed: Image or file; the result lies on its grid.
        moving: Image or file; any shape, spacing and orientation.
        model: Name or folder of a zoo entry, or what `regzoo.load` gave.
        method: Instead of a model: names of `regzoo.classical.METHODS`, one after another, such as `"affine,dvf"`.
        refine: Most steps by which the result is improved on this pair; 0: none.
        loss: Image loss of `method` and `refine`, one of `regzoo.classical.IMAGE_LOSSES`.
        iterations: Most steps of `method` on each level of resolution.
        guided: Whether the labels of both images guide `method` and `refine` too. What is then scored on them says
            how well they were fitted, not how good the registration is.
        fixed_mask: Label map on the fixed image's grid; `method` and `refine` compare only where it is not 0, and a
            model that looks around the lungs takes it for them.
        moving_mask: The same on the moving image's grid.
        fixed_labels: Label map on the fixed image's grid; unless `guided` only scored, never shown to the model.
        moving_labels: Label map on the moving image's grid; moved, and scored if both are given.
        fixed_points: CSV of landmarks `x,y,z` in RAS mm.
        moving_points: The same landmarks in the moving image, row by row.
        alignment: How to start: `"center"`, image centre on image centre, or `"world"`, scanner coordinates; for a
            `method` also `"mass"`, centre of mass on centre of mass, or `"moments"`, their axes too. None: as the model
            was trained; for a `method`, `"center"`.

    Returns:
        The result; `result.save(folder)` writes it.

    Raises:
        RegzooError: If an input cannot be used; the message says which and what to do.
    """
    seconds: dict[str, float] = {}
    if (model is None) == (method is None):
        advice = "" if model else "regzoo.candidates(fixed, moving) lists the models that fit two images."
        raise invalid("model and method", "one of the two", "both" if model else "neither", advice)
    if alignment not in (None, *get_args(Alignment)[: 2 if model else None]):
        names = "'center' or 'world'" if model else "'center', 'world', 'mass' or 'moments'"
        raise invalid("alignment", names, repr(alignment))
    if loss not in classical.IMAGE_LOSSES:
        raise unknown("image loss", loss, classical.IMAGE_LOSSES)
    if guided and not (method or refine):
        raise invalid("guided", "a method or refine, which labels guide", "neither")
    if refine < 0:
        raise invalid("refine", "a number of steps from 0", refine)
    with clock(seconds, "load"):
        model = model if model is None or isinstance(model, RegistrationModel) else zoo.load(model)
    if model is not None and not hasattr(model, "card"):
        raise invalid("model", "a model with a card, as regzoo.load gives it", f"a {type(model).__name__} without")
    with clock(seconds, "read"):
        sides = _read("fixed", fixed, fixed_labels, fixed_points), _read("moving", moving, moving_labels, moving_points)
        masks = {"fixed_mask": fixed_mask, "moving_mask": moving_mask}
        masks = {
            name: _beside(name, mask, side.image)
            for (name, mask), side in zip(masks.items(), sides, strict=True)
            if mask is not None
        }
    _check_points(sides[0].points, sides[1].points)
    start_at = alignment or ("center" if model is None else model.card.input.alignment)
    _check_overlap(sides[0].image, sides[1].image, start_at)
    if masks and not (method or refine or model.card.input.around == "lungs"):
        raise invalid("masks", "method, refine or a model of lungs, which look at them", "a model that does not")
    given = {"loss": loss, "labels": _guides(*sides) if guided else None, **masks}
    if isinstance(model, ConditionalModel):
        if refine:
            raise InvalidError("refine: a conditional model has no transform to improve. Leave it out.")
        with clock(seconds, "network"):
            pair = _Pair(model, *sides, alignment, masks)
        return _segment(model, pair, seconds)
    if model is None:
        facts, start, transform = _by_method(*sides, method, iterations, start_at, given, seconds)
    else:
        with clock(seconds, "network"):
            pair = _Pair(model, *sides, alignment, masks)
            transform = _by_network(model, pair)
        facts, start = pair.facts(model), pair.start
    if refine:
        if model is not None and len(model.card.input.shape) == 2 and sides[0].image.shape[2] > 1:
            raise InvalidError(
                "refine: a 2-D model registers slice by slice, and refinement would move between slices. "
                "Give one slice, or leave refine out."
            )
        facts["loss"] = loss
        with clock(seconds, "refinement"):
            transform, facts["refinement"] = classical.refine(
                sides[0].image, sides[1].image, transform, refine, **given
            )
    if guided:
        facts["warnings"].append("The labels guided the registration: their overlap says nothing about its quality.")
    return _result(*sides, start, transform, facts, seconds)


def _by_method(
    fixed: Side,
    moving: Side,
    method: str | Sequence[str],
    iterations: int,
    alignment: Alignment,
    given: Mapping,
    seconds: dict[str, float],
) -> tuple[dict, Transform, Transform]:
    """Registers by optimisation; returns facts, the start and the transform."""
    names = [each.strip() for each in method.split(",")] if isinstance(method, str) else list(method)
    if fixed.image.shape[2] > 1 and moving.image.shape[2] == 1:
        raise invalid("moving", "a volume, as fixed is", "one slice", "Take the slice as the fixed image.")
    start = aligned(fixed.image, moving.image, alignment)
    with clock(seconds, "optimisation"):
        transform, done = classical.optimise(fixed.image, moving.image, start, names, iterations=iterations, **given)
    facts = {
        "method": ",".join(names),
        "loss": done[-1]["loss"],
        "backend": backend.NAME,
        "start": alignment,
        "optimisation": done,
        "warnings": unscored(fixed, moving),
    }
    return facts, start, transform


def _by_network(model: RegistrationModel, pair: "_Pair") -> Transform:
    """Returns the transform that a network predicts."""
    found = _transform(model.predict_on_batch(pair.batch()), pair).then(pair.start)
    return Transform(found.steps, pair.fixed.image.grid)


class _Pair:
    """Both sides of a pair and the network's views of them."""

    def __init__(
        self,
        model: RegistrationModel,
        fixed: Side,
        moving: Side,
        alignment: Alignment | None,
        masks: Mapping[str, Image],
    ) -> None:
        self.inputs = model.card.input.model_copy(update={"alignment": alignment} if alignment else {})
        self.fixed, self.moving = fixed, moving
        self.fixed_view = self._view("fixed", fixed.image, lungs=masks.get("fixed_mask"))
        seen = {"beside": self.grid, "lungs": masks.get("moving_mask")}
        self.labels = []
        if isinstance(model, ConditionalModel) and moving.labels is not None:  # the only one that looks at them
            self.labels = present(moving.labels)
            seen |= {"labels": moving.labels, "values": self.labels}
        self.moving_view = self._view("moving", moving.image, **seen)
        self.start = Transform.linear(start_matrix(self.grid, self.moving_view.grid), fixed.image.grid)

    def _view(self, name: str, image: Image, **given: object) -> View:
        try:
            return view(image, self.inputs, **given)
        except InvalidError as error:
            raise InvalidError(f"{name}: {error}") from error

    @property
    def grid(self) -> Grid:
        """The network's grid on the fixed image."""
        return self.fixed_view.grid

    @property
    def dims(self) -> int:
        """2 for a network of slices."""
        return len(self.inputs.shape)

    def batch(self) -> dict[str, np.ndarray]:
        """Returns both images as the network sees them; for a 2-D one, every slice is a pair."""
        views = {"fixed": self.fixed_view, "moving": self.moving_view}
        return {name: to_batch(seen.image, self.dims) for name, seen in views.items()}

    def facts(self, model: RegistrationModel) -> dict:
        """Returns what is known of a registration by a network before it is scored."""
        return {
            "model": _model_facts(model),
            "start": self.inputs.alignment,
            "warnings": unscored(self.fixed, self.moving) + misfits(model.card, self.fixed.image, self.moving.image),
        }


def _result(
    fixed: Side, moving: Side, start: Transform, transform: Transform, facts: dict, seconds: dict[str, float]
) -> Result:
    """Moves and scores."""
    grid = fixed.image.grid
    with clock(seconds, "warp"):
        moved = _moved(transform, moving.image, grid)
        labels = moving.labels and transform.apply_labels(moving.labels, grid)
    with clock(seconds, "scores"):
        seen = in_view(start, moving.image, grid) & in_view(transform, moving.image, grid)
        before = score(fixed, moving, start, _moved(start, moving.image, grid), seen)
        scores = alike(before, score(fixed, moving, transform, moved, seen))
        jacobian = metrics.jacobian_statistics(transform.jacobian_determinant(grid))
    facts["warnings"] += doubts(scores, jacobian, facts.get("loss") not in _ANY_CONTRAST)
    return Result(
        fixed=fixed.image,
        moving=moving.image,
        moved=moved,
        transform=transform,
        start=start,
        facts=facts | {"scores": scores, "jacobian": jacobian, "seconds": seconds},
        fixed_labels=fixed.labels,
        moving_labels=moving.labels,
        moved_labels=labels,
    )


def _transform(prediction: Mapping[str, object], pair: _Pair) -> Transform:
    """Turns a prediction in voxels of the network's grid into a transform in mm: from the fixed grid to the moving."""
    linear = None
    if "matrix" in prediction and (pair.dims == 3 or pair.grid.shape[2] == 1):
        matrix = embedded(ops.convert_to_numpy(prediction["matrix"])[0])
        linear = Transform.linear(pair.grid.affine @ matrix @ np.linalg.inv(pair.grid.affine))
        if "dense" not in prediction:
            return linear
    ddf = ops.convert_to_numpy(prediction["ddf" if linear is None else "dense"])
    dense = Transform.from_voxel_ddf(spatial_field(ddf, pair.dims), pair.grid)
    return dense if linear is None else dense.then(linear)


def _segment(model: ConditionalModel, pair: _Pair, seconds: dict[str, float]) -> Result:
    """Predicts the moving image's labels on the fixed image; there is no transform."""
    fixed, moving = pair.fixed, pair.moving
    if moving.labels is None:
        raise invalid("moving_labels", "labels, which a conditional model carries to the fixed image", None)
    if fixed.points is not None or moving.points is not None:
        raise InvalidError("Landmarks need a transform, and a conditional model has none. Leave them out.")
    wanted, grid = pair.labels, fixed.image.grid
    if not wanted:
        raise invalid("moving_labels", "at least one label", "an empty map")
    with clock(seconds, "network"):
        labels = to_batch(pair.moving_view.channels(range(len(wanted))), pair.dims)
        found = ops.convert_to_numpy(model.predict_labels(pair.batch() | {"moving_labels": labels}))
        predicted = Image(from_batch(found, pair.dims), pair.grid.affine)
        labels = _like(moving.labels, resample(predicted, grid), wanted)
    with clock(seconds, "scores"):
        scores = {"before": {}, "after": {}}
        if fixed.labels is not None:
            shared = shared_labels(fixed.labels, moving.labels)
            laid = pair.start.apply_labels(moving.labels, grid)
            scores = alike(overlap(fixed.labels, laid, shared), overlap(fixed.labels, labels, shared))
    facts = pair.facts(model) | {"scores": scores, "seconds": seconds}
    nowhere = [str(value) for value in wanted if not mask(labels, value).any()]
    if nowhere:
        facts["warnings"].append(f"Labels that the model found nowhere on the fixed image: {', '.join(nowhere)}.")
    facts["warnings"] += label_doubts(scores)
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


def _read(name: str, image: Source, labels: Source | None, points: str | os.PathLike | None) -> Side:
    image = image if isinstance(image, Image) else Image.read(image)
    if image.channels is not None:
        raise invalid(name, "one value a voxel", f"{image.channels} channels")
    labels = None if labels is None else _beside(f"{name}_labels", labels, image)
    return Side(image, labels, None if points is None else read_points(points))


def _beside(name: str, labels: Source, image: Image) -> Image:
    """Reads labels or a mask that must lie on an image's grid."""
    labels = labels if isinstance(labels, Image) else Image.read(labels, labels=True)
    if name.endswith("mask") and labels.channels is not None:
        raise invalid(name, "one value a voxel", f"{labels.channels} channels")
    if not labels.grid.same_as(image.grid):
        expected = f"the grid of the {name.split('_')[0]} image, shape {image.shape}"
        received = f"shape {labels.shape}" if labels.shape != image.shape else "another affine"
        raise invalid(name, expected, received)
    return labels


def _guides(fixed: Side, moving: Side) -> tuple[Image, Image]:
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


def _check_points(fixed: np.ndarray | None, moving: np.ndarray | None) -> None:
    if fixed is not None and moving is not None and len(fixed) != len(moving):
        raise invalid("moving_points", f"{len(fixed)} landmarks, as many as fixed_points", len(moving))


def _check_overlap(fixed: Image, moving: Image, alignment: Alignment) -> None:
    gap = overlap_gap(fixed.grid, moving.grid)
    if gap > 0 and alignment == "world":
        raise InvalidError(
            f"fixed and moving do not overlap in world space (gap {gap:.0f} mm). "
            'Check the affines, or pass alignment="center" (--alignment center).'
        )


def _moved(transform: Transform, moving: Image, grid: Grid) -> Image:
    """Moves an image with its lowest value around it: 0 is background in MR, but water in CT."""
    return transform.apply_image(moving, grid, outside=float(moving.array.min()))


def _model_facts(model: RegistrationModel) -> dict:
    card = model.card
    digest = next(file.sha256 for file in card.files if file.path == "model.safetensors")
    facts = {"name": card.name, "version": card.version, "sha256": digest, "backend": backend.NAME}
    return facts | ({"source": model.source} if getattr(model, "source", None) else {})
