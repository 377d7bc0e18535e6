"""How often each value of an array of integers occurs: counted, not sorted, where the values are small."""

from __future__ import annotations

import numpy as np


def countable(values: np.ndarray) -> bool:
    """Tells whether there are values, all so small that counting them is faster than sorting them."""
    return bool(values.size and values.min() >= 0 and values.max() < 2**16)


def counts(values: np.ndarray) -> dict[int, int]:
    """Returns the number of places of each value of an array of integers or bool, of any shape; values rise."""
    values = values.ravel().view(np.uint8) if values.dtype == bool else values.ravel()
    if countable(values):
        found = np.bincount(values)
        return {int(value): int(found[value]) for value in np.flatnonzero(found)}
    return dict(zip(*(each.tolist() for each in np.unique(values, return_counts=True)), strict=True))
