"""Losses of two images of one modality."""

from collections.abc import Sequence

from keras import ops

from regzoo.backend import Tensor
from regzoo.ops.filters import Window, smooth
from regzoo.ops.statistics import mean, of_one_shape, standardised


def ssd(fixed: Tensor, moved: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared difference, in squared intensities.

    Args:
        fixed: Shape (B, *S, C).
        moved: Shape (B, *S, C).
        mask: How much each voxel counts, in [0, 1], shape (B, *S, 1). None: all alike.

    Returns:
        Shape (B,), from 0 (match).

    Example:
        >>> float(ssd([[[0.0], [2.0]]], [[[0.0], [1.0]]])[0])
        0.5
    """
    fixed, moved = of_one_shape(fixed, moved)
    return mean(ops.square(fixed - moved), mask)


def ncc(fixed: Tensor, moved: Tensor, mask: Tensor | None = None) -> Tensor:
    """One minus the squared global correlation; the same for any `a * image + b`.

    Args:
        fixed: Shape (B, *S, C).
        moved: Shape (B, *S, C).
        mask: How much each voxel counts, in [0, 1], shape (B, *S, 1). None: all alike.

    Returns:
        Shape (B,), from 0 (match, in one contrast or its negative) to 1 (unrelated, or a constant image).

    Example:
        >>> image = ops.convert_to_tensor([[[0.0], [1.0], [3.0]]])
        >>> round(abs(float(ncc(image, 5 - 2 * image)[0])), 4)  # a match, in the negative
        0.0
    """
    fixed, moved = of_one_shape(fixed, moved)
    return 1 - ops.square(mean(standardised(fixed, mask) * standardised(moved, mask), mask))


def lncc(
    fixed: Tensor,
    moved: Tensor,
    mask: Tensor | None = None,
    size: int = 9,
    window: Window = "box",
    floor: float = 1e-4,
) -> Tensor:
    """One minus the squared correlation in a window around every voxel, averaged where either image has content.

    A window is flat where its variance is below `floor` times the variance of its image. Windows that are flat in both
    images are left out, so that background is no match; windows that are flat in one image count as no match.

    Args:
        fixed: Shape (B, *S, C).
        moved: Shape (B, *S, C).
        mask: How much the window around each voxel counts, in [0, 1], shape (B, *S, 1); a window looks beyond the mask,
            whose border, the border of an organ, says most of where it lies. None: all alike.
        size: Window width in voxels, odd.
        window: `"box"`, `"triangular"` or `"gaussian"`.
        floor: Share of the image's variance below which a window is flat.

    Returns:
        Shape (B,), from 0 (match) to 1 (no match; also if both images are constant).

    Raises:
        ValueError: If `size` is even or less than 1, or `window` is unknown.

    Example:
        >>> image = ops.reshape(ops.arange(64, dtype="float32") % 7, (1, 8, 8, 1))
        >>> round(float(lncc(image, 3 * image + 1, size=5)[0]), 4), float(lncc(image, ops.zeros_like(image))[0])
        (0.0, 1.0)

    Source: Avants et al., Symmetric diffeomorphic image registration with cross-correlation, 2008. Unlike most
    implementations, means are taken inside the image only and flat windows are no match.
    """
    fixed, moved = (standardised(image, mask) for image in of_one_shape(fixed, moved))

    def averages(*parts: Tensor) -> Sequence[Tensor]:
        stack = ops.stack(parts)
        found = smooth(ops.reshape(stack, (-1, *stack.shape[2:])), size, window)
        return ops.unstack(ops.reshape(found, (len(parts), -1, *stack.shape[2:])), len(parts))

    f, ff = averages(fixed, fixed * fixed)  # by itself, for it mostly needs no gradient
    m, mm, fm = averages(moved, moved * moved, fixed * moved)
    variance_f, variance_m = ff - f * f, mm - m * m
    correlation = ops.square(fm - f * m) / (ops.maximum(variance_f, floor) * ops.maximum(variance_m, floor))
    content = ops.stop_gradient(ops.cast((variance_f > floor) | (variance_m > floor), fixed.dtype))
    return (mean(content * (1 - correlation), mask) + 1e-6) / (mean(content, mask) + 1e-6)
