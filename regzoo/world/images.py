"""Images in the world: an array with its voxel-to-world affine, in RAS millimetres; reading, writing, resampling."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from nibabel.affines import obliquity
from nibabel.orientations import aff2axcodes
from nibabel.spatialimages import SpatialImage
from scipy import ndimage

from regzoo.errors import invalid
from regzoo.io import volumes
from regzoo.world.matrices import map_points

if TYPE_CHECKING:  # pydantic is slow to import, and only the fields' names are needed here
    from regzoo.schema.inputs import PercentileIntensity, WindowIntensity

Outside = float | Literal["edge"]

# Voxels. Affines in NIfTI headers are float32, which moves the far corner of a large image by up to 4e-5 voxels.
_TOLERANCE = 1e-4
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
        return ((voxels > -0.5 - _TOLERANCE) & (voxels < np.array(self.shape) - 0.5 + _TOLERANCE)).all(axis=-1)

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
        return self.shape == other.shape and self.apart(other) <= _TOLERANCE

    def apart(self, other: Grid) -> float:
        """Returns how many voxels two grids of one shape are apart along an axis, at a corner, at most."""
        corners = _corners(self.shape)
        return float(np.abs(map_points(np.linalg.solve(self.affine, other.affine), corners) - corners).max())


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


def resample(image: Image, grid: Grid, *, order: int = 1, outside: Outside = 0.0, antialias: bool = True) -> Image:
    """Samples an image at the places of another grid.

    Where the target voxels are voxels of the image (a crop, pad, flip or transposition), values are copied bit by bit.
    Where the target is coarser, linear resampling first smooths along each axis of the image with a Gaussian of
    `sqrt(ratio ** 2 - 1) / (2 sqrt(2 ln 2))` voxels, ratio = target step / image step.

    Args:
        image: Image or label map.
        grid: Where to sample.
        order: 1 linear, 0 nearest (keeps the type).
        outside: A value that stands around the image and is blended linearly with it, or `"edge"`.
        antialias: Whether to smooth before linear resampling onto a coarser grid.

    Returns:
        The image on `grid`.

    Source: Cardoso et al., Scale factor point spread function matching, 2015. Sampling is scipy's
        `affine_transform` with mode `grid-constant` or `nearest`.
    """
    matrix = np.linalg.solve(image.affine, grid.affine)
    # The length of row s is the target's step along the image's axis s, exact where the axes are parallel.
    ratio = np.linalg.norm(matrix[:3, :3], axis=1)
    if order == 1 and antialias and (ratio > 1 + _TOLERANCE).any():
        sigma = np.sqrt(np.maximum(ratio**2 - 1, 0)) / np.sqrt(8 * np.log(2))
        # Beyond four times its length an axis is its ends alone; with voxels of a nanometre the rest would take hours.
        reach = [min(int(4 * width + 0.5), 4 * n + 32) for width, n in zip(sigma, image.shape, strict=False)]
        smooth = _per_channel(
            lambda a: ndimage.gaussian_filter(_floating(a), sigma, mode="nearest", radius=reach), image.array
        )
        image = Image(smooth, image.affine)
    return Image(sample_matrix(image.array, matrix, grid.shape, order, outside), grid.affine)


def sample_matrix(
    array: np.ndarray, matrix: np.ndarray, shape: tuple[int, int, int], order: int, outside: Outside
) -> np.ndarray:
    """Samples an array at `matrix @ index` (voxels) for every index of `shape`; copies where those are integers.

    Args:
        array: Values, shape (I, J, K) or (I, J, K, C).
        matrix: Target voxel to array voxel, shape (4, 4).
        shape: Target shape.
        order: 1 linear, 0 nearest.
        outside: As in `resample`.

    Returns:
        Values, shape (*shape,) or (*shape, C).
    """
    nearest = np.rint(matrix)
    turns = nearest[:3, :3]
    is_permutation = (np.abs(turns).sum(0) == 1).all() and (np.abs(turns).sum(1) == 1).all()
    if is_permutation and _near_corners(matrix, shape, nearest):
        return _copy(array, turns, nearest[:3, 3], shape, outside)
    mode = _mode(outside)
    array = array if order == 0 else _floating(array)
    return _per_channel(
        lambda a: ndimage.affine_transform(
            a, matrix[:3, :3], matrix[:3, 3], shape, order=order, prefilter=False, **mode
        ),
        array,
    )


def sample_points(image: Image, points: np.ndarray, order: int = 1, outside: Outside = 0.0) -> np.ndarray:
    """Samples an image at world points (*N, 3) in mm, and returns (*N,) or (*N, C) values; see `resample`."""
    voxels = np.moveaxis(map_points(np.linalg.inv(image.affine), points), -1, 0)
    array = image.array if order == 0 else _floating(image.array)
    mode = _mode(outside)
    return _per_channel(lambda a: ndimage.map_coordinates(a, voxels, order=order, prefilter=False, **mode), array)


def normalise(array: np.ndarray, intensity: PercentileIntensity | WindowIntensity) -> np.ndarray:
    """Clips intensities and scales them to [0, 1].

    Args:
        array: Values of any shape.
        intensity: Two percentiles, taken over all voxels of `array`, or a window in the image's own unit.

    Returns:
        float32 values, the shape of `array`.

    Raises:
        InvalidError: If both bounds coincide (a nearly constant image, an empty window).
    """
    bounds = (intensity.low, intensity.high)
    low, high = np.percentile(array, bounds) if intensity.name == "percentiles" else bounds
    if not high > low:
        expected = f"{intensity.name} {bounds[0]:g} and {bounds[1]:g} that differ"
        raise invalid("intensities", expected, f"{low:g} and {high:g}", "Is the image nearly constant?")
    scaled = (array.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    return np.clip(scaled, 0, 1, out=scaled)


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


def _corners(shape: tuple[int, int, int]) -> np.ndarray:
    return np.array(list(itertools.product(*((0, size - 1) for size in shape))))


def _near_corners(matrix: np.ndarray, shape: tuple[int, int, int], target: np.ndarray) -> bool:
    """Tells whether two voxel maps agree to 1e-4 voxel all over `shape`."""
    difference = map_points(matrix, _corners(shape)) - map_points(target, _corners(shape))
    return bool((np.abs(difference) <= _TOLERANCE).all())


def _copy(array: np.ndarray, turns: np.ndarray, shift: np.ndarray, shape: tuple, outside: Outside) -> np.ndarray:
    """Copies voxel `turns @ index + shift` for every index of `shape`; `turns` is a signed permutation."""
    axes = np.abs(turns).argmax(0)  # target axis t runs along array axis axes[t]
    ranges = [turns[s, t] * np.arange(shape[t]) + shift[s] for t, s in enumerate(axes)]
    array = array.transpose(*axes, *range(3, array.ndim))
    inside = [np.clip(r, 0, n - 1).astype(np.intp) for r, n in zip(ranges, array.shape, strict=False)]
    copy = array[np.ix_(*inside)]
    if outside != "edge":
        for axis, (wanted, found) in enumerate(zip(ranges, inside, strict=True)):
            copy[(slice(None),) * axis + (wanted != found,)] = outside
    return copy


def _mode(outside: Outside) -> dict:
    return {"mode": "nearest"} if outside == "edge" else {"mode": "grid-constant", "cval": outside}


def _floating(array: np.ndarray) -> np.ndarray:
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def _per_channel(function, array: np.ndarray) -> np.ndarray:
    if array.ndim == 3:
        return function(array)
    return np.stack([function(array[..., channel]) for channel in range(array.shape[3])], axis=-1)
