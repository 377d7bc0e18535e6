"""Models whose network predicts a matrix: rigid, similarity or affine, by its entries."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import layers, ops

from regzoo import backend
from regzoo.models.base import RegistrationModel
from regzoo.models.heads import stacked
from regzoo.ops.filters import along_axes
from regzoo.ops.grids import affine_grid, identity_grid
from regzoo.ops.matrices import PARAMETERS, inverse_matrix, linear_matrix

_REGIONS = 4
"""Regions along each axis over which the deepest features are averaged, so that any image size fits the weights."""


class MatrixModel(RegistrationModel):
    """A model whose field is that of a matrix; a subclass says only `matrix(fixed, moving)`."""

    invertible = True

    def matrix(self, fixed: object, moving: object) -> object:
        """Returns the matrix (B, D, D + 1), in voxels about voxel 0."""
        raise NotImplementedError

    def field(self, fixed: object, moving: object) -> dict:
        """Returns `matrix` (B, D, D + 1), in voxels about voxel 0, and its `ddf` (B, *S, D)."""
        matrix = self.matrix(fixed, moving)
        return {"ddf": backend.compiled(matrix_field, shape=tuple(fixed.shape[1:-1]))(matrix), "matrix": matrix}

    def inverse(self, prediction: Mapping[str, object]) -> dict:
        """Returns the field of the inverse matrix."""
        matrix, shape = inverse_matrix(prediction["matrix"]), tuple(prediction["ddf"].shape[1:-1])
        return {"ddf": backend.compiled(matrix_field, shape=shape)(matrix), "matrix": matrix}


class AffineModel(MatrixModel):
    """Predicts the entries of a matrix about the image centre.

    Args:
        backbone: Model from (B, *S, 2) to (B, *s, F).
        dims: Spatial dimensions, 2 or 3.
        divisor: What every size must be divisible by; any other size is padded with 0.
        constraint: `"rigid"`, `"similarity"` or `"affine"`.
        spacing: Millimetres a voxel, D values; a rigid matrix keeps distances in mm.
    """

    def __init__(
        self,
        backbone: keras.Model,
        dims: int,
        divisor: int,
        constraint: str,
        spacing: Sequence[float],
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        self.backbone, self.divisor, self.constraint, self.spacing = backbone, divisor, constraint, tuple(spacing)
        small = keras.initializers.RandomNormal(stddev=1e-5)
        count = PARAMETERS[constraint][dims]
        self.head = layers.Dense(count, kernel_initializer=small, name="parameters", dtype="float32")
        self.head.build((None, _REGIONS**dims * backbone.output_shape[-1]))
        self.build()

    def matrix(self, fixed: object, moving: object) -> object:
        """Reads the deepest features of the pair as a whole."""
        features = _regions(self.backbone(stacked([fixed, moving], self.divisor)))
        return linear_matrix(self.head(features), self.constraint, tuple(fixed.shape[1:-1]), self.spacing)


def matrix_field(matrix: object, shape: Sequence[int]) -> object:
    """Returns the displacement field (B, *S, D) of matrices (B, D, D + 1)."""
    return affine_grid(matrix, shape) - ops.convert_to_tensor(identity_grid(shape))


def _regions(features: object) -> object:
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
