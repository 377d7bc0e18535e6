"""Features of two images: made comparable, and each compared with the other's around it."""

import itertools

import numpy as np
from keras import ops

from regzoo import backend
from regzoo.backend import Tensor
from regzoo.ops.statistics import float32


def instance_normalised(x: Tensor) -> Tensor:
    """Gives every channel of every image mean 0 and variance 1.

    Args:
        x: Shape (B, *S, C).

    Returns:
        Shape (B, *S, C), of the dtype of `x`, of an array float32; 0 where a channel is constant.

    Source: Ulyanov et al., Instance normalization, 2016; 1e-5 is added to the variance, as there.
    """
    x = _floating(x)
    dtype, axes = x.dtype, tuple(range(1, len(x.shape) - 1))
    x = ops.cast(x, "float32")
    x = x - ops.mean(x, axis=axes, keepdims=True)
    variance = ops.mean(ops.square(x), axis=axes, keepdims=True)
    return ops.cast(x * ops.rsqrt(variance + 1e-5), dtype)


def correlations(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Compares every voxel's features with those of the other image there and at all its neighbours.

    Args:
        first: Shape (B, *S, C).
        second: Shape (B, *S, C). Both are 0 outside.

    Returns:
        Means over the channels of `first(x) * second(x + d)`, for each d of {-1, 0, 1}^D, the last axis fastest, and
        those of `second(x) * first(x + d)`: shape (B, *S, 3**D) each.

    Source: Dosovitskiy et al., FlowNet, 2015, eq. 1.
    """
    first, second = _floating(first), _floating(second)
    dims = len(first.shape) - 2
    places = [(0, *place, 0) for place in itertools.product(range(3), repeat=dims)]
    there = backend.each(_compared, places, first, _framed(second))
    # second(x) first(x + d) is what the voxel x + d of the first image found at -d.
    padded, shape = _framed(there), first.shape[1:-1]
    windows = [[slice(None), *(slice(i, i + n) for i, n in zip(place[1:-1], shape, strict=True))] for place in places]
    back = [padded[(*window, -1 - i)] for i, window in enumerate(windows)]
    return there, ops.stack(back, axis=-1)


def _floating(x: Tensor) -> Tensor:
    """Returns a tensor as it is, in the precision that the network runs in, and an array as a float32 one."""
    return float32(x) if isinstance(x, np.ndarray) else x


def _framed(x: Tensor) -> Tensor:
    return ops.pad(x, [(0, 0), *[(1, 1)] * (len(x.shape) - 2), (0, 0)])


def _compared(place: Tensor, first: Tensor, framed: Tensor) -> Tensor:
    """Returns the mean product with the window that begins at a place, one value for each voxel."""
    return ops.mean(first * ops.slice(framed, place, ops.shape(first)), axis=-1)
