"""The formats of images by suffix, and what they have in common: shapes, types and values that can be an image.

Another format is one file here and one entry of `FORMATS`.
"""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from regzoo.errors import InvalidError, invalid
from regzoo.io.files import check_listed
from regzoo.io.reading import by_suffix, check_file, check_size, check_voxels, readable, shown
from regzoo.io.volumes import dicom, hdf5, itk, mgh, nifti
from regzoo.io.volumes.values import intensity_array, label_array, smallest
from regzoo.io.volumes.volume import Format, Volume

FORMATS: dict[str, Format] = {
    **dict.fromkeys((".nii", ".nii.gz"), nifti.SINGLE),
    **dict.fromkeys((".nii.bz2", ".nii.zst", ".img", ".hdr", ".img.gz", ".hdr.gz"), nifti.READ_ONLY),
    **dict.fromkeys((".mgh", ".mgz"), mgh.MGH),
    **dict.fromkeys((".h5", ".hdf5"), hdf5.HDF5),
    ".mha": itk.MHA,
    ".mhd": itk.MHD,
    ".nrrd": itk.NRRD,
    ".png": itk.PNG,
    **dict.fromkeys((".tif", ".tiff"), itk.TIFF),
    ".dcm": dicom.SERIES,
}
"""Suffix -> format; of FILE/KEY within a file, FILE's. DICOM is told by what it is, whatever its name."""


def read_image(
    path: Path,
    *,
    labels: bool,
    volume: int | None,
    spacing: Sequence[float] | None = None,
    series: bool = False,
) -> tuple[np.ndarray, np.ndarray, str]:
    """Reads an image or a label map; see `Image.read`.

    Returns:
        Array, shape (I, J, K) or (I, J, K, C); affine in mm, shape (4, 4), unchecked; what the header leaves open.
    """
    with _opened(path) as file:
        array = checked_array(shown(path), file, labels=labels, volume=volume, series=series)
        return array, _affine(file, spacing), "" if file.affine is None and spacing else file.remark


def checked_array(
    name: str, file: Volume, *, labels: bool, volume: int | None = None, series: bool = False
) -> np.ndarray:
    """Reads an image or a label map, from a file or from memory, if its shape, type and values can be one.

    Args:
        name: What it is called in an error.
        file: The image.
        labels: Whether it is a label map.
        volume: Which volume of the fourth axis.
        series: Whether all of them may be read.

    Returns:
        Array, shape (I, J, K) or (I, J, K, C).
    """
    shape = _checked_shape(name, file, volume, channels=labels or series)
    _check_size(name, file, shape)
    return (label_array if labels else intensity_array)(name, file, volume, (*shape, 1)[: max(len(shape), 3)])


def read_grid(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Reads the spatial shape and the affine in mm of an image file; see `Grid.read`."""
    with _opened(path) as file:
        shape = (*file.shape, 1)[:3]
        _check_size(shown(path), file, shape)
        return shape, _affine(file, None)


def read_remark(path: Path) -> str:
    """Says what an image's header leaves open of the geometry; an empty string if nothing."""
    with _opened(path) as file:
        return file.remark


def read_step(path: Path) -> tuple[float, str] | None:
    """Returns how far the volumes of a 4-D file lie apart, and in which unit, as NIfTI calls it; None: not told."""
    with _opened(path) as file:
        return file.step


def exists(path: Path) -> bool:
    """Tells whether there is such a file, such a dataset FILE.h5/KEY, or DICOM."""
    if dicom.is_dicom(path):
        return bool(dicom.files(path))
    return path.is_file() or (path.parent.is_file() and hdf5.exists(path))


def write_image(array: np.ndarray, affine: np.ndarray, path: str | os.PathLike) -> None:
    """Writes integers in the smallest type that holds them, anything else as float32, in the format of the suffix."""
    write = writer(path)
    write(smallest(array) if array.dtype.kind in "biu" else array.astype(np.float32), affine, Path(path))


def series_writer(
    path: str | os.PathLike,
) -> Callable[[np.ndarray, np.ndarray, Path, tuple[float, str] | None], None]:
    """Returns what writes a series, see `Format.write_series`, to a file of such a name.

    Raises:
        InvalidError: If no format of that suffix holds one.
    """
    form = by_suffix(Path(path).name, FORMATS)
    if form is None or form.write_series is None:
        written = [suffix for suffix, each in FORMATS.items() if each.write_series]
        raise invalid("path", f"a name ending in {' or '.join(written)}, to write a 4-D series", f"'{path}'")
    return form.write_series


def writer(path: str | os.PathLike) -> Callable[[np.ndarray, np.ndarray, Path], None]:
    """Returns what writes a file of such a name.

    Raises:
        InvalidError: If no format of that suffix is written.
    """
    form = by_suffix(Path(path).name, FORMATS)
    if form is None or form.write is None:
        written = [suffix for suffix, each in FORMATS.items() if each.write]
        advice = "--dicom of register and warp writes DICOM." if form is dicom.SERIES else ""
        raise invalid("path", f"a name ending in {' or '.join(written)}", f"'{path}'", advice)
    return form.write


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Volume]:
    """Gives an image file with its header read; damage that is found until it is closed is told as such."""
    within, series = path.parent.is_file(), dicom.is_dicom(path)
    if not (within or series):
        check_file(path)
    form = dicom.SERIES if series else by_suffix(path.parent.name if within else path.name, FORMATS)
    if form is None:
        known = f"an image in one of {', '.join(FORMATS)}"
        raise invalid(shown(path), known, f"'{path.suffix}'", "Convert it to NIfTI first.")
    if not (within or series):
        check_listed(path)
    # A damaged affine is refused by Grid.
    with readable(path), np.errstate(all="ignore"), form.open(path) as file:
        yield file


def _check_size(name: str, file: Volume, shape: tuple[int, ...]) -> None:
    """Refuses what does not fit into memory, or not into the file, before memory is taken for it."""
    check_voxels(name, shape)
    check_size(name, file.shape, file.dtype, file.most)


def _affine(file: Volume, spacing: Sequence[float] | None) -> np.ndarray:
    return np.diag([*(spacing or (1.0, 1.0, 1.0)), 1.0]) if file.affine is None else file.affine


def _checked_shape(name: str, file: Volume, volume: int | None, channels: bool) -> tuple[int, ...]:
    """Returns the shape of what is to be read, from the header alone."""
    shape, kind = file.shape, file.dtype
    if kind.kind not in "biuf":
        raise invalid(
            name,
            "one number per voxel",
            "RGB or vectors" if kind.kind == "V" else f"type {kind}",
            "Convert it to grey.",
        )
    if volume is not None:
        if len(shape) != 4 or not 0 <= volume < shape[3]:
            raise invalid(f"volume of {name}", "0 to the last volume of a 4-D file", f"{volume} for shape {shape}")
        return shape[:3]
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (2, 3, 4 if channels else 3) or 0 in shape:
        options = "--volume (register: --fixed-volume, --moving-volume)"
        advice = f"; choose one volume with {options}" if len(shape) == 4 else ""
        raise InvalidError(f"{name} has {len(shape)} dimensions {shape}. Expected 3{advice}.")
    return shape
