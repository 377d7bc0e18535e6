"""How good a registration is: overlap and surface distance of labels, landmark error."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from regzoo.errors import invalid
from regzoo.world.counts import countable, counts
from regzoo.world.matrices import checked_points
from regzoo.world.outlines import hd95_of_labels, outline


class _MapsPoints(Protocol):
    def apply_points(self, points: np.ndarray) -> np.ndarray: ...


def dice(fixed: ArrayLike, moved: ArrayLike, labels: Iterable[int] | None = None) -> dict[int, float]:
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


def soft_dice(fixed: ArrayLike, moved: ArrayLike) -> float:
    """Returns `2 sum(F M) / (sum(F) + sum(M))` of two maps in [0, 1]; for maps of 0 and 1, the Dice overlap.

    Args:
        fixed: Label of the fixed image, any shape.
        moved: Moved label, of the same shape; a label moved by linear interpolation is soft.

    Returns:
        From 0 (disjoint) to 1; nan if both are empty. Of soft maps, even equal ones stay below 1.

    Raises:
        InvalidError: If the shapes differ, or a value is NaN or infinite.

    Example:
        >>> float(soft_dice([1.0, 0.5], [1.0, 0.0]))
        0.8
    """
    fixed, moved = (_finite(np.asarray(each, np.float64)) for each in (fixed, moved))
    _check_shapes(fixed, moved)
    return _ratio(2 * (fixed * moved).sum(), fixed.sum() + moved.sum())


def jaccard(fixed: ArrayLike, moved: ArrayLike, labels: Iterable[int] | None = None) -> dict[int, float]:
    """Returns `|F ∩ M| / |F ∪ M|` of each label; arguments, nan and errors as in `dice`.

    Example:
        >>> jaccard([1, 1, 0, 2], [0, 1, 1, 2])
        {1: 0.3333333333333333, 2: 1.0}
    """
    return {label: _ratio(both, f + m - both) for label, (f, m, both) in _counts(fixed, moved, labels).items()}


def hd95(fixed_mask: ArrayLike, moved_mask: ArrayLike, spacing: Iterable[float]) -> float:
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
        InvalidError: If the shapes or the number of axes differ, or a value is NaN or infinite.

    Example:
        >>> hd95([1, 0, 0], [0, 0, 1], spacing=[1.5])
        3.0
    """
    masks = _masks(fixed_mask, moved_mask)
    return hd95_of_labels(*masks, _checked_spacing(spacing, masks[0])).get(1, float("nan"))


def surfaces(labels: np.ndarray, spacing: Iterable[float]) -> dict[int, np.ndarray]:
    """Returns the surface voxels (see `hd95`) of each label but 0, all in one pass.

    Args:
        labels: Integer label map, any shape of n axes.
        spacing: Voxel size in mm, n numbers.

    Returns:
        Their places along the axes in mm, shape (N, n), by label.

    Raises:
        InvalidError: If the number of axes differs.

    Example:
        >>> surfaces(np.array([0, 2, 2, 2, 0]), spacing=[1.5])[2].tolist()
        [[1.5], [4.5]]
    """
    spacing = _checked_spacing(spacing, labels)
    places, values = _placed(labels, outline(labels))
    order = np.argsort(values, kind="stable")
    found, starts = np.unique(values[order], return_index=True)
    groups = np.split(places[order] * spacing, starts[1:])
    return dict(zip(found.tolist(), groups, strict=False))


def hausdorff95(fixed: np.ndarray, moved: np.ndarray) -> float:
    """Returns the larger 95th percentile of the distances from each point (N, n) to the nearest of the other set.

    Example:
        >>> hausdorff95(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]]))
        5.0
    """
    if not len(fixed) or not len(moved):
        return float("nan")
    trees = {"balanced_tree": False, "compact_nodes": False}  # surfaces are spread evenly: built faster, as fast to ask
    directed = (cKDTree(end, **trees).query(start)[0] for start, end in ((fixed, moved), (moved, fixed)))
    return float(max(np.percentile(distances, 95) for distances in directed))


