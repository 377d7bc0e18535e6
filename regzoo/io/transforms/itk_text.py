"""ITK's transform files in text: .tfm, .txt."""

import re
from pathlib import Path

import numpy as np

from regzoo.errors import invalid
from regzoo.io.files import atomic_file
from regzoo.io.numbers import numbers
from regzoo.io.transforms import itk_linear
from regzoo.io.transforms.itk_kinds import Record, is_composite, steps
from regzoo.io.transforms.step import Format, Step, check_count

_LINES = "#Insight Transform File V1.0\n#Transform 0\nTransform: {}\nParameters: {}\nFixedParameters: {}\n"


_LIMIT = 2**26
"""Bytes; a field of that size belongs into HDF5."""


def _read(path: Path) -> list[Step]:
    with path.open("rb") as file:
        data = file.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        raise invalid(path.name, f"at most {_LIMIT} bytes of text", "more", "Convert it to HDF5 (.h5).")
    return steps(_records(data.decode()), path.name)


def _records(text: str) -> list[Record]:
    if not text.startswith("#Insight Transform File"):
        raise ValueError("its first line is not '#Insight Transform File V1.0'")
    if not text.endswith("\n"):
        raise ValueError("its last line has no end, as if it were cut")
    entries: list[dict[str, str]] = []
    announced = None
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if match := re.fullmatch(r"#\s*Transform\s+(\d+)\s*", line):
            _check_number(announced, len(entries))
            announced = int(match[1])
        if not line.strip() or line.startswith("#"):
            continue
        if key == "Transform":
            _check_number(announced, len(entries), come=True)
            announced = None
            entries.append({})
            check_count(len(entries))
        if not entries or key in entries[-1] or key not in ("Transform", "Parameters", "FixedParameters"):
            raise ValueError(f"the line '{line[:40]}' is out of place")
        entries[-1][key] = value.strip()
    _check_number(announced, len(entries))
    return [_record(entry) for entry in entries]


def _check_number(announced: int | None, place: int, come: bool = False) -> None:
    """Refuses a transform whose comment counts wrongly, and a comment that none comes after.

    Nothing else in the format tells how many there are: a text that is cut between two of them cannot be told from a
    whole one.
    """
    if announced is not None and (announced != place or not come):
        raise ValueError(f"'#Transform {announced}' stands where transform {place} belongs, or none comes after it")


def _record(entry: dict[str, str]) -> Record:
    if is_composite(entry["Transform"]):
        return Record(entry["Transform"], np.zeros(0), np.zeros(0))
    missing = [key for key in ("Parameters", "FixedParameters") if key not in entry]
    if missing:
        raise ValueError(f"{entry['Transform']} has no {missing[0]}")
    return Record(entry["Transform"], *(numbers(entry[key]) for key in ("Parameters", "FixedParameters")))


def _write(matrix: np.ndarray, path: Path) -> None:
    kind, *rows = itk_linear.numbers(matrix)
    texts = (" ".join(repr(float(value)) for value in values) for values in rows)
    with atomic_file(path) as temporary:
        temporary.write_text(_LINES.format(kind, *texts), encoding="ascii")


TEXT = Format(_read, write_matrix=_write)
