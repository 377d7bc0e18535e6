"""Losses of two images of different modalities: mutual information, and MIND."""

import math

import numpy as np
from keras import ops

from regzoo.backend import Tensor
from regzoo.errors import invalid
from regzoo.ops.descriptors import self_similarity
from regzoo.ops.statistics import float32, mean, of_one_shape

_COUNTED = 2**24
"""How many weights, four a voxel, are counted in one row of float32."""


def mi(
    fixed: Tensor, moved: Tensor, mask: Tensor | None = None, num_bins: int = 23, sigma_ratio: float = 0.5
) -> Tensor:
    """Minus the mutual information of the intensities, in nats: how much one image tells about the other.

    The bins of each image span its own minimum to its maximum, so that contrast and offset do not matter; an outlier
    takes bins from the rest, which clipping to percentiles before avoids. Gradients take the span as constant. Every
    voxel falls into the bins by Gaussian weights that sum to 1. All channels share one histogram.

    Args:
        fixed: Shape (B, *S, C).
        moved: Shape (B, *S, C).
        mask: How much each voxel counts, in [0, 1], shape (B, *S, 1). None: all alike.
        num_bins: Bins of each image.
        sigma_ratio: Standard deviation of the Gaussian, in bins.

    Returns:
        Shape (B,), from -log(num_bins) to 0 (unrelated, or a constant image). A match reaches minus the image's own
        entropy, less what the Gaussian blurs.

    Raises:
        ValueError: If `num_bins` is below 2 or `sigma_ratio` is not above 0.

    Example:
        >>> image = np.arange(64.0).reshape(1, 8, 8, 1) % 7
        >>> bool(mi(image, -image)[0] < mi(image, image // 2 % 2)[0])  # the negative tells all
        True

    Source: Guo, Multi-modal image registration with unsupervised deep learning, 2019, section 3.1.
    """
    entropy_f, entropy_m, joint = _entropies(fixed, moved, mask, num_bins, sigma_ratio)
    return joint - entropy_f - entropy_m


def nmi(
    fixed: Tensor, moved: Tensor, mask: Tensor | None = None, num_bins: int = 23, sigma_ratio: float = 0.5
) -> Tensor:
    """Two minus the normalised mutual information (H(fixed) + H(moved)) / H(fixed, moved); less bound to overlap.

    Args:
        fixed: Shape (B, *S, C).
        moved: Shape (B, *S, C).
        mask: How much each voxel counts, in [0, 1], shape (B, *S, 1). None: all alike.
        num_bins: Bins of each image, as in `mi`.
        sigma_ratio: Standard deviation of the Gaussian, in bins.

    Returns:
        Shape (B,), from 0 (each image tells the other wholly; a match stays above, for the Gaussian blurs) to 1
        (unrelated, or a constant image).

    Raises:
        ValueError: If `num_bins` is below 2 or `sigma_ratio` is not above 0.

    Example:
        >>> image = np.arange(64.0).reshape(1, 8, 8, 1) % 7
        >>> round(float(nmi(image, 0 * image)[0]), 3)  # a constant image tells nothing
        1.0

    Source: Studholme et al., An overlap invariant entropy measure of 3D medical image alignment, 1999.
    """
    entropy_f, entropy_m, joint = _entropies(fixed, moved, mask, num_bins, sigma_ratio)
    return 2 - (entropy_f + entropy_m + 1e-6) / (joint + 1e-6)


def _entropies(fixed: Tensor, moved: Tensor, mask: Tensor | None, num_bins: int, sigma_ratio: float) -> tuple:
    """Returns the entropies of the fixed, the moved and the joint histogram in nats, shape (B,) each."""
    fixed, moved = of_one_shape(fixed, moved)
    if num_bins < 2:
        raise invalid("num_bins", "at least 2", num_bins)
    if not sigma_ratio > 0:
        raise invalid("sigma_ratio", "a number above 0", sigma_ratio)
    if mask is not None:  # one value for every voxel and channel, shape (B, voxels)
        mask = float32(mask)
        mask = ops.reshape(mask * ops.ones_like(fixed), (ops.shape(fixed)[0], -1))
    shares = _bin_shares(num_bins, sigma_ratio)
    counts = _counts(*(_places(image, mask, len(shares)) for image in (fixed, moved)), mask, len(shares))
    counts = counts / ops.maximum(ops.sum(counts, axis=(1, 2), keepdims=True), 1e-6)
    shares = ops.convert_to_tensor(shares)
    joint = ops.matmul(ops.matmul(ops.transpose(shares), counts), shares)
    return _entropy(ops.sum(joint, axis=2)), _entropy(ops.sum(joint, axis=1)), _entropy(joint)


