"""Landmarks: CSV files with the columns x, y, z in millimetres, and Slicer's .fcsv and .mrk.json."""

import csv
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import numpy as np

from regzoo.errors import InvalidError, invalid
from regzoo.io import markups
from regzoo.io.files import atomic_file, check_listed
from regzoo.io.numbers import FAR, is_place, number
from regzoo.io.reading import ROWS_LIMIT, check_table

_WORDS = ("name", "label", "description", "desc")
"""Columns of words."""
_HEADER, _COLUMNS = 1000, 1000
"""Lines before the first point of a .fcsv file, and columns, at most."""
_DIRECTIONS = ("nx", "ny", "nz", "ow", "ox", "oy", "oz")
"""Columns of directions, which a transform turns: they are not true of points that were moved."""
_POINT = "Decimals are written with a point."
_SYSTEMS = {"RAS": 1.0, "0": 1.0, "LPS": -1.0, "1": -1.0}
"""What Slicer writes of its coordinates, in words and before 2020 by a number -> the sign of x and y in RAS."""


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Landmarks with what else their file says of each.

    Args:
        points: RAS mm, shape (N, 3), float64, in the file's order.
        header: Names of the columns, x, y, z and those of directions left out.
        rows: What these columns hold for each point.
    """

    points: np.ndarray
    header: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What the column `name` or `label` calls each point; empty without one."""
        return self._column("name", "label")

    @property
    def descriptions(self) -> tuple[str, ...]:
        """What the column `description` or `desc` says of each point; empty without one."""
        return self._column("description", "desc")

    def _column(self, *names: str) -> tuple[str, ...]:
        found = [i for i, each in enumerate(self.header) if each.lower() in names]
        return tuple(row[found[0]].strip() for row in self.rows) if found else ()


def check_paired(fixed: Landmarks, moving: Landmarks) -> None:
    """Refuses landmarks that are not the same ones, row by row: other numbers, or a name in two places.

    Raises:
        InvalidError: If they are not.
    """
    if len(fixed.points) != len(moving.points):
        expected = f"{len(fixed.points)} landmarks, as many as fixed_points"
        raise invalid("moving_points", expected, len(moving.points))
    for name in {*fixed.names} & {*moving.names} - {""}:
        places = [each.names.index(name) for each in (fixed, moving) if each.names.count(name) == 1]
        if len({*places}) > 1:
            expected = f"landmarks in the order of fixed_points, whose row {places[0] + 1} is '{name}'"
            raise invalid("moving_points", expected, f"'{name}' in row {places[1] + 1}", "Sort the rows of both.")


def is_points(path: str | os.PathLike) -> bool:
    """Tells whether a file's name is that of landmarks."""
    return Path(path).suffix.lower() in (".csv", ".fcsv", ".json")


