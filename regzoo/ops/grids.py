"""Coordinates of grids, in voxels; integer coordinates are voxel centres."""

from collections.abc import Sequence

import numpy as np
from keras import ops

from regzoo.backend import Tensor
from regzoo.errors import invalid


def identity_grid(shape: Sequence[int]) -> np.ndarray:
    """Returns every voxel's own coordinates.

    Args:
        shape: Spatial shape `S`.

    Returns:
        Shape (*S, D), float32; component d is the coordinate along axis d.

    Example:
        >>> identity_grid((2, 3))[1, 2].tolist()
        [1.0, 2.0]
    """
    return np.stack(np.meshgrid(*(np.arange(n, dtype="float32") for n in shape), indexing="ij"), axis=-1)


def voxel_places(shape: Sequence[int]) -> Tensor:
    """Returns `identity_grid` as a tensor that is made where it is used, and not carried to the device.

    Args:
        shape: Spatial shape `S`.

    Returns:
        Shape (*S, D), float32.
    """
    steps = [ops.arange(n, dtype="float32") for n in shape]
    return ops.stack(ops.meshgrid(*steps, indexing="ij"), axis=-1)


def affine_grid(matrix: Tensor, shape: Sequence[int]) -> Tensor:
    """Returns the coordinates that matrices send every voxel to: `y = A x + b`, with `matrix = [A | b]`.

    Args:
        matrix: Shape (B, D, D + 1), in voxels, about voxel 0 (`about_centre` shifts it to the image centre).
        shape: Spatial shape `S` of the grid, D entries.

    Returns:
        Shape (B, *S, D).

    Raises:
        ValueError: If the matrices do not fit the grid.

    Example:
        >>> grid = affine_grid([[[1.0, 0.0, 0.5], [0.0, 2.0, 0.0]]], (2, 3))
        >>> ops.convert_to_numpy(grid)[0, 1, 2].tolist()
        [1.5, 4.0]
    """
    matrix = ops.convert_to_tensor(matrix, dtype="float32")
    dims = len(shape)
    if tuple(matrix.shape[1:]) != (dims, dims + 1):
        raise invalid("matrix", f"shape (B, {dims}, {dims + 1}) for a grid {tuple(shape)}", tuple(matrix.shape))
    points = ops.convert_to_tensor(identity_grid(shape).reshape(-1, dims))
    moved = ops.matmul(points, ops.transpose(matrix[:, :, :dims], (0, 2, 1))) + matrix[:, None, :, dims]
    return ops.reshape(moved, (ops.shape(matrix)[0], *shape, dims))


def millimetres(spacing: Sequence[float] | None, dims: int) -> list[float]:
    """Returns the millimetres a voxel along each axis; None is 1 mm.

    Raises:
        ValueError: If `spacing` has not `dims` values.

    Example:
        >>> millimetres(None, 3)
        [1.0, 1.0, 1.0]
    """
    spacing = [1.0] * dims if spacing is None else list(spacing)
    if len(spacing) != dims:
        raise invalid("spacing", f"{dims} values in millimetres", spacing)
    return spacing
