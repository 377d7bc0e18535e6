"""Datasets of HDF5 files, FILE.h5/KEY; they hold no geometry."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import h5py

from regzoo.errors import MissingError
from regzoo.io.hdf5 import SUFFIXES, array, held, most, opened
from regzoo.io.volumes.volume import Format, Volume, sliced


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
        yield _volume(array(file, path.name))


_OPEN = "an HDF5 dataset says nothing of millimetres. regzoo takes 1 mm a voxel, the axes to run along R, A, S."


def _volume(found: h5py.Dataset) -> Volume:
    return Volume(found.shape, found.dtype, None, sliced(found), most(found), _OPEN, order="C", held=held(found))


HDF5 = Format(_open)
