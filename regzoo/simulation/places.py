"""Places of a chest, on the device: vectors (1, *S, 3) in mm from the middle voxel of the network's grid."""

from collections.abc import Sequence

import numpy as np
from keras import ops

from regzoo.backend import Tensor
from regzoo.ops.fields import bspline_field
from regzoo.ops.grids import voxel_places


def row(values: Sequence[float]) -> Tensor:
    """Returns a value for each axis, shape (3,), float32."""
    return ops.convert_to_tensor(np.array(values, dtype="float32"))


def mm_grid(shape: Sequence[int], spacing: Sequence[float]) -> Tensor:
    """Returns the voxels' places from the middle voxel in mm, shape (1, *S, 3)."""
    return ((voxel_places(shape) - row((np.array(shape) - 1) // 2)) * row(spacing))[None]


def to_voxels(places: Tensor, spacing: Sequence[float], shape: Sequence[int]) -> Tensor:
    """Returns places in mm from the middle voxel of another grid as that grid's voxels."""
    return places / row(spacing) + row((np.array(shape) - 1) // 2)


def linear(vectors: Tensor, matrix: Tensor) -> Tensor:
    """Returns vectors (..., 3) multiplied by a matrix (3, 3)."""
    return sum(vectors[..., i : i + 1] * matrix[:, i] for i in range(3))


def random_field(control: Tensor, shape: Sequence[int], spacing: Sequence[float], every: float) -> Tensor:
    """Returns the field of control points that lie every so many mm, shape (1, *S, 3)."""
    return bspline_field(control, shape, [every / step for step in spacing])


def gaussians(sigmas: Tensor, size: int) -> np.ndarray:
    """Returns matrices (B, size, size) that smooth an axis, one for each standard deviation in voxels."""
    offset = np.arange(size)[:, None] - np.arange(size)[None, :]
    weights = np.exp(-0.5 * (offset / np.maximum(np.reshape(sigmas, (-1, 1, 1)), 0.1)) ** 2)
    return (weights / weights.sum(axis=-1, keepdims=True)).astype("float32")


def smoothed(x: Tensor, kernels: Sequence[Tensor]) -> Tensor:
    """Applies to each batch item its own matrix along each axis; x (B, *S, 1), kernels (B, n, n)."""
    b, i, j, k, _ = x.shape
    x = ops.matmul(kernels[0], ops.reshape(x, (b, i, j * k)))
    x = ops.matmul(kernels[1][:, None], ops.reshape(x, (b, i, j, k)))
    x = ops.matmul(ops.reshape(x, (b, i * j, k)), ops.transpose(kernels[2], (0, 2, 1)))
    return ops.reshape(x, (b, i, j, k, 1))
