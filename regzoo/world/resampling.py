"""An image on another grid, at other places, and with other intensities."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import ndimage

from regzoo.errors import invalid
from regzoo.world.images import TOLERANCE, Grid, Image, corners
from regzoo.world.matrices import map_points

if TYPE_CHECKING:  # pydantic is slow to import, and only the fields' names are needed here
    from regzoo.schema.inputs import PercentileIntensity, WindowIntensity

Outside = float | Literal["edge"]


def resample(image: Image, grid: Grid, *, order: int = 1, outside: Outside = 0.0, antialias: bool = True) -> Image:
    """Samples an image at the places of another grid.

    Where the target voxels are voxels of the image (a crop, pad, flip or transposition), values are copied bit by bit.
    Where the target is coarser, linear resampling first smooths along each axis of the image with a Gaussian of
    `sqrt(ratio ** 2 - 1) / (2 sqrt(2 ln 2))` voxels, ratio = target step / image step.

    Args:
        image: Image or label map.
        grid: Where to sample.
        order: 1 linear, 0 nearest (keeps the type).
        outside: A value that stands around the image and is blended linearly with it, or `"edge"`.
        antialias: Whether to smooth before linear resampling onto a coarser grid.

    Returns:
        The image on `grid`.

    Source: Cardoso et al., Scale factor point spread function matching, 2015. Sampling is scipy's
        `affine_transform` with mode `grid-constant` or `nearest`.
    """
    matrix = np.linalg.solve(image.affine, grid.affine)
    # The length of row s is the target's step along the image's axis s, exact where the axes are parallel.
    ratio = np.linalg.norm(matrix[:3, :3], axis=1)
    if order == 1 and antialias and (ratio > 1 + TOLERANCE).any():
        sigma = np.sqrt(np.maximum(ratio**2 - 1, 0)) / np.sqrt(8 * np.log(2))
        # Beyond four times its length an axis is its ends alone; with voxels of a nanometre the rest would take hours.
        reach = [min(int(4 * width + 0.5), 4 * n + 32) for width, n in zip(sigma, image.shape, strict=False)]
        smooth = _per_channel(
            lambda a: ndimage.gaussian_filter(_floating(a), sigma, mode="nearest", radius=reach), image.array
        )
        image = Image(smooth, image.affine)
    return Image(sample_matrix(image.array, matrix, grid.shape, order, outside), grid.affine)


def sample_matrix(
    array: np.ndarray, matrix: np.ndarray, shape: tuple[int, int, int], order: int, outside: Outside
) -> np.ndarray:
    """Samples an array at `matrix @ index` (voxels) for every index of `shape`; copies where those are integers.

    Args:
        array: Values, shape (I, J, K) or (I, J, K, C).
        matrix: Target voxel to array voxel, shape (4, 4).
        shape: Target shape.
        order: 1 linear, 0 nearest.
        outside: As in `resample`.

    Returns:
        Values, shape (*shape,) or (*shape, C).
    """
    nearest = np.rint(matrix)
    turns = nearest[:3, :3]
    is_permutation = (np.abs(turns).sum(0) == 1).all() and (np.abs(turns).sum(1) == 1).all()
    if is_permutation and _near_corners(matrix, shape, nearest):
        return _copy(array, turns, nearest[:3, 3], shape, outside)
    mode = _mode(outside)
    array = array if order == 0 else _floating(array)
    return _per_channel(
        lambda a: ndimage.affine_transform(
            a, matrix[:3, :3], matrix[:3, 3], shape, order=order, prefilter=False, **mode
        ),
        array,
    )


def sample_points(image: Image, points: np.ndarray, order: int = 1, outside: Outside = 0.0) -> np.ndarray:
    """Samples an image at world points (*N, 3) in mm, and returns (*N,) or (*N, C) values; see `resample`."""
    voxels = np.moveaxis(map_points(np.linalg.inv(image.affine), points), -1, 0)
    array = image.array if order == 0 else _floating(image.array)
    mode = _mode(outside)
    return _per_channel(lambda a: ndimage.map_coordinates(a, voxels, order=order, prefilter=False, **mode), array)


def normalise(array: np.ndarray, intensity: PercentileIntensity | WindowIntensity) -> np.ndarray:
    """Clips intensities and scales them to [0, 1].

    Args:
        array: Values of any shape.
        intensity: Two percentiles, taken over all voxels of `array`, or a window in the image's own unit.

    Returns:
        float32 values, the shape of `array`.

    Raises:
        InvalidError: If both bounds coincide (a nearly constant image, an empty window).
    """
    bounds = (intensity.low, intensity.high)
    low, high = np.percentile(array, bounds) if intensity.name == "percentiles" else bounds
    if not high > low:
        expected = f"{intensity.name} {bounds[0]:g} and {bounds[1]:g} that differ"
        raise invalid("intensities", expected, f"{low:g} and {high:g}", "Is the image nearly constant?")
    scaled = (array.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    return np.clip(scaled, 0, 1, out=scaled)


def _near_corners(matrix: np.ndarray, shape: tuple[int, int, int], target: np.ndarray) -> bool:
    """Tells whether two voxel maps agree to 1e-4 voxel all over `shape`."""
    difference = map_points(matrix, corners(shape)) - map_points(target, corners(shape))
    return bool((np.abs(difference) <= TOLERANCE).all())


def _copy(array: np.ndarray, turns: np.ndarray, shift: np.ndarray, shape: tuple, outside: Outside) -> np.ndarray:
    """Copies voxel `turns @ index + shift` for every index of `shape`; `turns` is a signed permutation."""
    axes = np.abs(turns).argmax(0)  # target axis t runs along array axis axes[t]
    ranges = [turns[s, t] * np.arange(shape[t]) + shift[s] for t, s in enumerate(axes)]
    array = array.transpose(*axes, *range(3, array.ndim))
    inside = [np.clip(r, 0, n - 1).astype(np.intp) for r, n in zip(ranges, array.shape, strict=False)]
    copy = array[np.ix_(*inside)]
    if outside != "edge":
        for axis, (wanted, found) in enumerate(zip(ranges, inside, strict=True)):
            copy[(slice(None),) * axis + (wanted != found,)] = outside
    return copy


def _mode(outside: Outside) -> dict:
    return {"mode": "nearest"} if outside == "edge" else {"mode": "grid-constant", "cval": outside}


def _floating(array: np.ndarray) -> np.ndarray:
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def _per_channel(function, array: np.ndarray) -> np.ndarray:
    if array.ndim == 3:
        return function(array)
    return np.stack([function(array[..., channel]) for channel in range(array.shape[3])], axis=-1)
