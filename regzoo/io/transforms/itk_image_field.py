"""Displacement fields in the image formats of ITK: .mha, .nrrd, and .mhd, which is only read."""

import math
from pathlib import Path

import numpy as np

from regzoo.errors import invalid
from regzoo.io.lps import FLIP
from regzoo.io.pieces import filled
from regzoo.io.reading import by_suffix, check_bytes, check_size, check_voxels
from regzoo.io.transforms.step import Format, Step
from regzoo.io.volumes import FORMATS, itk


def _read(path: Path) -> list[Step]:
    with by_suffix(path.name, FORMATS).open(path) as file:
        if file.dtype.shape != (3,) or file.dtype.base.kind != "f" or len(file.shape) != 3:
            received = f"shape {file.shape} of {file.dtype.base} x {int(np.prod(file.dtype.shape))}"
            raise invalid(path.name, "a displacement field, three numbers of floating point a voxel in 3-D", received)
        check_voxels(path.name, file.shape)
        check_size(path.name, file.shape, file.dtype, file.most, "transform")
        check_bytes(path.name, 12 * math.prod(file.shape) + file.held)
        file.tell(path.name)
        vectors = filled(file.values(None), file.order, np.dtype(np.float32))
    return [(np.multiply(vectors, FLIP, out=vectors), file.affine)]


def _write(vectors: np.ndarray, affine: np.ndarray, path: Path) -> None:
    """Writes a displacement field (*S, 3), RAS mm, as the image of vectors in LPS that ITK takes for one."""
    array = np.ascontiguousarray((vectors * FLIP).astype(np.float32).transpose(2, 1, 0, 3))
    itk.save(itk.simpleitk().GetImageFromArray(array, isVector=True), affine, path)


FIELD, READ_ONLY = Format(_read, write_field=_write), Format(_read)
