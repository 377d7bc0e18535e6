"""ITK's transform files in MATLAB's format: .mat, as ANTs writes its affine ones."""

import io
from pathlib import Path

import numpy as np

from regzoo.errors import invalid
from regzoo.hushed import noted
from regzoo.io.files import atomic_file
from regzoo.io.transforms import itk_linear
from regzoo.io.transforms.itk_kinds import Record, is_composite, steps
from regzoo.io.transforms.step import Format, Step

_LIMIT = 2**26
"""Bytes; a field of that size belongs into HDF5."""


def _read(path: Path) -> list[Step]:
    from scipy.io import loadmat, whosmat  # which few need
    from scipy.io.matlab import matfile_version

    size = path.stat().st_size
    if size > _LIMIT:
        raise invalid(path.name, f"at most {_LIMIT} bytes", size, "Convert it to HDF5 (.h5).")
    data = io.BytesIO(path.read_bytes())
    if matfile_version(data)[0] != 0:  # later ones are packed, as small as their maker likes
        raise invalid(path.name, "MATLAB's version 4, as ITK writes it", "a later one", "Write .h5.")
    with noted() as warned:
        names, arrays = [name for name, *_ in whosmat(data)], loadmat(data)  # in names one may stand twice
    if any("corrupt" in text for text in warned):
        raise ValueError("its numbers are in an order that SciPy does not know")
    kinds = [name for name in names if name != "fixed"]
    if len(kinds) != 1 or names.count("fixed") != 1:
        raise ValueError(f"expected a transform and 'fixed', received {', '.join(names) or 'nothing'}")
    if is_composite(kinds[0]):
        advice = "ITK writes only the last one into .mat. Write .h5."
        raise invalid(path.name, "one transform", "a composite of which some are lost", advice)
    return steps([Record(kinds[0], *(_numbers(arrays[name]) for name in (kinds[0], "fixed")))], path.name)


def _numbers(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "iuf" or array.ndim != 2 or min(array.shape) > 1:
        raise ValueError(f"expected a row of numbers, received shape {array.shape} of type {array.dtype}")
    return array.ravel().astype(np.float64)


def write(matrix: np.ndarray, path: Path) -> None:
    """Writes a matrix (4, 4) from fixed to moving RAS mm, in MATLAB's version 4, the only one that ITK reads."""
    from scipy.io import savemat

    kind, *rows = itk_linear.numbers(matrix)
    columns = (row[:, None] for row in rows)
    with atomic_file(path) as temporary:
        savemat(temporary, dict(zip((kind, "fixed"), columns, strict=True)), appendmat=False, format="4")


MAT = Format(_read, write_matrix=write)
