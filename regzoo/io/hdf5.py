"""HDF5 files of strangers: opened for reading, and nothing but arrays taken out of them."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import h5py

from regzoo.errors import invalid
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
        InvalidError: If the file is damaged or holds anything but arrays at its top level.
    """
    with opened(path) as file:
        for key in file:
            array(file, key)
        return list(file)


def most(found: h5py.Dataset) -> int:
    """Returns the most bytes that a dataset's storage can hold."""
    return found.id.get_storage_size() * (RATIO if found.id.get_create_plist().get_nfilters() else 1)


def member(group: h5py.Group, key: str) -> h5py.Group | h5py.Dataset:
    """Returns what a group holds itself under a key, never what lies in another file.

    Raises:
        InvalidError: If it is a link, or an array whose numbers lie elsewhere.
        KeyError: If there is nothing of that name.
    """
    if isinstance(group.get(key, getlink=True), h5py.SoftLink | h5py.ExternalLink):
        raise invalid(f"{Path(group.file.filename).name}: {key}", "an array in this file", "a link")
    found = group[key]
    if isinstance(found, h5py.Dataset) and (found.is_virtual or found.external):
        raise invalid(f"{Path(group.file.filename).name}: {key}", "an array in this file", "one of another file")
    return found


def array(group: h5py.Group, key: str) -> h5py.Dataset:
    """Returns an array that a group holds itself under a key; errors as for `member`, and for anything else."""
    found = member(group, key)
    if not isinstance(found, h5py.Dataset):
        raise invalid(f"{Path(group.file.filename).name}: {key}", "an array", f"a {type(found).__name__}")
    return found
