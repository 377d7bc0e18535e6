"""Spatial transforms in RAS millimetres. A transform maps FIXED space to MOVING space: `moved(x) = moving(T(x))`."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from regzoo.errors import invalid
from regzoo.io import transforms
from regzoo.world import transform_files
from regzoo.world.images import Grid, Image, Source
from regzoo.world.jacobians import central_determinant
from regzoo.world.matrices import checked_points, map_points
from regzoo.world.resampling import Outside, sample_matrix, sample_points
from regzoo.world.steps import Field, Linear, Spline, Step, Within, inverses, kinds, linear_part, slabs, through


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
        return f"<Transform {kinds(self.steps)}{place}{size}>"

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
        return linear_part(self.steps)

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
        return float(np.concatenate([self.covers(places) for _, _, places in slabs(grid)]).mean())

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
        parts = [sample_points(moving, mapped, order, outside) for _, mapped in self._slabs(grid)]
        return Image(np.concatenate(parts), grid.affine)

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
            mapped = ((places, through(steps[1:], places + vectors[i:j])) for i, j, places in slabs(grid))
        else:
            mapped = ((places, through(steps, places)) for _, _, places in slabs(grid))
        return np.concatenate([(there - places).astype(np.float32) for places, there in mapped])

    def before_linear_part(self, grid: Grid) -> np.ndarray:
        """Returns the displacement u (*grid.shape, 3) in mm that `linear_part` follows: `matrix(x + u(x)) = T(x)`."""
        back = np.linalg.inv(self.linear_part)
        parts = ((map_points(back, mapped) - places).astype(np.float32) for places, mapped in self._slabs(grid))
        return np.concatenate([*parts])

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
        return Transform(inverses(self.steps, tolerance, iterations))

    def inverse_error(self, inverse: Transform, grid: Grid) -> dict[str, float]:
        """Measures `|inverse(T(x)) - x|` over the voxels of `grid`, in mm: `{"max": ..., "mean": ...}`."""
        parts = (np.linalg.norm(inverse._map(mapped) - places, axis=-1) for places, mapped in self._slabs(grid))
        errors = np.concatenate([slab.ravel() for slab in parts])
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
        return through(self.steps, points)

    def _slabs(self, grid: Grid) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields places x and mapped places T(x) for slabs of axis i."""
        kept = None
        if self.matrix is None and self.grid is not None and grid.same_as(self.grid):
            kept = self.displacement(grid)
        for start, stop, places in slabs(grid):
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
