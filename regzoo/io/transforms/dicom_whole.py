"""Whether a DICOM file ends where its elements do, in little endian: pydicom takes one that is cut for a short one."""

import mmap
import struct
from pathlib import Path

_META = 132
"""Where the elements of group 2 start, the first of which tells of their length."""
_IMPLICIT = b"1.2.840.10008.1.2\0"
_LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
"""Kinds of values whose length has four bytes, after two that are empty."""
_UNTIL_END = 2**32 - 1
_ENDS = (b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0")
"""The tags of what ends an item or a sequence of no told length."""


def check_whole(path: Path) -> None:
    """Refuses a file that is cut.

    Raises:
        ValueError: If it does not end where its last element does.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        (length,) = struct.unpack_from("<I", data, _META + 8)
        at = _META + 12 + length
        explicit = data.find(_IMPLICIT, _META, at) < 0
        while at + 8 <= len(data):
            at = _end(data, at, explicit)
        if at != len(data):
            raise ValueError("it is cut")


def _end(data: mmap.mmap, at: int, explicit: bool) -> int:
    """Returns where an element ends that starts at a place."""
    if not explicit or data[at : at + 2] == b"\xfe\xff":
        (length,), at = struct.unpack_from("<I", data, at + 4), at + 8
    elif data[at + 4 : at + 6] in _LONG:
        (length,), at = struct.unpack_from("<I", data, at + 8), at + 12
    else:
        (length,), at = struct.unpack_from("<H", data, at + 6), at + 8
    if length != _UNTIL_END:
        return at + length
    while data[at : at + 4] not in _ENDS:
        at = _end(data, at, explicit)
    return at + 8
