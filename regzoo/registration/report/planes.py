"""Planes through an image as a page shows them: by patient axes, in radiological layout."""

from __future__ import annotations

import numpy as np

from regzoo.world.images import Grid

_NAMES = ("sagittal", "coronal", "axial")
_SIDES = (("R", "L"), ("A", "P"), ("S", "I"))
"""What is on the left and right, or at the top and bottom, of a plane that runs along R, A or S."""


class Plane:
    """A plane along two axes of a grid, turned so that the page shows patient axes: left-right, back-front, head up.

    Args:
        grid: Where the voxels are.
        normal: World axis that the plane is nearest to being across: 0 sagittal, 1 coronal, 2 axial.
        at: Index along the grid's axis that is nearest to it.
    """

    def __init__(self, grid: Grid, normal: int, at: int) -> None:
        directions = grid.affine[:3, :3] / grid.spacing
        order = nearest_axes(grid)
        world_across, world_up = [w for w in range(3) if w != normal]
        self.name = _NAMES[normal]
        self.axis, self.at = order[normal], at
        self.across, self.up = order[world_across], order[world_up]
        # Radiological: patient right on the page's left; head up; in sagittal planes the face looks left.
        self.flip_across = bool(directions[world_across, self.across] > 0)
        self.flip_up = bool(directions[world_up, self.up] < 0)
        self.aspect = grid.spacing[self.up] / grid.spacing[self.across]
        self.left, self.right = _SIDES[world_across]
        self.top, self.bottom = _SIDES[world_up]

    def extent(self, grid: Grid) -> tuple[float, float]:
        """Returns width and height of the plane in mm."""
        return tuple(grid.shape[axis] * grid.spacing[axis] for axis in (self.across, self.up))

    def alone(self, grid: Grid) -> Grid:
        """Returns the voxels of the plane, a grid of one slice."""
        shape, affine = list(grid.shape), grid.affine.copy()
        shape[self.axis] = 1
        affine[:3, 3] += self.at * affine[:3, self.axis]
        return Grid(tuple(shape), affine)

    def cut(self, array: np.ndarray) -> np.ndarray:
        """Returns the plane, of the whole grid or alone, with rows upwards and columns to the right."""
        plane = np.take(array, self.at if array.shape[self.axis] > 1 else 0, axis=self.axis)
        if self.across > self.up:
            plane = np.swapaxes(plane, 0, 1)  # now (across, up)
        plane = np.swapaxes(plane, 0, 1)
        plane = plane[:, ::-1] if self.flip_across else plane
        return plane[::-1] if self.flip_up else plane


def nearest_axes(grid: Grid) -> list[int]:
    """Returns the grid's axis nearest to each world axis, each used once."""
    strength, order = np.abs(grid.affine[:3, :3] / grid.spacing), [0, 0, 0]
    for _ in range(3):
        world, axis = np.unravel_index(np.argmax(strength), (3, 3))
        order[world] = int(axis)
        strength[world, :] = strength[:, axis] = -1
    return order


def planes(grid: Grid, at: list[int]) -> list[Plane]:
    """Returns the three planes through a voxel; of a grid of one slice, that slice."""
    order = nearest_axes(grid)
    flat = [normal for normal in range(3) if grid.shape[order[normal]] == 1]
    return [Plane(grid, normal, at[order[normal]]) for normal in (flat[:1] or range(3))]
