"""Spatial transforms in RAS millimetres. A transform maps FIXED space to MOVING space: `moved(x) = moving(T(x))`."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regzoo.errors import invalid
from regzoo.io import transforms
from regzoo.world.images import Grid, Image, Outside, sample_matrix, sample_points
from regzoo.world.matrices import about, checked_matrix, map_points

_SLAB = 2**21  # points worked on at a time: 50 MB a copy


@dataclass(frozen=True, eq=False)
class Linear:
    """The step `p -> matrix @ p`, matrix (4, 4) in RAS mm."""

    matrix: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "matrix", checked_matrix("matrix", self.matrix))

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Maps points (*N, 3)."""
        return map_points(self.matrix, points)

    def inverse(self, tolerance: float, iterations: int) -> Linear:
        """Returns the exact inverse."""
        if abs(np.linalg.det(self.matrix)) < 1e-12:
            raise invalid("matrix", "one that can be inverted", self.matrix.tolist())
        return Linear(np.linalg.inv(self.matrix))


@dataclass(frozen=True, eq=False)
class Field:
    """The step `p -> p + u(p)`; u is linear between the grid's voxels and keeps its edge value outside.

    Args:
        vectors: u in RAS mm, shape (*grid.shape, 3), kept as float32.
        grid: Where the vectors are.
    """

    vectors: np.ndarray
    grid: Grid

    def __post_init__(self) -> None:
        vectors = np.asarray(self.vectors, dtype=np.float32)
        if vectors.shape != (*self.grid.shape, 3):
            raise invalid("vectors", f"shape {(*self.grid.shape, 3)}, the grid's", vectors.shape)
        if not np.isfinite(vectors).all():
            raise invalid("vectors", "finite displacements", "NaN or infinite values")
        object.__setattr__(self, "vectors", vectors)

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Maps points (*N, 3)."""
        return points + sample_points(Image(self.vectors, self.grid.affine), points, outside="edge")

    def inverse(self, tolerance: float, iterations: int) -> Field:
        """Returns the field v with `v(y) = -u(y + v(y))` at the voxels of the grid, padded by the largest |u|.

        Beyond that padding v is constant, as u is beyond its grid.
        """
        grid = _padded(self.grid, self.vectors)
        goal = grid.coordinates().reshape(-1, 3)
        found = _solve(self, goal, tolerance, iterations)
        return Field((found - goal).reshape(*grid.shape, 3), grid)


@dataclass(frozen=True, eq=False)
class Transform:
    """A map from fixed to moving space: steps applied to a point one after the other.

    Args:
        steps: `Linear` and `Field` steps; the first is applied first.
        grid: The fixed image's grid, on which `save` writes a dense field; `dataclasses.replace` sets another.
    """

    steps: tuple[Linear | Field, ...] = ()
    grid: Grid | None = None

    @classmethod
    def identity(cls, grid: Grid | None = None) -> Transform:
        """Returns `T(x) = x`."""
        return cls((), grid)

    @classmethod
    def linear(cls, matrix: np.ndarray, grid: Grid | None = None) -> Transform:
        """Returns `T(x) = matrix @ x`, matrix (4, 4) from fixed to moving RAS mm."""
        return cls((Linear(matrix),), grid)

    @classmethod
    def from_field(cls, vectors: np.ndarray, grid: Grid) -> Transform:
        """Returns `T(x) = x + u(x)` for vectors (*grid.shape, 3) in RAS mm; `grid` becomes the one to save on."""
        return cls((Field(vectors, grid),), grid)

    @classmethod
    def from_voxel_ddf(cls, ddf: np.ndarray, grid: Grid) -> Transform:
        """Returns the transform of a network's ddf (*grid.shape, 3), in voxels of `grid`."""
        return cls.from_field(ddf @ grid.affine[:3, :3].T, grid)

    @classmethod
    def load(cls, path: str | os.PathLike) -> Transform:
        """Reads a transform from NIfTI (.nii, .nii.gz) or an ITK transform file (.h5, .tfm, .txt).

        Raises:
            MissingError: If there is no such file.
            InvalidError: If it is damaged, of another format or of a kind that regzoo does not apply.
        """
        steps = []
        for step in transforms.read_transform(Path(path)):
            steps.append(
                Linear(step) if isinstance(step, np.ndarray) else Field(step[0], Grid(step[0].shape[:3], step[1]))
            )
        grid = next((step.grid for step in steps if isinstance(step, Field)), None)
        return cls(tuple(steps), grid)

    @property
    def matrix(self) -> np.ndarray | None:
        """The whole transform as a (4, 4) matrix, None if it has a field."""
        if not all(isinstance(step, Linear) for step in self.steps):
            return None
        return functools.reduce(lambda total, step: step.matrix @ total, self.steps, np.eye(4))

    def then(self, following: Transform) -> Transform:
        """Composes: `a.then(b)(x) = b(a(x))`. The grid to save on stays this transform's, whose fixed space it is."""
        return Transform((*self.steps, *following.steps), self.grid)

    def apply_points(self, points: np.ndarray) -> np.ndarray:
        """Maps points of fixed space (N, 3) to moving space, in RAS mm."""
        points = np.asarray(points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 3:
            raise invalid("points", "shape (N, 3)", points.shape)
        return self._map(points)

    def invert_points(self, points: np.ndarray) -> np.ndarray:
        """Maps points of moving space (N, 3) back to fixed space, in RAS mm.

        T(x) = y is solved at the points themselves, so nothing is interpolated between them: exact to 1e-3 mm where
        the field does not fold, while `inverse()` is exact only at the voxels of a grid.
        """
        points = np.asarray(points, dtype=np.float64)
        if points.ndim != 2 or points.shape[1] != 3:
            raise invalid("points", "shape (N, 3)", points.shape)
        for step in reversed(self.steps):
            points = step.inverse(0, 0)(points) if isinstance(step, Linear) else _solve(step, points, 1e-3, 500)
        return points

    def apply_image(self, moving: Image, grid: Grid, *, order: int = 1, outside: Outside = 0.0) -> Image:
        """Returns `moved(x) = moving(T(x))` on `grid`; the moving image is sampled once, from its own voxels.

        Args:
            moving: Image, shape (I, J, K) or (I, J, K, C).
            grid: Where to sample, usually the fixed image's grid.
            order: 1 linear, 0 nearest.
            outside: A value that stands around the image and is blended linearly with it, or `"edge"`.

        Returns:
            The moved image. Where T maps voxels on voxels it is a bit-exact copy.
        """
        matrix = self.matrix
        if matrix is not None:
            to_voxel = np.linalg.solve(moving.affine, matrix @ grid.affine)
            return Image(sample_matrix(moving.array, to_voxel, grid.shape, order, outside), grid.affine)
        slabs = [sample_points(moving, mapped, order, outside) for _, mapped in self._slabs(grid)]
        return Image(np.concatenate(slabs), grid.affine)

    def apply_labels(self, moving_labels: Image, grid: Grid) -> Image:
        """Moves labels: nearest for a map of integers (I, J, K), linear for one channel per label (I, J, K, C)."""
        nearest = moving_labels.channels is None
        if nearest and moving_labels.array.dtype.kind not in "biu":
            raise invalid("labels", "integers, or one channel per label", f"type {moving_labels.array.dtype}")
        return self.apply_image(moving_labels, grid, order=0 if nearest else 1)

    def displacement(self, grid: Grid) -> np.ndarray:
        """Returns `T(x) - x` at the voxels of `grid` in RAS mm, shape (*grid.shape, 3), float32.

        On the transform's own grid it is worked out once, and what needs it there takes it from here: read-only.
        """
        if self.grid is not None and grid.same_as(self.grid):
            return self._own_displacement
        return self._displacement(grid)

    @functools.cached_property
    def _own_displacement(self) -> np.ndarray:
        vectors = self._displacement(self.grid).view()
        vectors.setflags(write=False)  # of the view: an array that was given stays its owner's to write
        return vectors

    def _displacement(self, grid: Grid) -> np.ndarray:
        first = self.steps[0] if self.steps else None
        if isinstance(first, Field) and first.grid.same_as(grid):  # no interpolation: a third of the time
            if len(self.steps) == 1:
                return first.vectors
            rest = Transform(self.steps[1:])
            slabs = ((places, rest._map(places + first.vectors[i:j])) for i, j, places in _slabs(grid))
        else:
            slabs = ((places, self._map(places)) for _, _, places in _slabs(grid))
        return np.concatenate([(mapped - places).astype(np.float32) for places, mapped in slabs])

    def jacobian_determinant(self, grid: Grid) -> np.ndarray:
        """Returns det dT/dx at the voxels of `grid`, shape (*grid.shape), float32; below or at 0, T folds there.

        Differences of T between neighbouring voxels: central inside, one-sided at the edges, none (derivative 1)
        along an axis of one voxel.
        """
        u, linear = self.displacement(grid), grid.affine[:3, :3]
        determinants = []
        for start, stop in _rows(grid.shape):
            low = max(start - 1, 0)
            part = u[low : stop + 1].astype(np.float64)
            # dT/d(voxel index) = A + du/d(voxel index), column by column; only the rows asked for are kept.
            a, b, c = (linear[:, axis] + _difference(part, axis)[start - low :][: stop - start] for axis in range(3))
            determinants.append((np.cross(a, b) * c).sum(-1).astype(np.float32) / np.float32(np.linalg.det(linear)))
        return np.concatenate(determinants)

    def inverse(self, tolerance: float = 1e-3, iterations: int = 100) -> Transform:
        """Returns T^-1, from moving to fixed space: exact for linear steps, by fixed-point iteration for fields.

        The inverse of a field is exact to `tolerance` at the voxels of its own (padded) grid and linear between them,
        so `inverse_error` is larger than `tolerance` where the field bends within a voxel. A field that folds has no
        inverse: a warning tells how many voxels miss the tolerance.

        Args:
            tolerance: Largest |T(T^-1(y)) - y| in mm at a voxel.
            iterations: Most iterations.

        Returns:
            The inverse, without a grid to save on (its fixed space is the moving image's).

        Source: Chen et al., A simple fixed-point approach to invert a deformation field, 2008; damped where a step
            would make the error larger.
        """
        return Transform(tuple(step.inverse(tolerance, iterations) for step in reversed(self.steps)))

    def inverse_error(self, inverse: Transform, grid: Grid) -> dict[str, float]:
        """Measures `|inverse(T(x)) - x|` over the voxels of `grid`, in mm: `{"max": ..., "mean": ...}`."""
        slabs = (np.linalg.norm(inverse._map(mapped) - places, axis=-1) for places, mapped in self._slabs(grid))
        errors = np.concatenate([slab.ravel() for slab in slabs])
        return {"max": float(errors.max()), "mean": float(errors.mean())}

    def save(self, path: str | os.PathLike, grid: Grid | None = None) -> None:
        """Writes the transform for ITK and ANTs; the file is whole or absent.

        `.nii` and `.nii.gz` hold a dense displacement field. `.h5` holds an affine transform if every step is linear,
        a displacement field otherwise. `.tfm`, which is text, holds an affine transform only. ITK itself refuses NIfTI
        whose affine has shear.

        Args:
            path: Where to.
            grid: Where to sample a field; `self.grid` by default.

        Raises:
            InvalidError: If the name ends otherwise, or a field is to be written as text or without a grid.
        """
        path, matrix, grid = Path(path), self.matrix, grid or self.grid
        form = transforms.writer(path)
        if form.write_matrix and matrix is not None:
            form.write_matrix(matrix, path)
            return
        if form.write_field is None:
            raise invalid("path", f"a name ending in {transforms.field_suffixes()}, to write a field", f"'{path}'")
        if grid is None:
            raise invalid("grid", "the fixed image's grid, to write a dense field", None)
        form.write_field(self.displacement(grid), grid.affine, path)

    def _map(self, points: np.ndarray) -> np.ndarray:
        return functools.reduce(lambda mapped, step: step(mapped), self.steps, points)

    def _slabs(self, grid: Grid) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields places x and mapped places T(x) for slabs of axis i."""
        kept = None
        if self.matrix is None and self.grid is not None and grid.same_as(self.grid):
            kept = self.displacement(grid)
        for start, stop, places in _slabs(grid):
            yield places, self._map(places) if kept is None else places + kept[start:stop]


def _slabs(grid: Grid) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yields slabs of axis i: from where, to where, and the places of their voxels."""
    for start, stop in _rows(grid.shape):
        yield start, stop, grid.coordinates(start, stop)


def _rows(shape: tuple[int, int, int]) -> Iterator[tuple[int, int]]:
    rows = max(_SLAB // (shape[1] * shape[2]), 1)
    for start in range(0, shape[0], rows):
        yield start, min(start + rows, shape[0])


def _difference(u: np.ndarray, axis: int) -> np.ndarray:
    return np.gradient(u, axis=axis) if u.shape[axis] > 1 else np.zeros_like(u)


def _padded(grid: Grid, vectors: np.ndarray) -> Grid:
    """Extends a grid by the largest displacement along each axis (at most its own size), and one voxel more."""
    largest = np.abs(vectors.reshape(-1, 3) @ np.linalg.inv(grid.affine[:3, :3]).T).max(0)
    pad = np.where(largest > 0, np.ceil(np.minimum(largest, grid.shape)) + 1, 0).astype(int)
    affine = about(grid.affine[:3, :3], pad, grid.affine[:3, 3])
    return Grid(tuple(np.array(grid.shape) + 2 * pad), affine)


def _solve(field: Field, goal: np.ndarray, tolerance: float, iterations: int) -> np.ndarray:
    """Finds x with `field(x) = goal` for points (N, 3) by x <- x - step (field(x) - goal), step halved on growth."""
    found = goal.copy()
    todo, step = np.arange(len(goal)), np.ones(len(goal))
    error = field(found) - goal
    size = np.linalg.norm(error, axis=-1)
    for _ in range(iterations):
        keep = size > tolerance
        todo, step, error, size = todo[keep], step[keep], error[keep], size[keep]
        if not todo.size:
            return found
        trial = found[todo] - step[:, None] * error
        trial_error = field(trial) - goal[todo]
        trial_size = np.linalg.norm(trial_error, axis=-1)
        better = trial_size < size
        found[todo[better]] = trial[better]
        error[better], size[better] = trial_error[better], trial_size[better]
        step = np.where(better, step, step / 2)
    missed = size > tolerance
    if missed.any():
        warnings.warn(
            f"inverse: {missed.sum() / len(goal):.2%} of the voxels miss the tolerance of {tolerance:g} mm "
            f"(by up to {size.max():.3g} mm). The field folds or stretches too much there.",
            stacklevel=4,
        )
    return found
