"""Coordinates: identity and affine grids, and random linear matrices. Voxel units, integer coordinates at centres."""

from collections.abc import Sequence

import numpy as np
from keras import ops

from regzoo.checks import invalid


def identity_grid(shape: Sequence[int]) -> np.ndarray:
    """Returns every voxel's own coordinates.

    Args:
        shape: Spatial shape `S`.

    Returns:
        Shape (*S, D), float32; component d is the coordinate along axis d.
    """
    return np.stack(np.meshgrid(*(np.arange(n, dtype="float32") for n in shape), indexing="ij"), axis=-1)


def affine_grid(matrix: object, shape: Sequence[int]) -> object:
    """Returns the coordinates that matrices send every voxel to: `y = A x + b`, with `matrix = [A | b]`.

    Args:
        matrix: Shape (B, D, D + 1), in voxels, about voxel 0 (`about_centre` shifts it to the image centre).
        shape: Spatial shape `S` of the grid, D entries.

    Returns:
        Shape (B, *S, D).

    Raises:
        ValueError: If the matrices do not fit the grid.
    """
    matrix = ops.convert_to_tensor(matrix, dtype="float32")
    dims = len(shape)
    if tuple(matrix.shape[1:]) != (dims, dims + 1):
        raise invalid("matrix", f"shape (B, {dims}, {dims + 1}) for a grid {tuple(shape)}", tuple(matrix.shape))
    points = ops.convert_to_tensor(identity_grid(shape).reshape(-1, dims))
    moved = ops.matmul(points, ops.transpose(matrix[:, :, :dims], (0, 2, 1))) + matrix[:, None, :, dims]
    return ops.reshape(moved, (ops.shape(matrix)[0], *shape, dims))


def about_centre(matrix: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Turns matrices that act about the image centre into matrices about voxel 0.

    Args:
        matrix: Shape (..., D, D + 1), in voxels.
        shape: Spatial shape whose centre `(S - 1) / 2` stays put under `A`.

    Returns:
        Shape (..., D, D + 1).
    """
    matrix = np.array(matrix, dtype="float64")
    centre = (np.asarray(shape) - 1) / 2
    matrix[..., -1] += centre - matrix[..., :-1] @ centre
    return matrix


def random_affine(seed: int | np.random.Generator, shape: Sequence[int], scale: float, batch: int = 1) -> np.ndarray:
    """Draws random linear matrices about the image centre, with no mean displacement anywhere.

    Every entry of `A - I` is uniform in [-scale, scale], every translation in [-scale, scale] / 2 of the image size;
    so a voxel at the centre of a face moves by at most `scale` of the image size along each axis.

    Args:
        seed: Seed or generator.
        shape: Spatial shape of the grid, D entries.
        scale: From 0 (identity) to 0.33, below which no draw mirrors or flattens the image.
        batch: How many matrices.

    Returns:
        Shape (batch, D, D + 1), float32, about voxel 0, for `affine_grid`.

    Raises:
        ValueError: If `scale` is out of range.
    """
    if not 0 <= scale <= 0.33:
        raise invalid("scale", "a number from 0 to 0.33", scale)
    dims = len(shape)
    draw = np.random.default_rng(seed).uniform(-scale, scale, (batch, dims, dims + 1))
    # The linear part is drawn in units of the half size of each axis, so that it is the same on any grid.
    size = np.asarray(shape, dtype="float64")
    linear = draw[..., :dims] * size[:, None] / size[None, :]
    matrix = np.concatenate([np.eye(dims) + linear, draw[..., dims:] * size[:, None] / 2], axis=-1)
    return about_centre(matrix, shape).astype("float32")
