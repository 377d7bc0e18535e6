"""Compressed files: told by their first bytes, whatever their name, and read to the checksum at their end."""

import bz2
import contextlib
import gzip
import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from regzoo.errors import InvalidError
from regzoo.io.reading import check_file

_CHUNK = 2**20
_MOST_AFTER = 2**20
"""Bytes that may follow what a header tells of."""
RATIO = 1032
"""The most that deflate compresses; more than any image is by another method."""
_SMALL = 2**27
"""Bytes that bzip2 and zstd may give for a handful, as for a label map of one label (512 x 512 x 512)."""


def _zstd(file: IO[bytes]) -> IO[bytes]:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        try:
            from backports import zstd
        except ModuleNotFoundError:
            raise InvalidError("zstd needs Python 3.14 or the package backports.zstd; or use gzip.") from None
    return zstd.open(file)


_METHODS: dict[bytes, Callable[[IO[bytes]], IO[bytes]]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\x28\xb5\x2f\xfd": _zstd,
}
"""First bytes -> what decompresses an open file."""


class Stream(io.BufferedIOBase):
    """What a compressed file holds, read into the caller's memory by small pieces."""

    def __init__(self, inner: IO[bytes]) -> None:
        self._inner = inner

    def read(self, size: int | None = -1) -> bytes:
        """Reads so many bytes, or all that is left."""
        return self._inner.read(size)

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fills a buffer, without a second copy of the whole, which gzip's own method makes."""
        view, done = memoryview(buffer).cast("B"), 0
        while piece := self._inner.read(min(_CHUNK, len(view) - done)):
            view[done : done + len(piece)] = piece
            done += len(piece)
        return done

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Goes to a place; backwards, it decompresses again from the start."""
        return self._inner.seek(offset, whence)

    def tell(self) -> int:
        """Returns the place."""
        return self._inner.tell()

    def finish(self, end: int) -> None:
        """Reads to the end of the file, where the checksum is, which is thereby compared.

        Args:
            end: Where what the header tells of ends; hardly more may follow.

        Raises:
            OSError: If the checksum is wrong.
            EOFError: If the file is cut.
            ValueError: If it goes on and on.
        """
        while self._inner.read(_CHUNK):
            if self._inner.tell() > end + _MOST_AFTER:
                raise ValueError(f"it goes on after the {end} bytes that its header tells of")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file for reading: as it is, or, where it is compressed, as a `Stream`; refuses pipes and devices."""
    check_file(path)
    with path.open("rb") as file:
        start = file.read(4)
        file.seek(0)
        method = next((each for magic, each in _METHODS.items() if start.startswith(magic)), None)
        if method is None:
            yield file
            return
        with method(file) as inner:
            yield Stream(inner)


def most(path: Path) -> int:
    """Returns the most bytes that a file can hold, compressed or not."""
    with path.open("rb") as file:
        start = file.read(4)
    size = path.stat().st_size
    if not start.startswith(tuple(_METHODS)):
        return size
    return size * RATIO if start.startswith(b"\x1f\x8b") else max(size * RATIO, _SMALL)
