"""Spatial transforms in RAS millimetres. A transform maps FIXED space to MOVING space: `moved(x) = moving(T(x))`."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from regzoo.errors import invalid
from regzoo.io import transforms
from regzoo.world import transform_files
from regzoo.world.images import Grid, Image, Outside, Source, sample_matrix, sample_points
from regzoo.world.jacobians import central_determinant
from regzoo.world.matrices import about, checked_matrix, checked_points, cross, dot, map_points, numbers

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
        return _solve(self, points, 1e-3, 500)

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
        return f"<Within {self.grid.text()}: {_kinds(self.steps)}>"

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Maps points (*N, 3)."""
        mapped = _through(self.steps, points)
        inside = self.grid.covers(mapped if self.backwards else points)
        return _either(inside, mapped, self._beyond, points)

    def covers(self, points: np.ndarray) -> np.ndarray:
        """Tells which points (*N, 3) the steps act on, bool, shape (*N,)."""
        return self.grid.covers(_through(self.steps, points) if self.backwards else points)

    def invert_points(self, points: np.ndarray) -> np.ndarray:
        """Maps points (N, 3) back, by solving for each of them."""
        found = points
        for step in reversed(self.steps):
            found = step.invert_points(found)
        inside = self.grid.covers(points if self.backwards else found)
        return _either(inside, found, np.linalg.inv(self._beyond), points)

    def inverse(self, tolerance: float, iterations: int) -> Within:
        """Returns the inverse within the same box."""
        return Within(_inverses(self.steps, tolerance, iterations), self.grid, not self.backwards)

    @functools.cached_property
    def _beyond(self) -> np.ndarray:
        return _linear_part(self.steps)


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
        return _solve(self, points, 1e-3, 500)

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


