"""The volumes that a page carries: bytes with their values, small enough to be sent by mail.

Every volume is of whole numbers, compressed (zlib) and written in base64; the first index runs fastest. What the
numbers stand for is told beside them.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator

import numpy as np

from regzoo.registration.report.planes import planes
from regzoo.registration.report.shown import Shown, largest_error
from regzoo.world.images import Grid, Image
from regzoo.world.labels import mask, present
from regzoo.world.resampling import resample

_MOST_VOXELS = 8_000_000
_MOST_BYTES = 8_000_000
"""Of the volumes on the page's grid; with the field and the rest a page stays below 10 MB."""
_FIELD_VOXELS = 100_000
_BINS = 4096


def layers(shown: Shown) -> dict:
    """Returns what the viewer draws, as JSON holds it: the grid, planes, images, labels, landmarks, field and maps."""
    fixed = shown.result.fixed.grid
    grid, volumes = _small_enough(shown)
    at = np.rint(np.linalg.solve(grid.affine, fixed.affine) @ [*shown.middle, 1])[:3].astype(int)
    at = np.clip(at, 0, np.array(grid.shape) - 1).tolist()
    found = {
        "grid": _geometry(grid) | {"spacing": grid.spacing.tolist()},
        "coarser": None if grid.same_as(fixed) else {"shown": grid.spacing.tolist(), "own": fixed.spacing.tolist()},
        "planes": [_plane(each) for each in planes(grid, at)],
        "at": at,
        "landmarks": {name: points.round(3).tolist() for name, points in shown.landmarks.items()},
    }
    if shown.result.transform is not None:
        found["field"] = _field(shown)
    return found | volumes


def coarser(grid: Grid, step: float) -> Grid:
    """Returns a grid within the box of another, whose voxels are at least `step` mm along each axis that is finer."""
    sizes = np.array(grid.shape)
    ratio = np.clip(step / grid.spacing, 1, sizes)
    shape = np.floor(sizes / ratio + 1e-9)
    change = np.diag([*ratio, 1.0])
    change[:3, 3] = (sizes - shape * ratio + ratio - 1) / 2
    return Grid(tuple(shape.astype(int)), grid.affine @ change)


def _fewer(grid: Grid, most: int) -> Grid:
    """Returns the grid, or where it has more than so many voxels a coarser one."""
    found, step = grid, grid.spacing.min()
    while np.prod(found.shape) > most:
        step *= max(1.02, (np.prod(found.shape) / most) ** (1 / 3))
        found = coarser(grid, step)
    return found


def _small_enough(shown: Shown) -> tuple[Grid, dict]:
    """Returns the fixed image's grid, or the finest one on which the volumes do not take too many bytes; and them."""
    fixed = shown.result.fixed.grid
    grid = _fewer(fixed, _MOST_VOXELS)
    while True:
        volumes = _volumes(shown, grid)
        size = sum(len(text) for text in _texts(volumes))
        if size <= _MOST_BYTES:
            return grid, volumes
        grid = coarser(fixed, grid.spacing.min() * 1.03 * (size / _MOST_BYTES) ** (1 / 3))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, str):
        yield value


def _volumes(shown: Shown, grid: Grid) -> dict:
    result = shown.result
    images = {"fixed": result.fixed, "before": shown.before, "after": result.moved}
    found = {
        "images": {name: _image(_on(image, grid)) for name, image in images.items() if image is not None},
        "window": shown.window,
        "labels": _labels(shown, grid),
    }
    if result.transform is not None:
        change = Image(shown.volume_change, result.fixed.affine)
        found["maps"] = {"volume": _volume_change(_on(change, grid).array)}
        if result.error is not None:
            found["maps"]["error"] = _error(_on(result.error, grid).array)
    return found


def _on(image: Image, grid: Grid, order: int = 1) -> Image:
    return image if image.grid.same_as(grid) else resample(image, grid, order=order, outside="edge")


