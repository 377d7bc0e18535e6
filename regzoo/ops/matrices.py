"""Linear matrices on voxels: drawn, built from free parameters, inverted. Shape (B, D, D + 1), `y = A x + b`."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from keras import ops

from regzoo.backend import Tensor
from regzoo.errors import invalid, unknown

Constraint = Literal["rigid", "similarity", "affine"]


def about_centre(matrix: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Turns matrices that act about the image centre into matrices about voxel 0.

    Args:
        matrix: Shape (..., D, D + 1), in voxels.
        shape: Spatial shape whose centre `(S - 1) / 2` stays put under `A`.

    Returns:
        Shape (..., D, D + 1).

    Example:
        >>> about_centre([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]], (5, 3)).tolist()  # twice as large about voxel (2, 1)
        [[2.0, 0.0, -2.0], [0.0, 2.0, -1.0]]
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

    Example:
        >>> random_affine(0, (5, 3), scale=0.0).tolist()
        [[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]]
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


PARAMETERS = {"rigid": {2: 3, 3: 6}, "similarity": {2: 4, 3: 7}, "affine": {2: 6, 3: 12}}
"""Degrees of freedom: constraint -> dimensions -> number."""


def linear_matrix(parameters: Tensor, constraint: Constraint, shape: Sequence[int], spacing: Sequence[float]) -> Tensor:
    """Builds matrices about the image centre from free parameters, of which zeros give the identity.

    Args:
        parameters: Shape (B, P), P of `PARAMETERS`. First D translations, in half sizes of the image along each axis;
            then for `"rigid"` a rotation (3-D: a vector along the axis with the tangent of half the angle as length;
            2-D: that tangent); for `"similarity"` the same and the logarithm of the scale; for `"affine"` the D x D
            entries of `A - I`, row by row, in mm per mm.
        constraint: `"rigid"`, `"similarity"` or `"affine"`.
        shape: Spatial shape of the grid, D entries.
        spacing: Millimetres a voxel, so that a rotation is one in the world where voxels are anisotropic.

    Returns:
        Shape (B, D, D + 1), in voxels about voxel 0, for `affine_grid`.

    Raises:
        ValueError: If the constraint is unknown or the parameters do not fit it.

    Example:
        >>> matrix = linear_matrix([[0.5, 0.0, 0.0]], "rigid", (4, 6), (1.0, 1.0))  # by a quarter of axis 0
        >>> (ops.convert_to_numpy(matrix)[0] + 0.0).tolist()
        [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    dims = len(shape)
    if constraint not in PARAMETERS:
        raise unknown("constraint", constraint, PARAMETERS)
    parameters = ops.convert_to_tensor(parameters, dtype="float32")
    if parameters.shape[-1] != PARAMETERS[constraint][dims]:
        raise invalid("parameters", f"shape (B, {PARAMETERS[constraint][dims]})", tuple(parameters.shape))
    shift, rest = parameters[:, :dims], parameters[:, dims:]
    if constraint == "affine":
        linear = ops.reshape(rest, (-1, dims, dims)) + ops.eye(dims, dtype="float32")
    else:
        linear = _rotation(rest[:, : 2 * dims - 3])
        if constraint == "similarity":
            linear = linear * ops.exp(rest[:, -1])[:, None, None]
    spacing = np.asarray(spacing, dtype="float32")
    linear = linear * ops.convert_to_tensor(spacing[None, :] / spacing[:, None])
    centre = ops.convert_to_tensor((np.asarray(shape, dtype="float32") - 1) / 2)
    half = ops.convert_to_tensor(np.asarray(shape, dtype="float32") / 2)
    offset = shift * half + centre - ops.sum(linear * centre, axis=-1)
    return ops.concatenate([linear, offset[..., None]], axis=-1)


def _rotation(vector: Tensor) -> Tensor:
    """Returns rotations (B, D, D) from (B, 1) or (B, 3): a unit quaternion, smooth everywhere, also at zero."""
    size = ops.sum(ops.square(vector), axis=-1)
    if vector.shape[-1] == 1:
        cosine, sine = (1 - size) / (1 + size), 2 * vector[:, 0] / (1 + size)
        rows = [[cosine, -sine], [sine, cosine]]
    else:
        x, y, z = (vector[:, i] for i in range(3))
        rows = [
            [1 + x * x - y * y - z * z, 2 * (x * y - z), 2 * (x * z + y)],
            [2 * (x * y + z), 1 - x * x + y * y - z * z, 2 * (y * z - x)],
            [2 * (x * z - y), 2 * (y * z + x), 1 - x * x - y * y + z * z],
        ]
        rows = [[entry / (1 + size) for entry in row] for row in rows]
    return ops.stack([ops.stack(row, axis=-1) for row in rows], axis=-2)


def inverse_matrix(matrix: Tensor) -> Tensor:
    """Inverts matrices (B, D, D + 1): `x = A^-1 (y - b)`.

    Example:
        >>> (ops.convert_to_numpy(inverse_matrix([[[2.0, 0.0, 1.0], [0.0, 4.0, 2.0]]]))[0] + 0.0).tolist()
        [[0.5, 0.0, -0.5], [0.0, 0.25, -0.5]]
    """
    matrix = ops.convert_to_tensor(matrix, dtype="float32")
    inverse = inverse_linear(matrix[..., :-1])
    return ops.concatenate([inverse, -ops.matmul(inverse, matrix[..., -1:])], axis=-1)


def inverse_linear(linear: Tensor) -> Tensor:
    """Inverts matrices (B, D, D), D of 2 or 3, by their cofactors, which every format of a model can express.

    Example:
        >>> ops.convert_to_numpy(inverse_linear([[[2.0, 0.0], [0.0, 4.0]]]))[0].diagonal().tolist()
        [0.5, 0.25]
    """
    linear = ops.convert_to_tensor(linear, dtype="float32")
    dims = linear.shape[-1]
    entry = [[linear[..., i, j] for j in range(dims)] for i in range(dims)]
    if dims == 2:
        cofactors = [[entry[1][1], -entry[1][0]], [-entry[0][1], entry[0][0]]]
    else:
        turn = ((1, 2), (2, 0), (0, 1))  # the two others, in the order that gives a cofactor its sign
        cofactors = [[entry[a][c] * entry[b][d] - entry[a][d] * entry[b][c] for c, d in turn] for a, b in turn]
    determinant = sum(entry[0][j] * cofactors[0][j] for j in range(dims))
    columns = [ops.stack(row, axis=-1) for row in cofactors]  # the inverse is their transpose
    return ops.stack(columns, axis=-1) / determinant[..., None, None]
