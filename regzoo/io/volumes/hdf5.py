"""Datasets of HDF5 files, FILE.h5/KEY; they hold no geometry."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from regzoo.errors import MissingError
from regzoo.io.hdf5 import SUFFIXES, array, most, opened
from regzoo.io.volumes.volume import Format, Volume


def exists(path: Path) -> bool:
    """Tells whether FILE.h5 has the key of FILE.h5/KEY."""
    if path.parent.suffix not in SUFFIXES:
        return False
    with opened(path.parent) as file:
        return path.name in file


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Volume]:
    if path.is_file():
        raise MissingError(f"{path}: no dataset is named. Give FILE.h5/KEY.")
    with opened(path.parent) as file:
        if path.name not in file:
            raise MissingError(f"{path.parent}: no dataset '{path.name}'.")
        found = array(file, path.name)
        yield Volume(
            found.shape, found.dtype, None, lambda volume: found[() if volume is None else (..., volume)], most(found)
        )


HDF5 = Format(_open)
