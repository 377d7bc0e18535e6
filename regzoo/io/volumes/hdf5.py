"""Datasets of HDF5 files, FILE.h5/KEY; they hold no geometry."""

from pathlib import Path

import numpy as np

from regzoo.errors import MissingError
from regzoo.io.hdf5 import SUFFIXES, dataset, opened
from regzoo.io.volumes.volume import Format, Volume


def exists(path: Path) -> bool:
    """Tells whether FILE.h5 has the key of FILE.h5/KEY."""
    if path.parent.suffix not in SUFFIXES:
        return False
    with opened(path.parent) as file:
        return path.name in file


def _open(path: Path) -> Volume:
    if path.is_file():
        raise MissingError(f"{path}: no dataset is named. Give FILE.h5/KEY.")

    def values(volume: int | None) -> np.ndarray:
        with opened(path.parent) as file:
            return dataset(file, path)[() if volume is None else (..., volume)]

    with opened(path.parent) as file:
        found = dataset(file, path)
        return Volume(found.shape, found.dtype, None, values)


HDF5 = Format(_open)
