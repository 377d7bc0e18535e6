"""Displacement fields in NIfTI, as ITK and ANTs read and write them."""

import math
from pathlib import Path

import numpy as np
from nibabel.spatialimages import SpatialImage

from regzoo.errors import invalid
from regzoo.io.lps import FLIP
from regzoo.io.pieces import filled
from regzoo.io.reading import check_bytes, check_size, check_voxels
from regzoo.io.streams import most
from regzoo.io.transforms.step import Format, Step
from regzoo.io.volumes import nifti
from regzoo.io.volumes.nibabel_file import volume_of


def _read(path: Path) -> list[Step]:
    with nifti.read(path) as file:
        return [_field(path, file)]


def _field(path: Path, file: SpatialImage) -> Step:
    intent = file.header.get_intent()[0]
    if len(file.shape) != 5 or file.shape[3:] != (1, 3) or intent not in ("vector", "displacement vector"):
        expected = "a displacement field, shape (X, Y, Z, 1, 3) with intent 1007"
        raise invalid(path.name, expected, f"shape {file.shape} with intent '{intent}'")
    if file.header.get_intent()[2].startswith("NREG"):
        raise invalid(path.name, "displacements as ITK writes them", "a NiftyReg transformation")
    check_voxels(path.name, file.shape[:3])
    check_size(path.name, file.shape, file.get_data_dtype(), most(path), "transform")
    volume = volume_of(file, path)
    volume.tell(path.name)
    check_bytes(path.name, 4 * math.prod(file.shape))
    vectors = filled(volume.values(None), volume.order, np.dtype(np.float32))[:, :, :, 0]
    if vectors.shape[2] == 2 and (vectors[:, :, 0] == vectors[:, :, 1]).all():  # one slice; see _write
        vectors = vectors[:, :, :1]
    # ITK 5.3 and later take intent 1006 as RAS.
    if intent == "vector":
        vectors = np.multiply(vectors, FLIP, out=vectors)
    return vectors, volume.affine


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
