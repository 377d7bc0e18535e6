"""Losses of two label maps with one channel a label, averaged over the labels that are there."""

from collections.abc import Callable, Sequence

import numpy as np
from keras import ops

from regzoo.backend import Tensor
from regzoo.errors import invalid
from regzoo.ops.filters import Kernel, blur
from regzoo.ops.grids import millimetres
from regzoo.ops.statistics import of_one_shape


def dice(fixed: Tensor, moved: Tensor, scales: Sequence[float] = (0,), kernel: Kernel = "gaussian") -> Tensor:
    """One minus the soft Dice overlap `2 sum(fixed moved) / (sum(fixed^2) + sum(moved^2))`.

    It is averaged over the labels that either map has. The squares change nothing for maps of 0 and 1. For soft maps,
    as all are at a scale above 0, they make a match, and only a match, 0; plain sums would favour too large a label.

    Args:
        fixed: One channel a label, in [0, 1], shape (B, *S, L).
        moved: The same of the moved labels.
        scales: Widths in voxels by which both maps are blurred, 0 for not at all; the loss is the mean over them.
        kernel: `"gaussian"` or `"cauchy"`; see `regzoo.ops.filters.blur`.

    Returns:
        Shape (B,), from 0 (match) to 1 (disjoint); 0 if there is no label at all.

    Raises:
        ValueError: If `scales` is empty or has a negative value, or `kernel` is unknown.

    Example:
        >>> one, other = np.array([1.0, 1.0, 0.0]).reshape(1, 3, 1), np.array([0.0, 1.0, 1.0]).reshape(1, 3, 1)
        >>> float(dice(one, one)[0]), float(dice(one, other)[0])
        (0.0, 0.5)

    Source: Milletari et al., V-Net, 2016; over scales, Hu et al., Weakly-supervised convolutional neural networks for
    multimodal image registration, 2018.
    """
    return _over_scales(_dice, fixed, moved, scales, kernel)


def _dice(fixed: Tensor, moved: Tensor) -> Tensor:
    axes = _spatial(fixed)
    total = ops.sum(ops.square(fixed) + ops.square(moved), axis=axes)
    # The same as one minus the overlap, but 0 at a match whatever the rounding.
    return ops.sum(ops.square(fixed - moved), axis=axes) / ops.maximum(total, 1e-12)


def jaccard(fixed: Tensor, moved: Tensor, scales: Sequence[float] = (0,), kernel: Kernel = "gaussian") -> Tensor:
    """One minus the soft Jaccard overlap `sum(fixed moved) / (sum(fixed^2) + sum(moved^2) - sum(fixed moved))`.

    It is averaged over the labels that either map has.

    Args:
        fixed: One channel a label, in [0, 1], shape (B, *S, L).
        moved: The same of the moved labels.
        scales: Widths of blurring in voxels, as in `dice`.
        kernel: `"gaussian"` or `"cauchy"`.

    Returns:
        Shape (B,), from 0 (match) to 1 (disjoint); 0 if there is no label at all.

    Raises:
        ValueError: If `scales` is empty or has a negative value, or `kernel` is unknown.

    Example:
        >>> one, other = np.array([1.0, 1.0, 0.0]).reshape(1, 3, 1), np.array([0.0, 1.0, 1.0]).reshape(1, 3, 1)
        >>> round(float(jaccard(one, other)[0]), 4)
        0.6667
    """
    return _over_scales(_jaccard, fixed, moved, scales, kernel)


def _jaccard(fixed: Tensor, moved: Tensor) -> Tensor:
    loss = _dice(fixed, moved)
    return 2 * loss / (1 + loss)


def cross_entropy(
    fixed: Tensor,
    moved: Tensor,
    background_weight: float = 0.5,
    scales: Sequence[float] = (0,),
    kernel: Kernel = "gaussian",
) -> Tensor:
    """Binary cross-entropy of every voxel and label, in nats, averaged over the labels that either map has.

    A voxel costs `-(1 - background_weight) f log(m) - background_weight (1 - f) log(1 - m)`. Both logarithms start at
    log(1e-4), so that a wrong voxel costs 9.2 and not infinity.

    Args:
        fixed: One channel a label, in [0, 1], shape (B, *S, L).
        moved: The same of the moved labels.
        background_weight: 0 to 1; 0.5 is half the usual cross-entropy. At 0, too large a moved label costs nothing.
        scales: Widths of blurring in voxels, as in `dice`.
        kernel: `"gaussian"` or `"cauchy"`.

    Returns:
        Shape (B,), mean over voxels, from 0 (match of maps of 0 and 1; soft maps keep their own entropy); 0 if there is
        no label at all.

    Raises:
        ValueError: If `background_weight` is outside 0 to 1, `scales` is empty or has a negative value, or `kernel` is
            unknown.

    Example:
        >>> one = np.array([1.0, 0.0]).reshape(1, 2, 1)
        >>> round(abs(float(cross_entropy(one, one)[0])), 4), round(float(cross_entropy(one, 1 - one)[0]), 2)
        (0.0, 4.61)
    """
    if not 0 <= background_weight <= 1:
        raise invalid("background_weight", "a number from 0 to 1", background_weight)

    def score(fixed: Tensor, moved: Tensor) -> Tensor:
        inside = (1 - background_weight) * fixed * _log(moved)
        outside = background_weight * (1 - fixed) * _log(1 - moved)
        return -ops.mean(inside + outside, axis=_spatial(fixed))

    return _over_scales(score, fixed, moved, scales, kernel)


