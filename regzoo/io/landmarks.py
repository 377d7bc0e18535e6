"""Landmarks: CSV files with the columns x, y, z in RAS millimetres."""

import csv
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from regzoo.errors import InvalidError, MissingError, invalid
from regzoo.io.files import atomic_file, check_listed

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)
"""A number as CSV files have it: Python itself would also take `1_000`."""


def read_points(path: str | os.PathLike) -> np.ndarray:
    """Reads landmarks from a CSV file with a header; columns other than x, y, z are ignored.

    Args:
        path: The file.

    Returns:
        Points in RAS mm, shape (N, 3), float64, in the file's order.

    Raises:
        MissingError: If there is no such file.
        InvalidError: If a column is absent, there is no row, or a value is not a finite number.
    """
    return _read_columns(Path(path), "xyz")


def read_normals(path: str | os.PathLike) -> np.ndarray | None:
    """Reads the columns nx, ny, nz beside landmarks: directions along R, A, S of any length, shape (N, 3).

    Returns None if the file has none of these columns; errors as in `read_points`.
    """
    return _read_columns(Path(path), ("nx", "ny", "nz"), needed=False)


def _read_columns(path: Path, names: Sequence[str], *, needed: bool = True) -> np.ndarray | None:
    if not path.is_file():
        raise MissingError(f"{path}: no such file.")
    check_listed(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True, strict=True)
            header = [name.strip().lower() for name in reader.fieldnames or ()]
            reader.fieldnames = header
            if not needed and not set(names) & set(header):
                return None
            twice = [name for name in names if header.count(name) > 1]
            if twice:
                raise invalid(path.name, f"one column '{twice[0]}'", f"{header.count(twice[0])} of them")
            if not set(names) <= set(header):
                expected = f"a header with the columns {','.join(names)}"
                raise invalid(path.name, expected, ",".join(header)[:80] or "an empty file")
            rows = [_row(path.name, reader.line_num, row, names) for row in reader]
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise InvalidError(f"{path.name} is not a readable CSV file: {error}.") from error
    if not rows:
        raise invalid(path.name, "at least one landmark", "none")
    return np.array(rows)


def write_points(path: str | os.PathLike, points: np.ndarray) -> None:
    """Writes landmarks (N, 3) in RAS mm as CSV with the header x,y,z, to 1e-4 mm.

    Raises:
        InvalidError: If the points have another shape or are not finite.
    """
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise invalid("points", "finite points, shape (N, 3)", points.shape)
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow("xyz")
        writer.writerows([f"{value:.4f}" for value in point] for point in points)


def _row(name: str, line: int, row: dict[str | None, str | None], names: Sequence[str]) -> list[float]:
    what = f"numbers for {','.join(names)}"
    if None in row:
        advice = "Decimals are written with a point."
        raise invalid(f"{name} line {line}", f"{len(row) - 1} cells", len(row) - 1 + len(row[None]), advice)
    cells = [(row[axis] or "").strip() for axis in names]
    if not all(_NUMBER.fullmatch(cell) for cell in cells):
        raise invalid(f"{name} line {line}", what, [row[axis] for axis in names])
    point = [float(cell) for cell in cells]
    if not np.isfinite(point).all():
        raise invalid(f"{name} line {line}", f"finite {what}", point)
    return point
