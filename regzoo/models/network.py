"""Network: a registration model whose map comes from a backbone and heads."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras
from keras import ops

from regzoo import backend
from regzoo.backend import Tensor
from regzoo.models.base import RegistrationModel
from regzoo.models.heads import stacked
from regzoo.ops.optical_flow import optical_flow

if TYPE_CHECKING:
    from regzoo.models.outputs.output import Output


class Network(RegistrationModel):
    """Shows a pair to a backbone, whose heads give the values of an output.

    Args:
        output: What the values mean.
        backbone: Model from (B, *S, channels) to a list of (B, *S / 2**level, F), one for each of `levels`.
        levels: Resolution levels that the heads look at.
        divisor: What every size must be divisible by; any other size is padded with 0 and the map cropped.
        flow: Whether the backbone is also shown the pair's optical flow, (B, *S, D) more.

    Where `output.symmetric`, what the network gains by drawing labels together wherever it is unsure, whichever image
    is the fixed one, cancels, as in SynthMorph (Hoffmann et al., Imaging Neuroscience 2, 2024).
    """

    def __init__(
        self,
        output: "Output",
        backbone: keras.Model,
        levels: Sequence[int],
        divisor: int,
        flow: bool = False,
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        self.meaning, self.backbone, self.levels = output, backbone, tuple(levels)
        self.divisor, self.flow, self.invertible = divisor, flow, output.config.has_inverse
        self.heads = output.heads([each.shape[-1] for each in backbone.outputs], self.levels)
        self.build()

    def field(self, fixed: Tensor, moving: Tensor) -> dict:
        """Returns the prediction of the output."""
        shape = tuple(fixed.shape[1:-1])
        values = self.values(fixed, moving)
        if self.meaning.symmetric:
            values = [(here - there) / 2 for here, there in zip(values, self.values(moving, fixed), strict=True)]
        return self.meaning.prediction(values, shape, self.covered(shape))

    def inverse(self, prediction: Mapping[str, Tensor]) -> dict:
        """Returns the inverse of the output."""
        return self.meaning.inverse(prediction, self.covered(prediction["ddf"].shape[1:-1]))

    def values(self, fixed: Tensor, moving: Tensor) -> list:
        """Returns what the heads make of a pair."""
        shown = [fixed, moving]
        if self.flow:
            shown.append(ops.stop_gradient(backend.compiled(optical_flow)(*map(ops.stop_gradient, shown))))
        return self.meaning.read(self.heads, self.features(shown), self.levels, tuple(fixed.shape[1:-1]))

    def features(self, images: Sequence) -> list:
        """Returns what the backbone makes of images, stacked as channels."""
        found = self.backbone(stacked(images, self.divisor))
        return found if isinstance(found, list) else [found]  # Keras unpacks a list of one

    def covered(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the shape to which images of a shape are padded."""
        return tuple(-(-n // self.divisor) * self.divisor for n in shape)
