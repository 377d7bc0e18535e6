"""What every format of surfaces gives."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True, eq=False)
class Surface:
    """A surface that was read.

    Args:
        points: RAS mm, shape (N, 3), float64.
        write: Writes a file of the same format with other points, RAS mm, and all else of this one but directions,
            which a transform turns.
        remark: What the file leaves open, in words; empty if nothing.
    """

    points: np.ndarray
    write: Callable[[Path, np.ndarray], None]
    remark: str = ""
