"""What every format of transforms gives."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np


class Spline(NamedTuple):
    """A displacement by cubic B-splines: coefficients (*S, 3) on a lattice of this affine (4, 4), RAS millimetres.

    It acts where four coefficients along each axis reach: from voxel 1 to S - 2. Beyond that nothing is displaced.
    """

    coefficients: np.ndarray
    affine: np.ndarray


Step = np.ndarray | tuple[np.ndarray, np.ndarray] | Spline
"""A transform as data: a matrix (4, 4), (vectors (*S, 3), affine (4, 4)) or a `Spline`, all in RAS millimetres."""


class Lattice(Protocol):
    """The voxels of an image."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along i, j, k."""

    @property
    def affine(self) -> np.ndarray:
        """Voxel index to RAS millimetres, shape (4, 4)."""


class Images(NamedTuple):
    """The voxels of both images, for formats that count in them."""

    fixed: Lattice
    moving: Lattice


@dataclass(frozen=True)
class Format:
    """A format of transforms.

    Args:
        read: Reads a file into steps, in the order in which they are applied to a point. What it raises counts as
            damage. None if regzoo only writes it, or reads it by `read_between`.
        read_between: As `read`, of a file that means nothing without the voxels of both images.
        write_matrix: Writes a matrix (4, 4) from fixed to moving RAS mm; None if the format holds none.
        write_between: As `write_matrix`, of a file that tells of the voxels of both images.
        write_field: Writes displacements (*S, 3) in RAS mm and the affine (4, 4) of their grid; None likewise.
        write_both: Writes a matrix, and the displacements and their grid's affine that come before it; None likewise.
        write_inverse: Writes displacements that undo those of `write_both`, beside them, or None where there are none.
        one_grid: Whether its displacements are in voxels, so that both images must have one grid.
    """

    read: Callable[[Path], list[Step]] | None = None
    read_between: Callable[[Path, Images], list[Step]] | None = None
    write_matrix: Callable[[np.ndarray, Path], None] | None = None
    write_between: Callable[[np.ndarray, Path, Images], None] | None = None
    write_field: Callable[[np.ndarray, np.ndarray, Path], None] | None = None
    write_both: Callable[[np.ndarray, np.ndarray, np.ndarray, Path], None] | None = None
    write_inverse: Callable[[np.ndarray | None, np.ndarray, Path], None] | None = None
    one_grid: bool = False
