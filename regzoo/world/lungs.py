"""Where the body and the lungs are in a chest CT, by thresholds and connected parts: a start, not a segmentation."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from regzoo.errors import invalid
from regzoo.world.images import Grid, Image
from regzoo.world.matrices import about, map_points
from regzoo.world.resampling import resample

STEP = 2.5  # mm at which the masks are worked out
_AIR = -500.0  # HU between lung and soft tissue
_SMALL = 0.15  # a part of the lungs is at least this share of the largest; gas in stomach and bowel is smaller


def body_mask(image: Image) -> Image:
    """Finds the body: the largest connected part denser than air, without the table, with everything inside it.

    Args:
        image: CT in HU, one channel.

    Returns:
        The mask, uint8, on the image's grid.
    """
    work = upright(image)
    return _on_grid_of(image, Image(_body(work), work.affine))


def lung_mask(image: Image) -> Image:
    """Finds both lungs with their vessels, and the trachea where it hangs together with them.

    Args:
        image: CT in HU, one channel, of a chest in any orientation and position.

    Returns:
        The mask, uint8, on the image's grid.

    Raises:
        InvalidError: If the image has no air inside a body, as with another modality or another unit than HU.
    """
    work = upright(image)
    air = (work.array < _AIR) & _body(work)
    # Opening cuts thin bridges to gas in the gullet and stomach; what it takes off the lungs' edge is grown back.
    core = ndimage.binary_opening(air, _ball(1))
    parts, count = ndimage.label(core)
    sizes = np.bincount(parts.ravel(), minlength=2)[1:]
    if count == 0 or sizes.max() * STEP**3 < 1e5:
        found = f"{sizes.max(initial=0) * STEP**3 / 1e6:.2f} l"
        raise invalid("image", "a chest CT in HU with at least 0.1 l of air inside the body", found)
    kept = np.isin(parts, 1 + np.flatnonzero(sizes >= _SMALL * sizes.max()))
    lungs = ndimage.binary_dilation(kept, _ball(1), mask=air)
    lungs = _closed(lungs, 3)
    return _on_grid_of(image, Image(ndimage.binary_fill_holes(lungs), work.affine))


def centred_grid(mask: Image, spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> Grid:
    """Returns a network's grid, axes along R, A, S, whose middle voxel lies on the middle of a mask's bounding box.

    Args:
        mask: Such as `lung_mask(image)`.
        spacing: The network's voxel size in mm.
        shape: The network's shape. Its voxel `(n - 1) // 2` of each axis is put on the voxel of the mask's grid
            that is nearest to the middle, so that grids of equal spacing coincide.

    Raises:
        InvalidError: If the mask is empty.
    """
    found = ndimage.find_objects((mask.array != 0).astype(np.uint8))
    if not found:
        raise invalid("mask", "a mask that is not empty", "no voxel")
    middle = map_points(mask.affine, np.array([(axis.start + axis.stop - 1) // 2 for axis in found[0]]))
    return Grid(shape, about(np.diag(spacing), (np.array(shape) - 1) // 2, middle))


def upright(image: Image) -> Image:
    """Returns a CT on isotropic voxels of `STEP` mm along R, A, S over its box; no HU is below -1000, that of air."""
    box = image.grid.box()
    low, high = box.min(0), box.max(0)
    affine = np.diag([STEP, STEP, STEP, 1.0])
    affine[:3, 3] = low + STEP / 2
    grid = Grid(tuple(np.maximum(1, np.round((high - low) / STEP))), affine)
    found = resample(image, grid, outside=-1000.0)
    return Image(np.maximum(found.array, -1000.0), affine)  # scanners write -2000 and less beyond their field of view


def _body(work: Image) -> np.ndarray:
    solid = ndimage.binary_opening(work.array > -300, _ball(1))  # cuts the table off; a chest wall may be thin
    parts, count = ndimage.label(solid)
    if count:
        solid = parts == 1 + np.bincount(parts.ravel())[1:].argmax()
    return _filled(_closed(solid, 3))


def _filled(mask: np.ndarray) -> np.ndarray:
    """Fills the holes of every axial slice: air inside the body has no way out within its slice."""
    return np.stack([ndimage.binary_fill_holes(mask[..., k]) for k in range(mask.shape[2])], axis=-1)


def _closed(mask: np.ndarray, radius: int) -> np.ndarray:
    padded = np.pad(mask, radius, mode="edge")
    return ndimage.binary_closing(padded, _ball(radius))[(slice(radius, -radius),) * 3]


def _ball(radius: int) -> np.ndarray:
    return np.square(np.indices((2 * radius + 1,) * 3) - radius).sum(0) <= radius**2 + 0.5


def _on_grid_of(image: Image, mask: Image) -> Image:
    soft = resample(Image(mask.array.astype(np.float32), mask.affine), image.grid, antialias=False)
    return Image((soft.array >= 0.5).astype(np.uint8), image.affine)
