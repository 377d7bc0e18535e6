"""The steps of a transform: a matrix, a field, a B-spline, or steps that hold inside a box; their inverses."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from regzoo.errors import invalid
from regzoo.world.images import Grid, Image
from regzoo.world.inversion import solve
from regzoo.world.matrices import about, checked_matrix, map_points, numbers
from regzoo.world.resampling import sample_points

_SLAB = 2**18  # points worked on at a time: 6 MB a copy
_FINEST = 2**21  # points of the field that a spline's inverse becomes
_ALONG = 1e-6  # voxels that an axis may stray from another along its whole length to run along it


@dataclass(frozen=True, eq=False)
class Linear:
    """The step `p -> matrix @ p`, matrix (4, 4) in RAS mm."""

    matrix: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "matrix", checked_matrix("matrix", self.matrix))

    def __repr__(self) -> str:
        return f"<Linear {self.matrix[:3].round(4).tolist()}>"

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Maps points (*N, 3)."""
        return map_points(self.matrix, points)

    def invert_points(self, points: np.ndarray) -> np.ndarray:
        """Maps points (*N, 3) back."""
        return self.inverse(0, 0)(points)

    def inverse(self, tolerance: float, iterations: int) -> Linear:
        """Returns the exact inverse."""
        if abs(np.linalg.det(self.matrix)) < 1e-12:
            raise invalid("matrix", "one that can be inverted", self.matrix.tolist())
        return Linear(np.linalg.inv(self.matrix))


@dataclass(frozen=True, eq=False)
class Field:
    """The step `p -> p + u(p)`; u is linear between the grid's voxels and goes on with its edge value outside.

    Args:
        vectors: u in RAS mm, shape (*grid.shape, 3), kept as float32.
        grid: Where the vectors are.
    """

    vectors: np.ndarray
    grid: Grid

    def __post_init__(self) -> None:
        vectors = self.vectors
        if not isinstance(vectors, np.ndarray) or vectors.dtype.kind != "f":
            vectors = numbers("vectors", vectors, "displacements in mm")
        vectors = np.asarray(vectors, dtype=np.float32)
        if vectors.shape != (*self.grid.shape, 3):
            raise invalid("vectors", f"shape {(*self.grid.shape, 3)}, the grid's", vectors.shape)
        if not np.isfinite(vectors).all():
            raise invalid("vectors", "finite displacements", "NaN or infinite values")
        object.__setattr__(self, "vectors", vectors)

    def __repr__(self) -> str:
        return f"<Field {self.grid.text()}>"

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Maps points (*N, 3)."""
        return points + sample_points(Image(self.vectors, self.grid.affine), points, outside="edge")

    def on(self, grid: Grid) -> np.ndarray | None:
        """Returns u at the voxels of a grid whose axes run along this one's, (*grid.shape, 3), float32; else None.

        Sampled along one axis after the other, it takes a quarter of the time that scattered places take.
        """
        if self.grid.same_as(grid):
            return self.vectors
        matrix = np.linalg.solve(self.grid.affine, grid.affine)
        turns = np.abs(matrix[:3, :3])
        axes = turns.argmax(axis=0)  # axis t of the grid runs along this field's axis axes[t]
        aside = turns.copy()
        aside[axes, range(3)] = 0
        if len({*axes.tolist()}) < 3 or (aside.sum(axis=1) * max(grid.shape)).max() > _ALONG:
            return None
        found = self.vectors.transpose(*axes, 3)
        places = [matrix[s, t] * np.arange(grid.shape[t]) + matrix[s, 3] for t, s in enumerate(axes)]
        slabs = []
        for start, stop in _rows(grid.shape):
            parts = [_along(found[..., c], 0, places[0][start:stop]) for c in range(3)]
            parts = [_along(_along(each, 1, places[1]), 2, places[2]).astype(np.float32) for each in parts]
            slabs.append(np.stack(parts, axis=-1))
        return np.concatenate(slabs)

    def invert_points(self, points: np.ndarray) -> np.ndarray:
        """Maps points (N, 3) back, by solving for each of them."""
        return solve(self, points, 1e-3, 500)

    def inverse(self, tolerance: float, iterations: int) -> Field:
        """Returns the field v with `v(y) = -u(y + v(y))` at the voxels of the grid, padded by the largest |u|.

        Beyond that padding v is constant, as u is beyond its grid.
        """
        return _inverse_field(self, _padded(self.grid, self.vectors), tolerance, iterations)


@dataclass(frozen=True, eq=False)
class Within:
    """Steps that act within the box of a grid; beyond it their matrices alone do: for a lone field, none, as in ITK.

    Args:
        steps: What acts; the first is applied first.
        grid: The box, half a voxel wider than the outermost voxels' centres.
        backwards: Whether the box is where the steps lead to, as for the inverse of such steps, and not where they
            start.
    """

    steps: tuple[Step, ...]
    grid: Grid
    backwards: bool = False

    def __repr__(self) -> str:
        return f"<Within {self.grid.text()}: {kinds(self.steps)}>"

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Maps points (*N, 3)."""
        mapped = through(self.steps, points)
        inside = self.grid.covers(mapped if self.backwards else points)
        return _either(inside, mapped, self._beyond, points)

    def covers(self, points: np.ndarray) -> np.ndarray:
        """Tells which points (*N, 3) the steps act on, bool, shape (*N,)."""
        return self.grid.covers(through(self.steps, points) if self.backwards else points)

    def invert_points(self, points: np.ndarray) -> np.ndarray:
        """Maps points (N, 3) back, by solving for each of them."""
        found = points
        for step in reversed(self.steps):
            found = step.invert_points(found)
        inside = self.grid.covers(points if self.backwards else found)
        return _either(inside, found, np.linalg.inv(self._beyond), points)

    def inverse(self, tolerance: float, iterations: int) -> Within:
        """Returns the inverse within the same box."""
        return Within(inverses(self.steps, tolerance, iterations), self.grid, not self.backwards)

    @functools.cached_property
    def _beyond(self) -> np.ndarray:
        return linear_part(self.steps)