@dataclass(frozen=True, eq=False)
class Transform:
    """A map from fixed to moving space: steps applied to a point one after the other.

    Args:
        steps: `Linear`, `Field`, `Spline` and `Within` steps; the first is applied first.
        grid: The fixed image's grid, on which `save` writes a dense field; `dataclasses.replace` sets another.

    Example:
        >>> import numpy as np
        >>> import regzoo
        >>> matrix = np.eye(4)
        >>> matrix[0, 3] = 5.0  # what lies at x in the fixed image lies 5 mm to the right of x in the moving image
        >>> transform = regzoo.Transform.linear(matrix)
        >>> transform.apply_points([[1.0, 2.0, 3.0]]).tolist()
        [[6.0, 2.0, 3.0]]
        >>> transform.then(transform.inverse()).apply_points([[1.0, 2.0, 3.0]]).tolist()
        [[1.0, 2.0, 3.0]]
        >>> transform.save("transform.tfm")  # read by ITK and ANTs
        >>> regzoo.Transform.load("transform.tfm")
        <Transform matrix>
    """

    steps: tuple[Step, ...] = ()
    grid: Grid | None = None

    def __repr__(self) -> str:
        known = self.__dict__.get("_own_displacement")  # where nobody asked for it yet, it would take seconds
        size = "" if known is None else f", at most {np.linalg.norm(known, axis=-1).max():.4g} mm"
        place = "" if self.grid is None else f" on {self.grid.text()}"
        return f"<Transform {_kinds(self.steps)}{place}{size}>"

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
        """Returns `T(x) = x + u(x)` for vectors (*grid.shape, 3) in RAS mm; `grid` becomes the one to save on.

        Beyond the grid, by more than half a voxel, nothing is displaced, as in ITK and ANTs.
        """
        return cls((Field(vectors, grid),)).within(grid)

    @classmethod
    def from_voxel_ddf(cls, ddf: np.ndarray, grid: Grid) -> Transform:
        """Returns the transform of a network's ddf (*grid.shape, 3), in voxels of `grid`.

        Beyond the grid it goes on with its edge value: the fixed image may be larger than what the network sees.
        """
        return cls((Field(ddf @ grid.affine[:3, :3].T, grid),), grid)

    @classmethod
    def load(cls, path: str | os.PathLike, *, fixed: Grid | None = None, moving: Grid | None = None) -> Transform:
        """Reads a transform file of ITK or ANTs (.h5, .tfm, .txt, .mat), .lta, .x5, FSL's .mat, or a field.

        Args:
            path: The file; a field is .nii, .nii.gz, or with the extra `itk` .mha, .mhd or .nrrd; .lta is FreeSurfer's
                and .x5 NiTransforms' own. With the extra `dicom`, a Spatial or Deformable Spatial Registration object,
                whose own frame of reference is taken for the fixed image's.
            fixed: The grid of the fixed image, which only FSL's matrices need.
            moving: The grid of the moving image, likewise.

        Raises:
            MissingError: If there is no such file.
            InvalidError: If it is damaged, of another format or of a kind that regzoo does not apply.
        """
        images = None if fixed is None or moving is None else transforms.Images(fixed, moving)
        found = [_loaded(step) for step in transforms.read_transform(Path(path), images)]
        grid = next((each.grid for each in found if each.grid is not None), None)
        return cls(tuple(step for each in found for step in each.steps), grid)

    @property
    def matrix(self) -> np.ndarray | None:
        """The whole transform as a (4, 4) matrix, None if it has a field."""
        return self.linear_part if all(isinstance(step, Linear) for step in self.steps) else None

    @property
    def linear_part(self) -> np.ndarray:
        """The product of its matrices, (4, 4): what is left of it where no field acts."""
        return _linear_part(self.steps)

    @property
    def has_matrix(self) -> bool:
        """Whether anything but the identity is left of it where no field acts."""
        return not np.allclose(self.linear_part, np.eye(4), rtol=0, atol=1e-9)

    def then(self, following: Transform) -> Transform:
        """Composes: `a.then(b)(x) = b(a(x))`. The grid to save on stays this transform's, whose fixed space it is."""
        return Transform((*self.steps, *following.steps), self.grid)

    def within(self, grid: Grid) -> Transform:
        """Returns the transform of images whose fixed one has this grid: beyond it, only its matrix goes on."""
        return Transform(self.steps if self.matrix is not None else (Within(self.steps, grid),), grid)

    def starts_on(self, grid: Grid) -> bool:
        """Tells whether a grid is that of its fixed space: where its first step, a field, acts on what comes in."""
        first = self.steps[0] if self.steps else None
        return isinstance(first, Within) and not first.backwards and first.grid.same_as(grid)

    def covers(self, points: np.ndarray) -> np.ndarray:
        """Tells which points of fixed space (*N, 3) no field ends before, so that not a matrix alone moves them."""
        inside = np.ones(points.shape[:-1], bool)
        for step in self.steps:
            if isinstance(step, Within):
                inside &= step.covers(points)
            points = step(points)
        return inside

    def covered(self, grid: Grid) -> float:
        """Returns the share of the voxels of `grid` that `covers` tells of."""
        if not any(isinstance(step, Within) for step in self.steps):
            return 1.0
        return float(np.concatenate([self.covers(places) for _, _, places in _slabs(grid)]).mean())

    def apply_points(self, points: ArrayLike) -> np.ndarray:
        """Maps points of fixed space (N, 3) to moving space, in RAS mm.

        Raises:
            InvalidError: If they are no finite numbers of this shape.
        """
        return self._map(checked_points("points", points))

    def invert_points(self, points: ArrayLike) -> np.ndarray:
        """Maps points of moving space (N, 3) back to fixed space, in RAS mm.

        T(x) = y is solved at the points themselves, so nothing is interpolated between them: exact to 1e-3 mm where
        the field does not fold, while `inverse()` is exact only at the voxels of a grid. Errors as in `apply_points`.
        """
        points = checked_points("points", points)
        for step in reversed(self.steps):
            points = step.invert_points(points)
        return points

    def apply_image(self, moving: Source, grid: Grid, *, order: int = 1, outside: Outside = 0.0) -> Image:
        """Returns `moved(x) = moving(T(x))` on `grid`; the moving image is sampled once, from its own voxels.

        Args:
            moving: Image, shape (I, J, K) or (I, J, K, C), or what `Image.of` makes one of.
            grid: Where to sample, usually the fixed image's grid.
            order: 1 linear, 0 nearest.
            outside: A value that stands around the image and is blended linearly with it, or `"edge"`.

        Returns:
            The moved image. Where T maps voxels on voxels it is a bit-exact copy.

        Raises:
            InvalidError: If the moving image has NaN or infinite voxels, which would be blended into those around.
        """
        moving, matrix = moving if isinstance(moving, Image) else Image.of(moving, "moving"), self.matrix
        moving.check_finite("moving")
        if matrix is not None:
            to_voxel = np.linalg.solve(moving.affine, matrix @ grid.affine)
            return Image(sample_matrix(moving.array, to_voxel, grid.shape, order, outside), grid.affine)
        slabs = [sample_points(moving, mapped, order, outside) for _, mapped in self._slabs(grid)]
        return Image(np.concatenate(slabs), grid.affine)

    def apply_labels(self, moving_labels: Source, grid: Grid) -> Image:
        """Moves labels: nearest for a map of integers (I, J, K), linear for one channel per label (I, J, K, C)."""
        if not isinstance(moving_labels, Image):
            moving_labels = Image.of(moving_labels, "moving_labels", labels=True)
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
        steps = self.steps
        if self.starts_on(grid):  # all voxels lie within
            steps = (*steps[0].steps, *steps[1:])
        first = steps[0] if steps else None
        vectors = first.on(grid) if isinstance(first, Field) else None
        if vectors is not None:
            if len(steps) == 1:
                return vectors
            slabs = ((places, _through(steps[1:], places + vectors[i:j])) for i, j, places in _slabs(grid))
        else:
            slabs = ((places, _through(steps, places)) for _, _, places in _slabs(grid))
        return np.concatenate([(mapped - places).astype(np.float32) for places, mapped in slabs])

    def before_linear_part(self, grid: Grid) -> np.ndarray:
        """Returns the displacement u (*grid.shape, 3) in mm that `linear_part` follows: `matrix(x + u(x)) = T(x)`."""
        back = np.linalg.inv(self.linear_part)
        slabs = ((map_points(back, mapped) - places).astype(np.float32) for places, mapped in self._slabs(grid))
        return np.concatenate([*slabs])

    def jacobian_determinant(self, grid: Grid) -> np.ndarray:
        """Returns det dT/dx at the voxels of `grid`, (*grid.shape), float32; see `jacobians.central_determinant`.

        On the transform's own grid it is worked out once: read-only.
        """
        if self.grid is not None and grid.same_as(self.grid):
            return self._own_determinant
        return central_determinant(self.displacement(grid), grid)

    @functools.cached_property
    def _own_determinant(self) -> np.ndarray:
        found = central_determinant(self.displacement(self.grid), self.grid)
        found.setflags(write=False)
        return found

    def inverse(self, tolerance: float = 1e-3, iterations: int = 100) -> Transform:
        """Returns T^-1, from moving to fixed space: exact for linear steps, by iteration for fields.

        The inverse of a field is exact to `tolerance` at the voxels of its own (padded) grid and linear between them,
        so `inverse_error` is larger than `tolerance` where the field bends within a voxel. A field that folds has no
        inverse: a warning tells how many voxels miss the tolerance.

        Args:
            tolerance: Largest |T(T^-1(y)) - y| in mm at a voxel.
            iterations: Most iterations.

        Returns:
            The inverse, without a grid to save on (its fixed space is the moving image's).

        Source: Chen et al., A simple fixed-point approach to invert a deformation field, 2008, for three iterations;
            Newton's method from there, damped where a step would make the error larger.
        """
        return Transform(_inverses(self.steps, tolerance, iterations))

    def inverse_error(self, inverse: Transform, grid: Grid) -> dict[str, float]:
        """Measures `|inverse(T(x)) - x|` over the voxels of `grid`, in mm: `{"max": ..., "mean": ...}`."""
        slabs = (np.linalg.norm(inverse._map(mapped) - places, axis=-1) for places, mapped in self._slabs(grid))
        errors = np.concatenate([slab.ravel() for slab in slabs])
        return {"max": float(errors.max()), "mean": float(errors.mean())}

    def save(
        self, path: str | os.PathLike, grid: Grid | None = None, *, moving: Grid | None = None, form: str | None = None
    ) -> None:
        """Writes the transform, by default for ITK and ANTs; the file is whole or absent.

        `.h5` (and `.x5`) holds what the transform is: a matrix, a displacement field, or both, the field first; the
        matrix goes on beyond the grid. `.nii`, `.nii.gz` and, with the extra `itk`, `.mha` and `.nrrd` hold a field
        alone, beyond which nothing moves. `.tfm`, `.mat` and FreeSurfer's `.lta` hold a matrix only. ITK itself refuses
        NIfTI whose affine has shear.

        Args:
            path: Where to.
            grid: The fixed image's grid, where a field is sampled; `self.grid` by default.
            moving: The moving image's grid, which `.lta` and FSL's matrices tell of, and that of Learn2Reg must equal.
            form: None: what the suffix says. `"ants"`: `path` is a prefix, after which come `0GenericAffine.mat`,
                and of a field `1Warp.nii.gz`, which a point goes through first, and `1InverseWarp.nii.gz` unless it
                folds. `"fsl"`: a matrix of FLIRT's. `"learn2reg"`: displacements in voxels, .nii.gz, as Learn2Reg's
                evaluation takes them, if both images have one grid.

        Raises:
            InvalidError: If the name ends otherwise, or a field is to be written as a matrix or without a grid.
        """
        transform_files.write(self, Path(path), grid or self.grid, moving, form)

    def _map(self, points: np.ndarray) -> np.ndarray:
        return _through(self.steps, points)

    def _slabs(self, grid: Grid) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields places x and mapped places T(x) for slabs of axis i."""
        kept = None
        if self.matrix is None and self.grid is not None and grid.same_as(self.grid):
            kept = self.displacement(grid)
        for start, stop, places in _slabs(grid):
            yield places, self._map(places) if kept is None else places + kept[start:stop]


def _loaded(step: transforms.Step) -> Transform:
    """Returns the transform of a step as a file holds it."""
    if isinstance(step, np.ndarray):
        return Transform.linear(step)
    grid = Grid(step[0].shape[:3], step[1])
    if isinstance(step, transforms.Spline):
        spline = Spline(step.coefficients, grid)
        return Transform((Within((spline,), spline.cells),))
    return Transform.from_field(step[0], grid)


def _linear_part(steps: tuple[Step, ...]) -> np.ndarray:
    """Returns the product of the matrices in steps, (4, 4): what is left of them where no field acts."""
    total = np.eye(4)
    for step in steps:
        if not isinstance(step, Field | Spline):
            total = (step.matrix if isinstance(step, Linear) else step._beyond) @ total
    return total


def _kinds(steps: tuple[Step, ...]) -> str:
    """Says what the steps are, the first first: `field, matrix`."""
    names = {Linear: "matrix", Field: "field", Spline: "spline"}
    return ", ".join(names.get(type(step)) or _kinds(step.steps) for step in steps) or "identity"


def _through(steps: tuple[Step, ...], points: np.ndarray) -> np.ndarray:
    for step in steps:
        points = step(points)
    return points


def _inverses(steps: tuple[Step, ...], tolerance: float, iterations: int) -> tuple[Step, ...]:
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


def _slabs(grid: Grid) -> Iterator[tuple[int, int, np.ndarray]]:
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
    found = _solve(step, goal, tolerance, iterations)
    return Field((found - goal).reshape(*grid.shape, 3), grid)


_SHORTEST = 2**-10  # a step that was halved ten times in a row leads nowhere


def _solve(field: Field | Spline, goal: np.ndarray, tolerance: float, iterations: int) -> np.ndarray:
    """Finds x with `field(x) = goal` for points (N, 3).

    By x <- x - step (field(x) - goal), then by Newton's method; the step is halved on growth.
    """
    found, step = goal.copy(), np.ones(len(goal))
    error = field(found) - goal
    size = np.linalg.norm(error, axis=-1)
    for iteration in range(iterations):
        todo = np.flatnonzero((size > tolerance) & (step > _SHORTEST))
        if not todo.size:
            break
        towards = error[todo] if iteration < 3 else _newton(field, found[todo], error[todo], goal[todo])
        trial = found[todo] - step[todo, None] * towards
        trial_error = field(trial) - goal[todo]
        trial_size = np.linalg.norm(trial_error, axis=-1)
        better = trial_size < size[todo]
        kept = todo[better]
        found[kept], error[kept], size[kept] = trial[better], trial_error[better], trial_size[better]
        step[todo] = np.where(better, np.minimum(2 * step[todo], 1), step[todo] / 2)
    missed = size > tolerance
    if missed.any():
        warnings.warn(
            f"inverse: {missed.sum() / len(goal):.2%} of the places miss the tolerance of {tolerance:g} mm "
            f"(by up to {size.max():.3g} mm). The field folds or stretches too much there.",
            stacklevel=4,
        )
    return found


def _newton(field: Field | Spline, places: np.ndarray, error: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Returns Newton's step (N, 3), at most four voxels; where the field folds or nearly does, the error itself."""
    near = 0.05 * field.grid.spacing.min()
    a, b, c = (((field(places + near * axis) - error - goal) / near).T.copy() for axis in np.eye(3))
    # By Cramer's rule, a tenth of the time that LAPACK takes over as many matrices of 3 x 3.
    normal, missed = cross(b, c), error.T
    volume = dot(a, normal)
    sound = volume > 0.02
    step = np.stack([dot(missed, normal), dot(a, cross(missed, c)), dot(a, cross(b, missed))], axis=-1)
    towards = np.where(sound[:, None], step / np.where(sound, volume, 1)[:, None], error)
    length = np.linalg.norm(towards, axis=-1, keepdims=True)
    return towards * np.minimum(1, 4 * field.grid.spacing.max() / np.maximum(length, near))
