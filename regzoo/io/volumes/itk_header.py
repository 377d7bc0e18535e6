"""What ITK does not tell of the headers of MetaImage, NRRD, PNG and TIFF, and voxels that are damaged."""

import gzip
import re
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from regzoo.errors import InvalidError, invalid
from regzoo.io.streams import RATIO
from regzoo.io.volumes.tiff_strips import check_strips

_LIMIT = 2**20
"""Bytes of text before the voxels."""
_FIELD = 1000
"""Letters of a field, comments and pairs of key and value left out: of longer ones ITK 5.4 dies."""
_CHUNK = 2**20
_OPEN = (
    "the header does not say {}. regzoo takes the axes to run along L, P, S, as ITK does; if they do not, write the "
    "file anew by the program that it is from."
)
_PICTURE = (
    "a picture says nothing of millimetres. regzoo takes 1 mm a pixel, its rows to run along L, its columns along P."
)
_MILLIMETRES = {"mm", "millimeter", "millimetre", "millimeters", "millimetres", ""}


@dataclass(frozen=True)
class Header:
    """Where a file's voxels are.

    Args:
        voxels: The file that holds them.
        start: Where they start in it, in bytes.
        packed: What decompresses them: `"zlib"`, `"gzip"`; empty if they are as they are.
        most: The most bytes that they can be.
        remark: What the header leaves open of the geometry.
        picture: Whether it is one picture, without any geometry.
        length: Bytes of the compressed voxels, as the header tells of them, and as ITK reads; None if it does not.
    """

    voxels: Path
    start: int
    packed: str
    most: int
    remark: str
    picture: bool = False
    length: int | None = None

    def check(self, size: int) -> None:
        """Reads compressed voxels to their checksum, which ITK does not compare.

        Raises:
            ValueError: If they are not of so many bytes, or the header tells of too few compressed ones.
            Exception: Whatever decompression raises for damage.
        """
        if not self.packed:
            return
        with self.voxels.open("rb") as file:
            file.seek(self.start)
            found, read = _zlib_size(file, size) if self.packed == "zlib" else (_gzip_size(file, size), 0)
        if self.length is not None and self.length < read:
            raise ValueError(f"its header tells of {self.length} compressed bytes, its voxels are {read}")
        if found != size:
            raise ValueError(f"its header tells of {size} bytes, its voxels are {found} or more")


def meta(path: Path) -> Header:
    """Returns that of a MetaImage, .mha or .mhd."""
    text, start = _text(path, rb"(?im)^ElementDataFile *=.*\r?\n?")
    _check_dims(text, "NDims *=")
    name = _value(text, r"ElementDataFile *=")
    voxels = path if name.upper() == "LOCAL" else path.parent / name
    if voxels is not path and (name != Path(name).name or "%" in name or name.upper() == "LIST" or "\\" in name):
        raise invalid(path.name, "voxels in one file beside it", f"'{name}'", "Write it anew as one .mha file.")
    if not voxels.is_file():
        raise InvalidError(f"{path.name}: its voxels, the file {name} beside it, do not exist.")
    packed = "zlib" if _value(text, r"CompressedData *=").lower() in ("true", "1") else ""
    raw = not packed and _value(text, r"BinaryData *=").lower() in ("true", "1")
    remark = (
        "" if re.search(r"(?im)^(TransformMatrix|Rotation|Orientation) *=", text) else _OPEN.format("TransformMatrix")
    )
    length = _value(text, r"CompressedDataSize *=")
    header = _header(voxels, start if voxels is path else 0, packed, raw, remark)
    return replace(header, length=int(length)) if packed and length else header


def nrrd(path: Path) -> Header:
    """Returns that of a NRRD file."""
    text, start = _text(path, rb"\r?\n\r?\n")
    _check_dims(text, "dimension:")
    if any(len(line) > _FIELD and re.match(r"[^#:]*:(?!=)", line) for line in text.splitlines()):
        raise ValueError(f"a field of its header has more than {_FIELD} letters")
    if re.search(r"(?im)^data ?file:", text):
        raise invalid(path.name, "voxels in the file itself", "the name of another file", "Write it anew as one file.")
    units = set(re.findall(r'"(.*?)"', _value(text, "space units:")))
    if units - _MILLIMETRES:
        raise invalid(f"space units of {path.name}", "mm", ", ".join(sorted(units)), "Write it anew in mm.")
    encoding = _value(text, "encoding:").lower()
    remark = "" if _value(text, "space:") else _OPEN.format("in which space it is")
    return _header(path, start, "gzip" if encoding in ("gz", "gzip") else "", encoding == "raw", remark)


def picture(path: Path) -> Header:
    """Returns that of a PNG or TIFF file."""
    with path.open("rb") as file:
        start = file.read(26)
    if start.startswith(b"\x89PNG") and start[25:] == b"\4":  # which ITK does not know
        raise invalid(path.name, "one number per voxel", "grey with transparency", "Convert it to grey.")
    check_strips(path)
    return Header(path, 0, "", path.stat().st_size * RATIO, _PICTURE, picture=True)


def _header(voxels: Path, start: int, packed: str, raw: bool, remark: str) -> Header:
    size = voxels.stat().st_size - start
    return Header(voxels, start, packed, size if raw else size * RATIO, remark)


def _text(path: Path, end: bytes) -> tuple[str, int]:
    """Returns what stands before the voxels, and how many bytes that is."""
    with path.open("rb") as file:
        data = file.read(_LIMIT)
    match = re.search(end, data)
    if match is None:
        raise ValueError("its header has no end")
    return data[: match.end()].decode("latin-1"), match.end()


def _check_dims(text: str, key: str) -> None:
    """Refuses a count of axes that is none of an image's: with -1, ITK 5.4 counts for ever."""
    found = re.findall(rf"(?im)^{key}(.*)$", text)
    if not found or not all(re.fullmatch(r"\s*[1-5]\s*", each) for each in found):
        raise ValueError("its header tells of no count of axes, or of another than 1 to 5")


def _value(text: str, key: str) -> str:
    match = re.search(rf"(?im)^{key}(.*)$", text)
    return match[1].strip() if match else ""


def _zlib_size(file: IO[bytes], size: int) -> tuple[int, int]:
    """Returns how many bytes are compressed there, and in how many."""
    inflate, total, start = zlib.decompressobj(), 0, file.tell()
    while not inflate.eof and total <= size:
        data = inflate.unconsumed_tail or file.read(_CHUNK)
        if not data:
            raise EOFError("it is cut")
        total += len(inflate.decompress(data, _CHUNK))
    return total, file.tell() - start - len(inflate.unused_data or inflate.unconsumed_tail)


def _gzip_size(file: object, size: int) -> int:
    total = 0
    with gzip.open(file) as stream:
        while total <= size and (piece := stream.read(_CHUNK)):
            total += len(piece)
    return total
