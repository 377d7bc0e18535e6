"""ITK's linear transforms, between its LPS and the matrix in RAS."""

import numpy as np

from regzoo.io.transforms.step import LPS


def affine(parameters: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """`y = M (x - c) + c + t` in LPS; parameters M row by row, then t; fixed parameters c."""
    linear = parameters[:9].reshape(3, 3)
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = parameters[9:].reshape(3) + fixed - linear @ fixed
    return LPS @ matrix @ LPS


def translation(parameters: np.ndarray, _fixed: np.ndarray) -> np.ndarray:
    """`y = x + t` in LPS; parameters t."""
    return affine(np.concatenate([np.eye(3).ravel(), parameters]), np.zeros(3))


def identity(_parameters: np.ndarray, _fixed: np.ndarray) -> np.ndarray:
    """`y = x`."""
    return np.eye(4)


def numbers(matrix: np.ndarray) -> tuple[str, np.ndarray, np.ndarray]:
    """Returns kind, parameters and fixed parameters of a matrix (4, 4) in RAS."""
    lps = LPS @ matrix @ LPS
    return "AffineTransform_double_3_3", np.concatenate([lps[:3, :3].ravel(), lps[:3, 3]]), np.zeros(3)
