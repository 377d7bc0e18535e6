"""RegistrationModel: a Keras model that turns a pair into a field and learns by image, label and deformation losses."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from regzoo import backend, losses
from regzoo.backend import Tensor
from regzoo.errors import InvalidError, checked_spacing, invalid, unknown
from regzoo.ops.grids import map_places, voxel_places
from regzoo.ops.warping import sample
from regzoo.schema.outputs import OUTPUTS
from regzoo.schema.registry import those

Objective = Mapping[str, Mapping[str, Mapping[str, object]]]
"""Kind of term, of `regzoo.schema.losses.LOSSES` -> name of the loss -> `weight` and the loss's own parameters."""

_SIDES = ("fixed", "moving")
_OF_A_TARGET = ("metrics", "weighted_metrics", "loss_weights")
_SUPERVISE = 'Call supervise({"image": {"lncc": {}}, "deformation": {"gradient": {}}}, spacing) before fit.'
_INPUTS = (*_SIDES, "known", *(f"{side}_{kind}" for side in _SIDES for kind in ("labels", "mask")), "moving_matrix")


@dataclass(frozen=True)
class _Supervision:
    """What `fit` minimises; a record, so that Keras, which locks a built layer's lists, lets it be set at any time."""

    values: Callable
    weights: list
    trackers: list
    symmetric: bool


