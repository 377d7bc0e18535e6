"""ITK's linear transforms, between its LPS and the matrix in RAS."""

import numpy as np

from regzoo.io.lps import LPS


def affine(parameters: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """`y = M (x - c) + c + t` in LPS; parameters M row by row, then t; fixed parameters c."""
    check_counts(parameters, fixed, 12, 3)
    return centred(parameters[:9].reshape(3, 3), parameters[9:], fixed)


def scale(parameters: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """`y = s (x - c) + c` in LPS; parameters s, one for each axis; fixed parameters c."""
    check_counts(parameters, fixed, 3, 3)
    return centred(np.diag(parameters), np.zeros(3), fixed)


def translation(parameters: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """`y = x + t` in LPS; parameters t."""
    check_counts(parameters, fixed, 3, 0)
    return affine(np.concatenate([np.eye(3).ravel(), parameters]), np.zeros(3))


def identity(parameters: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """`y = x`."""
    check_counts(parameters, fixed, 0, 0)
    return np.eye(4)


def centred(linear: np.ndarray, translation: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Returns the matrix in RAS of `y = M (x - c) + c + t` in LPS."""
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = translation + centre - linear @ centre
    return LPS @ matrix @ LPS


def check_counts(parameters: np.ndarray, fixed: np.ndarray, expected: int, expected_fixed: int) -> None:
    """Refuses numbers of another count than a kind has, as a cut or changed file has.

    Raises:
        ValueError: If there are more or fewer.
    """
    received = np.shape(parameters), np.shape(fixed)
    if received != ((expected,), (expected_fixed,)):
        raise ValueError(f"expected {expected} parameters and {expected_fixed} fixed ones, received {received}")


def numbers(matrix: np.ndarray) -> tuple[str, np.ndarray, np.ndarray]:
    """Returns kind, parameters and fixed parameters of a matrix (4, 4) in RAS."""
    lps = LPS @ matrix @ LPS
    return "AffineTransform_double_3_3", np.concatenate([lps[:3, :3].ravel(), lps[:3, 3]]), np.zeros(3)
