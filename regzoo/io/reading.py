"""What a file of a stranger can do wrong while it is read, in one place."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from regzoo.errors import InvalidError, MissingError, RegzooError, invalid

if TYPE_CHECKING:  # NumPy takes a tenth of a second, and who reads a card needs none
    import numpy as np


def shown(path: Path) -> str:
    """Returns what a file is called in an error: its name, or FILE.h5/KEY of what lies within a file."""
    return f"{path.parent.name}/{path.name}" if path.parent.is_file() else path.name


def check_file(path: Path, advice: str = "") -> None:
    """Refuses what is no file: a name of nothing, or a folder.

    Raises:
        MissingError: If there is nothing of that name.
        InvalidError: If it is a folder.
    """
    if path.is_dir():
        raise invalid(str(path), "a file", "a folder", advice)
    if not path.is_file():
        raise MissingError(f"{path} does not exist.")


TABLE_LIMIT = 2**26
"""Bytes of a CSV file: a million landmarks or two."""
ROWS_LIMIT = 2**21
"""Its rows: in memory, short ones take many times their bytes."""


def check_table(path: Path) -> None:
    """Refuses what is no file, or larger than any table of landmarks or pairs.

    Raises:
        MissingError: If there is nothing of that name.
        InvalidError: If it is a folder, or has more than `TABLE_LIMIT` bytes.
    """
    check_file(path)
    size = path.stat().st_size
    if size > TABLE_LIMIT:
        raise invalid(str(path), f"a CSV file of at most {TABLE_LIMIT} bytes", size)


@contextlib.contextmanager
def readable(path: Path, kind: str = "image") -> Iterator[None]:
    """Turns whatever a reader raises into the error for a file that is no such `kind`, or damaged."""
    try:
        yield
    except RegzooError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidError(
            f"{shown(path)} is not a readable {kind}, or it is damaged: {reason.rstrip('.')}."
        ) from error


VOXELS_LIMIT = 2**28
"""A CT of a whole body, 512 x 512 x 1024; as float32 they take one gigabyte, and a field on them three."""


def check_size(name: str, shape: Sequence[int], dtype: np.dtype, most: int | None, kind: str = "image") -> None:
    """Refuses a file that is too small for what its header tells of, before memory is taken for it.

    Args:
        name: What to call the file.
        shape: All axes that the header tells of.
        dtype: The type of each number.
        most: The most bytes that the file can hold, if that is known.
        kind: What the file should be.
    """
    needed = math.prod(map(int, shape)) * dtype.itemsize
    if most is not None and needed > most:
        message = f"its header tells of {needed} bytes, but the file can hold {most} at most"
        raise InvalidError(f"{name} is not a readable {kind}, or it is damaged: {message}.")


def check_voxels(name: str, shape: Sequence[int]) -> None:
    """Refuses more voxels than fit into memory: a limit for images, grids and fields alike."""
    count = math.prod(map(int, shape))
    if count > VOXELS_LIMIT:
        raise invalid(name, f"at most {VOXELS_LIMIT} voxels", count, "Crop it, or make its voxels larger.")


BYTES_LIMIT = 3 * 2**30
"""A displacement field on such a CT: the most memory that anything is read into."""


def check_bytes(name: str, size: int) -> None:
    """Refuses what takes more memory than there is for one file: what is kept of it, and what its reader takes.

    Args:
        name: What to call the file.
        size: Bytes that will be taken at once.
    """
    if size > BYTES_LIMIT:
        received = f"one that takes {size} bytes to be read"
        raise invalid(name, f"a file that takes at most {BYTES_LIMIT} bytes of memory", received, "Crop it.")


def by_suffix(name: str, known: dict[str, object]) -> object | None:
    """Returns what a dict has for the longest of its suffixes that a file's name ends in; None without one."""
    return next((known[each] for each in sorted(known, key=len, reverse=True) if name.lower().endswith(each)), None)
