"""What libtiff does not look at: the checksums of a TIFF's packed strips, and whether its pages have an end.

Source: TIFF 6.0, section 2; for BigTIFF, libtiff's "The BigTIFF File Format".
"""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

_COMPRESSION, _OFFSETS, _SIZES = 259, (273, 324), (279, 325)
"""Tags, those of strips and of tiles."""
_DEFLATE = (8, 32946)
_TYPES = {3: "H", 4: "L", 16: "Q"}
_PIECE, _PAGES = 2**20, 10_000
Tags = dict[int, tuple[int, ...]]


class _Form(NamedTuple):
    """How numbers are written: of a directory's entries, of an entry, and of a place in the file."""

    order: str
    count: str
    entry: str
    place: str


_FORMS = {
    b"II*\0": _Form("<", "H", "HHL4s", "L"),
    b"MM\0*": _Form(">", "H", "HHL4s", "L"),
    b"II+\0": _Form("<", "Q", "HHQ8s", "Q"),
    b"MM\0+": _Form(">", "Q", "HHQ8s", "Q"),
}


def check_strips(path: Path) -> None:
    """Reads the strips of a TIFF's first page to their checksums, if they are packed by deflate.

    No other way of packing them has one.

    Raises:
        ValueError: If one is damaged, cut, or not in the file, or pages follow each other without end.
    """
    with path.open("rb") as file:
        form = _FORMS.get(file.read(4))
        if form is None:
            return
        size = os.fstat(file.fileno()).st_size
        first, *_ = _pages(file, form, size)
        tags = _tags(file, form, first, size)
        if _COMPRESSION not in tags:  # which is required; without it libtiff takes packed strips for pixels
            raise ValueError("its directory does not tell how it is packed")
        if not {*tags[_COMPRESSION]} & {*_DEFLATE}:
            return
        places, sizes = (next((tags[tag] for tag in some if tag in tags), ()) for some in (_OFFSETS, _SIZES))
        if not places or len(places) != len(sizes) or sum(sizes) > size:
            raise ValueError("its strips are not in the file")
        for place, length in zip(places, sizes, strict=True):
            file.seek(place)
            _check(file.read(length))


def _pages(file: IO[bytes], form: _Form, size: int) -> list[int]:
    """Returns where the directory of each page lies."""
    file.seek(8 if form.place == "Q" else 4)
    place, found = _number(file, form.order, form.place), {}
    while place and place not in found and len(found) < _PAGES:
        found[place] = True
        file.seek(place)
        count = min(_number(file, form.order, form.count), size)
        file.seek(count * struct.calcsize(form.order + form.entry), os.SEEK_CUR)
        place = _number(file, form.order, form.place)
    if place or not found:
        raise ValueError("its pages have no end" if found else "it has no page")
    return [*found]


def _tags(file: IO[bytes], form: _Form, place: int, size: int) -> Tags:
    """Returns the whole numbers of a directory, by tag."""
    file.seek(place)
    length = struct.calcsize(form.order + form.entry)
    entries = file.read(min(length * _number(file, form.order, form.count), size))
    return dict(_numbers(file, form, entries[: len(entries) // length * length], size))


def _numbers(file: IO[bytes], form: _Form, entries: bytes, size: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    for tag, kind, count, inline in struct.iter_unpack(form.order + form.entry, entries):
        if kind in _TYPES and tag in (_COMPRESSION, *_OFFSETS, *_SIZES):
            length = struct.calcsize(form.order + _TYPES[kind]) * count
            if length > len(inline):
                file.seek(_unpacked(form.order + form.place, inline)[0])
                inline = file.read(min(length, size))
            yield tag, _unpacked(f"{form.order}{count}{_TYPES[kind]}", inline[:length])


def _number(file: IO[bytes], order: str, kind: str) -> int:
    return _unpacked(order + kind, file.read(struct.calcsize(order + kind)))[0]


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
