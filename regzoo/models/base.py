"""RegistrationModel: a Keras model that turns a pair into a field and learns by image, label and deformation losses."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import keras
from keras import ops

from regzoo import backend, losses
from regzoo.warping import warp

Objective = Mapping[str, Mapping[str, Mapping[str, object]]]
"""Kind of term ("image", "label", "deformation") -> name of the loss -> `weight` and the loss's own parameters."""


@dataclass(frozen=True)
class _Supervision:
    """What `fit` minimises; a record, so that Keras, which locks a built layer's lists, lets it be set at any time."""

    terms: Callable
    weights: list
    trackers: list


class RegistrationModel(keras.Model):
    """Turns `(fixed, moving)` into a displacement field on the fixed grid.

    A subclass says only where the field comes from: `field(fixed, moving) -> {"ddf": ..., ...}`. Everything is trained
    by Keras itself: `model.supervise(...)`, `model.compile(optimizer)`, `model.fit(batches)`.

    Call arguments:
        inputs: Dictionary with `fixed` and `moving`, each (B, *S, 1) on one grid. For training with labels, also
            `fixed_labels` and `moving_labels`, (B, *S, L), one channel a label.

    Returns:
        Dictionary with `ddf`, (B, *S, D) in voxels, and `velocity` if the model has one.
    """

    def __init__(self, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self._supervision = None

    def field(self, fixed: object, moving: object) -> dict:
        """Returns `{"ddf": (B, *S, D)}`, and what else the model predicts."""
        raise NotImplementedError

    def call(self, inputs: Mapping[str, object], training: bool | None = None) -> dict:
        """Returns the field for a batch of pairs."""
        return self.field(inputs["fixed"], inputs["moving"])

    def build(self, input_shape: object = None) -> None:
        """Marks the model built: its layers are, when it is made."""
        self.built = True

    def supervise(self, objective: Objective, spacing: Sequence[float]) -> None:
        """Sets what `fit` minimises.

        Args:
            objective: See `Objective`. A weight of 0 leaves exactly that term out.
            spacing: Millimetres a voxel of the training grid, for the deformation losses.

        Raises:
            ValueError: If no term has a weight above 0, or a loss is unknown.
        """
        terms = losses.weighted_terms(objective, spacing)
        needs_labels = any(kind == "label" for kind, *_ in terms)

        def values(inputs: Mapping[str, object], ddf: object) -> list:
            return _term_values(terms, inputs, ddf, needs_labels)

        trackers = [keras.metrics.Mean(name=f"{kind}_{name}") for kind, name, *_ in terms]
        self.train_function = self.test_function = None  # Keras keeps them compiled, with the old objective
        self._supervision = _Supervision(backend.compiled(values), [weight for *_, weight in terms], trackers)

    @property
    def metrics(self) -> list:
        """The running means of the loss and of each of its terms."""
        return super().metrics + (self._supervision.trackers if self._supervision else [])

    def compute_loss(
        self,
        x: Mapping[str, object] | None = None,
        y: object = None,
        y_pred: Mapping[str, object] | None = None,
        sample_weight: object = None,
        training: bool = True,
    ) -> object:
        """Returns the weighted sum of the terms set by `supervise`, averaged over the batch."""
        if self._supervision is None:
            raise ValueError("The model has no objective. Call supervise(objective, spacing) before fit.")
        inputs = {key: x[key] for key in ("fixed", "moving", "fixed_labels", "moving_labels") if key in x}
        values = [ops.mean(value) for value in self._supervision.terms(inputs, y_pred["ddf"])]
        for tracker, value in zip(self._supervision.trackers, values, strict=True):
            tracker.update_state(value)
        return sum(weight * value for weight, value in zip(self._supervision.weights, values, strict=True))


def _term_values(terms: list, inputs: Mapping[str, object], ddf: object, needs_labels: bool) -> list:
    """Warps image and labels together, once, and returns each term's values, shape (B,)."""
    moving = [inputs["moving"], inputs["moving_labels"]] if needs_labels else [inputs["moving"]]
    # Nothing is learned through the images; without the stop, XLA would compute their gradient all the same.
    moved = warp(ops.stop_gradient(ops.concatenate(moving, axis=-1)), ddf)
    channels = inputs["moving"].shape[-1]
    arguments = {"image": (inputs["fixed"], moved[..., :channels]), "deformation": (ddf,)}
    if needs_labels:
        arguments["label"] = (inputs["fixed_labels"], moved[..., channels:])
    return [loss(*arguments[kind]) for kind, _, loss, _ in terms]
