"""Where HDF5 keeps texts, looked through before its library does: in a damaged one HDF5 2.1 counts for ever.

Source: HDF5 File Format Specification 3.0, II.A and III.E (superblock, global heap).
"""

import mmap
import re
from pathlib import Path

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HEAP = re.compile(rb"GCOL\x01\0\0\0")


def check_heaps(path: Path) -> None:
    """Walks over the objects of every global heap.

    Raises:
        ValueError: If one of them takes no room, or more than its heap has.
    """
    if path.stat().st_size < len(_SIGNATURE):
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        length = _length(data)
        for found in _HEAP.finditer(data):
            _check(data, found.start(), length)


def _length(data: mmap.mmap) -> int:
    """Returns how many bytes a length has."""
    start = data.find(_SIGNATURE) + len(_SIGNATURE)
    version = data[start : start + 1]
    place = start + (6 if version in (b"\0", b"\1") else 2)
    return int.from_bytes(data[place : place + 1], "little")


def _check(data: mmap.mmap, start: int, length: int) -> None:
    head = 8 + -(-length // 8) * 8
    size = int.from_bytes(data[start + 8 : start + 8 + length], "little")
    place, end = start + head, start + size
    if end > len(data):
        raise ValueError(f"its heap of texts has {size} bytes, of {len(data) - start}")
    while place + head <= end:  # what is too small for an object is free
        index = int.from_bytes(data[place : place + 2], "little")
        taken = int.from_bytes(data[place + 8 : place + 8 + length], "little")
        room = head + -(-taken // 8) * 8 if index else taken
        if not 0 < room <= end - place:
            raise ValueError(f"an object of its heap of texts takes {room} bytes of {end - place}")
        place += room