@dataclass(frozen=True, eq=False)
class Spline:
    """The step `p -> p + u(p)`; u is a sum of cubic B-splines, one around each voxel of a lattice, as ITK has it.

    Args:
        coefficients: What they are multiplied by, in RAS mm, shape (*grid.shape, 3), at least 4 along each axis.
        grid: The lattice. u is meant where four splines along each axis reach: from voxel 1 to `shape - 2`.
    """

    coefficients: np.ndarray
    grid: Grid

    def __repr__(self) -> str:
        return f"<Spline {self.grid.text()}>"

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Maps points (*N, 3)."""
        lattice = Image(self.coefficients, self.grid.affine)
        return points + sample_points(lattice, points, order=3, outside="edge")

    @property
    def cells(self) -> Grid:
        """What lies between the voxels where u is meant, a voxel for each cell."""
        axes = self.grid.affine[:3, :3]
        return Grid(tuple(np.array(self.grid.shape) - 3), about(axes, np.full(3, -1.5), self.grid.affine[:3, 3]))

    def invert_points(self, points: np.ndarray) -> np.ndarray:
        """Maps points (N, 3) back, by solving for each of them."""
        return solve(self, points, 1e-3, 500)

    def inverse(self, tolerance: float, iterations: int) -> Field:
        """Returns the inverse as a field on a finer grid, of up to eight voxels a cell along each axis."""
        cells = self.cells
        finer = int(np.clip(round((_FINEST / np.prod(cells.shape)) ** (1 / 3)), 1, 8))
        axes = cells.affine[:3, :3] / finer
        corner = map_points(cells.affine, np.full(3, -0.5))
        grid = Grid(tuple(finer * size for size in cells.shape), about(axes, np.full(3, -0.5), corner))
        places = grid.coordinates()
        return _inverse_field(self, _padded(grid, self(places) - places), tolerance, iterations)


Step = Linear | Field | Within | Spline


def linear_part(steps: tuple[Step, ...]) -> np.ndarray:
    """Returns the product of the matrices in steps, (4, 4): what is left of them where no field acts."""
    total = np.eye(4)
    for step in steps:
        if not isinstance(step, Field | Spline):
            total = (step.matrix if isinstance(step, Linear) else step._beyond) @ total
    return total


def kinds(steps: tuple[Step, ...]) -> str:
    """Says what the steps are, the first first: `field, matrix`."""
    names = {Linear: "matrix", Field: "field", Spline: "spline"}
    return ", ".join(names.get(type(step)) or kinds(step.steps) for step in steps) or "identity"


def through(steps: tuple[Step, ...], points: np.ndarray) -> np.ndarray:
    """Applies steps to points (*N, 3), the first first."""
    for step in steps:
        points = step(points)
    return points


def inverses(steps: tuple[Step, ...], tolerance: float, iterations: int) -> tuple[Step, ...]:
    """Returns the steps that undo steps, the last first; see `Transform.inverse`."""
    return tuple(step.inverse(tolerance, iterations) for step in reversed(steps))


def _either(inside: np.ndarray, mapped: np.ndarray, matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Returns the mapped points where `inside`, elsewhere the points moved by a matrix."""
    return mapped if inside.all() else np.where(inside[..., None], mapped, map_points(matrix, points))


def _along(array: np.ndarray, axis: int, places: np.ndarray) -> np.ndarray:
    """Samples an array linearly at places along an axis, in voxels, float64; beyond its ends it keeps their values."""
    last = array.shape[axis] - 1
    places = np.clip(places, 0, last)
    low = np.minimum(places.astype(int), max(last - 1, 0))
    share = (places - low).reshape([-1 if axis == other else 1 for other in range(array.ndim)])
    first, second = (np.take(array, each, axis) for each in (low, np.minimum(low + 1, last)))
    return first * (1 - share) + second * share


def slabs(grid: Grid) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yields slabs of axis i: from where, to where, and the places of their voxels."""
    for start, stop in _rows(grid.shape):
        yield start, stop, grid.coordinates(start, stop)


def _rows(shape: tuple[int, int, int]) -> Iterator[tuple[int, int]]:
    rows = max(_SLAB // (shape[1] * shape[2]), 1)
    for start in range(0, shape[0], rows):
        yield start, min(start + rows, shape[0])


def _padded(grid: Grid, vectors: np.ndarray) -> Grid:
    """Extends a grid by the largest displacement along each axis (at most its own size), and one voxel more."""
    largest = np.abs(vectors.reshape(-1, 3) @ np.linalg.inv(grid.affine[:3, :3]).T).max(0)
    pad = np.where(largest > 0, np.ceil(np.minimum(largest, grid.shape)) + 1, 0).astype(int)
    affine = about(grid.affine[:3, :3], pad, grid.affine[:3, 3])
    return Grid(tuple(np.array(grid.shape) + 2 * pad), affine)


def _inverse_field(step: Field | Spline, grid: Grid, tolerance: float, iterations: int) -> Field:
    goal = grid.coordinates().reshape(-1, 3)
    found = solve(step, goal, tolerance, iterations)
    return Field((found - goal).reshape(*grid.shape, 3), grid)
