"""Lists of images as CSV files: pairs to register or to train on, and single images to be paired."""

import contextlib
import csv
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from regzoo.cache import expanded
from regzoo.errors import InvalidError, MissingError, invalid, unknown
from regzoo.io import volumes
from regzoo.io.reading import ROWS_LIMIT, check_table
from regzoo.world.images import Image

Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class PairFiles:
    """The files of one pair; what a pair lacks is None.

    `spacing`, in mm, is that of images in HDF5 files, if it is not 1 mm; it is no column of a CSV file.
    """

    fixed: Path
    moving: Path
    fixed_labels: Path | None = None
    moving_labels: Path | None = None
    fixed_points: Path | None = None
    moving_points: Path | None = None
    spacing: Spacing | None = None

    def sources(self) -> dict[str, Path | Image | None]:
        """Returns the arguments of `register`: the files, or images where only `spacing` tells their geometry."""
        found = {key: value for key, value in vars(self).items() if key != "spacing"}
        if self.spacing is not None:
            for key in ("fixed", "moving", "fixed_labels", "moving_labels"):
                if found[key] is not None:
                    found[key] = Image.read(found[key], labels=key.endswith("labels"), spacing=self.spacing)
        return found


@dataclass(frozen=True)
class SubjectFiles:
    """The files of one image, the split it belongs to (`train`, `valid` or `test`), and its group, if it has one."""

    image: Path
    split: str
    labels: Path | None = None
    group: str | None = None


SPLITS = ("train", "valid", "test")


def read_pairs(path: str | os.PathLike, must_exist: bool = True) -> list[PairFiles]:
    """Reads `fixed,moving,fixed_labels,moving_labels,fixed_points,moving_points`; the last four may be left out.

    Args:
        path: The CSV file. Paths in it are relative to its folder, FILE.h5/KEY in an HDF5 file; cells may be empty,
            lines may be blank.
        must_exist: Whether a file that is not there is an error now; else it is one where it is read.

    Returns:
        One record per line.

    Raises:
        MissingError: If the CSV file or a file that it names does not exist.
        InvalidError: If a column is unknown, missing or given twice, a cell is missing, or no pair is left.
    """
    return _records(Path(path), PairFiles, ("fixed", "moving"), must_exist)


def pair_records(pairs: Iterable[PairFiles | Mapping[str, str | os.PathLike | None]]) -> list[PairFiles]:
    """Returns records from records or dicts, whose keys are the columns of `read_pairs`; None and "" mean none.

    Raises:
        MissingError: If a file does not exist.
        InvalidError: If there is no pair, or one has an unknown or a missing key, or no path.
    """
    if isinstance(pairs, Mapping) or not isinstance(pairs, Iterable):
        raise invalid("pairs", "a CSV file or a list of dicts", f"a {type(pairs).__name__}")
    found = [each if isinstance(each, PairFiles) else _pair(n, each) for n, each in enumerate(pairs, start=1)]
    if not found:
        raise invalid("pairs", "at least one pair", "none")
    return found


def _pair(number: int, row: object) -> PairFiles:
    """Returns the record of a dict."""
    where, known = f"pair {number}", _columns(PairFiles)
    if not isinstance(row, Mapping):
        raise invalid(where, f"a dict with the keys {', '.join(known)}", f"a {type(row).__name__}")
    for key in row:
        if key not in known:
            raise unknown("key", str(key), known, f"{where} may have: {', '.join(known)}.")
    for key, value in row.items():
        if not isinstance(value, str | os.PathLike | None):
            raise invalid(f"{where}: {key}", "a path", f"a {type(value).__name__}")
    given = {key: expanded(value) for key, value in row.items() if value}
    for key in ("fixed", "moving"):
        if key not in given:
            raise invalid(where, f"a value for '{key}'", ", ".join(given) or "none")
    for key, file in given.items():
        if not volumes.exists(file):
            raise MissingError(f"{where}: {key} file {file} does not exist.")
    return PairFiles(**given)


def read_subjects(path: str | os.PathLike) -> list[SubjectFiles]:
    """Reads `image,labels,split,group`; `labels` and `group` may be left out, `split` is `train`, `valid` or `test`.

    Arguments, result and errors are those of `read_pairs`.
    """
    return _records(Path(path), SubjectFiles, ("image", "split"))


def _records(path: Path, kind: type, needed: tuple[str, ...], must_exist: bool = True) -> list:
    check_table(path)
    known = _columns(kind)
    with contextlib.closing(_rows(path)) as every:  # an error in a row closes the file too
        rows = itertools.islice(every, ROWS_LIMIT + 2)
        header = _header(path, next(rows, (0, []))[1], known, needed)
        records = [kind(**_cells(path, line, header, cells, needed, must_exist)) for line, cells in rows]
    if not records:
        raise invalid(str(path), "at least one line below the header", "none")
    if len(records) > ROWS_LIMIT:
        raise invalid(str(path), f"at most {ROWS_LIMIT} lines below the header", "more")
    return records


def _columns(kind: type) -> list[str]:
    return [field.name for field in fields(kind) if field.name != "spacing"]


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields line number and stripped cells of the lines that are not blank."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for row in reader:
                cells = [cell.strip() for cell in row]
                if any(cells):
                    yield reader.line_num, cells
    except UnicodeDecodeError:
        raise invalid(str(path), "UTF-8 text", "other bytes") from None
    except csv.Error as error:
        raise InvalidError(f"{path}, line {reader.line_num}: not valid CSV: {error}.") from None


def _header(path: Path, header: list[str], known: list[str], needed: tuple[str, ...]) -> list[str]:
    for column in header:
        if column not in known:
            raise unknown("column", column, known, f"{path} may have: {', '.join(known)}.")
        if header.count(column) > 1:
            raise InvalidError(f"{path}: column '{column}' is given twice.")
    for column in needed:
        if column not in header:
            raise invalid(str(path), f"a column '{column}'", ", ".join(header) or "an empty file")
    return header


def _cells(
    path: Path, line: int, header: list[str], cells: list[str], needed: tuple[str, ...], must_exist: bool
) -> dict:
    if len(cells) > len(header):
        raise invalid(f"{path}, line {line}", f"{len(header)} cells", len(cells))
    row = {column: cell for column, cell in zip(header, cells, strict=False) if cell}
    for column in needed:
        if column not in row:
            raise invalid(f"{path}, line {line}", f"a value in column '{column}'", "an empty cell")
    return {column: _value(path, line, column, cell, must_exist) for column, cell in row.items()}


def _value(path: Path, line: int, column: str, cell: str, must_exist: bool) -> Path | str:
    if column == "split" and cell not in SPLITS:
        raise unknown("split", cell, SPLITS, f"{path}, line {line}: one of {', '.join(SPLITS)}.")
    if column in ("split", "group"):
        return cell
    file = path.parent / expanded(cell)
    if must_exist and not volumes.exists(file):
        raise MissingError(f"{path}, line {line}: {column} file {file} does not exist.")
    return file
