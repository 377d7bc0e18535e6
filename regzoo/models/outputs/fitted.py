"""An affine matrix fitted to the displacements that a network sees."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from regzoo import backend
from regzoo.backend import Tensor
from regzoo.models.network import Network
from regzoo.models.outputs.dense import Displacement
from regzoo.models.outputs.keypoints import fitted_matrix
from regzoo.models.outputs.matrices import Matrices
from regzoo.models.outputs.output import Backbone
from regzoo.ops.grids import identity_grid
from regzoo.schema.networks import StageConfig
from regzoo.schema.outputs import FittedConfig


class Fitted(Matrices):
    """The affine matrix that explains displacements best, by least squares.

    Its values are the fixed image, since only where it shows something a displacement counts, and the displacements.
    Where a network sees a little of the way at each place, the matrix knows it of the image as a whole; what is left is
    seen on the next pass.
    """

    def __init__(self, config: FittedConfig, dims: int, spacing: Sequence[float]) -> None:
        super().__init__(config, dims, spacing)
        self.displacement = Displacement(config, dims, spacing)

    def matrix(self, values: Sequence, shape: Sequence[int]) -> Tensor:
        """Returns the matrix that is fitted to the displacements."""
        return backend.compiled(nearest_matrix, shape=tuple(shape), spacing=self.spacing)(*values)

    def network(self, stage: StageConfig, backbone: Backbone) -> "BesideFixed":
        """Returns a network of displacements."""
        levels = self.levels(stage)
        divisor = 2**stage.backbone.deepest
        return BesideFixed(self, backbone(levels), levels, divisor, stage.flow, name=self.config.name)

    def heads(self, features: Sequence[int], levels: Sequence[int]) -> list[keras.Layer]:
        """Returns the convolution that predicts displacements."""
        return self.displacement.heads(features, levels)

    def read(self, heads: Sequence, features: Sequence, levels: Sequence[int], shape: Sequence[int]) -> list:
        """Returns the displacements, at their own resolution."""
        return self.displacement.read(heads, features, levels, shape)


class BesideFixed(Network):
    """Gives the displacements that its network sees at the images' resolution, and the fixed image."""

    def values(self, fixed: Tensor, moving: Tensor) -> list:
        """Returns the fixed image and the displacements."""
        shape = tuple(fixed.shape[1:-1])
        seen = self.meaning.displacement.prediction(super().values(fixed, moving), shape, self.covered(shape))
        return [fixed, seen["ddf"]]


def nearest_matrix(fixed: Tensor, ddf: Tensor, shape: Sequence[int], spacing: Sequence[float]) -> Tensor:
    """Returns the matrices (B, D, D + 1) nearest to fields, where the fixed images show something."""
    dims = len(shape)
    shown = ops.cast(ops.max(ops.abs(fixed), axis=-1) > 0, "float32")
    step = np.asarray(spacing, dtype="float32")
    places = ((identity_grid(shape) - (np.asarray(shape, dtype="float32") - 1) / 2) * step).reshape(1, -1, dims)
    ways = ops.reshape(ddf, (-1, places.shape[1], dims)) * ops.convert_to_tensor(step)
    places = ops.broadcast_to(ops.convert_to_tensor(places), ops.shape(ways))
    ends = places + ways
    return fitted_matrix(places, ends, shape, spacing, ops.reshape(shown, (-1, places.shape[1])))
