"""Numbers in text files: digits, a point, an exponent. Python would take `1_000` too, and digits of other scripts."""

import math
from collections.abc import Iterable, Iterator

import numpy as np

FAR = 1e6
"""Millimetres, a kilometre: nothing of a patient lies so far away, and nothing is moved so far."""
_PIECE = 2**20


def number(text: str) -> float:
    """Returns the number that a text is, which may be nan or infinite.

    Raises:
        ValueError: If it is none.
    """
    if "_" in text or not text.isascii():
        raise ValueError(f"expected a number, received '{text[:40]}'")
    return float(text)


def whole(text: str) -> int:
    """Returns the whole number that a text is; raises ValueError if it is none."""
    if "_" in text or not text.isascii():
        raise ValueError(f"expected a whole number, received '{text[:40]}'")
    return int(text)


def numbers(text: str) -> np.ndarray:
    """Returns the numbers of a text, between white space, float64, shape (N,); raises ValueError if one is none."""
    if "_" in text or not text.isascii():
        raise ValueError(f"expected numbers, received '{text[:40]}'")
    pieces = [np.array(piece.split(), dtype=np.float64) for piece in _pieces(text)]
    return np.concatenate(pieces) if pieces else np.zeros(0)


def _pieces(text: str) -> Iterator[str]:
    """Yields a text in pieces that end at white space: as a list of words, a long one would be ten times as large."""
    start = 0
    while start < len(text):
        stop = start + _PIECE
        while stop < len(text) and not text[stop].isspace():
            stop += 1
        yield text[start:stop]
        start = stop


def is_place(values: Iterable[float]) -> bool:
    """Tells whether numbers can be millimetres of a patient: finite, and no kilometre away."""
    return all(math.isfinite(each) and abs(each) < FAR for each in values)
