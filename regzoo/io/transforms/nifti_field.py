"""Displacement fields in NIfTI, as ITK and ANTs read and write them."""

from pathlib import Path

import numpy as np

from regzoo.errors import invalid
from regzoo.io.transforms.step import FLIP, Format, Step
from regzoo.io.volumes import nifti
from regzoo.io.volumes.nibabel_file import volume_of


def _read(path: Path) -> list[Step]:
    file = nifti.load(path)
    intent = file.header.get_intent()[0]
    if len(file.shape) != 5 or file.shape[3:] != (1, 3) or intent not in ("vector", "displacement vector"):
        expected = "a displacement field, shape (X, Y, Z, 1, 3) with intent 1007"
        raise invalid(path.name, expected, f"shape {file.shape} with intent '{intent}'")
    if file.header.get_intent()[2].startswith("NREG"):
        raise invalid(path.name, "displacements as ITK writes them", "a NiftyReg transformation")
    vectors = np.asanyarray(file.dataobj)[:, :, :, 0].astype(np.float32)
    if not np.isfinite(vectors).all():
        raise invalid(path.name, "finite displacements", "NaN or infinite values")
    if vectors.shape[2] == 2 and (vectors[:, :, 0] == vectors[:, :, 1]).all():  # one slice; see _write
        vectors = vectors[:, :, :1]
    # ITK 5.3 and later take intent 1006 as RAS.
    return [(vectors * (FLIP if intent == "vector" else np.float32(1)), volume_of(path, file).affine)]


def _write(vectors: np.ndarray, affine: np.ndarray, path: Path) -> None:
    """Writes a displacement field (*S, 3), RAS mm, as ITK and ANTs expect it in NIfTI.

    That is (X, Y, Z, 1, 3) with intent `vector` (1007) and LPS components. Under the intent `displacement vector`
    (1006) ITK 5.3 and later flip the components, under any other ITK sees a 5-D scalar image. One slice is written
    twice, for ITK would take it for a 2-D image of vectors that have three components.
    """
    if vectors.shape[2] == 1:
        vectors = np.repeat(vectors, 2, axis=2)
    nifti.save((vectors * FLIP)[:, :, :, None], affine, path, "vector")


NIFTI = Format(_read, write_field=_write)
