"""NIfTI-1 and NIfTI-2: one file, or a pair of header and image."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, SpatialImage

from regzoo.io.files import atomic_file
from regzoo.io.streams import opened
from regzoo.io.volumes.nibabel_file import read_by, volume_of
from regzoo.io.volumes.volume import Format, Volume

_SINGLES, _PAIRS = (nibabel.Nifti1Image, nibabel.Nifti2Image), (nibabel.Nifti1Pair, nibabel.Nifti2Pair)
_HEADER = 540
"""Bytes of a NIfTI-2 header, which is longer than that of NIfTI-1."""


@contextlib.contextmanager
def read(path: Path) -> Iterator[SpatialImage]:
    """Gives a NIfTI file with its header read and its voxels unread; at the end, checksums are compared."""
    pair = path.name.lower().removesuffix(".gz").endswith((".img", ".hdr"))
    holders = _PAIRS[0].filespec_to_file_map(path) if pair else {}
    files = {name: Path(each.filename) for name, each in holders.items()} or {"image": path}
    with opened(files.get("header", path)) as stream:
        start = stream.read(_HEADER)
    kinds = [kind for kind in (_PAIRS if pair else _SINGLES) if kind.header_class.may_contain_header(start)]
    if not kinds:
        raise ImageFileError("its header is not that of NIfTI")
    with read_by(kinds[0], **files) as image:
        yield image


def save(
    array: np.ndarray,
    affine: np.ndarray,
    path: Path,
    intent: str = "none",
    step: tuple[float, str] | None = None,
) -> None:
    """Writes an array in its own type; the affine in mm goes into sform and qform, a sheared one into the sform only.

    Args:
        array: Voxels.
        affine: Voxel to RAS millimetres, shape (4, 4).
        path: A name that ends in `.nii` or `.nii.gz`; the file is whole or absent.
        intent: What the header says the numbers are.
        step: From one volume of the fourth axis to the next, and its unit.
    """
    file = nibabel.Nifti1Image(array, affine, dtype=array.dtype)
    file.set_sform(affine, code=1)
    try:
        file.set_qform(affine, code=1, strip_shears=False)
    except HeaderDataError:  # shear, which a qform cannot hold
        file.header["qform_code"] = 0
    if step is not None:
        file.header.set_zooms((*file.header.get_zooms()[:3], step[0]))
    file.header.set_xyzt_units("mm", step[1] if step else None)
    file.header.set_intent(intent)
    with atomic_file(path) as temporary:
        nibabel.save(file, temporary)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Volume]:
    with read(path) as image:
        yield volume_of(image, Path(image.file_map["image"].filename))


def _save_series(array: np.ndarray, affine: np.ndarray, path: Path, step: tuple[float, str] | None) -> None:
    save(array, affine, path, step=step)


SINGLE, READ_ONLY = Format(_open, save, _save_series), Format(_open)
