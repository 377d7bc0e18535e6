"""HDF5 files of strangers: opened for reading, and nothing but arrays taken out of them."""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from regzoo.errors import invalid
from regzoo.io.heaps import check_heaps
from regzoo.io.pieces import filled
from regzoo.io.reading import check_bytes, readable
from regzoo.io.streams import RATIO

SUFFIXES = (".h5", ".hdf5")
_PIECE, _TEXT = 2**20, 2**14
"""Numbers of a piece, and letters of a text, that are no burden."""


@contextlib.contextmanager
def opened(path: Path, kind: str = "HDF5 file", texts: bool = False) -> Iterator[h5py.File]:
    """Opens a file for reading.

    Args:
        path: The file.
        kind: What it should be.
        texts: Whether texts of any length are read, which is safe where they lie in whole heaps.

    Raises:
        InvalidError: If it is damaged, or damage is found in the block.
    """
    with readable(path, kind):
        if texts:
            check_heaps(path)
        with h5py.File(path) as file:
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
    name = f"{Path(group.file.filename).name}: {key}"
    if not isinstance(found, h5py.Dataset):
        raise invalid(name, "an array", f"a {type(found).__name__}")
    if found.dtype.subdtype or found.dtype.itemsize > _TEXT:
        raise invalid(name, "an array of numbers or a text", f"values of {found.dtype.itemsize} bytes each")
    # A piece is read whole, however little of it is an array's.
    if found.chunks and math.prod(found.chunks) > 4 * max(math.prod(found.shape), _PIECE):
        raise invalid(name, "pieces no larger than the array", f"{found.chunks} of {found.shape}")
    if found.chunks:
        _check_pieces(name, found)
    return found


def _check_pieces(name: str, found: h5py.Dataset) -> None:
    """Refuses an array one of whose pieces lies nowhere in it, which would be read as zeros, or two at one place.

    Checksums cover what is in a piece, and not where it belongs.
    """
    places: list[tuple[int, ...]] = []
    found.id.chunk_iter(lambda piece: places.append(piece.chunk_offset))
    for place in places:
        if any(at % step or at >= size for at, step, size in zip(place, found.chunks, found.shape, strict=True)):
            raise invalid(name, f"pieces of {found.chunks} within {found.shape}", f"one at {place}", "It is damaged.")
    if len({*places}) < len(places):
        raise invalid(name, "one piece at a place", "two", "It is damaged.")


def held(found: h5py.Dataset) -> int:
    """Returns the bytes that reading an array takes beside it: a piece is unpacked whole."""
    return math.prod(found.chunks or (0,)) * found.dtype.itemsize


def numbers(name: str, found: h5py.Dataset, dtype: np.dtype, taken: int = 0) -> np.ndarray:
    """Returns an array in a type, read piece by piece.

    Args:
        name: What to call it in an error.
        found: The array.
        dtype: The type.
        taken: Bytes that other arrays of the file have taken.

    Raises:
        InvalidError: If that is too much memory.
    """
    check_bytes(name, taken + math.prod(found.shape) * dtype.itemsize + held(found))
    return filled(found, "C", dtype)


def _told_length(found: h5py.Dataset) -> int:
    """Returns how long a text of any length says that it is: HDF5 takes the memory before it looks for it."""
    place = found.id.get_offset()
    if place is None:  # no text that lies in one piece, as each program writes it
        return _TEXT + 1
    with Path(found.file.filename).open("rb") as file:
        file.seek(place)
        return int.from_bytes(file.read(4), "little")


def text(group: h5py.Group, key: str) -> str:
    """Returns one text that a group holds itself under a key; errors as for `array`, and for anything else."""
    found = array(group, key)
    kind = h5py.check_string_dtype(found.dtype)
    if math.prod(found.shape) != 1 or kind is None or (kind.length or _told_length(found)) > _TEXT:
        raise invalid(
            f"{Path(group.file.filename).name}: {key}",
            f"one text in one piece, of at most {_TEXT} letters",
            f"{found.shape} of {found.dtype}",
        )
    value = np.atleast_1d(found[()])[0].decode()
    if len(value) > _TEXT:
        raise invalid(f"{Path(group.file.filename).name}: {key}", f"at most {_TEXT} letters", len(value))
    return value
