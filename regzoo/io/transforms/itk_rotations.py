"""ITK's transforms of a rotation by angles or by a versor, the vector part of a unit quaternion, with scales or not."""

import numpy as np

from regzoo.io.transforms.itk_linear import centred, check_counts

_ROUNDED = 1e-6
"""How much longer than 1 a versor may be, by its rounding."""


def euler(parameters: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """Parameters: angles about x, y, z, then t; fixed ones c, then whether R is Rz Ry Rx instead of Rz Rx Ry."""
    check_counts(parameters, fixed, 6, 3 if len(fixed) == 3 else 4)  # older ones do not say, and are Rz Rx Ry
    cosines, sines = np.cos(parameters[:3]), np.sin(parameters[:3])
    about = [_about(axis, cosines[axis], sines[axis]) for axis in range(3)]
    order = (2, 1, 0) if len(fixed) == 4 and fixed[3] else (2, 0, 1)
    return centred(np.linalg.multi_dot([about[axis] for axis in order]), parameters[3:], fixed[:3])


def versor(parameters: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """Parameters: versor."""
    check_counts(parameters, fixed, 3, 3)
    return centred(_rotation(parameters), np.zeros(3), fixed)


def rigid(parameters: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """Parameters: versor, t."""
    check_counts(parameters, fixed, 6, 3)
    return centred(_rotation(parameters[:3]), parameters[3:], fixed)


def similarity(parameters: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """Parameters: versor, t, one scale."""
    check_counts(parameters, fixed, 7, 3)
    return centred(_rotation(parameters[:3]) * parameters[6], parameters[3:6], fixed)


def scaled(parameters: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """Parameters: versor, t, scales s; the matrix is R + diag(s - 1), as ITK has it."""
    check_counts(parameters, fixed, 9, 3)
    return centred(_rotation(parameters[:3]) + np.diag(parameters[6:] - 1), parameters[3:6], fixed)


def skewed(parameters: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """Parameters: versor, t, scales, six skews; the matrix is R + diag(s - 1) + the skews beside the diagonal."""
    check_counts(parameters, fixed, 15, 3)
    skews = np.diag(parameters[6:9] - 1)
    skews[~np.eye(3, dtype=bool)] = parameters[9:]
    return centred(_rotation(parameters[:3]) + skews, parameters[3:6], fixed)


def composed(parameters: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """Parameters: versor, t, scales, three skews; the matrix is R diag(s) K, K with the skews above its diagonal."""
    check_counts(parameters, fixed, 12, 3)
    skews = np.eye(3)
    skews[np.triu_indices(3, 1)] = parameters[9:]
    return centred(_rotation(parameters[:3]) * parameters[6:9] @ skews, parameters[3:6], fixed)


def _rotation(vector: np.ndarray) -> np.ndarray:
    length = float(vector @ vector)
    if length > 1 + _ROUNDED:
        raise ValueError(f"expected a versor of length 1 at most, received {vector.tolist()}")
    (x, y, z), w = vector, np.sqrt(max(1 - length, 0))
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _about(axis: int, cosine: float, sine: float) -> np.ndarray:
    """Returns the rotation (3, 3) about an axis."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = cosine
    matrix[second, first], matrix[first, second] = sine, -sine
    return matrix
