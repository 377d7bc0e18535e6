"""Linear maps of points and centres: NumPy, (4, 4), millimetres or voxels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from regzoo.errors import invalid


def map_points(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Maps points (*N, 3) by a (4, 4) matrix."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def cross(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the vector products of vectors whose three components are arrays."""
    return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]


def dot(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the scalar products of such vectors."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def about(linear: np.ndarray, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Returns the matrix (4, 4) with a linear part (3, 3) that maps one point (3,) to another: a centre to a centre."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, target - linear @ source
    return matrix


def embedded(matrix: np.ndarray) -> np.ndarray:
    """Returns a matrix (D, D + 1), D of 2 or 3, as (4, 4); what is beyond D stays where it is."""
    dims, full = len(matrix), np.eye(4)
    full[:dims, :dims], full[:dims, 3] = matrix[:, :dims], matrix[:, dims]
    return full


def numbers(what: str, values: ArrayLike, expected: str) -> np.ndarray:
    """Returns an array of numbers, or what one is made of, as float64.

    Raises:
        InvalidError: If it holds anything else, such as truth values, words or complex numbers, or is ragged.
    """
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):
        raise invalid(what, expected, "rows of different lengths") from None
    if array.dtype.kind not in "iuf":
        raise invalid(what, expected, f"type {array.dtype}")
    return array.astype(np.float64)


def checked_points(what: str, points: ArrayLike) -> np.ndarray:
    """Returns points (N, 3) as float64.

    Raises:
        InvalidError: If they are no finite numbers of this shape.
    """
    points = numbers(what, points, "numbers of mm, shape (N, 3)")
    if points.ndim != 2 or points.shape[1] != 3:
        raise invalid(what, "shape (N, 3)", points.shape)
    if not np.isfinite(points).all():
        raise invalid(what, "finite coordinates", "NaN or infinite ones")
    return points


def checked_matrix(what: str, matrix: np.ndarray) -> np.ndarray:
    """Returns a matrix as float64.

    Raises:
        InvalidError: If it is not a finite (4, 4) matrix with the last row 0 0 0 1.
    """
    matrix = numbers(what, matrix, "a finite (4, 4) matrix with last row 0 0 0 1")
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or (matrix[3] != (0, 0, 0, 1)).any():
        raise invalid(what, "a finite (4, 4) matrix with last row 0 0 0 1", matrix.tolist())
    return matrix
