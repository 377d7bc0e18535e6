"""What a displacement does to volume: determinants, folds, and how uneven it is. Voxels of any grid, NumPy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from regzoo.errors import invalid
from regzoo.world.images import Grid
from regzoo.world.matrices import cross, dot

_SLAB = 2**17  # voxels worked on at a time: what a processor keeps close
_FLOOR = 1e-9
"""What a determinant counts for at least before its logarithm is taken, as in Learn2Reg's evaluation."""
SQUEEZED, STRETCHED = 0.3, 3.0
"""Below and above which a determinant says that anatomy is squeezed or stretched, not registered."""


def central_determinant(vectors: np.ndarray, grid: Grid) -> np.ndarray:
    """Returns det dT/dx of `T(x) = x + u(x)` at the voxels, by central differences.

    One-sided differences at the edges; along an axis of one voxel none (derivative 1).

    Args:
        vectors: u in RAS mm, shape (*grid.shape, 3).
        grid: Where the vectors are.

    Returns:
        Determinants, shape (*grid.shape), float32.
    """
    found = [_central(slab, start, stop) for slab, start, stop in _slabs(vectors, grid)]
    return np.concatenate(found).reshape(grid.shape)


def folds(vectors: np.ndarray, grid: Grid, matrix: np.ndarray | None = None) -> dict[str, float]:
    """Counts where `T(x) = x + u(x)` folds, by the strict count of a digital diffeomorphism.

    A voxel and its neighbours along i, j and k span eight tetrahedra, and two more lie within the cubes before and
    behind it: ten determinants of one-sided differences. The voxel folds if one of them is <= 0. In an image of one
    slice there are four triangles. Central differences, which skip the voxel itself, overlook most folds. Beyond the
    border the displacement goes on with its edge value; that of a turn would fold there, so that a linear part of T,
    which folds nothing, is taken away first.

    Args:
        vectors: u in RAS mm, shape (*grid.shape, 3).
        grid: Where the vectors are.
        matrix: The linear part of T in RAS mm, (4, 4); None: none is taken away.

    Returns:
        `folds`: the share of voxels that fold; `folded_volume`: the volume that is turned inside out, as a share of
        the grid's.

    Source: Liu et al., On finite difference Jacobian computation in deformable image registration, IJCV 2024: digital
        diffeomorphism and non-diffeomorphic volume (in 2-D, area). Equal to PyPI's digital-diffeomorphism 1.1.1, whose
        own count of voxels is by central differences.
    """
    count, volume = 0, 0.0
    linear = np.eye(3) if matrix is None or np.linalg.det(matrix[:3, :3]) <= 0 else matrix[:3, :3]
    for slab, _, _ in _slabs(vectors, grid, linear):
        folded = False
        for determinant in _simplices(slab):
            folded = folded | (determinant <= 0)
            volume -= float(np.minimum(determinant, 0).sum(dtype=np.float64))
        count += int(np.count_nonzero(folded))
    # A simplex is 1 / D! of the cell that its determinant is of; each cell is taken apart in two ways, half of each.
    dims, voxels = sum(size > 1 for size in grid.shape), math.prod(grid.shape)
    volume *= np.linalg.det(_in_voxels(linear, grid))
    return {"folds": count / voxels, "folded_volume": volume / (2 * math.factorial(dims) * voxels)}


def statistics(
    vectors: np.ndarray,
    grid: Grid,
    labels: np.ndarray | None = None,
    matrix: np.ndarray | None = None,
    determinant: np.ndarray | None = None,
) -> dict[str, float]:
    """Summarises what a displacement does to volume.

    Args:
        vectors: u in RAS mm, shape (*grid.shape, 3).
        grid: Where the vectors are.
        labels: Where labels are (not 0), shape (*grid.shape); None: not known.
        matrix: The linear part of T; see `folds`.
        determinant: The determinants by central differences, where they are known.

    Returns:
        `folds` and `folded_volume` as in `folds`; of the determinants by central differences `sdlogj`, `sdlogj_l2r`,
        `min` and `max` as in `spread`; and with labels `squeezed` and `stretched`, the shares of their voxels with a
        determinant below 0.3 and above 3 (nan without a voxel).
    """
    determinant = central_determinant(vectors, grid) if determinant is None else determinant
    found = folds(vectors, grid, matrix) | spread(determinant)
    if labels is None:
        return found
    inside = determinant[labels != 0]
    if not inside.size:
        return found | {"squeezed": float("nan"), "stretched": float("nan")}
    return found | {"squeezed": float((inside < SQUEEZED).mean()), "stretched": float((inside > STRETCHED).mean())}


def spread(determinant: np.ndarray) -> dict[str, float]:
    """Summarises determinants.

    Args:
        determinant: Determinants by central differences, any shape.

    Returns:
        `sdlogj`: standard deviation of log J; a J below 1e-9, where T folds, counts as 1e-9 and is not left out.
        `sdlogj_l2r`: what Learn2Reg calls so: the deviation of log(J + 3), two voxels of the border cut (of axes of
        five voxels and more). It is about a quarter of the first. `min` and `max` of J.

    Raises:
        InvalidError: If there is no determinant.

    Source: Hering et al., Learn2Reg, IEEE TMI 2022, and its evaluation (MDL-UzL/L2R, evaluation/utils.py).
    """
    if not determinant.size:
        raise invalid("determinant", "at least one voxel", "none")
    cut = tuple(slice(2, -2) if size > 4 else slice(None) for size in determinant.shape)
    return {
        "sdlogj": _deviation(determinant),
        "sdlogj_l2r": _deviation(determinant[cut] + 3),
        "min": float(determinant.min()),
        "max": float(determinant.max()),
    }


