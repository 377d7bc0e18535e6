"""The displacement that a pair shows at first sight, before any network: Lucas and Kanade's optical flow."""

import numpy as np
from keras import ops

from regzoo.backend import Tensor
from regzoo.ops.filters import along_axes, smooth
from regzoo.ops.matrices import inverse_linear
from regzoo.ops.statistics import of_one_shape

_WINDOW = 5
"""Width of the window in which all voxels are taken to move alike."""
_RIDGE = 0.1
"""How much an edge counts that is no edge: along it, and where it is flat, nothing moves."""


def optical_flow(fixed: Tensor, moving: Tensor) -> Tensor:
    """Returns the displacement by which the moving image's channels match the fixed one's best, to first order.

    It is right where the motion is below the size of what moves, and else a hint; where it is flat, 0.

    Args:
        fixed: Shape (B, *S, C).
        moving: Shape (B, *S, C).

    Returns:
        Shape (B, *S, D), in voxels: `moving(x + flow(x))` is about `fixed(x)`.

    Source: Lucas and Kanade, An iterative image registration technique with an application to stereo vision, 1981.
    """
    fixed, moving = of_one_shape(fixed, moving)
    dims = len(fixed.shape) - 2
    difference, middle = fixed - moving, (fixed + moving) / 2
    slopes = [_slope(middle, axis) for axis in range(dims)]
    pairs = [(i, j) for i in range(dims) for j in range(i, dims)]
    products = [difference * slope for slope in slopes] + [slopes[i] * slopes[j] for i, j in pairs]
    sums = smooth(ops.concatenate([ops.sum(each, axis=-1, keepdims=True) for each in products], axis=-1), _WINDOW)
    entries = dict(zip(pairs, (sums[..., dims + k] for k in range(len(pairs))), strict=True))
    ridge = _RIDGE * sum(entries[i, i] for i in range(dims)) + 1e-4
    rows = [[entries[min(i, j), max(i, j)] + (ridge if i == j else 0.0) for j in range(dims)] for i in range(dims)]
    inverse = inverse_linear(ops.stack([ops.stack(row, axis=-1) for row in rows], axis=-2))
    return ops.sum(inverse * sums[..., None, :dims], axis=-1)


def _slope(image: Tensor, axis: int) -> Tensor:
    """Returns the central difference along an axis, half as much at the ends."""
    length = image.shape[axis + 1]
    at = np.arange(length)
    ahead, behind = (np.eye(length)[np.clip(at + step, 0, length - 1)] for step in (1, -1))
    matrices = [None] * (len(image.shape) - 2)
    matrices[axis] = (ahead - behind) / 2
    return along_axes(image, matrices)
