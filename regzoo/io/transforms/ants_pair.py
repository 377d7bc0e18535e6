"""ANTs' outputs of one prefix: PREFIX0GenericAffine.mat, PREFIX1Warp.nii.gz and PREFIX1InverseWarp.nii.gz."""

from pathlib import Path

import numpy as np

from regzoo.errors import invalid
from regzoo.io.transforms import itk_mat
from regzoo.io.transforms.nifti_field import NIFTI
from regzoo.io.transforms.step import Format

_MATRIX, _FIELD, _INVERSE = "0GenericAffine.mat", "1Warp.nii.gz", "1InverseWarp.nii.gz"


def _write_matrix(matrix: np.ndarray, prefix: Path) -> None:
    older = [path for name in (_FIELD, _INVERSE) if (path := _named(prefix, name)).exists()]
    if older:  # which would be taken for a part of this transform
        raise invalid("prefix", "one without a field, for this transform has none", older[0], "Choose another.")
    itk_mat.write(matrix, _named(prefix, _MATRIX))


def _write_both(matrix: np.ndarray, vectors: np.ndarray, affine: np.ndarray, prefix: Path) -> None:
    _clear(prefix)
    NIFTI.write_field(vectors, affine, _named(prefix, _FIELD))
    itk_mat.write(matrix, _named(prefix, _MATRIX))


def _clear(prefix: Path) -> None:
    """Removes older files of the prefix, for one that is left beside new ones would be taken for one of them."""
    for name in (_MATRIX, _INVERSE, _FIELD):
        _named(prefix, name).unlink(missing_ok=True)


def _write_inverse(vectors: np.ndarray | None, affine: np.ndarray, prefix: Path) -> None:
    """Writes the inverse of the field alone, on its grid, as ANTs does, if there is one."""
    if vectors is not None:
        NIFTI.write_field(vectors, affine, _named(prefix, _INVERSE))


def _named(prefix: Path, name: str) -> Path:
    return prefix.with_name(prefix.name + name)


PAIR = Format(write_matrix=_write_matrix, write_both=_write_both, write_inverse=_write_inverse)
