"""Grids and images of known content, shared by the tests of the world rooms."""

import numpy as np

from regzoo.world.images import Grid, Image


def rotation(x, y, z):
    """Returns the rotation about the three axes, in radians, shape (3, 3)."""
    cx, cy, cz = np.cos([x, y, z])
    sx, sy, sz = np.sin([x, y, z])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def affine(linear, origin):
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = origin
    return matrix


AFFINES = {
    "RAS": affine(np.diag([1.5, 1.5, 1.5]), (-12, -20, 5)),
    "LAS": affine(np.diag([-1.5, 1.5, 1.5]), (11, -21, 6)),
    "LPS": affine(np.diag([-1.5, -1.5, 1.5]), (13, 12, 4)),
    "anisotropic": affine(np.diag([1.0, -1.25, 3.0]), (-9, 10, 0)),
    "permuted": affine(np.array([[0, 0, -2.0], [1.5, 0, 0], [0, 1.0, 0]]), (18, -19, 7)),
    "oblique": affine(rotation(0.3, -0.2, 0.5) * (1.2, 1.7, 2.1), (-10, -22, 2)),
}
SLOPE = np.array([0.7, -1.3, 0.4])


def ramp(grid):
    """Returns the image with the value `SLOPE @ x + 5` at world position x, and 3 mm (not voxels) matter."""
    return Image((grid.coordinates() @ SLOPE + 5).astype(np.float64), grid.affine)


def around(grid, name, margin=25.0, size=None):
    """Returns a grid with the axes of AFFINES[name] that covers `grid` with a margin in mm."""
    linear = AFFINES[name][:3, :3]
    corners = grid.box() @ np.linalg.inv(linear).T
    spacing = np.linalg.norm(linear, axis=0)
    low, high = corners.min(0) - margin / spacing, corners.max(0) + margin / spacing
    return Grid(tuple(size or np.ceil(high - low).astype(int) + 1), affine(linear, linear @ low))


def blobs(grid, seed=0):
    """Returns a smooth random image on a grid, float32, with values in [0, 1]."""
    random = np.random.default_rng(seed)
    places, centre = grid.coordinates(), grid.box().mean(0)
    values = np.zeros(grid.shape)
    for _ in range(12):
        middle = centre + random.uniform(-12, 12, 3)
        values += random.uniform(0.3, 1) * np.exp(-((places - middle) ** 2).sum(-1) / random.uniform(20, 80))
    return Image((values / values.max()).astype(np.float32), grid.affine)


def waves(grid, size=3.0):
    """Returns a smooth displacement (*S, 3) in mm that differs in all components, of at most `size`."""
    x, y, z = np.moveaxis(grid.coordinates(), -1, 0)
    u = np.stack([np.sin(y / 9 + 0.3), 0.7 * np.cos(z / 11 - x / 13), 0.5 * np.sin(x / 8 + z / 15) + 0.3], axis=-1)
    return (size * u).astype(np.float32)
