"""Points on the surface of a mask."""

import numpy as np
from scipy import ndimage

from regzoo.errors import invalid
from regzoo.world.images import Image
from regzoo.world.matrices import map_points


def surface(mask: Image, count: int | None = None, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns points on the surface of a mask, and their normals.

    A point lies halfway between each voxel of the mask and each face neighbour outside it. Where the image cuts the
    mask off there is no surface.

    Args:
        mask: Shape (I, J, K); all that is not 0 is inside.
        count: Most points. More are drawn from by chance, each as likely as its voxel face is large, so that thick
            slices do not thin them out.
        seed: Which points are drawn.

    Returns:
        Points in RAS mm, (N, 3), and normals of length 1 that point outwards, (N, 3): the slope of the mask, smoothed
        by a Gaussian of one voxel at least in each direction and as wide in mm as the largest voxel side.

    Raises:
        InvalidError: If the mask has channels or no surface.
    """
    if mask.channels is not None:
        raise invalid("mask", "shape (I, J, K)", mask.array.shape)
    inside = mask.array != 0
    places, areas = [], []
    for axis in range(3):
        found = np.argwhere(np.diff(inside, axis=axis)).astype(np.float64)
        found[:, axis] += 0.5
        places.append(found)
        sides = np.delete(mask.affine[:3, :3], axis, axis=1).T
        areas.append(np.full(len(found), np.linalg.norm(np.cross(*sides))))
    voxels, areas = np.concatenate(places), np.concatenate(areas)
    if not len(voxels):
        raise invalid("mask", "a surface", "an empty mask" if not inside.any() else "a mask that fills its image")
    if count is not None and len(voxels) > count:
        chosen = np.random.default_rng(seed).choice(len(voxels), count, replace=False, p=areas / areas.sum())
        voxels = voxels[np.sort(chosen)]
    smooth = ndimage.gaussian_filter(inside.astype(np.float32), mask.spacing.max() / mask.spacing, mode="nearest")
    slopes = [_slope(smooth, voxels, axis) for axis in range(3)]
    # A slope per voxel becomes one per mm by the inverse transpose; it rises inwards.
    normals = -np.stack(slopes, axis=-1) @ np.linalg.inv(mask.affine[:3, :3])
    length = np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return map_points(mask.affine, voxels), normals / length


def _slope(smooth: np.ndarray, voxels: np.ndarray, axis: int) -> np.ndarray:
    """Returns the central difference along an axis at places (N, 3) in voxels."""
    step = np.zeros(3)
    step[axis] = 0.5
    ahead, behind = (
        ndimage.map_coordinates(smooth, (voxels + sign * step).T, order=1, mode="nearest") for sign in (1, -1)
    )
    return ahead - behind
