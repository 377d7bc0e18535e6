"""A chest of simple shapes, in mm along R, A, S from its middle: body, lungs with vessels, spine, ribs, a table."""

import numpy as np

from regzoo.world.images import Grid, Image

VESSELS = ((-80, -50, 50, 80), (-25, 0, 25), (-45, -15, 15, 45))  # spots at every combination


def ellipsoid(places, centre, half):
    return (((places - np.array(centre)) / np.array(half)) ** 2).sum(-1) < 1


def lungs_at(places):
    """Returns whether places are in the lungs, which rest on a dome."""
    dome = -70 + 25 * np.exp(-((np.abs(places[..., 0]) - 65) ** 2 + places[..., 1] ** 2) / 45**2)
    both = ellipsoid(places, (-65, 0, 0), (48, 58, 105)) | ellipsoid(places, (65, 0, 0), (48, 58, 105))
    return both & (places[..., 2] > dome)


def spine_at(places):
    return np.hypot(places[..., 0], places[..., 1] + 70) < 16


def body_at(places):
    return ellipsoid(places * (1, 1, 0), (0, 0, 0), (145, 100, 1))


def chest_ct(grid, middle=(0.0, 0.0, 0.0)):
    """Returns the CT in HU and its lung mask on a grid, for a chest whose middle is there."""
    places = grid.coordinates() - middle
    body, lungs = body_at(places), lungs_at(places)
    hu = np.full(grid.shape, -1000.0)
    hu[body] = 30.0
    ring = ellipsoid(places * (1, 1, 0), (0, 0, 0), (132, 88, 1)) & ~ellipsoid(
        places * (1, 1, 0), (0, 0, 0), (124, 80, 1)
    )
    hu[ring & (np.mod(places[..., 2], 30) < 12)] = 500.0
    hu[lungs] = -850.0
    nearest = [
        np.abs(places[..., i, None] - np.array(each)).min(-1).astype("float32") for i, each in enumerate(VESSELS)
    ]
    hu[lungs] += 880 * np.exp(-sum(np.square(each) for each in nearest) / (2 * 4.0**2))[lungs]
    hu[spine_at(places)] = 400.0
    hu[(places[..., 1] > -112) & (places[..., 1] < -106) & (np.abs(places[..., 0]) < 150)] = -100.0
    return Image(hu.astype("float32"), grid.affine), Image(lungs.astype("uint8"), grid.affine)


def grid_at(
    spacing=(3.0, 3.5, 4.0), shape=(112, 76, 70), axes=((1, 0, 0), (0, 1, 0), (0, 0, 1)), shift=(0.0, 0.0, 0.0)
):
    """Returns a grid centred on the phantom, along the columns of `axes`."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(axes) * np.array(spacing)
    affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) - 1) / 2 + shift
    return Grid(shape, affine)
