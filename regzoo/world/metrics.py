"""How good a registration is: overlap and surface distance of labels, landmark error, regularity of the transform."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np
from scipy import ndimage

from regzoo.errors import invalid


class _MapsPoints(Protocol):
    def apply_points(self, points: np.ndarray) -> np.ndarray: ...


def dice(fixed: np.ndarray, moved: np.ndarray, labels: Iterable[int] | None = None) -> dict[int, float]:
    """Returns `2 |F ∩ M| / (|F| + |M|)` of each label, nan for a label that both maps lack.

    Args:
        fixed: Integer label map, any shape.
        moved: Integer label map of the same shape.
        labels: Which labels; by default all but 0 in either map.

    Raises:
        InvalidError: If the shapes differ or a map does not hold integers.

    Example:
        >>> dice([1, 1, 0, 2], [0, 1, 1, 2])
        {1: 0.5, 2: 1.0}

    Source: Dice, Measures of the amount of ecologic association between species, 1945.
    """
    return {label: _ratio(2 * both, f + m) for label, (f, m, both) in _counts(fixed, moved, labels).items()}


def soft_dice(fixed: np.ndarray, moved: np.ndarray) -> float:
    """Returns `2 sum(F M) / (sum(F) + sum(M))` of two maps in [0, 1]; for maps of 0 and 1, the Dice overlap.

    Args:
        fixed: Label of the fixed image, any shape.
        moved: Moved label, of the same shape; a label moved by linear interpolation is soft.

    Returns:
        From 0 (disjoint) to 1; nan if both are empty. Of soft maps, even equal ones stay below 1.

    Raises:
        InvalidError: If the shapes differ.

    Example:
        >>> float(soft_dice([1.0, 0.5], [1.0, 0.0]))
        0.8
    """
    fixed, moved = np.asarray(fixed, np.float64), np.asarray(moved, np.float64)
    _check_shapes(fixed, moved)
    return _ratio(2 * (fixed * moved).sum(), fixed.sum() + moved.sum())


def jaccard(fixed: np.ndarray, moved: np.ndarray, labels: Iterable[int] | None = None) -> dict[int, float]:
    """Returns `|F ∩ M| / |F ∪ M|` of each label; arguments, nan and errors as in `dice`.

    Example:
        >>> jaccard([1, 1, 0, 2], [0, 1, 1, 2])
        {1: 0.3333333333333333, 2: 1.0}
    """
    return {label: _ratio(both, f + m - both) for label, (f, m, both) in _counts(fixed, moved, labels).items()}


def hd95(fixed_mask: np.ndarray, moved_mask: np.ndarray, spacing: Iterable[float]) -> float:
    """Returns the 95th percentile Hausdorff distance in mm: the larger of the two directed 95th percentiles.

    A surface voxel belongs to the mask and has a face neighbour outside it or outside the image. The directed
    distances are those from each surface voxel of one mask to the nearest surface voxel's centre of the other; the
    percentile interpolates linearly. Axes of one voxel do not count as faces.

    Args:
        fixed_mask: Mask, any shape.
        moved_mask: Mask of the same shape.
        spacing: Voxel size in mm, one number per axis.

    Returns:
        The distance; nan if a mask is empty.

    Raises:
        InvalidError: If the shapes or the number of axes differ.

    Example:
        >>> hd95([1, 0, 0], [0, 0, 1], spacing=[1.5])
        3.0
    """
    masks = [np.asarray(mask) != 0 for mask in (fixed_mask, moved_mask)]
    spacing = np.array(tuple(spacing), dtype=np.float64)
    _check_shapes(*masks)
    if spacing.shape != (masks[0].ndim,):
        raise invalid("spacing", f"{masks[0].ndim} numbers", spacing.tolist())
    if not all(mask.any() for mask in masks):
        return float("nan")
    flat = tuple(axis for axis, size in enumerate(masks[0].shape) if size == 1)
    box = ndimage.find_objects((masks[0] | masks[1]).astype(np.uint8))[0]
    surfaces = [_surface(mask[box].squeeze(flat)) for mask in masks]
    steps = np.delete(spacing, flat)
    return max(_directed95(*surfaces, steps), _directed95(*surfaces[::-1], steps))


def centroid_distance(fixed_mask: np.ndarray, moved_mask: np.ndarray, affine: np.ndarray) -> float:
    """Returns how far the centres of mass of two masks are from each other, in mm.

    Args:
        fixed_mask: Mask, any shape of n axes.
        moved_mask: Mask of the same shape.
        affine: From voxels to mm, shape (n + 1, n + 1).

    Returns:
        The distance; nan if a mask is empty.

    Raises:
        InvalidError: If the shapes differ.

    Example:
        >>> centroid_distance([1, 0, 0], [0, 0, 1], np.diag([1.5, 1.0]))
        3.0
    """
    masks = [np.asarray(mask) != 0 for mask in (fixed_mask, moved_mask)]
    _check_shapes(*masks)
    if not all(mask.any() for mask in masks):
        return float("nan")
    fixed, moved = (np.argwhere(mask).mean(0) for mask in masks)
    return float(np.linalg.norm(np.asarray(affine)[:-1, :-1] @ (moved - fixed)))


def tre(fixed_points: np.ndarray, moving_points: np.ndarray, transform: _MapsPoints | None = None) -> np.ndarray:
    """Returns the target registration error `|T(fixed) - moving|` of each landmark in mm, shape (N,).

    Args:
        fixed_points: Landmarks of the fixed image in RAS mm, shape (N, 3).
        moving_points: The same landmarks in the moving image, shape (N, 3).
        transform: T, a `Transform`; None for the error before registration.

    Raises:
        InvalidError: If the shapes differ or are not (N, 3).

    Example:
        >>> tre([[0.0, 0.0, 0.0]], [[3.0, 4.0, 0.0]]).tolist()
        [5.0]
    """
    fixed_points, moving_points = np.asarray(fixed_points, np.float64), np.asarray(moving_points, np.float64)
    _check_shapes(fixed_points, moving_points)
    if fixed_points.ndim != 2 or fixed_points.shape[1] != 3:
        raise invalid("points", "shape (N, 3)", fixed_points.shape)
    mapped = fixed_points if transform is None else transform.apply_points(fixed_points)
    return np.linalg.norm(mapped - moving_points, axis=1)


def jacobian_statistics(jacobian: np.ndarray, mask: np.ndarray | None = None) -> dict[str, float]:
    """Summarises Jacobian determinants.

    Args:
        jacobian: Determinants, any shape.
        mask: Where to look, same shape; everywhere by default.

    Returns:
        `folds`: share of determinants <= 0; `sdlogj`: standard deviation of their log where they are > 0 (nan if
        nowhere); `min`; `max`.

    Raises:
        InvalidError: If the mask is empty or has another shape.

    Example:
        >>> jacobian_statistics([1.0, 1.0, -0.5, 1.0])
        {'folds': 0.25, 'sdlogj': 0.0, 'min': -0.5, 'max': 1.0}
    """
    values = np.asarray(jacobian, dtype=np.float64)
    if mask is not None:
        _check_shapes(values, np.asarray(mask))
        values = values[np.asarray(mask) != 0]
    if not values.size:
        raise invalid("mask", "at least one voxel", "an empty mask")
    positive = values[values > 0]
    return {
        "folds": float((values <= 0).mean()),
        "sdlogj": float(np.log(positive).std()) if positive.size else float("nan"),
        "min": float(values.min()),
        "max": float(values.max()),
    }


def _check_shapes(fixed: np.ndarray, moved: np.ndarray) -> None:
    if fixed.shape != moved.shape:
        raise invalid("fixed and moved", "equal shapes", f"{fixed.shape} and {moved.shape}")


def _counts(fixed: np.ndarray, moved: np.ndarray, labels: Iterable[int] | None) -> dict[int, tuple[int, int, int]]:
    """Returns the voxels of each label in `fixed`, in `moved` and in both at the same place."""
    fixed, moved = np.asarray(fixed), np.asarray(moved)
    _check_shapes(fixed, moved)
    for array in (fixed, moved):
        if array.dtype.kind not in "biu":
            raise invalid("label map", "integers", f"type {array.dtype}")
    sizes = [dict(zip(*np.unique(a, return_counts=True), strict=True)) for a in (fixed, moved, fixed[fixed == moved])]
    wanted = sorted({*sizes[0], *sizes[1]} - {0}) if labels is None else labels
    return {int(label): tuple(int(size.get(label, 0)) for size in sizes) for label in wanted}


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _surface(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask)


def _directed95(start: np.ndarray, end: np.ndarray, spacing: np.ndarray) -> float:
    distance = ndimage.distance_transform_edt(~end, sampling=spacing)
    return float(np.percentile(distance[start], 95))
