"""What every format of transforms gives."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from regzoo.errors import invalid
from regzoo.io.numbers import FAR, is_place


class Spline(NamedTuple):
    """A displacement by cubic B-splines: coefficients (*S, 3) on a lattice of this affine (4, 4), RAS millimetres.

    It acts where four coefficients along each axis reach: from voxel 1 to S - 2. Beyond that nothing is displaced.
    """

    coefficients: np.ndarray
    affine: np.ndarray


_MOST = 100
"""Transforms in a file."""
_LARGEST = 1e6
"""How many times a matrix may stretch or shrink: as millimetres to nanometres."""


def check_count(count: int) -> None:
    """Refuses more transforms than anybody composes, before they are read; raises ValueError."""
    if count > _MOST:
        raise ValueError(f"it has more than {_MOST} transforms")


def check_steps(name: str, steps: list["Step"]) -> None:
    """Refuses what moves nothing of a patient: damage that left numbers.

    Args:
        name: The file.
        steps: What it holds.

    Raises:
        InvalidError: If a matrix cannot be inverted, or not in practice; or places are moved by a kilometre.
    """
    for step in steps:
        if isinstance(step, np.ndarray):
            check_matrix(name, step)
            continue
        low, high = (float(end()) for end in (step[0].min, step[0].max))
        if not (low > -FAR and high < FAR):  # which nan is not
            raise invalid(name, f"finite displacements below {FAR:.0f} mm", f"{low:g} to {high:g} mm")


def check_matrix(name: str, matrix: np.ndarray) -> None:
    """Refuses a matrix (4, 4) as `check_steps` does; `name` is the file."""
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or (matrix[3] != (0, 0, 0, 1)).any():
        raise invalid(name, "a finite (4, 4) matrix with last row 0 0 0 1", matrix.tolist())
    scales = np.linalg.svd(matrix[:3, :3], compute_uv=False)
    if not (scales[-1] > 1 / _LARGEST and scales[0] < _LARGEST):
        received = f"one that stretches by {scales[0]:.3g} at most and {scales[-1]:.3g} at least"
        raise invalid(name, "a matrix that can be inverted", received)
    if not is_place(matrix[:3, 3]):
        raise invalid(name, f"a translation below {FAR:.0f} mm", matrix[:3, 3].tolist())


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