def _image(image: Image) -> dict:
    """Packs intensities into 256 levels, closer where there are many voxels; few are left for the brightest ones."""
    array = image.array
    high = np.percentile(array.ravel()[:: 1 + array.size // 1_000_000], 99.9)
    ends = np.unique([array.min(), high, array.max()]).astype(float)
    if len(ends) == 1:
        return {"data": _packed(np.zeros(array.shape, np.uint8)), "levels": [float(ends[0])] * 256}
    places = [0, *([0.95 * _BINS] if len(ends) == 3 else []), _BINS - 1]
    bins = (np.interp(array, ends, places) + 0.5).astype(np.uint16)
    count = np.bincount(bins.ravel(), minlength=_BINS)
    share, even = np.cumsum(count) / bins.size, np.linspace(0, 1, _BINS)
    number = np.rint(255 * (even + (share - share[0]) / max(1 - share[0], 1e-12)) / 2).astype(np.uint8)
    values = np.interp(np.arange(_BINS), places, ends)
    # A level stands for the mean of its voxels; one that has none lies between its neighbours.
    weight = count + 1e-6
    total, sums = (np.bincount(number, each, 256) for each in (weight, weight * values))
    used = np.flatnonzero(total)
    levels = np.interp(np.arange(256), used, sums[used] / total[used])
    return {"data": _packed(number[bins]), "levels": [float(f"{value:.5g}") for value in levels]}


def _volume_change(ratio: np.ndarray) -> dict:
    """Packs volume ratios: level 0 is a fold, 1 to 255 run from 1/10 to 10 in equal steps of the logarithm."""
    steps = 128 + 127 * np.log10(np.clip(ratio, 0.1, 10))
    levels = 10 ** ((np.arange(256) - 128) / 127)
    return {
        "data": _packed(np.where(ratio <= 0, 0, np.rint(steps)).astype(np.uint8)),
        "levels": [0, *(float(f"{value:.3g}") for value in levels[1:])],
    }


def _error(mm: np.ndarray) -> dict:
    """Packs an error in mm: 256 levels in equal steps up to where its scale ends."""
    most = largest_error(mm)
    return {
        "data": _packed(np.rint(255 * np.clip(mm / most, 0, 1)).astype(np.uint8)),
        "levels": [float(f"{value:.4g}") for value in np.linspace(0, most, 256)],
    }


def _labels(shown: Shown, grid: Grid) -> dict | None:
    result = shown.result
    maps = {"fixed": result.fixed_labels, "before": shown.labels_before, "after": result.moved_labels}
    maps = {name: labels for name, labels in maps.items() if labels is not None}
    values = sorted({value for labels in maps.values() for value in present(labels)})
    if not values:
        return None
    kind = np.uint8 if len(values) < 256 else np.uint16
    return {"values": values, "bytes": np.dtype(kind).itemsize} | {
        name: _packed(_on(Image(_numbered(labels, values, kind), labels.affine), grid, order=0).array)
        for name, labels in maps.items()
    }


def _numbered(labels: Image, values: list[int], kind: type) -> np.ndarray:
    """Returns the number of each voxel's label in `values`, from 1; 0 is none. Of channels that overlap, the last."""
    if labels.channels is None:
        numbers = np.searchsorted(values, labels.array).clip(max=len(values) - 1)
        return np.where(np.asarray(values)[numbers] == labels.array, numbers + 1, 0).astype(kind)
    found = np.zeros(labels.shape, kind)
    for number, value in enumerate(values, start=1):
        if value <= labels.channels:
            found[mask(labels, value)] = number
    return found


def _field(shown: Shown) -> dict:
    """Packs how far the transform moves beyond the start, in RAS mm, as 16-bit numbers: all x, then all y, then z."""
    result = shown.result
    grid = _fewer(result.fixed.grid, _FIELD_VOXELS)
    shift = result.transform.displacement(grid) - result.start.displacement(grid)
    unit = max(float(np.abs(shift).max()), 1e-3) / 32767
    numbers = np.rint(shift / unit).astype("<i2")
    longest = float(np.linalg.norm(shift, axis=-1).max())
    return _geometry(grid) | {"unit": unit, "longest": longest, "data": _packed(numbers)}


def _packed(array: np.ndarray) -> str:
    array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return base64.b64encode(zlib.compress(array.tobytes(order="F"), 6)).decode()


def _geometry(grid: Grid) -> dict:
    return {"shape": grid.shape, "affine": grid.affine.tolist(), "inverse": np.linalg.inv(grid.affine).tolist()}


def _plane(plane: object) -> dict:
    names = ("name", "axis", "across", "up", "left", "right", "top", "bottom", "flip_across", "flip_up")
    return {name: getattr(plane, name) for name in names}