def _log(share: Tensor) -> Tensor:
    return ops.log((share + 1e-4) / (1 + 1e-4))


def label_ssd(fixed: Tensor, moved: Tensor, scales: Sequence[float] = (0,), kernel: Kernel = "gaussian") -> Tensor:
    """Mean squared difference over voxels, averaged over the labels that either map has.

    Args:
        fixed: One channel a label, in [0, 1], shape (B, *S, L).
        moved: The same of the moved labels.
        scales: Widths of blurring in voxels, as in `dice`.
        kernel: `"gaussian"` or `"cauchy"`.

    Returns:
        Shape (B,), from 0 (match) to 1; 0 if there is no label at all.

    Raises:
        ValueError: If `scales` is empty or has a negative value, or `kernel` is unknown.

    Example:
        >>> one = np.array([1.0, 0.0]).reshape(1, 2, 1)
        >>> float(label_ssd(one, 1 - one)[0])
        1.0
    """
    return _over_scales(_ssd, fixed, moved, scales, kernel)


def _ssd(fixed: Tensor, moved: Tensor) -> Tensor:
    return ops.mean(ops.square(fixed - moved), axis=_spatial(fixed))


def centroid(fixed: Tensor, moved: Tensor, spacing: Sequence[float] | None = None) -> Tensor:
    """Distance between the centroids of a label, averaged over the labels that both maps have.

    Blurring would not move a centroid, so there are no scales.

    Args:
        fixed: One channel a label, in [0, 1], shape (B, *S, L).
        moved: The same of the moved labels.
        spacing: Millimetres a voxel, one value an axis. None: 1 mm.

    Returns:
        Shape (B,), in mm, from 0.001 (match: below, the distance is rounded off to be smooth); 0 if there is no such
        label. A label is there if its map sums to more than 0.001 voxels.

    Raises:
        ValueError: If `spacing` has not one value an axis.

    Example:
        >>> one, other = np.array([1.0, 0.0, 0.0]).reshape(1, 3, 1), np.array([0.0, 0.0, 1.0]).reshape(1, 3, 1)
        >>> round(float(centroid(one, other, spacing=(1.5,))[0]), 4)
        3.0
    """
    fixed, moved = of_one_shape(fixed, moved)
    (place_f, mass_f), (place_m, mass_m) = (_centroids(labels, spacing) for labels in (fixed, moved))
    distance = ops.sqrt(ops.sum(ops.square(place_f - place_m), axis=1) + 1e-6)
    return _average(distance, (mass_f > 1e-3) & (mass_m > 1e-3))


def _centroids(labels: Tensor, spacing: Sequence[float] | None) -> tuple:
    """Returns the centroids in mm about the grid's middle, shape (B, D, L), and the sums of the maps, shape (B, L)."""
    axes = _spatial(labels)
    mass = ops.sum(labels, axis=axes)
    places = []
    for axis, mm in zip(axes, millimetres(spacing, len(axes)), strict=True):
        profile = ops.sum(labels, axis=[other for other in axes if other != axis])
        length = labels.shape[axis]
        along = ops.convert_to_tensor((np.arange(length) - (length - 1) / 2) * mm, dtype="float32")
        places.append(ops.sum(profile * along[None, :, None], axis=1) / ops.maximum(mass, 1e-3))
    return ops.stack(places, axis=1), mass


def _spatial(labels: Tensor) -> tuple[int, ...]:
    return tuple(range(1, len(labels.shape) - 1))


def _over_scales(score: Callable, fixed: Tensor, moved: Tensor, scales: Sequence[float], kernel: Kernel) -> Tensor:
    """Averages `score(fixed, moved)`, shape (B, L), over the scales and the labels that either unblurred map has."""
    if not scales:
        raise invalid("scales", "at least one width in voxels", scales)
    fixed, moved = of_one_shape(fixed, moved)
    present = ops.sum(fixed + moved, axis=_spatial(fixed)) > 0
    scores = [score(blur(fixed, scale, kernel), blur(moved, scale, kernel)) for scale in scales]
    return _average(sum(scores) / len(scores), present)


def _average(scores: Tensor, present: Tensor) -> Tensor:
    present = ops.cast(present, scores.dtype)
    return ops.sum(present * scores, axis=-1) / ops.maximum(ops.sum(present, axis=-1), 1.0)
