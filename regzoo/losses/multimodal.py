"""Losses of two images of different modalities: mutual information, and MIND."""

import functools
import math

import numpy as np
from keras import ops
from scipy import ndimage

from regzoo.backend import Tensor
from regzoo.errors import invalid
from regzoo.ops.descriptors import self_similarity
from regzoo.ops.statistics import float32, mean, of_one_shape


def mi(
    fixed: Tensor, moved: Tensor, mask: Tensor | None = None, num_bins: int = 23, sigma_ratio: float = 0.5
) -> Tensor:
    """Minus the mutual information of the intensities, in nats: how much one image tells about the other.

    The bins of each image span its own minimum to its maximum, so that contrast and offset do not matter; an outlier
    takes bins from the rest, which clipping to percentiles before avoids. Gradients take the span as constant. Every
    voxel falls into the bins by Gaussian weights that sum to 1, spread from a fine histogram: the value is exact to
    3e-5 and its gradient to one percent for up to 128 bins and a Gaussian of half a bin, the gradient to two for 256
    bins, and to 15 for a Gaussian of a tenth of 23 bins. All channels share one histogram.

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
    shares = ops.convert_to_tensor(np.reshape(shares, (-1, num_bins)))
    # What a spline swings below 0, where bins are empty, is 0.
    joint = ops.relu(ops.matmul(ops.matmul(ops.transpose(shares), counts), shares))
    joint = joint / ops.maximum(ops.sum(joint, axis=(1, 2), keepdims=True), 1e-6)
    return _entropy(ops.sum(joint, axis=2)), _entropy(ops.sum(joint, axis=1)), _entropy(joint)


@functools.lru_cache(maxsize=16)  # PyTorch asks on every call
def _bin_shares(num_bins: int, sigma_ratio: float) -> np.ndarray:
    """Returns the share of a value in each bin, as a polynomial of how far it is off the nearest of many places.

    To count voxels on a fine histogram, with their distances from its places, and then to spread the counts over the
    bins costs a fraction of giving every voxel its shares. The polynomials are the pieces of a quadratic spline through
    the exact shares of the places: they meet in value and slope.

    Returns:
        Factors of 1, the distance and its square, shape (places, 3, bins); the distance is in places, -0.5 to 0.5.
    """
    finer = max(1.5 / sigma_ratio**2, 3 / sigma_ratio)  # as steep as shares become
    finer = max(1, min(1024 // (num_bins - 1), math.ceil(finer)))
    beyond = 24  # places, after which the spline does not feel its end
    place = np.arange(-beyond, (num_bins - 1) * finer + 1 + beyond)[:, None] / finer
    powers = -0.5 / sigma_ratio**2 * (place - np.arange(num_bins)) ** 2
    gauss = np.exp(powers - powers.max(axis=1, keepdims=True))
    spline = ndimage.spline_filter1d(gauss / gauss.sum(axis=1, keepdims=True), order=2, axis=0)
    below, at, above = (spline[beyond + step : len(spline) - beyond + step] for step in (-1, 0, 1))
    pieces = (below + 6 * at + above) / 8, (above - below) / 2, (below - 2 * at + above) / 2
    return np.stack(pieces, axis=1).astype("float32")


def _places(image: Tensor, mask: Tensor | None, places: int) -> tuple[Tensor, Tensor]:
    """Returns the nearest place of each value, (B, voxels), and 1, the distance and its square, (B, voxels, 3)."""
    values = ops.reshape(image, (ops.shape(image)[0], int(np.prod(image.shape[1:]))))
    if mask is not None:  # outside, any value of the inside, so that bins span what counts
        inside = mask > 0
        somewhere = ops.max(ops.where(inside, values, -1e30), axis=1, keepdims=True)
        values = ops.where(inside, values, ops.stop_gradient(somewhere))
    low, high = (ops.stop_gradient(bound(values, axis=1, keepdims=True)) for bound in (ops.min, ops.max))
    place = (values - low) * ((places - 1) / ops.maximum(high - low, 1e-30))
    nearest = ops.clip(ops.cast(place + 0.5, "int32"), 0, places - 1)
    off = place - ops.cast(nearest, "float32")
    return nearest, ops.stack([ops.ones_like(off), off, ops.square(off)], axis=-1)


def _counts(fixed: tuple, moved: tuple, mask: Tensor | None, places: int) -> Tensor:
    """Returns the sums of all products of the fixed and the moved powers at each pair of places, (B, 3 P, 3 P)."""
    (row, down), (column, right) = fixed, moved
    weights = down[..., :, None] * (right if mask is None else right * mask[..., None])[..., None, :]
    # A long sum of float32 drifts where all that is added is the same, as on a background: as many sums as there is
    # memory for anyway, of no more cells than voxels.
    voxels, cells = row.shape[1], places**2
    rows = -(-voxels // cells)
    padding = (0, 0), (0, rows * cells - voxels)
    where = ops.reshape(ops.pad(row * places + column, padding), (-1, cells))
    where = where + ops.reshape(ops.arange(ops.shape(where)[0], dtype="int32") * cells, (-1, 1))
    weights = ops.pad(ops.reshape(weights, (-1, voxels, 9)), (*padding, (0, 0)))
    sums = ops.segment_sum(
        ops.reshape(weights, (-1, 9)), ops.reshape(where, (-1,)), num_segments=ops.shape(where)[0] * cells
    )
    sums = ops.sum(ops.reshape(sums, (-1, rows, places, places, 3, 3)), axis=1)
    return ops.reshape(ops.transpose(sums, (0, 1, 3, 2, 4)), (-1, 3 * places, 3 * places))


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
