"""HDF5 files of strangers: opened for reading, and nothing but arrays taken out of them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import h5py

from regzoo.errors import MissingError, invalid
from regzoo.io.reading import readable
from regzoo.io.streams import RATIO

SUFFIXES = (".h5", ".hdf5")


@contextlib.contextmanager
def opened(path: Path, kind: str = "HDF5 file") -> Iterator[h5py.File]:
    """Opens a file for reading.

    Raises:
        InvalidError: If it is damaged, or damage is found in the block.
    """
    with readable(path, kind), h5py.File(path) as file:
        yield file


def keys(path: Path) -> list[str]:
    """Returns the keys of a file, each of which is one image: the path FILE.h5/KEY.

    Raises:
        InvalidError: If the file is damaged or holds anything but datasets at its top level.
    """
    with opened(path) as file:
        for key, value in file.items():
            if not isinstance(value, h5py.Dataset):
                raise invalid(f"{path}: {key}", "an array", f"a {type(value).__name__}")
        return list(file)


def most(found: h5py.Dataset) -> int:
    """Returns the most bytes that a dataset's storage can hold."""
    return found.id.get_storage_size() * (RATIO if found.id.get_create_plist().get_nfilters() else 1)


def dataset(file: h5py.File, path: Path) -> h5py.Dataset:
    """Returns the dataset FILE.h5/KEY of an open file.

    Raises:
        MissingError: If the file has none of that name.
    """
    found = file.get(path.name)
    if not isinstance(found, h5py.Dataset):
        raise MissingError(f"{path.parent}: no dataset '{path.name}'.")
    return found
