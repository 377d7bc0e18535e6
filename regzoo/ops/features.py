"""Features of two images: made comparable, and each compared with the other's around it."""

import itertools

from keras import ops

from regzoo.backend import Tensor


def instance_normalised(x: Tensor) -> Tensor:
    """Gives every channel of every image mean 0 and variance 1.

    Args:
        x: Shape (B, *S, C).

    Returns:
        Shape (B, *S, C), of the dtype of `x`; 0 where a channel is constant.

    Source: Ulyanov et al., Instance normalization, 2016; 1e-5 is added to the variance, as there.
    """
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
    there = [ops.mean(first * window, axis=-1) for window in _windows(second)]
    # second(x) first(x + d) is what the voxel x + d of the first image found at -d.
    back = [window[..., -1 - i] for i, window in enumerate(_windows(ops.stack(there, axis=-1)))]
    return ops.stack(there, axis=-1), ops.stack(back, axis=-1)


def _windows(x: Tensor) -> list:
    """Returns `x(. + d)` for each d of {-1, 0, 1}^D, 0 outside."""
    shape = x.shape[1:-1]
    padded = ops.pad(x, [(0, 0), *[(1, 1)] * len(shape), (0, 0)])
    starts = itertools.product(range(3), repeat=len(shape))
    return [padded[(slice(None), *(slice(i, i + n) for i, n in zip(start, shape, strict=True)))] for start in starts]