def _deviation(values: np.ndarray) -> float:
    return float(np.log(np.maximum(values, _FLOOR), dtype=np.float64).std())


def _axes(grid: Grid) -> list[int]:
    return [axis for axis in range(3) if grid.shape[axis] > 1] or [0]


def _in_voxels(linear: np.ndarray, grid: Grid) -> np.ndarray:
    """Returns a linear map of mm in voxels along the axes of more than one voxel."""
    axes, frame = _axes(grid), grid.affine[:3, :3]
    return (np.linalg.inv(frame) @ linear @ frame)[np.ix_(axes, axes)]


def _slabs(
    vectors: np.ndarray, grid: Grid, linear: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, bool, bool]]:
    """Yields u in voxels, shape (components, rows + 2, ...), one more at each end, and whether the grid ends there.

    Axes of one voxel are left out. Beyond the border u keeps its edge value. Of T, `linear` in mm is taken away first.
    """
    axes = _axes(grid)
    back = np.eye(len(axes)) if linear is None else np.linalg.inv(_in_voxels(linear, grid))
    rest = back - np.eye(len(axes))
    kept = [grid.shape[axis] for axis in axes]
    to_voxels = np.linalg.inv(grid.affine[:3, :3])[axes].astype(np.float32)
    vectors = np.asarray(vectors).reshape(*kept, 3)
    rows = max(_SLAB // math.prod(kept[1:]), 1)
    for start in range(0, kept[0], rows):
        stop = min(start + rows, kept[0])
        near = np.clip(np.arange(start - 1, stop + 1), 0, kept[0] - 1)
        slab = np.stack([vectors[near] @ row for row in to_voxels])
        if rest.any():
            places = np.stack(np.meshgrid(near, *map(np.arange, kept[1:]), indexing="ij"))
            moved = np.tensordot(back, slab, 1) + np.tensordot(rest, places, 1)
            slab = moved.astype(np.float32)
        slab = np.pad(slab, [(0, 0), (0, 0)] + [(1, 1)] * (len(kept) - 1), mode="edge")
        yield slab, start == 0, stop == kept[0]


def _shifted(slab: np.ndarray, shift: Sequence[int]) -> np.ndarray:
    """Returns u at the neighbour of each voxel that lies `shift`, each -1 to 1, from it."""
    return slab[(slice(None), *(slice(1 + s, s - 1 or None) for s in shift))]


def _edge(slab: np.ndarray, shift: Sequence[int]) -> list[np.ndarray]:
    """Returns what T makes of the edge from each voxel to its neighbour at `shift`, in voxels, by component."""
    shift = tuple(shift)
    steps = _shifted(slab, shift) - _shifted(slab, (0,) * len(shift))
    return [step + np.float32(by) for step, by in zip(steps, shift, strict=True)]


def _units(dims: int) -> list[tuple[int, ...]]:
    return [tuple(int(axis == other) for other in range(dims)) for axis in range(dims)]


def _one_sided(slab: np.ndarray) -> list[tuple[list, list]]:
    """Returns for each axis what T makes of the edges to the voxel from that before, and from it to the next."""
    return [
        ([-component for component in _edge(slab, np.negative(unit))], _edge(slab, unit))
        for unit in _units(slab.ndim - 1)
    ]


def _central(slab: np.ndarray, first: bool, last: bool) -> np.ndarray:
    """Returns determinants by central differences; at the ends of the grid by one-sided ones."""
    columns = []
    for axis, (low, high) in enumerate(_one_sided(slab)):
        ends = (first, last) if axis == 0 else (True, True)
        for before, after in zip(low, high, strict=True):
            before, after = np.moveaxis(before, axis, 0), np.moveaxis(after, axis, 0)
            if ends[0]:
                before[0] = after[0]
            if ends[1]:
                after[-1] = before[-1]
        columns.append([(before + after) / 2 for before, after in zip(low, high, strict=True)])
    return _determinant(columns)


def _simplices(slab: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the determinants of the simplices at each voxel, 1 (2 within a cube) where nothing moves."""
    sides = _one_sided(slab)
    if len(sides) < 3:
        yield from (_determinant(columns) for columns in itertools.product(*sides))
        return
    for second, third in itertools.product(*sides[1:]):
        normal = cross(second, third)
        yield from (dot(first, normal) for first in sides[0])
    for sign in (1, -1):  # edges to the three corners across a face, from the voxel at the corner of the cube
        first, second, third = (_edge(slab, np.multiply(sign, way)) for way in ((1, 1, 0), (0, 1, 1), (1, 0, 1)))
        yield sign * dot(first, cross(second, third))


def _determinant(columns: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    if len(columns) == 1:
        return columns[0][0]
    if len(columns) == 2:
        (a, b), (c, d) = columns
        return a * d - b * c
    return dot(columns[0], cross(*columns[1:]))
