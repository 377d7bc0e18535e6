"""ANTs' outputs of one prefix: PREFIX0GenericAffine.mat, PREFIX1Warp.nii.gz and PREFIX1InverseWarp.nii.gz."""

from pathlib import Path

import numpy as np

from regzoo.io.transforms import itk_mat
from regzoo.io.transforms.nifti_field import NIFTI
from regzoo.io.transforms.step import Format


def _write_matrix(matrix: np.ndarray, prefix: Path) -> None:
    itk_mat.write(matrix, _named(prefix, "0GenericAffine.mat"))


def _write_both(matrix: np.ndarray, vectors: np.ndarray, affine: np.ndarray, prefix: Path) -> None:
    _write_matrix(matrix, prefix)
    NIFTI.write_field(vectors, affine, _named(prefix, "1Warp.nii.gz"))


def _write_inverse(vectors: np.ndarray | None, affine: np.ndarray, prefix: Path) -> None:
    """Writes the inverse of the field alone, on its grid, as ANTs does; without one, an older file goes."""
    path = _named(prefix, "1InverseWarp.nii.gz")
    if vectors is None:
        path.unlink(missing_ok=True)
    else:
        NIFTI.write_field(vectors, affine, path)


def _named(prefix: Path, name: str) -> Path:
    return prefix.with_name(prefix.name + name)


PAIR = Format(write_matrix=_write_matrix, write_both=_write_both, write_inverse=_write_inverse)
