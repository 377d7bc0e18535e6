"""Tables of tab-separated values: one line a record, n/a where there is no value, as BIDS writes them."""

import csv
import math
import os
from collections.abc import Iterable, Mapping

from regzoo.io.files import atomic_file

NONE = "n/a"


def write_tsv(path: str | os.PathLike, rows: Iterable[Mapping[str, str | float | None]]) -> None:
    """Writes records under all of their keys, in the order in which they first appear; the file is whole or absent.

    Args:
        path: The file.
        rows: Records; what one lacks, None and what is no number are n/a.
    """
    rows = [*rows]
    keys = [*dict.fromkeys(key for row in rows for key in row)]
    with atomic_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, "excel-tab", lineterminator="\n")
        table.writerow(keys)
        table.writerows([_cell(row.get(key)) for key in keys] for row in rows)


def _cell(value: str | float | None) -> str:
    if value is None or value == "" or (isinstance(value, float) and not math.isfinite(value)):
        return NONE
    return str(value)
