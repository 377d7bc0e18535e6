"""Dense fields: a displacement (ddf), or a stationary velocity (dvf), at a resolution level."""

from collections.abc import Mapping, Sequence

import keras

from regzoo import backend
from regzoo.backend import Tensor
from regzoo.models.base import RegistrationModel
from regzoo.models.heads import cropped, head, predictions
from regzoo.models.outputs.output import Backbone, Output
from regzoo.models.outputs.pyramid import PyramidDDF, PyramidDVF
from regzoo.ops.fields import integrate, resize_field
from regzoo.ops.filters import smooth
from regzoo.schema.networks import StageConfig

_WINDOW = 5
"""Voxels of the Gaussian window that smooths a field of trainable weights, whose gradients are those of single ones."""


class Displacement(Output):
    """A displacement field; its value is one field (B, *s, D), in voxels of its own resolution."""

    streams = PyramidDDF
    """What is made of it by a backbone that sees each image by itself."""

    def network(self, stage: StageConfig, backbone: Backbone) -> RegistrationModel:
        """Returns a model whose values are a network's: found at once, or from coarse to fine."""
        if stage.backbone.gives != "streams":
            return super().network(stage, backbone)
        levels = range(self.config.finest, stage.backbone.deepest + 1)
        return self.streams(self.config, backbone(levels), self.dims)

    def prediction(self, values: Sequence, shape: Sequence[int], covered: Sequence[int] | None = None) -> dict:
        """Returns `ddf`."""
        return {"ddf": _full(values[0], shape, covered)}

    def heads(self, features: Sequence[int], levels: Sequence[int]) -> list[keras.Layer]:
        """Returns one convolution a level: the field's own, then coarser ones."""
        names = ["field", *(f"field{level}" for level in levels[1:])]
        return [head(self.dims, each, self.dims, name) for each, name in zip(features, names, strict=True)]

    def read(self, heads: Sequence, features: Sequence, levels: Sequence[int], shape: Sequence[int]) -> list:
        """Returns the mean of what is predicted at each level, at the resolution of the first."""
        first, *coarser = predictions(heads, features)
        resized = [backend.compiled(resize_field, shape=first.shape[1:-1])(each) for each in coarser]
        return [sum(resized, first) / len(heads) if coarser else first]

    def weights(self, shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
        """Returns the field's shape."""
        return {"field": (*(-(-n // 2**self.config.level) for n in shape), self.dims)}

    def read_weights(self, weights: Sequence) -> list:
        """Smooths the field by a small window."""
        return [backend.compiled(smooth, size=_WINDOW, window="gaussian")(weights[0])]

    def carried(self, values: Sequence, shape: Sequence[int], coarser: Output) -> list:
        """Returns the field, resized."""
        return [resize_field(values[0], self.weights(shape)["field"][:-1])]


class Velocity(Displacement):
    """A stationary velocity field, integrated by scaling and squaring."""

    streams = PyramidDVF

    @property
    def symmetric(self) -> bool:
        """Whether a network sees the pair both ways."""
        return self.config.symmetric

    def prediction(self, values: Sequence, shape: Sequence[int], covered: Sequence[int] | None = None) -> dict:
        """Returns `ddf` and `velocity`, at its own resolution and in its voxels."""
        return {"ddf": self._integrated(values[0], shape, covered), "velocity": values[0]}

    def inverse(self, prediction: Mapping[str, Tensor], covered: Sequence[int] | None = None) -> dict:
        """Returns the field of the negated velocity."""
        return {"ddf": self._integrated(-prediction["velocity"], prediction["ddf"].shape[1:-1], covered)}

    def _integrated(self, velocity: Tensor, shape: Sequence[int], covered: Sequence[int] | None) -> Tensor:
        return _full(integrate(velocity, self.config.steps), shape, covered)


def _full(field: Tensor, shape: Sequence[int], covered: Sequence[int] | None) -> Tensor:
    """Returns a field at full resolution, cropped from what it covers."""
    return cropped(backend.compiled(resize_field, shape=tuple(covered or shape))(field), shape)
