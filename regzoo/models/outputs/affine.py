"""Matrices by their entries: rigid, similarity or affine."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

from regzoo.backend import Tensor
from regzoo.models.heads import predictions
from regzoo.models.outputs.matrices import Matrices
from regzoo.ops.filters import along_axes
from regzoo.ops.matrices import PARAMETERS, linear_matrix
from regzoo.schema.networks import StageConfig

_REGIONS = 4
"""Regions along each axis over which the deepest features are averaged, so that any image size fits the weights."""


class Linear(Matrices):
    """A matrix about the image's centre; its value is (B, P), see `regzoo.ops.grids.linear_matrix`."""

    def matrix(self, values: Sequence, shape: Sequence[int]) -> Tensor:
        """Returns the matrix of the parameters."""
        return linear_matrix(values[0], self.config.constraint, tuple(shape), self.spacing)

    def levels(self, stage: StageConfig) -> list[int]:
        """Returns the deepest, whose features are read as a whole."""
        return [stage.backbone.deepest]

    def heads(self, features: Sequence[int], levels: Sequence[int]) -> list[keras.Layer]:
        """Returns one layer that looks at averages over regions, and predicts close to zero."""
        small = keras.initializers.RandomNormal(stddev=1e-5)
        layer = layers.Dense(self._count, kernel_initializer=small, name="parameters", dtype="float32")
        layer.build((None, _REGIONS**self.dims * features[0]))
        return [layer]

    def read(self, heads: Sequence, features: Sequence, levels: Sequence[int], shape: Sequence[int]) -> list:
        """Returns the parameters."""
        return predictions(heads, [_regions(each) for each in features])

    def weights(self, shape: Sequence[int]) -> dict[str, tuple[int, ...]]:
        """Returns the shape of the parameters."""
        return {"parameters": (self._count,)}

    @property
    def _count(self) -> int:
        return PARAMETERS[self.config.constraint][self.dims]


def _regions(features: Tensor) -> Tensor:
    """Averages features over a lattice of regions: (B, *s, F) to (B, regions * F)."""
    shape = features.shape[1:-1]
    pooled = along_axes(features, [_averages(n) for n in shape])
    return ops.reshape(pooled, (-1, _REGIONS ** len(shape) * features.shape[-1]))


def _averages(length: int) -> np.ndarray:
    """Returns the matrix that averages an axis over equal regions, voxels counted by their share in each."""
    edges = np.linspace(0, length, _REGIONS + 1)
    voxels = np.arange(length)
    share = np.clip(np.minimum(voxels + 1, edges[1:, None]) - np.maximum(voxels, edges[:-1, None]), 0, None)
    return share / share.sum(axis=1, keepdims=True)
