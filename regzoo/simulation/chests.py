"""A chest CT made ready for simulated breathing: the image, and maps that say what moves, around the lungs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull

from regzoo.errors import invalid
from regzoo.world.images import Grid, Image
from regzoo.world.lungs import STEP, body_mask, centred_grid, upright
from regzoo.world.resampling import resample

_MARGIN = 1.3  # size of what is kept, in sizes of the network's grid: room for random zooms and shifts
FINE = 1.5  # image voxels per network voxel, so that sampling the image hardly blurs it
_BELOW = 60.0  # mm by which the last slices are repeated beyond the scan: breathing may bring that much into view
_SKIN = 25.0  # mm outside the body over which its motion dies away
_WALL = 15.0  # mm from the skin to what slides inside the trunk, at least
_BONE = 200.0  # HU
_CLOSE = 5  # voxels of STEP mm: half the widest gap between ribs that counts as wall
_DEEP = 30.0  # mm from the wall over which motion towards it grows


@dataclass(frozen=True, eq=False)
class Chest:
    """A chest around its lungs, in arrays along R, A, S whose shapes depend only on the network's grid.

    Args:
        image: HU and lung mask (0 to 1) on a grid 1.5 times finer than the network's, shape (*S_fine, 2), float32.
            Beyond the scan's ends, its first and last slice are repeated.
        maps: On `grid`, shape (*S_maps, 4), float32: how much a place moves with the body (1 inside, 0 well outside);
            whether it slides inside the chest wall (1 in lungs, mediastinum and belly, 0 in ribs and spine); how deep
            inside the wall it is (from 0 to 1); its height between diaphragm (0) and apex of the lungs (1), below 0
            in the belly.
        grid: Places of `maps`, with the network's voxel size. The box around it is also the one around `image`.
        half: Half the size of the box around the lungs along R, A, S in mm, shape (3,).
        scan: Lowest and highest world z of the scan in mm, shape (2,).
        network: The network's grid on the middle of the lungs' box.
    """

    image: np.ndarray
    maps: np.ndarray
    grid: Grid
    half: np.ndarray
    scan: np.ndarray
    network: Grid


def prepare(ct: Image, lungs: Image, spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> Chest:
    """Makes a chest CT ready for simulated breathing on a network's grid.

    Args:
        ct: HU, one channel, in any orientation.
        lungs: Lung mask on the CT's grid, such as `regzoo.world.lungs.lung_mask(ct)`.
        spacing: The network's voxel size in mm.
        shape: The network's shape.

    Raises:
        InvalidError: If the mask is empty or on another grid.
    """
    if not lungs.grid.same_as(ct.grid):
        raise invalid("lungs", f"a mask on the CT's grid, shape {ct.shape}", f"shape {lungs.shape}")
    grid = centred_grid(lungs, spacing, tuple(2 * round(n * _MARGIN / 2) for n in shape))
    hu = upright(ct)
    mask = resample(Image(lungs.array.astype(np.float32), lungs.affine), hu.grid).array >= 0.5
    body = body_mask(hu).array > 0
    maps = (_with_skin(body), *_sliding(hu.array, mask, body), _height(mask))
    box = np.array([(part.start, part.stop) for part in ndimage.find_objects(mask.astype(np.uint8))[0]]).T
    return Chest(
        np.stack([_fine(hu.array, hu, grid, -1000.0), _fine(mask, hu, grid, 0.0)], axis=-1),
        np.stack([_coarse(each, hu, grid) for each in maps], axis=-1),
        grid,
        np.ptp(box, axis=0) * STEP / 2,
        hu.grid.box()[[0, -1], 2],
        centred_grid(lungs, spacing, shape),
    )


def _coarse(array: np.ndarray, work: Image, grid: Grid) -> np.ndarray:
    """Samples at `grid`; around the scan an array goes on as at its edge."""
    margin = (np.array(array.shape) - work.shape) // 2
    affine = work.affine.copy()
    affine[:3, 3] -= margin * work.spacing
    return resample(Image(array.astype(np.float32), affine), grid, outside="edge", antialias=False).array


def _fine(array: np.ndarray, work: Image, grid: Grid, outside: float) -> np.ndarray:
    """Samples over the box of `grid` more finely, with the scan's end slices repeated."""
    count = round(_BELOW / work.spacing[2])
    lower = work.affine.copy()
    lower[2, 3] -= count * work.spacing[2]
    longer = Image(np.pad(array.astype(np.float32), ((0, 0), (0, 0), (count, count)), mode="edge"), lower)
    affine = grid.affine @ np.diag([1 / FINE, 1 / FINE, 1 / FINE, 1.0])
    affine[:3, 3] -= grid.spacing * (0.5 - 0.5 / FINE)  # edges, not centres, of the two grids coincide
    return resample(longer, Grid(tuple(round(n * FINE) for n in grid.shape), affine), outside=outside).array


