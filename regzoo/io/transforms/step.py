"""What every format of transforms gives."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Step = np.ndarray | tuple[np.ndarray, np.ndarray]
"""A transform as data: a matrix (4, 4) or (vectors (*S, 3), affine (4, 4)), both in RAS millimetres."""


@dataclass(frozen=True)
class Format:
    """A format of transforms.

    Args:
        read: Reads a file into steps, in the order in which they are applied to a point. What it raises counts as
            damage.
        write_matrix: Writes a matrix (4, 4) from fixed to moving RAS mm; None if the format holds none.
        write_field: Writes displacements (*S, 3) in RAS mm and the affine (4, 4) of their grid; None likewise.
        write_both: Writes a matrix, and the displacements and their grid's affine that come before it; None likewise.
    """

    read: Callable[[Path], list[Step]]
    write_matrix: Callable[[np.ndarray, Path], None] | None = None
    write_field: Callable[[np.ndarray, np.ndarray, Path], None] | None = None
    write_both: Callable[[np.ndarray, np.ndarray, np.ndarray, Path], None] | None = None