class RegistrationModel(keras.Model):
    """Turns `(fixed, moving)` into a displacement field on the fixed grid.

    A subclass says only where the field comes from: `field(fixed, moving) -> {"ddf": ..., ...}`, and, where it can,
    `inverse`. Everything is trained by Keras itself: `model.supervise(...)`, `model.compile(optimizer)`,
    `model.fit(batches)`.

    Call arguments:
        inputs: Dictionary with `fixed` and `moving`, each (B, *S, 1) on one grid. For training with labels, also
            `fixed_labels` and `moving_labels`, (B, *S, L), one channel a label. In training, the moving image may lie
            on a grid of its own: `moving_matrix`, (B, D, D + 1), leads from fixed voxels to its voxels; and where
            `fixed_mask` or `moving_mask`, (B, *S, 1), is 0 the images are not compared. Outside its grid, the moving
            image continues with its edge, and labels and masks with 0. `known`, (B, *S, D), is the field that the model
            should give, in voxels, where that is known.

    Returns:
        Dictionary with `ddf`, (B, *S, D) in voxels. Where the map has a linear part, also `matrix`, (B, D, D + 1) in
        voxels about voxel 0; where both, `dense`, with `ddf(x) = matrix(x + dense(x)) - x`. A dvf alone adds
        `velocity`. What networks in a row, with passes or on a coarser grid predict is in `stages` and `small`.

    Example:
        >>> class Shift(RegistrationModel):
        ...     def field(self, fixed, moving):
        ...         return {"ddf": ops.concatenate([ops.ones_like(fixed), ops.zeros_like(fixed)], axis=-1)}
        >>> image = ops.zeros((1, 3, 4, 1))
        >>> ops.convert_to_numpy(Shift()({"fixed": image, "moving": image})["ddf"])[0, 2, 1].tolist()
        [1.0, 0.0]
    """

    kinds = ("image", "label", "deformation", "known")
    """Kinds of losses that the model can be trained by."""
    takes: tuple[str, ...] = ("fixed", "moving")
    """Names of the inputs that it cannot do without."""
    has_field = True
    """Whether the model gives a field, or labels alone."""
    invertible = False
    """Whether the model gives the inverse field too."""
    dims: int | None = None
    """How many axes its images have; None: 2 or 3."""
    spacing_mm: tuple[float, ...] | None = None
    """Millimetres a voxel for which the model was built; None: any."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**{"dtype": "float32"} | kwargs)  # whatever the user's Keras settings say
        self._supervision = None

    def field(self, fixed: Tensor, moving: Tensor) -> dict:
        """Returns `{"ddf": (B, *S, D)}`, and what else the model predicts."""
        raise NotImplementedError

    def inverse(self, prediction: Mapping[str, Tensor]) -> dict:
        """Returns the inverse map of a prediction, `{"ddf": ...}` and `dense` where the prediction has it."""
        raise NotImplementedError

    def __call__(self, inputs: Mapping[str, Tensor], *args: object, **kwargs: object) -> dict:
        """Checks the inputs, whose errors Keras would wrap into lines of its own, and calls the model."""
        self._check(inputs)
        return super().__call__(inputs, *args, **kwargs)

    def call(self, inputs: Mapping[str, Tensor], training: bool | None = None) -> dict:
        """Returns the field for a batch of pairs."""
        return self.field(inputs["fixed"], inputs["moving"])

    def _check(self, inputs: Mapping[str, Tensor]) -> None:
        if not isinstance(inputs, Mapping):
            raise invalid("inputs", "a dictionary with 'fixed' and 'moving'", f"a {type(inputs).__name__}")
        missing = [name for name in _SIDES if name not in inputs]
        if missing:
            raise invalid("inputs", f"a dictionary with '{missing[0]}'", ", ".join(map(str, inputs)) or "an empty one")
        shapes = {name: tuple(getattr(inputs[name], "shape", ())) for name in _SIDES}
        for name, shape in shapes.items():
            if not shape or len(shape) not in ((4, 5) if self.dims is None else (self.dims + 2,)):
                raise invalid(name, f"shape (B, {', '.join('XYZ'[: self.dims])}, C), with the channels last", shape)
        fixed, moving = shapes.values()
        if fixed[:-1] != moving[:-1] and "moving_matrix" not in inputs:
            raise invalid("moving", f"the shape of fixed, {fixed}", moving, "Bring both on one grid.")
        for name in inputs:
            side = name.partition("_")[0]
            if name not in _INPUTS:
                raise unknown("input", name, _INPUTS)
            shape = tuple(getattr(inputs[name], "shape", ()))
            if name.endswith(("_labels", "_mask")) and shape[1:-1] != shapes[side][1:-1]:
                raise invalid(name, f"the grid of {side}, {shapes[side][1:-1]}, and channels", shape)

    def build(self, input_shape: object = None) -> None:
        """Marks the model built: its layers are, when it is made."""
        self.built = True

    def save(self, *args: object, **kwargs: object) -> None:
        """Refuses, since Keras alone could not open the file again; `regzoo.save` and `regzoo export` write others."""
        raise InvalidError(
            "A registration model is no file of Keras. Write a zoo entry by regzoo.save(model, folder, card), which "
            "regzoo.load opens, and a .keras file of that by `regzoo export`; weights alone by save_weights."
        )

    def compile(self, optimizer: object = "rmsprop", loss: object = None, **kwargs: object) -> None:
        """Sets the optimizer and what else Keras's `compile` takes, but for the loss and metrics of a target.

        Raises:
            InvalidError: If a loss or a metric is given, which `supervise` sets.
        """
        for name, value in {"loss": loss, **{name: kwargs.get(name) for name in _OF_A_TARGET}}.items():
            if value is not None:
                raise invalid(name, "none in compile, as supervise sets what is minimised and told", value, _SUPERVISE)
        super().compile(optimizer, **kwargs)

    def make_train_function(self, *args: object, **kwargs: object) -> object:
        """Refuses to train without an objective before anything is traced, which would wrap the error."""
        self._check_supervised()
        return super().make_train_function(*args, **kwargs)

    def make_test_function(self, *args: object, **kwargs: object) -> object:
        """Refuses to evaluate without an objective, as `make_train_function` does."""
        self._check_supervised()
        return super().make_test_function(*args, **kwargs)

    def _check_supervised(self) -> None:
        if self._supervision is None:
            raise InvalidError(f"The model has no objective. {_SUPERVISE}")

    def supervise(self, objective: Objective, spacing: Sequence[float], symmetric: bool = False) -> None:
        """Sets what `fit` minimises.

        Args:
            objective: See `Objective`. A weight of 0 leaves exactly that term out.
            spacing: Millimetres a voxel of the training grid, for the losses that count in mm.
            symmetric: Whether every term is the mean of both directions: fixed to moving by the field, and moving to
                fixed by its inverse. A field then gains nothing by shrinking what it cannot match.

        Raises:
            InvalidError: If no term has a weight above 0, a loss or a setting is unknown or out of range, the model
                cannot be trained by it, spacing is not that of `regzoo.models.build`, or `symmetric` is asked of a
                model without an inverse.
        """
        spacing = checked_spacing(spacing, self.dims)
        if self.spacing_mm is not None and not np.allclose(spacing, self.spacing_mm, rtol=1e-3):
            built_for = f"{self.spacing_mm}, for which the model was built"
            raise invalid("spacing", built_for, spacing, "Build it with this one.")
        terms = losses.weighted_terms(objective, spacing)
        strange = [f"{kind}.{name}" for kind, name, *_ in terms if kind not in self.kinds]
        if strange:
            takes = " and ".join(self.kinds)
            raise InvalidError(
                f"loss.{strange[0]}: a model with output '{self.name}' takes only {takes} losses. "
                "Leave the term out, or give it weight 0."
            )
        if symmetric and not self.invertible:
            able = those(OUTPUTS, lambda each: each.has_inverse)
            raise InvalidError(f"loss.symmetric: output '{self.name}' has no inverse. Use {able}, or false.")
        if symmetric and any(kind == "known" for kind, *_ in terms):
            raise InvalidError("loss.symmetric: expected false, since the inverse of a known field is not known.")
        needs_labels = any(kind == "label" for kind, *_ in terms)

        def values(inputs: Mapping[str, Tensor], predictions: Sequence[Mapping[str, Tensor]]) -> list:
            ways = zip((inputs, _exchanged(inputs)), predictions, strict=False)
            compared = [self.compared(*way, needs_labels) for way in ways]
            return [ops.concatenate([loss(*each[kind]) for each in compared]) for kind, _, loss, _ in terms]

        trackers = [keras.metrics.Mean(name=f"{kind}_{name}", dtype="float32") for kind, name, *_ in terms]
        self.train_function = self.test_function = None  # Keras keeps them compiled, with the old objective
        weights = [weight for *_, weight in terms]
        self._supervision = _Supervision(backend.compiled(values), weights, trackers, symmetric)

    @property
    def metrics(self) -> list:
        """The running means of the loss and of each of its terms."""
        return super().metrics + (self._supervision.trackers if self._supervision else [])

    def compared(self, inputs: Mapping[str, Tensor], prediction: Mapping[str, Tensor], labels: bool) -> dict:
        """Returns the arguments of the losses of each kind; all that moves is sampled together, once."""
        missing = [name for name in ("fixed_labels", "moving_labels") if labels and name not in inputs]
        if missing:
            raise invalid("inputs", f"'{missing[0]}', which a label loss compares", ", ".join(inputs))
        names = ["moving", *["moving_labels"] * labels, *["moving_mask"] * ("moving_mask" in inputs)]
        stack = _framed(*(inputs[name] for name in names))
        # Nothing is learned through the images; without the stop, XLA would compute their gradient all the same.
        moved = sample(ops.stop_gradient(stack), _places(prediction["ddf"], inputs.get("moving_matrix")) + 1.0)
        ends = np.cumsum([inputs[name].shape[-1] for name in names])
        parts = {name: moved[..., end - inputs[name].shape[-1] : end] for name, end in zip(names, ends, strict=True)}
        masks = [mask for mask in (inputs.get("fixed_mask"), parts.get("moving_mask")) if mask is not None]
        # No gradient through masks: a registration would otherwise gain by moving what does not match out of them.
        mask = ops.stop_gradient(math.prod(map(ops.convert_to_tensor, masks))) if masks else None
        arguments = {"image": (inputs["fixed"], parts["moving"], mask), "deformation": (prediction["dense"],)}
        if "known" in inputs:
            arguments["known"] = (inputs["known"], prediction["ddf"], inputs.get("fixed_mask"))
        if labels:
            arguments["label"] = (inputs["fixed_labels"], parts["moving_labels"])
        return arguments

    def compute_loss(
        self,
        x: Mapping[str, Tensor] | None = None,
        y: Tensor = None,
        y_pred: Mapping[str, Tensor] | None = None,
        sample_weight: Tensor = None,
        training: bool = True,
    ) -> Tensor:
        """Returns the weighted sum of the terms set by `supervise`, averaged over the batch."""
        self._check_supervised()
        if y is not None:
            raise invalid("y", "none, for the fixed image in the inputs is what is to be met", "a target")
        predictions = [y_pred, self.inverse(y_pred)] if self._supervision.symmetric else [y_pred]
        # A loss of one's own may subtract one image from the other, and torch takes no array from a tensor.
        inputs = {key: ops.convert_to_tensor(x[key]) for key in _INPUTS if key in x}
        if self._supervision.symmetric and "moving_matrix" in inputs:
            raise InvalidError("moving_matrix: expected none with a symmetric loss, which has both images on one grid.")
        values = [ops.mean(value) for value in self._supervision.values(inputs, [_tensors(p) for p in predictions])]
        for tracker, value in zip(self._supervision.trackers, values, strict=True):
            tracker.update_state(value)
        return sum(weight * value for weight, value in zip(self._supervision.weights, values, strict=True))


def _framed(image: Tensor, *others: Tensor) -> Tensor:
    """Stacks an image, its edge repeated one voxel outside, and labels and masks, 0 there, along the channels.

    A label that reaches the image's border then ends there, as it does when a transform moves it.
    """
    sides = [(0, 0), *[(1, 1)] * (len(image.shape) - 2), (0, 0)]
    for axis in range(1, len(image.shape) - 1):
        last = image.shape[axis] - 1
        ends = [ops.take(image, [index], axis=axis) for index in (0, last)]
        image = ops.concatenate([ends[0], image, ends[1]], axis=axis)
    return ops.concatenate([image, *(ops.pad(each, sides) for each in others)], axis=-1)


def _places(ddf: Tensor, matrix: Tensor | None) -> Tensor:
    """Returns where the moving image is read, in its voxels; `matrix` leads there from voxels of the fixed grid."""
    places = voxel_places(ddf.shape[1:-1]) + ddf
    return places if matrix is None else map_places(matrix, places)


def own_tensors(prediction: Mapping[str, Tensor]) -> dict:
    """Returns a prediction without what the networks that a model is made of predict."""
    return {name: value for name, value in prediction.items() if name not in ("stages", "small")}


def _tensors(prediction: Mapping[str, Tensor]) -> dict:
    """Returns what losses look at: the field, and the part of it that deformation losses judge."""
    if "ddf" not in prediction:
        return dict(prediction)
    return {"ddf": prediction["ddf"], "dense": prediction.get("dense", prediction["ddf"])}


def _exchanged(inputs: Mapping[str, Tensor]) -> dict:
    """Returns a pair with its sides exchanged; what only one side has, such as a mask, then belongs to the other."""
    other = {"fixed": "moving", "moving": "fixed"}
    sides = {key: key.partition("_") for key in inputs}
    return {other.get(side, side) + mark + rest: inputs[key] for key, (side, mark, rest) in sides.items()}