def _bin_shares(num_bins: int, sigma_ratio: float) -> np.ndarray:
    """Returns the share of each place of a fine histogram in each bin, shape (places, bins).

    To count voxels on a fine grid of places and to blur the counts costs a tenth of giving every voxel its shares. What
    lies between two places is shared by them, a blur that is taken from the Gaussian's; the result differs from that of
    shares of every voxel by less than 2e-5 on 40^3 voxels and by 1e-4 on 2,000.
    """
    variance = sigma_ratio**2
    finer = max(1, min(2048 // (num_bins - 1), math.ceil(32 / min(1, 4 * variance))))
    place = np.arange((num_bins - 1) * finer + 1)[:, None] / finer
    left = max(variance - 1 / (6 * finer**2), variance / 2)
    powers = -0.5 / left * (place - np.arange(num_bins)) ** 2
    gauss = np.exp(powers - powers.max(axis=1, keepdims=True))
    return (gauss / gauss.sum(axis=1, keepdims=True)).astype("float32")


def _places(image: Tensor, mask: Tensor | None, places: int) -> tuple[Tensor, Tensor]:
    """Returns the place below each voxel's value, and how far the value is above it, in [0, 1], shape (B, voxels)."""
    values = ops.reshape(image, (ops.shape(image)[0], int(np.prod(image.shape[1:]))))
    if mask is not None:  # outside, any value of the inside, so that bins span what counts
        inside = mask > 0
        somewhere = ops.max(ops.where(inside, values, -1e30), axis=1, keepdims=True)
        values = ops.where(inside, values, ops.stop_gradient(somewhere))
    low, high = (ops.stop_gradient(bound(values, axis=1, keepdims=True)) for bound in (ops.min, ops.max))
    place = (values - low) * ((places - 1) / ops.maximum(high - low, 1e-30))
    below = ops.clip(ops.cast(place, "int32"), 0, places - 2)
    return below, place - ops.cast(below, "float32")


def _counts(fixed: tuple, moved: tuple, mask: Tensor | None, places: int) -> Tensor:
    """Returns how many voxels lie at each pair of places, shape (B, places, places)."""
    (row, along), (column, across) = fixed, moved
    weight = ops.ones_like(along) if mask is None else mask
    cells, weights = [], []
    for down, right in np.ndindex(2, 2):
        cells.append((row + down) * places + column + right)
        weights.append(weight * (along if down else 1 - along) * (across if right else 1 - across))
    # A sum of float32 ends at 2^24, which the background of a large image reaches: so many weights have a row each.
    rows = -(-4 * row.shape[1] // _COUNTED)
    length = -(-4 * row.shape[1] // rows)
    padding = (0, 0), (0, rows * length - 4 * row.shape[1])
    cells, weights = (
        ops.reshape(ops.pad(ops.concatenate(each, axis=1), padding), (-1, length)) for each in (cells, weights)
    )
    first = ops.reshape(ops.arange(ops.shape(cells)[0], dtype="int32") * places**2, (-1, 1))
    flat = (ops.reshape(each, (-1,)) for each in (weights, cells + first))
    counts = ops.segment_sum(*flat, num_segments=ops.shape(cells)[0] * places**2)
    return ops.sum(ops.reshape(counts, (-1, rows, places, places)), axis=1)


def _entropy(shares: Tensor) -> Tensor:
    return -ops.sum(shares * ops.log(shares + 1e-9), axis=tuple(range(1, len(shares.shape))))


def mind(
    fixed: Tensor,
    moved: Tensor,
    mask: Tensor | None = None,
    radius: int = 2,
    dilation: int = 2,
    floor: float = 1e-3,
) -> Tensor:
    """Mean squared difference of the images' self-similarity: which of a voxel's neighbours look like each other.

    The descriptor of a voxel has one channel for each pair of its neighbours, `dilation` voxels away along two
    different axes (12 pairs in 3-D, 4 in 2-D). A channel is `exp(-(d - min d) / v)`: d is the mean squared difference
    of the two patches, min d the least of all pairs, v the mean of `d - min d` over the pairs. It is the same for any
    `a * image + b`. A voxel is flat where v is below `floor` times its mean over the image, which is also the least v
    that is used. Voxels that are flat in both images are left out, so that background is no match.

    Args:
        fixed: Shape (B, *S, C).
        moved: Shape (B, *S, C).
        mask: How much each voxel counts, in [0, 1], shape (B, *S, 1). None: all alike.
        radius: A patch is `2 * radius + 1` voxels wide.
        dilation: Distance of the neighbours in voxels; outside the image, its edge is repeated.
        floor: Share of the image's mean v below which a voxel is flat.

    Returns:
        Shape (B,), from 0 (match) to 1 (no match at all, or both images constant).

    Raises:
        ValueError: If `radius` or `dilation` is below 1.

    Example:
        >>> image = np.random.default_rng(0).random((1, 8, 8, 1)).astype("float32")
        >>> round(float(mind(image, 2 * image + 1)[0]), 3)
        0.0

    Source: Heinrich et al., Towards realtime multimodal fusion for image-guided interventions using self-similarities,
    2013.
    """
    for name, value in (("radius", radius), ("dilation", dilation)):
        if value < 1:
            raise invalid(name, "at least 1 voxel", value)
    (descriptor_f, content_f), (descriptor_m, content_m) = (
        self_similarity(image, radius, dilation, floor) for image in of_one_shape(fixed, moved)
    )
    content = ops.maximum(content_f, content_m)
    difference = ops.mean(ops.square(descriptor_f - descriptor_m), axis=-2)
    return (mean(content * difference, mask) + 1e-6) / (mean(content, mask) + 1e-6)