def centroids(labels: np.ndarray, affine: np.ndarray) -> dict[int, np.ndarray]:
    """Returns the centre of mass of each label but 0.

    Args:
        labels: Integer label map, any shape of n axes.
        affine: From voxels to mm, shape (n + 1, n + 1).

    Returns:
        Points in mm, shape (n,), by label.

    Example:
        >>> centroids(np.array([0, 2, 2, 2, 0]), np.diag([1.5, 1.0]))[2].tolist()
        [3.0]
    """
    places, values = _placed(labels, labels != 0)
    if countable(values):
        found, numbers = np.flatnonzero(np.bincount(values)), values
        sums = np.stack([np.bincount(values, column)[found] for column in places.T], axis=-1)
    else:
        found, numbers = np.unique(values, return_inverse=True)
        sums = np.stack([np.bincount(numbers, column, len(found)) for column in places.T], axis=-1)
    sizes = np.bincount(numbers)
    affine = np.asarray(affine)
    centres = (sums / sizes[sizes > 0, None]) @ affine[:-1, :-1].T + affine[:-1, -1]
    return dict(zip(found.tolist(), centres, strict=True))


def centroid_distance(fixed_mask: ArrayLike, moved_mask: ArrayLike, affine: np.ndarray) -> float:
    """Returns how far the centres of mass of two masks are from each other, in mm.

    Args:
        fixed_mask: Mask, any shape of n axes.
        moved_mask: Mask of the same shape.
        affine: From voxels to mm, shape (n + 1, n + 1).

    Returns:
        The distance; nan if a mask is empty.

    Raises:
        InvalidError: If the shapes differ, or a value is NaN or infinite.

    Example:
        >>> centroid_distance([1, 0, 0], [0, 0, 1], np.diag([1.5, 1.0]))
        3.0
    """
    masks = _masks(fixed_mask, moved_mask)
    fixed, moved = (centroids(mask, affine).get(1, np.nan) for mask in masks)
    return float(np.linalg.norm(moved - fixed))


def tre(fixed_points: ArrayLike, moving_points: ArrayLike, transform: _MapsPoints | None = None) -> np.ndarray:
    """Returns the target registration error `|T(fixed) - moving|` of each landmark in mm, shape (N,).

    Args:
        fixed_points: Landmarks of the fixed image in RAS mm, shape (N, 3).
        moving_points: The same landmarks in the moving image, shape (N, 3).
        transform: T, a `Transform`; None for the error before registration.

    Raises:
        InvalidError: If the shapes differ or are not (N, 3), or points are no finite numbers.

    Example:
        >>> tre([[0.0, 0.0, 0.0]], [[3.0, 4.0, 0.0]]).tolist()
        [5.0]
    """
    given = {"fixed_points": fixed_points, "moving_points": moving_points}
    fixed_points, moving_points = (checked_points(name, points) for name, points in given.items())
    _check_shapes(fixed_points, moving_points)
    mapped = fixed_points if transform is None else transform.apply_points(fixed_points)
    return np.linalg.norm(mapped - moving_points, axis=1)


def _masks(fixed: ArrayLike, moved: ArrayLike) -> list[np.ndarray]:
    """Returns two masks of one shape, 1 where they are not 0."""
    masks = [(_finite(np.asarray(mask)) != 0).view(np.uint8) for mask in (fixed, moved)]
    _check_shapes(*masks)
    return masks


def _finite(mask: np.ndarray) -> np.ndarray:
    if mask.dtype.kind == "f" and not np.isfinite(mask).all():
        raise invalid("mask", "finite values", "NaN or infinite ones", "Replace them first.")
    return mask


def _check_shapes(fixed: np.ndarray, moved: np.ndarray) -> None:
    if fixed.shape != moved.shape:
        raise invalid("fixed and moved", "equal shapes", f"{fixed.shape} and {moved.shape}")


def _counts(fixed: ArrayLike, moved: ArrayLike, labels: Iterable[int] | None) -> dict[int, tuple[int, int, int]]:
    """Returns the voxels of each label in `fixed`, in `moved` and in both at the same place."""
    fixed, moved = np.asarray(fixed), np.asarray(moved)
    _check_shapes(fixed, moved)
    for array in (fixed, moved):
        if array.dtype.kind not in "biu":
            raise invalid("label map", "integers", f"type {array.dtype}")
    sizes = [counts(array) for array in (fixed, moved, fixed[fixed == moved])]
    wanted = sorted({*sizes[0], *sizes[1]} - {0}) if labels is None else labels
    return {int(label): tuple(int(size.get(label, 0)) for size in sizes) for label in wanted}


def _checked_spacing(spacing: Iterable[float], labels: np.ndarray) -> np.ndarray:
    spacing = np.array(tuple(spacing), dtype=np.float64)
    if spacing.shape != (labels.ndim,):
        raise invalid("spacing", f"{labels.ndim} numbers", spacing.tolist())
    return spacing


def _placed(labels: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the voxels (N, n) that are chosen and their labels (N,)."""
    chosen = np.flatnonzero(where)
    return np.stack(np.unravel_index(chosen, labels.shape), axis=-1), labels.ravel()[chosen]


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
