"""What every format of images gives: the header of one file, and a way to its voxels."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Volume:
    """An image file that was opened.

    Args:
        shape: Voxels along each axis, then volumes or channels.
        dtype: What the file stores a voxel as.
        affine: Voxel to RAS millimetres, shape (4, 4), unchecked; None where the format holds no geometry.
        values: Reads the voxels, scaled as the file says: all of them, or one volume of the fourth axis.
        most: The most bytes of voxels that a file of this size can hold; None: not known.
        remark: What the header leaves open of the geometry, in words; empty if nothing.
        step: From one volume of the fourth axis to the next, a number and its unit as NIfTI calls it; None: not told.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    affine: np.ndarray | None
    values: Callable[[int | None], np.ndarray]
    most: int | None = None
    remark: str = ""
    step: tuple[float, str] | None = None


@dataclass(frozen=True)
class Format:
    """A format of images.

    Args:
        open: A context manager: gives a file, or what lies within one (FILE.h5/KEY), with its header read, and at
            the end, having read on to it, raises if a checksum is wrong. What it and `Volume.values` raise counts as
            damage.
        write: Writes an array (I, J, K) or (I, J, K, C) and its affine in mm to a file; None if regzoo only reads it.
        write_series: The same for volumes (I, J, K, T) and `Volume.step`; None if the format has none.
    """

    open: Callable[[Path], AbstractContextManager[Volume]]
    write: Callable[[np.ndarray, np.ndarray, Path], None] | None = None
    write_series: Callable[[np.ndarray, np.ndarray, Path, tuple[float, str] | None], None] | None = None
