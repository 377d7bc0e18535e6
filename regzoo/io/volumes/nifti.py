"""NIfTI-1 and NIfTI-2: one file, or a pair of header and image."""

from pathlib import Path

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, SpatialImage

from regzoo.io.files import atomic_file
from regzoo.io.volumes.nibabel_file import volume_of
from regzoo.io.volumes.volume import Format, Volume

_KINDS = (nibabel.Nifti1Image, nibabel.Nifti1Pair, nibabel.Nifti2Image, nibabel.Nifti2Pair)


def load(path: Path) -> SpatialImage:
    """Returns a NIfTI file with its header read and its voxels unread."""
    file = nibabel.load(path)
    if not isinstance(file, _KINDS):
        raise ImageFileError(f"it is a {type(file).__name__}, expected NIfTI")
    return file


def save(array: np.ndarray, affine: np.ndarray, path: Path, intent: str = "none") -> None:
    """Writes an array in its own type; the affine in mm goes into sform and qform, a sheared one into the sform only.

    Args:
        array: Voxels.
        affine: Voxel to RAS millimetres, shape (4, 4).
        path: A name that ends in `.nii` or `.nii.gz`; the file is whole or absent.
        intent: What the header says the numbers are.
    """
    file = nibabel.Nifti1Image(array, affine, dtype=array.dtype)
    file.set_sform(affine, code=1)
    try:
        file.set_qform(affine, code=1, strip_shears=False)
    except HeaderDataError:  # shear, which a qform cannot hold
        file.header["qform_code"] = 0
    file.header.set_xyzt_units("mm")
    file.header.set_intent(intent)
    with atomic_file(path) as temporary:
        nibabel.save(file, temporary)


def _open(path: Path) -> Volume:
    return volume_of(path, load(path))


SINGLE, READ_ONLY = Format(_open, save), Format(_open)