def _with_skin(body: np.ndarray) -> np.ndarray:
    margin = round(_SKIN / STEP)  # a body that the field of view cuts ends there; above and below it goes on
    return np.clip(1 - _distance(~np.pad(body, ((margin, margin), (margin, margin), (0, 0)))) / _SKIN, 0, 1)


def _distance(outside: np.ndarray) -> np.ndarray:
    """Returns the distance of every voxel of `outside` to the nearest voxel that is not, in mm; far away if none is."""
    if outside.all():
        return np.full(outside.shape, 1e3)
    return ndimage.distance_transform_edt(outside) * STEP


def _sliding(hu: np.ndarray, lungs: np.ndarray, body: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the inside of the trunk: the lungs' hull, carried down into the belly, without ribs and spine.

    Returns:
        Whether a place is inside, and how far from the wall it is: 0 at the wall, 1 from `_DEEP` mm on.
    """
    hull = _hull(lungs)
    wall = ~(hull & (_distance(body) > _WALL)) | _bones(hu, hull, lungs)
    # Closed, so that the wall is smooth between the ribs, which it must not be where the lungs bulge into it.
    radius = _CLOSE * STEP
    closed = _distance(_distance(~np.pad(wall, _CLOSE, mode="edge")) <= radius) > radius
    wall = closed[(slice(_CLOSE, -_CLOSE),) * 3]
    inside = ~(wall & ~lungs)
    return ndimage.gaussian_filter(inside.astype(np.float32), 0.7, mode="nearest"), np.clip(
        _distance(inside) / _DEEP, 0, 1
    )


def _hull(lungs: np.ndarray) -> np.ndarray:
    """Returns the convex hull of each slice of the lungs together with all slices above."""
    places = np.stack(np.meshgrid(*map(np.arange, lungs.shape[:2]), indexing="ij"), axis=-1).reshape(-1, 2)
    hulls, corners = np.zeros_like(lungs), np.zeros((0, 2))
    for k in reversed(range(lungs.shape[2])):
        corners = np.concatenate([corners, np.argwhere(lungs[..., k])])
        if len(corners) > 2 and np.ptp(corners, axis=0).min() > 0:
            hull = ConvexHull(corners)
            corners = corners[hull.vertices]
            inside = (places @ hull.equations[:, :2].T + hull.equations[:, 2] <= 0.5).all(axis=1)
            hulls[..., k] = inside.reshape(lungs.shape[:2])
    return hulls


def _bones(hu: np.ndarray, hull: np.ndarray, lungs: np.ndarray) -> np.ndarray:
    """Returns ribs, breastbone and spine; what contrast agent lights up deep inside the hull is none."""
    x, y, _ = ndimage.find_objects(lungs.astype(np.uint8))[0]
    middle, front = (x.start + x.stop) // 2, y.start + round(0.4 * (y.stop - y.start))
    spine = np.zeros_like(hull)
    spine[middle - 16 : middle + 16, :front] = True
    bright = hu > _BONE
    column = ndimage.maximum_filter1d(bright & spine, 17, axis=2, mode="nearest")  # over the discs
    return ndimage.binary_dilation((bright & (_distance(hull) < 12.0)) | column)


def _height(lungs: np.ndarray) -> np.ndarray:
    """Returns the height above the diaphragm, whose surface is spread from the columns where the lungs rest on it."""
    z = np.arange(lungs.shape[2], dtype=np.float32)
    low, high = np.flatnonzero(lungs.any(axis=(0, 1)))[[0, -1]]
    lowest = np.where(lungs.any(axis=2), lungs.argmax(axis=2), high).astype(np.float32)
    rests = (lowest < low + 0.5 * (high - low)).astype(np.float32)
    sums, counts = (ndimage.gaussian_filter(each, 8.0, mode="nearest") for each in (lowest * rests, rests))
    mean = lowest[rests > 0].mean()
    diaphragm = (sums + 1e-3 * mean) / (counts + 1e-3)
    return (z - diaphragm[..., None]) / (high - diaphragm[..., None])