def read_landmarks(path: str | os.PathLike, *, lps: bool = False) -> Landmarks:
    """Reads landmarks with their names and other words.

    Args:
        path: A CSV file with a header, or Slicer's .fcsv or .mrk.json, which say themselves whether they count in RAS
            or LPS.
        lps: Whether a CSV file counts in LPS mm, not in RAS mm.

    Raises:
        MissingError: If there is no such file.
        InvalidError: If a column is absent, there is no row, or a value is not a finite number.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        check_table(path)
        check_listed(path)
        points, rows = markups.read(path)
        return Landmarks(points, markups.HEADER, rows)
    table = _Table(path)
    sign = -1.0 if lps and path.suffix.lower() == ".csv" else table.sign
    points = table.numbers("xyz") * (sign, sign, 1.0)
    kept = [i for i, name in enumerate(table.names) if name not in ("x", "y", "z", *_DIRECTIONS)]
    rows = tuple(tuple(cells[i] for i in kept) for _, cells in table.filled())
    return Landmarks(points, tuple(table.header[i] for i in kept), rows)


def read_points(path: str | os.PathLike) -> np.ndarray:
    """Returns the points of landmarks, shape (N, 3), RAS mm; see `read_landmarks`."""
    return read_landmarks(path).points


def read_normals(path: str | os.PathLike) -> np.ndarray | None:
    """Reads the columns nx, ny, nz beside landmarks: directions along R, A, S of any length, shape (N, 3).

    Returns None if the file has none of these columns; errors as in `read_landmarks`.
    """
    if Path(path).suffix.lower() == ".json":
        return None
    table = _Table(Path(path))
    return table.numbers(("nx", "ny", "nz")) if {"nx", "ny", "nz"} & {*table.names} else None


class _Table:
    """The cells of a CSV file.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        check_table(path)
        check_listed(path)
        self.name, self.sign, self._head = path.name, 1.0, 0
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                lines = csv.reader(file, skipinitialspace=True, strict=True)
                self.header = self._slicer_header(file) if path.suffix.lower() == ".fcsv" else next(lines, [])
                self.header = [name.strip() for name in self.header]
                rows = ((self._head + lines.line_num, cells) for cells in lines if cells)
                self._rows = [*itertools.islice(rows, ROWS_LIMIT + 1)]
        except (UnicodeDecodeError, csv.Error, OSError) as error:
            raise InvalidError(f"{path.name} is not a readable CSV file: {error}.") from error
        if len(self._rows) > ROWS_LIMIT:
            raise invalid(self.name, f"at most {ROWS_LIMIT} rows", "more")
        if len(self.header) > _COLUMNS:
            raise invalid(self.name, f"at most {_COLUMNS} columns", len(self.header))
        self.names = [name.lower() for name in self.header]
        twice = next((name for name in self.names if name and self.names.count(name) > 1), None)
        if twice is not None:
            raise invalid(self.name, f"one column '{twice}'", f"{self.names.count(twice)} of them")
        self._check_decimals()

    def _check_decimals(self) -> None:
        """Refuses decimal commas that fill further columns: `1,5,2,5,3,5` under `x,y,z,name,label,desc`.

        All cells have digits alone, those of words too; and there are twice as many as coordinates, or now more, now
        less. A single point `1,5,2,3` under `x,y,z,name` cannot be told from one that is called 3.
        """
        words = [name for name in self.names[3:6] if name in _WORDS]
        counts = {len(cells) for _, cells in self._rows}
        if not words or not counts or (max(counts) < 6 and len(counts) == 1) or min(counts) < 4:
            return
        if all(_is_digits(cell) for _, cells in self._rows for cell in cells[:6]):
            line, cells = self._rows[0]
            raise invalid(f"{self.name} line {line}", f"words for {words[0]}", ",".join(cells)[:80], _POINT)

    def _slicer_header(self, file: TextIO) -> list[str]:
        """Reads the lines before the first point; they name the columns and the system."""
        told = {}
        while len(told) < 2 and self._head < _HEADER:
            line, self._head = file.readline(), self._head + 1
            match = re.match(r"#\s*(CoordinateSystem|columns)\s*=(.*)", line)
            if match and match[1] in told:
                raise invalid(self.name, f"one line '# {match[1]}'", "two of them")
            if match:
                told[match[1]] = match[2].strip()
            elif not line.startswith("#"):
                expected = "the lines '# CoordinateSystem = LPS' (or RAS) and '# columns = id,x,y,z,...' at its start"
                raise invalid(self.name, expected, line.strip()[:80] or "none")
        if len(told) < 2:
            raise invalid(self.name, f"its two lines within the first {_HEADER}", "none of them" if not told else "one")
        if told["CoordinateSystem"] not in _SYSTEMS:
            raise invalid(f"{self.name}: CoordinateSystem", "RAS or LPS", told["CoordinateSystem"])
        self.sign = _SYSTEMS[told["CoordinateSystem"]]
        return told["columns"].split(",")

    def filled(self) -> Iterator[tuple[int, list[str]]]:
        """Yields the line of each row and its cells, one for each column."""
        for line, cells in self._rows:
            if len(cells) > len(self.header):
                raise invalid(f"{self.name} line {line}", f"{len(self.header)} cells", len(cells), _POINT)
            yield line, [*cells, *[""] * (len(self.header) - len(cells))]

    def numbers(self, names: Sequence[str]) -> np.ndarray:
        """Returns the numbers of some columns, float64, shape (N, columns)."""
        if not {*names} <= {*self.names}:
            expected = f"a header with the columns {','.join(names)}"
            raise invalid(self.name, expected, ",".join(self.names)[:80] or "an empty file")
        if not self._rows:
            raise invalid(self.name, "at least one landmark", "none")
        places = [self.names.index(name) for name in names]
        what = f"numbers for {','.join(names)}"
        return np.array(
            [_row(f"{self.name} line {line}", what, [row[i] for i in places]) for line, row in self.filled()]
        )


def _row(place: str, what: str, cells: list[str]) -> list[float]:
    try:
        point = [number(cell) for cell in cells]
    except ValueError:
        raise invalid(place, what, cells) from None
    if not is_place(point):
        raise invalid(place, f"finite {what}, below {FAR:.0f} mm", point)
    return point


def _is_digits(cell: str) -> bool:
    return cell.strip().removeprefix("-").isdecimal()


def write_points(
    path: str | os.PathLike, points: np.ndarray, like: Landmarks | None = None, *, lps: bool = False
) -> None:
    """Writes landmarks (N, 3) in RAS mm: as CSV, the columns x,y,z to 1e-4 mm, then those of `like`; or .mrk.json.

    Args:
        path: The file, whose name ends in .csv, or in .mrk.json for Slicer, in LPS as Slicer itself writes it.
        points: What to write.
        like: Landmarks whose names and other words the points keep, row by row; .mrk.json has names and descriptions.
        lps: Whether CSV is to count in LPS mm, not in RAS mm.

    Raises:
        InvalidError: If the points have another shape or are not finite, or the file has another suffix.
    """
    points, like, name = np.asarray(points, dtype=np.float64), like or Landmarks(points), Path(path).name.lower()
    if points.ndim != 2 or points.shape[1] != 3 or not np.isfinite(points).all():
        raise invalid("points", "finite points, shape (N, 3)", points.shape)
    if name.endswith(".mrk.json"):
        markups.write(Path(path), points, like.names, like.descriptions)
        return
    if not name.endswith(".csv"):
        raise invalid("path", "a name ending in .csv or .mrk.json, to write points", f"'{path}'")
    points = points * ((-1.0, -1.0, 1.0) if lps else 1.0)
    rows = like.rows or ((),) * len(points)
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*"xyz", *like.header))
        writer.writerows((*(f"{value:.4f}" for value in p), *row) for p, row in zip(points, rows, strict=True))
