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
    matrix, dims = ops.convert_to_tensor(matrix), len(shape)
    if tuple(matrix.shape[1:]) != (dims, dims + 1):
        raise invalid("matrix", f"shape (B, {dims}, {dims + 1}) for a grid {tuple(shape)}", tuple(matrix.shape))
    return map_places(matrix, voxel_places(shape)[None])


def map_places(matrix: Tensor, places: Tensor) -> Tensor:
    """Maps places `y` to `A y + b`, with `matrix = [A | b]`.

    Args:
        matrix: Shape (B, D, D + 1).
        places: Shape (B or 1, *S, D), in the voxels that the matrix maps from.

    Returns:
        Shape (B, *S, D).

    Example:
        >>> ops.convert_to_numpy(map_places([[[2.0, 0.0, 1.0], [0.0, 1.0, 0.0]]], [[[3.0, 4.0]]])).tolist()
        [[[7.0, 4.0]]]
    """
    matrix, places = (ops.convert_to_tensor(each, dtype="float32") for each in (matrix, places))
    dims = places.shape[-1]
    rows = ops.reshape(matrix, (-1, *(1,) * (len(places.shape) - 2), dims, dims + 1))
    # A sum of D products is faster than a product of matrices so small, on every backend.
    return sum(rows[..., d] * places[..., d : d + 1] for d in range(dims)) + rows[..., -1]


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
