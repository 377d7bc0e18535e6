"""ITK's displacement field transform, between its LPS and vectors in RAS."""

import math

import numpy as np

from regzoo.io.lps import FLIP, LPS
from regzoo.io.transforms.itk_linear import check_counts
from regzoo.io.transforms.step import Step


def read(parameters: np.ndarray, fixed: np.ndarray) -> Step:
    """Parameters: components, then x, y, z; fixed ones as in `lattice`."""
    size, affine = lattice(parameters, fixed)
    vectors = parameters.reshape(*size[::-1], 3).transpose(2, 1, 0, 3).astype(np.float32, copy=False)
    return np.multiply(vectors, FLIP, out=vectors), affine


def lattice(parameters: np.ndarray, fixed: np.ndarray) -> tuple[tuple[int, ...], np.ndarray]:
    """Returns size and affine in RAS of fixed parameters: size, origin, spacing, direction row by row.

    Raises:
        ValueError: If they are none, or the parameters are not three numbers for each of its places.
    """
    size = fixed[:3].astype(int)
    if (size < 1).any() or (size != fixed[:3]).any():
        raise ValueError(f"expected three positive sizes, received {fixed[:3].tolist()}")
    size = tuple(size.tolist())
    check_counts(parameters, fixed, 3 * math.prod(size), 18)
    origin, spacing, direction = fixed[3:6], fixed[6:9], fixed[9:].reshape(3, 3)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = direction * spacing, origin
    return size, LPS @ affine


def numbers(vectors: np.ndarray, affine: np.ndarray) -> tuple[str, np.ndarray, np.ndarray]:
    """Returns kind, parameters and fixed parameters of vectors (*S, 3) in RAS mm on a grid."""
    lps = LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    direction = lps[:3, :3] / spacing
    fixed = np.concatenate([vectors.shape[:3], lps[:3, 3], spacing, direction.ravel()])
    parameters = (vectors * FLIP).transpose(2, 1, 0, 3).astype(np.float32).ravel()  # ITK reads them as its doubles
    return "DisplacementFieldTransform_double_3_3", parameters, fixed
