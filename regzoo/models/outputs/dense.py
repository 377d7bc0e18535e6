"""Models whose network predicts a dense field: a displacement (ddf) or a stationary velocity (dvf)."""

from collections.abc import Mapping, Sequence

import keras
from keras import ops

from regzoo import backend
from regzoo.models.base import RegistrationModel
from regzoo.models.heads import cropped, head, predictions, stacked
from regzoo.ops.fields import integrate, resize_field
from regzoo.ops.optical_flow import optical_flow


class DenseModel(RegistrationModel):
    """Predicts a field at resolution levels of a backbone and brings it to full resolution.

    Args:
        backbone: Model from (B, *S, channels) to a list of (B, *S / 2**level, F), one for each of `levels`.
        dims: Spatial dimensions, 2 or 3.
        levels: Levels that predict; the first is the field's own, to which the others, coarser, are resized before
            all are averaged.
        divisor: What every size must be divisible by; any other size is padded with 0 and the field cropped.
        steps: Squarings that integrate the prediction as a velocity; `None`: the prediction is a displacement.
        flow: Whether the backbone is also shown the pair's optical flow, (B, *S, D) more.
        symmetric: Whether the velocity is half of what is predicted for the pair less half of what is predicted for the
            pair exchanged, as in SynthMorph (Hoffmann et al., Imaging Neuroscience 2, 2024). What the network gains by
            drawing labels together wherever it is unsure, whichever image is the fixed one, then cancels.
    """

    def __init__(
        self,
        backbone: keras.Model,
        dims: int,
        levels: Sequence[int],
        divisor: int,
        steps: int | None = None,
        flow: bool = False,
        symmetric: bool = False,
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        self.backbone, self.divisor, self.steps, self.flow = backbone, divisor, steps, flow
        self.invertible, self.symmetric = steps is not None, symmetric
        names = ["field", *(f"field{level}" for level in levels[1:])]
        features = [x.shape[-1] for x in backbone.outputs]
        self.heads = [head(dims, each, dims, name) for each, name in zip(features, names, strict=True)]
        self.build()

    def field(self, fixed: object, moving: object) -> dict:
        """Returns `ddf` (B, *S, D) in voxels and, for a dvf, `velocity` at its own resolution and in its voxels."""
        shape = tuple(fixed.shape[1:-1])
        prediction = self._predicted(fixed, moving)
        if self.symmetric:
            prediction = (prediction - self._predicted(moving, fixed)) / 2
        if self.steps is None:
            return {"ddf": self._full(prediction, shape)}
        return {"ddf": self._full(integrate(prediction, self.steps), shape), "velocity": prediction}

    def _predicted(self, fixed: object, moving: object) -> object:
        """Returns the mean of what the heads predict, at the resolution of the first."""
        shown = [fixed, moving]
        if self.flow:
            shown.append(ops.stop_gradient(backend.compiled(optical_flow)(*map(ops.stop_gradient, shown))))
        first, *coarser = predictions(self.backbone, self.heads, stacked(shown, self.divisor))
        resized = [backend.compiled(resize_field, shape=first.shape[1:-1])(each) for each in coarser]
        return sum(resized, first) / len(self.heads) if coarser else first

    def inverse(self, prediction: Mapping[str, object]) -> dict:
        """Returns the field of the negated velocity."""
        ddf = integrate(-prediction["velocity"], self.steps)
        return {"ddf": self._full(ddf, prediction["ddf"].shape[1:-1])}

    def _full(self, field: object, shape: Sequence[int]) -> object:
        padded = tuple(-(-n // self.divisor) * self.divisor for n in shape)
        return cropped(backend.compiled(resize_field, shape=padded)(field), shape)
