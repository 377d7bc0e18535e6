"""What every format of images gives: the header of one file, and a way to its voxels."""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regzoo.io.pieces import Order, Voxels


@dataclass(frozen=True)
class Volume:
    """An image file that was opened.

    Args:
        shape: Voxels along each axis, then volumes or channels.
        dtype: What the file stores a voxel as.
        affine: Voxel to RAS millimetres, shape (4, 4), unchecked; None where the format holds no geometry.
        values: Gives the voxels, scaled as the file says: all of them, or one volume of the fourth axis. They are read
            where they are sliced.
        most: The most bytes of voxels that a file of this size can hold; None: not known.
        remark: What the header leaves open of the geometry, in words; empty if nothing.
        step: From one volume of the fourth axis to the next, a number and its unit as NIfTI calls it; None: not told.
        order: In which order the file has its voxels.
        held: Bytes that its reader takes at once, beside those it gives.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    affine: np.ndarray | None
    values: Callable[[int | None], Voxels]
    most: int | None = None
    remark: str = ""
    step: tuple[float, str] | None = None
    order: Order = "F"
    held: int = 0

    def tell(self, name: str) -> None:
        """Warns of what the header leaves open, for a file whose reader has no place to keep it."""
        if self.remark:
            warnings.warn(f"{name}: {self.remark}", stacklevel=4)


def sliced(voxels: Voxels) -> Callable[[int | None], Voxels]:
    """Returns `Volume.values` of voxels that are read where they are sliced."""
    return lambda volume: voxels if volume is None else _OneVolume(voxels, volume)


@dataclass(frozen=True)
class _OneVolume:
    """One volume of voxels whose fourth axis is that of volumes; read where it is sliced.

    Args:
        series: All of them.
        volume: Which one.
    """

    series: Voxels
    volume: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along each axis."""
        return tuple(self.series.shape[:-1])

    @property
    def dtype(self) -> np.dtype:
        """What the file stores a voxel as."""
        return self.series.dtype

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """How HDF5 has packed them."""
        packed = getattr(self.series, "chunks", None)
        return packed and packed[:-1]

    def __getitem__(self, places: tuple[slice, ...]) -> np.ndarray:
        """Reads some of them."""
        return self.series[(*places, self.volume)]


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
