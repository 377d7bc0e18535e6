"""Displacement fields in the image formats of ITK: .mha, .mhd, .nrrd."""

import math
from pathlib import Path

import numpy as np

from regzoo.errors import invalid
from regzoo.io.lps import FLIP
from regzoo.io.pieces import filled
from regzoo.io.reading import by_suffix, check_bytes, check_size, check_voxels
from regzoo.io.transforms.step import Format, Step
from regzoo.io.volumes import FORMATS


def _read(path: Path) -> list[Step]:
    with by_suffix(path.name, FORMATS).open(path) as file:
        if file.dtype.shape != (3,) or file.dtype.base.kind != "f" or len(file.shape) != 3:
            received = f"shape {file.shape} of {file.dtype.base} x {int(np.prod(file.dtype.shape))}"
            raise invalid(path.name, "a displacement field, three numbers of floating point a voxel in 3-D", received)
        check_voxels(path.name, file.shape)
        check_size(path.name, file.shape, file.dtype, file.most, "transform")
        check_bytes(path.name, 12 * math.prod(file.shape) + file.held)
        vectors = filled(file.values(None), file.order, np.dtype(np.float32))
    return [(np.multiply(vectors, FLIP, out=vectors), file.affine)]


FIELD = Format(_read)
