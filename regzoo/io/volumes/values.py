"""The values of images and label maps: read piece by piece into the type that is kept, and checked on the way."""

import numpy as np

from regzoo.errors import InvalidError, invalid
from regzoo.io.pieces import filled, pieces
from regzoo.io.reading import check_bytes
from regzoo.io.volumes.volume import Volume

_ROUNDING = 1e-3
"""How far labels in floating point may be from integers: what scaling and a float32 make of them, no share of two."""
_BEYOND = 0.1
"""How far shares may lie beyond 0 and 1: as resampling by splines makes them."""
_INTEGERS = (np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64)


def not_finite(name: str, count: int) -> InvalidError:
    """Returns the error of an image with so many voxels that are no numbers."""
    return invalid(name, "finite values", f"{count} NaN or infinite voxels", "Replace them first.")


def intensity_array(name: str, file: Volume, volume: int | None, shape: tuple[int, ...]) -> np.ndarray:
    """Reads intensities as float32.

    Args:
        name: What the file is called in an error.
        file: The file.
        volume: Which volume of the fourth axis; None: all there is.
        shape: The shape that is wanted, of as many voxels.

    Raises:
        InvalidError: If some are not finite, all are the same, or they take too much memory.
    """
    array = _floats(name, file, volume)
    bad, low, high = 0, np.inf, -np.inf
    for piece in _slabs(array):
        known = np.isfinite(piece)
        bad += piece.size - int(known.sum())
        low, high = min(low, piece.min()), max(high, piece.max())
    if bad:
        raise not_finite(name, bad)
    if low == high:
        raise invalid(name, "an image", f"the same value, {low:g}, everywhere")
    return array.reshape(shape, order=file.order)


def label_array(name: str, file: Volume, volume: int | None, shape: tuple[int, ...]) -> np.ndarray:
    """Reads labels: in their own integer type; integers in floating point in the smallest; channels as float32.

    Arguments and errors as for `intensity_array`; also if labels of one map are no integers.
    """
    if len(shape) == 4:
        array = _floats(name, file, volume)
        if not all(np.isfinite(piece).all() for piece in _slabs(array)):
            raise _not_finite(name)
        _check_shares(name, array)
        return array.reshape(shape, order=file.order)
    try:
        return _Integers(name, file, volume).array.reshape(shape, order=file.order)
    except _Fractional as error:
        if len(file.shape) == 4 and file.shape[3] == 1:  # the only channel
            return _floats(name, file, volume).reshape((*shape, 1), order=file.order)
        raise invalid(name, "integer labels", f"values between integers such as {error.value:.9g}") from None


def _check_shares(name: str, array: np.ndarray) -> None:
    """Refuses what are no shares: label maps one after another, or masks of 0 and 255, which blending would widen."""
    low, high = (float(bound(list(map(bound, _slabs(array))))) for bound in (np.min, np.max))
    if low < -_BEYOND or high > 1 + _BEYOND:
        received = f"values from {low:g} to {high:g}"
        advice = f"Of a series of label maps, give one volume; divide masks of 0 and {high:g} by {high:g}."
        raise invalid(name, "one channel per label, as shares of it from 0 to 1", received, advice)


class _Fractional(Exception):
    """A label that is no integer."""

    def __init__(self, value: float) -> None:
        self.value = value


class _Integers:
    """The integers of a label map, in an array whose type grows with them: there is never a copy of another type.

    Args:
        name: What the file is called in an error.
        file: The file.
        volume: Which volume.
    """

    def __init__(self, name: str, file: Volume, volume: int | None) -> None:
        self._name, self._held, self._low, self._high = name, file.held, 0, 0
        self.array, self._size = np.empty(0, np.uint8), 0
        shape = file.shape if volume is None else file.shape[:-1]
        self._count = int(np.prod(shape, dtype=np.int64))
        for piece in pieces(file.values(volume), file.order):
            self._add(piece)

    def _add(self, piece: np.ndarray) -> None:
        kept = piece.dtype.kind in "biu"
        values = piece if kept else self._whole(piece)
        dtype = _kept(piece.dtype) if kept else self._fitting(values)
        if self.array.size == 0 or dtype != self.array.dtype:
            check_bytes(self._name, self._count * np.dtype(dtype).itemsize + self.array.nbytes + self._held)
            grown = np.empty(self._count, dtype)
            grown[: self._size] = self.array[: self._size]
            self.array = grown
        self.array[self._size : self._size + values.size] = values
        self._size += values.size

    def _fitting(self, values: np.ndarray) -> np.dtype:
        """Returns the smallest type for all integers so far."""
        low, high = int(values.min()), int(values.max())
        self._low, self._high = (min(low, self._low), max(high, self._high)) if self._size else (low, high)
        return _integer(self._low, self._high)

    def _whole(self, piece: np.ndarray) -> np.ndarray:
        if not np.isfinite(piece).all():
            raise _not_finite(self._name)
        whole = np.rint(piece)
        fractional = piece[np.abs(piece - whole) > _ROUNDING]
        if fractional.size:
            raise _Fractional(float(fractional[0]))
        return whole


def smallest(values: np.ndarray) -> np.ndarray:
    """Returns integers in the smallest type that holds them."""
    return values.astype(_integer(int(values.min()), int(values.max())))


def _kept(dtype: np.dtype) -> np.dtype:
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("=")


def _integer(low: int, high: int) -> np.dtype:
    kind = next((each for each in _INTEGERS if np.iinfo(each).min <= low and high <= np.iinfo(each).max), None)
    if kind is None:
        raise invalid("labels", "64-bit integers", f"{low} to {high}")
    return np.dtype(kind)


def _floats(name: str, file: Volume, volume: int | None) -> np.ndarray:
    """Returns values as float32, flat, in the file's order."""
    shape = file.shape if volume is None else file.shape[:-1]
    check_bytes(name, int(np.prod(shape, dtype=np.int64)) * 4 + file.held)
    with np.errstate(over="ignore", invalid="ignore"):
        return filled(file.values(volume), file.order, np.dtype(np.float32)).ravel(file.order)


def _slabs(array: np.ndarray) -> list[np.ndarray]:
    """Returns views of a flat array, whose checks need little memory each."""
    return np.array_split(array, max(1, array.size // 2**22))


def _not_finite(name: str) -> InvalidError:
    return invalid(name, "finite labels", "NaN or infinite voxels", "Replace them first.")
