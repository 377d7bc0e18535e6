"""A slice of a DICOM series, be it a file or a frame of one, and the numbers that place it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regzoo.errors import InvalidError, invalid

ADVICE = "Make one NIfTI file of it, by dcm2niix for example."
_WORDS = {
    "0020,0032": ("place", 3),
    "0020,0037": ("axes", 6),
    "0028,0030": ("pixel spacing", 2),
    "0018,0050": ("thickness", 1),
}
"""Tag -> what it is called in an error, and how many numbers it has."""
PLACE, AXES, SPACING, THICKNESS = _WORDS


@dataclass(frozen=True)
class Slice:
    """A slice of a series.

    Args:
        name: What it is called in an error: its file, and the frame in it.
        file: Its file.
        size: Pixels along i and j.
        dtype: The type of a pixel once it is scaled.
        place: Where the first pixel's centre is, in LPS mm, shape (3,).
        axes: A step of one pixel along i and j, in LPS mm, shape (3, 2).
        thickness: mm; None if it is not known.
        pixels: Reads them, scaled, shape `size`.
    """

    name: str
    file: Path
    size: tuple[int, ...]
    dtype: np.dtype
    place: np.ndarray
    axes: np.ndarray
    thickness: float | None
    pixels: Callable[[], np.ndarray]


def numbers(name: str, tag: str, values: Iterable) -> np.ndarray:
    """Returns the numbers of a tag.

    Raises:
        InvalidError: If they are not as many finite ones as it has.
    """
    what, count = _WORDS[tag]
    received = [str(each) for each in values]
    try:
        found = np.array([float(each) for each in received])
    except ValueError:
        found = np.zeros(0)
    if len(found) != count or not np.isfinite(found).all():
        raise invalid(f"{what} of {name}", f"{count} numbers ({tag})", f"'{' '.join(received)}'", ADVICE)
    return found


def steps(name: str, turn: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Returns a step of one pixel along i and j, in LPS mm, shape (3, 2).

    Args:
        name: What the slice is called in an error.
        turn: Direction of a row, then of a column, shape (6,).
        spacing: From row to row, which the header has first, then from column to column.

    Raises:
        InvalidError: If they are damaged.
    """
    along = turn.reshape(2, 3)
    if np.abs(along @ along.T - np.eye(2)).max() > 1e-3 or not (spacing > 0).all():
        raise InvalidError(f"{name}: its axes or its spacing are damaged. {ADVICE}")
    return along.T * spacing[::-1]
