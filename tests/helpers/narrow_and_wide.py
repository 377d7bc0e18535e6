"""A body that fills one image and takes a small part of another, 3.25 times as wide."""

import numpy as np
from worlds import affine, rotation

from regzoo.world.images import Grid, Image

RANDOM = np.random.default_rng(3)
CENTRES, SIZES, HEIGHTS = RANDOM.uniform(-45, 45, (60, 3)), RANDOM.uniform(6, 14, 60), RANDOM.uniform(-0.6, 1, 60)
TURN, SHIFT = rotation(0.06, -0.05, 0.09), np.array([4.0, -3.0, 2.0])
IN_NARROW = RANDOM.uniform(-35, 35, (200, 3))
IN_WIDE = IN_NARROW @ TURN.T + SHIFT
"""The same 200 points of the body in both images, RAS mm."""


def narrow_and_wide(fine=False):
    """Returns both images, of 4 and 6.5 mm, or of 2.5 and 4 mm."""
    if fine:
        narrow, wide = _middle_grid((64, 70, 60), 2.5), _middle_grid((130, 140, 120), 4.0)
    else:
        narrow, wide = _middle_grid((40, 44, 38), 4.0), _middle_grid((80, 86, 74), 6.5)
    places = narrow.coordinates(), (wide.coordinates() - SHIFT) @ TURN
    return tuple(
        Image(_body(where).astype("float32"), grid.affine) for where, grid in zip(places, (narrow, wide), strict=True)
    )


def _body(points):
    """An ellipsoid with blobs inside, in mm from its middle; around it nothing."""
    blobs = sum(
        height * np.exp(-np.square(points - centre).sum(-1) / (2 * size**2))
        for centre, size, height in zip(CENTRES, SIZES, HEIGHTS, strict=True)
    )
    return 100 * (1 + blobs) / (1 + np.exp((np.linalg.norm(points / (60, 70, 55), axis=-1) - 1) * 25))


def _middle_grid(shape, spacing):
    return Grid(shape, affine(np.diag([spacing] * 3), -spacing * (np.array(shape) - 1) / 2))
