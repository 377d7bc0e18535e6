"""A ramp that is read through a network's input config, and what is to be seen of it, without the code under test."""

import numpy as np
import worlds

from regzoo.schema.inputs import InputConfig
from regzoo.world.images import Grid, Image

LOW, HIGH = -60.0, 60.0
WINDOW = {"name": "window", "low": LOW, "high": HIGH}
SPACING, SHAPE = (2.0, 1.5, 2.5), (8, 10, 6)


def inputs(**changes):
    return InputConfig(**{"spacing": SPACING, "shape": SHAPE, "intensity": WINDOW} | changes)


def world(grid):
    """The world position of every voxel, without the code under test."""
    return np.moveaxis(np.indices(grid.shape), 0, -1) @ grid.affine[:3, :3].T + grid.affine[:3, 3]


def ramp(grid):
    """What a normalised `worlds.ramp` shows on a grid."""
    return (world(grid) @ worlds.SLOPE + 5 - LOW) / (HIGH - LOW)


def source(name, offset=(0, 0, 0)):
    """A ramp with the axes of worlds.AFFINES[name], large enough for the network's grid, and labels 3 and 5 in it."""
    affine = worlds.AFFINES[name].copy()
    affine[:3, 3] += offset
    size = np.ceil(40 / np.linalg.norm(affine[:3, :3], axis=0)).astype(int)
    grid = Grid(tuple(size), affine)
    labels = np.where(world(grid)[..., 1] > world(grid)[..., 1].mean(), 5, 3).astype("uint8")
    return worlds.ramp(grid), Image(labels, affine)
