"""Images in the world: an array with its voxel-to-world affine, in RAS millimetres; reading and writing."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from nibabel.affines import obliquity
from nibabel.orientations import aff2axcodes
from nibabel.spatialimages import SpatialImage

from regzoo.errors import invalid
from regzoo.io import volumes
from regzoo.world.matrices import map_points

# Voxels. Affines in NIfTI headers are float32, which moves the far corner of a large image by up to 4e-5 voxels.
TOLERANCE = 1e-4
# Voxels. Programs that write a label map beside its image round the affine, or pass it through a quaternion.
_ROUNDED = 1e-3
# Radians between an axis and the nearest of R, A, S, from which on a grid is called oblique.
_OBLIQUE = 1e-3


@dataclass(frozen=True, eq=False)
class Grid:
    """A lattice of voxels in the world.

    Args:
        shape: Voxels along i, j, k.
        affine: Voxel index to RAS millimetres, shape (4, 4), float64. Integer indices are voxel centres.

    Raises:
        InvalidError: If the shape is not three positive numbers or the affine cannot be inverted.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    def __post_init__(self) -> None:
        shape = tuple(int(size) for size in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise invalid("grid shape", "three positive sizes", self.shape)
        affine = _checked_affine("affine", self.affine)
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    def __repr__(self) -> str:
        return f"<Grid {self.text()}>"

    def text(self) -> str:
        """Returns `(96, 80, 64), 1 x 1.5 x 3 mm, LPS`: to where the axes run, oblique ones to the nearest."""
        spacing = " x ".join(f"{value:.4g}" for value in self.spacing)
        oblique = " oblique" if obliquity(self.affine).max() > _OBLIQUE else ""
        return f"{self.shape}, {spacing} mm, {''.join(aff2axcodes(self.affine))}{oblique}"

    @classmethod
    def read(cls, path: str | os.PathLike) -> Grid:
        """Reads the grid of an image file of 2, 3 or 4 dimensions, without its voxels.

        Raises:
            MissingError: If there is no such file.
            InvalidError: If it is damaged or without a usable affine.
        """
        shape, affine = volumes.read_grid(Path(path))
        return cls(shape, _checked_affine(f"{Path(path).name} affine", affine))

    @property
    def spacing(self) -> np.ndarray:
        """Distance between neighbouring voxels along i, j, k in mm, shape (3,)."""
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def centre(self) -> np.ndarray:
        """World position of voxel `(n - 1) // 2` of each axis, shape (3,).

        It is a voxel's centre, not the middle of the box (which lies between two voxels where n is even): two grids
        of equal spacing that are laid centre on centre then coincide voxel by voxel, and resampling does not blur.
        """
        return map_points(self.affine, (np.array(self.shape) - 1) // 2)

    def box(self) -> np.ndarray:
        """Returns the world positions of the 8 corners, at -0.5 and n - 0.5 of each axis, shape (8, 3)."""
        return map_points(self.affine, np.array(list(itertools.product(*((-0.5, n - 0.5) for n in self.shape)))))

    def coordinates(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Returns the world positions of the voxels (of the slab `start:stop` of axis i), (*shape, 3), float64 mm."""
        first, *rest = (np.arange(size, dtype=np.float64) for size in self.shape)
        return self.places(np.ix_(first[start:stop], *rest))

    def places(self, indices: Sequence[np.ndarray]) -> np.ndarray:
        """Returns the world positions of voxels by their indices along i, j, k, each (*N): (*N, 3), float64 mm."""
        rows = self.affine[:3]
        return np.stack([sum(row[axis] * indices[axis] for axis in range(3)) + row[3] for row in rows], axis=-1)

    def covers(self, points: np.ndarray) -> np.ndarray:
        """Tells which world points (*N, 3) lie in the box, of half a voxel around each voxel's centre, bool, (*N,)."""
        voxels = map_points(np.linalg.inv(self.affine), points)
        return ((voxels > -0.5 - TOLERANCE) & (voxels < np.array(self.shape) - 0.5 + TOLERANCE)).all(axis=-1)

    def upright(self, spacing: float) -> Grid:
        """Returns voxels of so many mm along R, A and S, whose box is around this one's and has the same middle."""
        box = self.box()
        low, high = box.min(0), box.max(0)
        shape = np.ceil((high - low) / spacing - _ROUNDED)
        affine = np.diag([spacing, spacing, spacing, 1.0])
        affine[:3, 3] = (low + high) / 2 - spacing * (shape - 1) / 2
        return Grid(tuple(shape.astype(int)), affine)

    def same_as(self, other: Grid) -> bool:
        """Tells whether both grids have the same voxels in the same places, to 1e-4 voxel."""
        return self.shape == other.shape and self.apart(other) <= TOLERANCE

    def apart(self, other: Grid) -> float:
        """Returns how many voxels two grids of one shape are apart along an axis, at a corner, at most."""
        ends = corners(self.shape)
        return float(np.abs(map_points(np.linalg.solve(self.affine, other.affine), ends) - ends).max())


@dataclass(frozen=True, eq=False)
class Image:
    """An image in the world.

    Args:
        array: Values, shape (I, J, K), or (I, J, K, C) with one channel per label.
        affine: Voxel index to RAS millimetres, shape (4, 4).
        remark: What the header of its file leaves open of the geometry, in words; empty if nothing.
        file: The file that it was read from, if it was.

    Raises:
        InvalidError: If the array has another number of axes, is not of numbers, or the affine cannot be inverted.

    Example:
        >>> import numpy as np
        >>> import regzoo
        >>> image = regzoo.Image(np.zeros((96, 80, 64), "float32"), np.diag([1.0, 1.5, 3.0, 1.0]))
        >>> image
        <Image (96, 80, 64), 1 x 1.5 x 3 mm, RAS, float32>
        >>> image.save("image.nii.gz")
        >>> regzoo.Image.read("image.nii.gz", labels=True).spacing.tolist()
        [1.0, 1.5, 3.0]
    """

    array: np.ndarray
    affine: np.ndarray
    remark: str = ""
    file: Path | None = None

    def __post_init__(self) -> None:
        if isinstance(self.array, SpatialImage):
            raise invalid("image array", "an array", "a nibabel image", "regzoo.Image.of(...) takes one as it is.")
        array = np.asanyarray(self.array)
        if array.ndim not in (3, 4):
            raise invalid("image array", "shape (I, J, K) or (I, J, K, C)", array.shape)
        if array.dtype.kind not in "biuf":
            raise invalid("image array", "one number per voxel", f"type {array.dtype}")
        object.__setattr__(self, "array", array)
        object.__setattr__(self, "affine", Grid(array.shape[:3], self.affine).affine)

    def __repr__(self) -> str:
        channels = "" if self.channels is None else f", {self.channels} channels"
        return f"<Image {self.grid.text()}, {self.array.dtype}{channels}>"

    @property
    def shape(self) -> tuple[int, int, int]:
        """The three spatial sizes."""
        return self.array.shape[:3]

    @property
    def channels(self) -> int | None:
        """The number of channels, None for an array of shape (I, J, K)."""
        return self.array.shape[3] if self.array.ndim == 4 else None

    @property
    def grid(self) -> Grid:
        """The voxels' places in the world."""
        return Grid(self.shape, self.affine)

    @property
    def spacing(self) -> np.ndarray:
        """Distance between neighbouring voxels along i, j, k in mm, shape (3,)."""
        return self.grid.spacing

    @classmethod
    def read(
        cls,
        path: str | os.PathLike,
        *,
        labels: bool = False,
        volume: int | None = None,
        spacing: tuple[float, float, float] | None = None,
        series: bool = False,
    ) -> Image:
        """Reads NIfTI, MGH, HDF5, MetaImage, NRRD, PNG, TIFF or DICOM; a 2-D file (X, Y) becomes (X, Y, 1).

        Args:
            path: The file; of an HDF5 file, a dataset as FILE.h5/KEY. MetaImage (.mha, .mhd), NRRD, PNG, TIFF and DICOM
                need the extra `itk`, SimpleITK. DICOM is a folder of slices, of several series in it one as FOLDER/UID,
                or a file; one of several frames (enhanced CT and MR) needs the extra `dicom`.
            labels: Whether it is a label map: integers are kept exactly. A 4-D label file holds one channel per
                label, which may be fractional, and is read as float32.
            volume: Which volume of a 4-D file, from 0.
            spacing: Millimetres along i, j, k of an HDF5 dataset, which holds no geometry: its axes are taken to run
                along R, A, S from the origin. None: 1 mm.
            series: Whether a 4-D file of intensities is read whole, its volumes as channels.

        Returns:
            A float32 image, or a label map in its integer type.

        Raises:
            MissingError: If there is no such file.
            InvalidError: If it is damaged, of a wrong shape or type, without a usable affine, not finite or constant.
        """
        array, affine, remark = volumes.read_image(
            Path(path), labels=labels, volume=volume, spacing=spacing, series=series
        )
        return cls(array, _checked_affine(f"{Path(path).name} affine", affine), remark, Path(path))

    @classmethod
    def of(
        cls,
        source: Source,
        name: str = "image",
        *,
        labels: bool = False,
        spacing: Sequence[float] | None = None,
        affine: np.ndarray | None = None,
    ) -> Image:
        """Returns an image from whatever is at hand, after the checks that a file goes through.

        Args:
            source: An `Image`, which is returned as it is where it already has a type that `read` gives, or a type of
                floating point; a file, see `read`; a nibabel image; an array (I, J), (I, J, K), or of labels
                (I, J, K, C), with `spacing` or `affine`.
            name: What the image is called in an error.
            labels: Whether it is a label map; see `read`.
            spacing: Millimetres along the axes of an array, which are taken to run along R, A, S from the origin.
            affine: Voxel index to RAS millimetres of an array, shape (4, 4).

        Raises:
            MissingError: If there is no such file.
            InvalidError: If it is no image, or one that `read` would refuse; if an array has no geometry, or if one is
                given for what has its own.
        """
        _check_geometry(name, source, spacing, affine)
        if isinstance(source, str | os.PathLike):
            return cls.read(source, labels=labels)
        kept = isinstance(source, Image)
        file = volumes.in_memory(name, source.array if kept else source)
        array = volumes.checked_array(name, file, labels=labels)
        if kept:  # in the caller's own precision, and with its channels
            floats = source.array.dtype.kind == "f" and (not labels or source.channels is not None)
            array = array.reshape(source.array.shape)
            return source if floats or array.dtype == source.array.dtype else replace(source, array=array)
        if spacing is not None:
            affine = _spacing_affine(spacing, len(file.shape))
        affine = _checked_affine(f"{name} affine", file.affine if affine is None else affine)
        return cls(array, affine, file.remark)

    def check_finite(self, name: str) -> None:
        """Raises InvalidError, in which the image is called `name`, if voxels are NaN or infinite."""
        bad = 0 if self.array.dtype.kind != "f" else sum(int((~np.isfinite(each)).sum()) for each in self.array)
        if bad:
            raise volumes.not_finite(name, bad)

    def save(self, path: str | os.PathLike) -> None:
        """Writes NIfTI, MetaImage or NRRD: integers in the smallest type that holds them, anything else as float32.

        Of NIfTI, the affine goes into sform and qform. A qform cannot hold shear: a sheared affine goes into
        the sform only.

        Args:
            path: A name that ends in `.nii`, `.nii.gz`, `.mha` or `.nrrd`. The file is whole or absent.

        Raises:
            InvalidError: If the name ends otherwise, or voxels are NaN or infinite, which `read` would refuse.
            MissingError: If it is no NIfTI and SimpleITK is not installed.
        """
        self.check_finite("image")
        volumes.write_image(self.array, self.affine, path)


Source = str | os.PathLike | Image | SpatialImage | np.ndarray
"""What an image may be given as; see `Image.of`."""


def overlap_gap(a: Grid, b: Grid) -> float:
    """Returns the distance in mm between the boxes (along R, A, S) around two grids, 0 where they overlap."""
    first, second = a.box(), b.box()
    gaps = np.maximum(first.min(0) - second.max(0), second.min(0) - first.max(0))
    return float(np.linalg.norm(np.maximum(gaps, 0)))


def _check_geometry(name: str, source: object, spacing: object, affine: object) -> None:
    """Refuses an array without a geometry or with two, and a geometry for what has its own."""
    given = {key: value for key, value in (("spacing", spacing), ("affine", affine)) if value is not None}
    if not volumes.is_array(source):
        for key, value in given.items():
            raise invalid(key, f"none, for {name} is no array and has its own geometry", value)
    elif len(given) != 1:
        advice = "Pass spacing=(i, j, k) in mm, or regzoo.Image(array, affine)."
        raise invalid(name, "an array with one of spacing and affine", "both" if given else "neither", advice)


def _spacing_affine(spacing: Sequence[float], axes: int) -> np.ndarray:
    """Returns the affine of an array whose axes run along R, A, S; of one slice, the spacing across may be left out."""
    try:
        values = np.array([*spacing], dtype=np.float64)
    except (TypeError, ValueError):
        values = np.zeros(0)
    if len(values) == 2 == axes:
        values = np.append(values, 1.0)
    if values.shape != (3,) or not (np.isfinite(values) & (values > 0)).all():
        raise invalid("spacing", "three numbers of mm above 0", spacing)
    return np.diag([*values, 1.0])


def _checked_affine(what: str, affine: np.ndarray) -> np.ndarray:
    try:
        affine = np.array(affine, dtype=np.float64)
    except (TypeError, ValueError):
        affine = np.zeros(0)
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise invalid(what, "a finite (4, 4) matrix", np.array2string(affine.ravel(), max_line_width=10_000))
    with np.errstate(over="ignore"):
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if spacing.min() < 1e-6 or abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-6:
        raise invalid(what, "a matrix that can be inverted", f"spacing {spacing.tolist()} mm", "Repair the header.")
    return affine


def check_beside(name: str, labels: Image, image: Image, expected: str) -> None:
    """Refuses a label map that does not lie on an image's grid, to a thousandth of a voxel, as programs round it.

    Args:
        name: What the label map is called in the error.
        labels: The label map.
        image: The image.
        expected: What the grid is called in the error.

    Raises:
        InvalidError: If it lies elsewhere.
    """
    if labels.shape != image.shape:
        raise invalid(name, f"{expected}, shape {image.shape}", f"shape {labels.shape}")
    apart = image.grid.apart(labels.grid)
    if apart > _ROUNDED:
        received = f"another affine, up to {apart:.2g} voxels away"
        raise invalid(name, f"{expected}, shape {image.shape}", received)


def corners(shape: tuple[int, int, int]) -> np.ndarray:
    """Returns the indices of the corner voxels, (8, 3)."""
    return np.array(list(itertools.product(*((0, size - 1) for size in shape))))
