"""A body without symmetry in closed form, seen anywhere."""

import numpy as np
from scipy.spatial.transform import Rotation

from regzoo.world.images import Grid, Image
from regzoo.world.matrices import map_points


def body_at(points, middle=(0.0, 0.0, 0.0)):
    """Returns an ellipsoid with spots, 0 to 2, at points (*N, 3) in mm."""
    places = points - np.asarray(middle)
    value = np.clip(1.5 - ((places / (20, 26, 14)) ** 2).sum(-1), 0, 1)
    for centre, height in (((8, 10, 3), 1.0), ((-6, -12, -4), 0.7), ((-5, 9, 2), -0.6)):
        value = value + height * np.exp(-np.square(places - centre).sum(-1) / 50)
    return value


def rigid(turn, shift, about):
    """Returns the matrix (4, 4) that turns by a rotation vector in degrees about a point, and then shifts, in mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(turn, degrees=True).as_matrix()
    matrix[:3, 3] = np.asarray(about) + shift - matrix[:3, :3] @ about
    return matrix


def body_pair(fixed_axes, moving_axes, matrix, middle, half=34.0):
    """Returns the body on two grids of given axes (3, 3), the moving one moved by a matrix (4, 4).

    The grids are cubes about the same middle, so that neither centres nor headers tell of the matrix.
    """
    images = []
    for axes, there in ((fixed_axes, np.eye(4)), (moving_axes, matrix)):
        shape = np.ceil(2 * half / np.linalg.norm(axes, axis=0)).astype(int)
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = axes, np.asarray(middle) - axes @ ((shape - 1) / 2)
        grid = Grid(tuple(shape), affine)
        places = map_points(np.linalg.inv(there), grid.coordinates())
        images.append(Image(body_at(places, middle).astype("float32"), affine))
    return tuple(images)
