"""The checksums of a TIFF's packed strips, which libtiff does not look at."""

import os
import struct
import zlib
from pathlib import Path
from typing import IO

_COMPRESSION, _OFFSETS, _SIZES = 259, (273, 324), (279, 325)
"""Tags, those of strips and of tiles."""
_DEFLATE = (8, 32946)
_TYPES = {3: "H", 4: "L"}
_PIECE = 2**20


def check_strips(path: Path) -> None:
    """Reads the strips of a TIFF of one page to their checksums, if they are packed by deflate.

    No other way of packing them has one, nor has BigTIFF one that is looked at here.

    Raises:
        ValueError: If one is damaged, cut, or not in the file.
    """
    with path.open("rb") as file:
        data = file.read(8)
        order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
        if order is None:
            return
        tags = _tags(file, order, struct.unpack(order + "L", data[4:])[0])
        if not {*tags.get(_COMPRESSION, ())} & {*_DEFLATE}:
            return
        places, sizes = (next((tags[tag] for tag in some if tag in tags), ()) for some in (_OFFSETS, _SIZES))
        if not places or len(places) != len(sizes) or sum(sizes) > os.fstat(file.fileno()).st_size:
            raise ValueError("its strips are not in the file")
        for place, size in zip(places, sizes, strict=True):
            file.seek(place)
            _check(file.read(size))


def _tags(file: IO[bytes], order: str, place: int) -> dict[int, tuple[int, ...]]:
    """Returns the whole numbers of the first page's directory, by tag."""
    file.seek(place)
    entries = file.read(12 * _unpacked(order + "H", file.read(2))[0])
    found = {}
    for tag, kind, count, inline in struct.iter_unpack(order + "HHL4s", entries[: len(entries) // 12 * 12]):
        if kind in _TYPES and tag in (_COMPRESSION, *_OFFSETS, *_SIZES):
            size = struct.calcsize(order + _TYPES[kind]) * count
            if size > 4:
                file.seek(_unpacked(order + "L", inline)[0])
                inline = file.read(min(size, os.fstat(file.fileno()).st_size))
            found[tag] = _unpacked(f"{order}{count}{_TYPES[kind]}", inline[:size])
    return found


def _unpacked(form: str, data: bytes) -> tuple[int, ...]:
    try:
        return struct.unpack(form, data)
    except struct.error:
        raise ValueError("its directory is cut") from None


def _check(strip: bytes) -> None:
    inflate = zlib.decompressobj()
    try:
        while not inflate.eof and strip:
            inflate.decompress(strip, _PIECE)
            strip = inflate.unconsumed_tail
    except zlib.error:
        raise ValueError("a strip is damaged") from None
    if not inflate.eof:
        raise ValueError("a strip is cut")
