"""What is in an image but is no anatomy: constants around a scanner's circle, or around an image that was turned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from regzoo.world.images import Image

_AIR = (-1050.0, -900.0)  # HU; darker is no matter
_APART = 100.0  # HU between padding and the darkest anatomy
_LEAST = 0.005  # share of the voxels; fewer are no padding
_AMID = 0.05  # of the range of intensities, by which a constant lies within it
_SPARSE = 100  # voxels along each axis that are looked at to judge intensities


def padding(image: Image) -> np.ndarray | None:
    """Finds the voxels that hold no anatomy, in any unit.

    They have the value of a quarter of the image's corners. It is either far below that of air in HU (CT scanners write
    -2000 or -3024 outside the circle that they see): then all that is darker than air is padding. Or it lies amid the
    other values, as 0 does in a CT that was turned, or around a brain whose mean was made 0. A constant that is the
    lowest or the highest value is an image's background.

    Args:
        image: One channel.

    Returns:
        Where, bool, shape (I, J, K); None: nowhere.
    """
    sparse = image.array[tuple(slice(None, None, max(1, n // _SPARSE)) for n in image.shape)]
    values, counts = np.unique(_corners(image.array), return_counts=True)
    for value in values[counts >= counts.sum() / 4].tolist():
        others = sparse[sparse != value]
        if not others.size or others.size > (1 - _LEAST) * sparse.size:
            continue
        if value < _AIR[0] and np.percentile(others[others >= _AIR[0]], 1) > value + _APART:
            return image.array < _AIR[0]
        lowest, low, high, highest = np.percentile(others, (2, 5, 95, 98))
        aside = _AMID * (high - low)  # of a chest CT 50 HU, and 95 of 100 voxels are darker than 50 HU
        if value > _AIR[1] and lowest + aside < value < highest - aside:
            where = _at_corners(image.array == value)
            # Fewer are anatomy that reaches two corners with one value by chance, and so is what goes over into others.
            if where.mean() >= _LEAST and _step_around(image.array, where, value) > aside:
                return where
    return None


def without_padding(image: Image, where: np.ndarray | None = None) -> Image:
    """Returns an image with the lowest of the other values in place of padding; itself, where there is none.

    Args:
        image: One channel.
        where: Its `padding`, where that is known.
    """
    where = padding(image) if where is None else where
    if where is None:
        return image
    return replace(image, array=np.where(where, image.array[~where].min(), image.array))


def _corners(array: np.ndarray) -> np.ndarray:
    return array[np.ix_(*([0, n - 1] if n > 1 else [0] for n in array.shape))].ravel()


def _at_corners(where: np.ndarray) -> np.ndarray:
    """Returns what of a mask hangs together with a corner of the image: inside, the same value is anatomy."""
    parts, _ = ndimage.label(where)
    return np.isin(parts, np.setdiff1d(_corners(parts), [0]))


def _step_around(array: np.ndarray, where: np.ndarray, value: float) -> float:
    """Returns by how much the voxels around a constant differ from it, in the median."""
    around = array[ndimage.binary_dilation(where) & ~where]
    return float(np.median(np.abs(around.astype("float64") - value))) if around.size else 0.0
