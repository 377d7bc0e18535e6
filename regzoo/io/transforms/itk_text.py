"""ITK's transform files in text: .tfm, .txt."""

from pathlib import Path

import numpy as np

from regzoo.errors import invalid
from regzoo.io.files import atomic_file
from regzoo.io.transforms import itk_linear
from regzoo.io.transforms.itk_kinds import Record, is_composite, steps
from regzoo.io.transforms.step import Format, Step

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
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if not line.strip() or line.startswith("#"):
            continue
        if key == "Transform":
            entries.append({})
        if not entries or key in entries[-1] or key not in ("Transform", "Parameters", "FixedParameters"):
            raise ValueError(f"the line '{line[:40]}' is out of place")
        entries[-1][key] = value.strip()
    return [_record(entry) for entry in entries]


def _record(entry: dict[str, str]) -> Record:
    if is_composite(entry["Transform"]):
        return Record(entry["Transform"], np.zeros(0), np.zeros(0))
    missing = [key for key in ("Parameters", "FixedParameters") if key not in entry]
    if missing:
        raise ValueError(f"{entry['Transform']} has no {missing[0]}")
    parameters, fixed = (np.array(entry[key].split(), dtype=np.float64) for key in ("Parameters", "FixedParameters"))
    return Record(entry["Transform"], parameters, fixed)


def _write(matrix: np.ndarray, path: Path) -> None:
    kind, *rows = itk_linear.numbers(matrix)
    numbers = (" ".join(repr(float(value)) for value in values) for values in rows)
    with atomic_file(path) as temporary:
        temporary.write_text(_LINES.format(kind, *numbers), encoding="ascii")


TEXT = Format(_read, write_matrix=_write)
