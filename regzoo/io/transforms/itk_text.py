"""ITK's transform files in text: .tfm, .txt."""

from pathlib import Path

import numpy as np

from regzoo.io.files import atomic_file
from regzoo.io.transforms import itk_linear
from regzoo.io.transforms.itk_kinds import Record, steps
from regzoo.io.transforms.step import Format, Step

_LINES = "#Insight Transform File V1.0\n#Transform 0\nTransform: {}\nParameters: {}\nFixedParameters: {}\n"


def _read(path: Path) -> list[Step]:
    return steps(_records(path.read_text()), path.name)


def _records(text: str) -> list[Record]:
    if not text.startswith("#Insight Transform File"):
        raise ValueError("its first line is not '#Insight Transform File V1.0'")
    records, entry = [], {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        entry[key] = value.strip()
        if key == "FixedParameters":
            numbers = (np.array(entry[name].split(), dtype=np.float64) for name in ("Parameters", "FixedParameters"))
            records.append(Record(entry["Transform"], *numbers))
    return records


def _write(matrix: np.ndarray, path: Path) -> None:
    kind, *rows = itk_linear.numbers(matrix)
    numbers = (" ".join(repr(float(value)) for value in values) for values in rows)
    with atomic_file(path) as temporary:
        temporary.write_text(_LINES.format(kind, *numbers), encoding="ascii")


TEXT = Format(_read, write_matrix=_write)
