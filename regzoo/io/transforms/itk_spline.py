"""ITK's B-spline transform, from its LPS to coefficients in RAS."""

import numpy as np

from regzoo.io.lps import FLIP
from regzoo.io.transforms.itk_field import lattice
from regzoo.io.transforms.step import Spline


def read(parameters: np.ndarray, fixed: np.ndarray) -> Spline:
    """Fixed parameters as a field's; parameters: all first components of the coefficients, then all second ones."""
    size, affine = lattice(parameters, fixed)
    if min(size) < 4:
        raise ValueError(f"expected four coefficients or more along each axis, received {list(size)}")
    coefficients = parameters.reshape(3, *size[::-1]).transpose(3, 2, 1, 0)
    return Spline(np.multiply(coefficients, FLIP, out=coefficients), affine)
