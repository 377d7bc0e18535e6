"""Images in closed form, and maps of boxes, of which every voxel is known."""

import numpy as np

from regzoo.world.images import Image

QUADRATIC = np.array([[0.012, 0.004, -0.003], [0.004, -0.008, 0.002], [-0.003, 0.002, 0.010]])


def anatomy(points):
    """An image in closed form: no axis is like another, and linear interpolation errs by less than 1e-3 of it."""
    return points @ (0.7, -1.3, 0.9) + 0.5 * np.einsum("...i,ij,...j", points, QUADRATIC, points) + 100


def picture_of(grid, shift=(0, 0, 0)):
    return Image(anatomy(grid.coordinates() + shift).astype(np.float32), grid.affine)


def boxes(*starts, shape=(20, 9, 9)):
    """A label map with 4 x 4 x 4 boxes: label -> first voxel."""
    labels = np.zeros(shape, np.int16)
    for label, (i, j, k) in starts:
        labels[i : i + 4, j : j + 4, k : k + 4] = label
    return labels
