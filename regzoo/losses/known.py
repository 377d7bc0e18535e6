"""Losses of a field that is known, as that between simulated scans is."""

from collections.abc import Sequence

from keras import ops

from regzoo.backend import Tensor
from regzoo.ops.grids import millimetres
from regzoo.ops.statistics import float32, mean


def distance(
    known: Tensor,
    ddf: Tensor,
    mask: Tensor | None = None,
    spacing: Sequence[float] | None = None,
    outside: float = 0.02,
) -> Tensor:
    """Mean distance between where the known and the predicted field lead, the endpoint error.

    Args:
        known: Field in voxels, shape (B, *S, D).
        ddf: The same as predicted.
        mask: Where the field matters, in [0, 1], shape (B, *S, 1). None: everywhere alike.
        spacing: Millimetres a voxel, D values. None: 1 mm.
        outside: How much a voxel outside the mask counts beside one inside, so that the field goes on smoothly.

    Returns:
        Shape (B,), in mm, from 0.001 (match: below, the distance is rounded off to be smooth).

    Raises:
        ValueError: If `spacing` has not D values.

    Example:
        >>> still = ops.zeros((1, 4, 4, 2))
        >>> round(float(distance(still, still + 1.0, spacing=(3.0, 4.0))[0]), 4)
        5.0
    """
    known, ddf = float32(known), float32(ddf)
    step = ops.convert_to_tensor(millimetres(spacing, ddf.shape[-1]), dtype="float32")
    length = ops.sqrt(ops.sum(ops.square((known - ddf) * step), axis=-1, keepdims=True) + 1e-6)
    return mean(length, None if mask is None else float32(mask) * (1 - outside) + outside)
