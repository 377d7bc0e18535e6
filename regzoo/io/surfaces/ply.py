"""PLY surfaces, in letters or bytes: the places of the vertices change, all else stays as it is.

A comment `SPACE=LPS` or `SPACE=RAS`, as Slicer writes it, says how a file counts.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from regzoo.errors import InvalidError
from regzoo.io.files import atomic_file
from regzoo.io.surfaces.surface import Surface

_HEADER = 2**16
"""Bytes before the vertices."""
_ROWS, _LETTERS, _CELL = 2**24, 2**22, 32
"""Vertices, faces and the like together, at most; vertices in letters; letters of a number."""
_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
_ORDERS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_NORMALS = ("nx", "ny", "nz")
_OPEN = "the file does not say whether it counts in RAS or LPS. regzoo takes RAS; --lps says LPS."


@dataclass(frozen=True)
class _Element:
    """A kind of rows: its name, their number, and of each property the type, that of a list's length, the name."""

    name: str
    count: int
    properties: tuple[tuple[str, str | None, str], ...] = ()


def read(path: Path, lps: bool) -> Surface:
    """Reads a surface; `lps`: whether one that does not say it counts in LPS."""
    data = path.read_bytes()
    match = re.match(rb"ply\r?\n.*?\nend_header\r?\n", data[:_HEADER], re.DOTALL)
    if match is None:
        raise ValueError("its header has no end")
    header, body = match[0].decode("latin-1").splitlines(), data[match.end() :]
    order, elements = _parsed(header)
    vertex = elements[0] if elements else _Element("", 0)
    names = [name for _, _, name in vertex.properties]
    if vertex.name != "vertex" or any(length for _, length, _ in vertex.properties) or not {*"xyz"} <= {*names}:
        raise InvalidError(f"{path.name}: expected vertices with x, y and z first. Write it anew.")
    system = re.search(r"(?im)^comment.*\bSPACE\s*=\s*(RAS|LPS)\s*$", "\n".join(header))
    sign = -1.0 if (system[1].upper() == "LPS" if system else lps) else 1.0
    rows, rest = (_bytes if order else _letters)(order, vertex, elements[1:], body)
    with np.errstate(invalid="ignore"):  # which is refused later
        points = np.stack([rows[name].astype(np.float64) for name in "xyz"], axis=-1)

    def write(other: Path, moved: np.ndarray) -> None:
        content = _content(header, order, rows, moved * (sign, sign, 1.0), rest)
        with atomic_file(other) as temporary:
            temporary.write_bytes(content)

    return Surface(points * (sign, sign, 1.0), write, "" if system or lps else _OPEN)


def _parsed(header: Sequence[str]) -> tuple[str, list[_Element]]:
    """Returns the order of bytes, empty for letters, and the elements."""
    order, elements = None, []
    for words in (line.split() for line in header[1:-1]):
        if words[:1] == ["format"]:
            order = _ORDERS[words[1]]
        elif words[:1] == ["element"]:
            elements.append(_Element(words[1], int(words[2])))
        elif words[:1] == ["property"]:
            kind, length, name = (words[3], words[2], words[4]) if words[1] == "list" else (words[1], None, words[2])
            length = length and _TYPES[length]
            elements[-1] = replace(elements[-1], properties=(*elements[-1].properties, (_TYPES[kind], length, name)))
    if order is None or any(each.count < 0 for each in elements):
        raise ValueError("its header tells of no format, or of fewer rows than none")
    if sum(each.count for each in elements) > _ROWS:
        raise ValueError(f"it has more than {_ROWS} vertices and faces")
    return order, elements


def _bytes(order: str, vertex: _Element, others: list[_Element], body: bytes) -> tuple[np.ndarray, bytes]:
    """Returns the vertices as a table, and what follows them."""
    kind = np.dtype([(name, order + each) for each, _, name in vertex.properties])
    if len(body) < vertex.count * kind.itemsize:
        raise ValueError("it is cut within its vertices")
    rows, rest = np.frombuffer(body, kind, vertex.count), body[vertex.count * kind.itemsize :]
    if _length(order, others, rest) != len(rest):
        raise ValueError("it is cut, or longer than its header tells")
    return rows, rest


def _length(order: str, elements: list[_Element], data: bytes) -> int:
    """Returns how many bytes elements take."""
    at = 0
    for element in elements:
        fixed = sum(np.dtype(kind).itemsize for kind, length, _ in element.properties if not length)
        lists = [
            (np.dtype(kind).itemsize, np.dtype(order + length)) for kind, length, _ in element.properties if length
        ]
        if not lists:
            at += element.count * fixed
            continue
        if len(lists) > 1 or element.properties[0][1] is None:
            raise ValueError("rows of several lists, or of one that does not come first, are not read")
        ((size, length),) = lists
        little = "little" if order == "<" else "big"
        for _ in range(element.count):
            if at >= len(data):
                return -1
            many = int.from_bytes(data[at : at + length.itemsize], little)
            at += length.itemsize + many * size + fixed
    return at


def _letters(_order: str, vertex: _Element, others: list[_Element], body: bytes) -> tuple[np.ndarray, bytes]:
    """Returns the vertices as a table of texts, and what follows them."""
    if vertex.count > _LETTERS:
        raise ValueError(f"it has more than {_LETTERS} vertices in letters; write it in bytes")
    if body.count(b"\n") > 2 * _ROWS:
        raise ValueError("it has more lines than its header tells of")
    lines = [line for line in body.decode("ascii").splitlines() if line.strip()]
    if len(lines) != vertex.count + sum(each.count for each in others):
        raise ValueError("it is cut, or longer than its header tells")
    cells = [line.split() for line in lines[: vertex.count]]
    if any(len(row) != len(vertex.properties) for row in cells):
        raise ValueError("a vertex has not the numbers that its header tells of")
    if max(map(len, itertools.chain.from_iterable(cells)), default=0) > _CELL:
        raise ValueError(f"a number of a vertex has more than {_CELL} letters")
    if any("_" in line for line in lines[: vertex.count]):  # which Python takes within a number
        raise ValueError("a vertex has a '_' within a number")
    rows = np.array([tuple(row) for row in cells], [(name, "U32") for _, _, name in vertex.properties])
    return rows, "".join(f"{line}\n" for line in lines[vertex.count :]).encode()


def _content(header: list[str], order: str, rows: np.ndarray, points: np.ndarray, rest: bytes) -> bytes:
    """Returns a whole file with other points, without normals."""
    kept = [name for name in rows.dtype.names if name not in _NORMALS]
    table = np.empty(len(rows), [(name, rows.dtype[name]) for name in kept])
    for name in kept:
        table[name] = rows[name]
    for name, values in zip("xyz", points.T, strict=True):
        table[name] = values if order else [f"{value:.9g}" for value in values]
    start = next(i for i, line in enumerate(header) if line.startswith("element"))
    end = next((i for i, line in enumerate(header) if i > start and line.startswith("element")), len(header))
    dropped = {i for i in range(start, end) if header[i].split()[-1] in _NORMALS}
    text = "".join(f"{line}\n" for i, line in enumerate(header) if i not in dropped).encode("latin-1")
    body = table.tobytes() if order else "".join(f"{' '.join(row)}\n" for row in table).encode("ascii")
    return text + body + rest
