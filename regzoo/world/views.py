"""How a network sees an image, alone or beside another: on its own grid, in its own intensities, in its own axes.

Training and `register` see a pair in this way alone.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from nibabel.orientations import io_orientation

from regzoo.errors import invalid
from regzoo.world.images import Grid, Image
from regzoo.world.lungs import centred_grid, lung_mask
from regzoo.world.matrices import about
from regzoo.world.padding import without_padding
from regzoo.world.resampling import normalise, resample

if TYPE_CHECKING:  # pydantic is slow to import, and only the fields' names are needed here
    from regzoo.schema.inputs import InputConfig

_DIRECTIONS = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}


@dataclass(frozen=True)
class View:
    """An image as a network sees it.

    Args:
        image: Shape (*S, 1), in [0, 1], or bytes, 255 for 1.0. For a 2-D network S still has the slices, until `plane`
            takes one.
        labels: From an integer map, shape (*S,): which of the wanted labels, counted from 1, or 0 for none of them.
            From one channel a label, shape (*S, L), float32, or bytes, 255 for 1.0. None: no labels.
        grid: Where it lies.
    """

    image: np.ndarray
    labels: np.ndarray | None
    grid: Grid

    @property
    def soft(self) -> bool:
        """Whether the labels have one channel each."""
        return self.labels is not None and self.labels.ndim == self.image.ndim

    @functools.cached_property
    def present(self) -> set[int]:
        """The label channels, counted from 0, that are not empty (have half a voxel, where they are soft)."""
        if self.labels is None:
            return set()
        if not self.soft:
            return {number - 1 for number in np.unique(self.labels).tolist() if number}
        voxels = self.labels.sum(axis=tuple(range(self.labels.ndim - 1))) / self._one
        return set(np.flatnonzero(voxels >= 0.5).tolist())

    def channels(self, which: Sequence[int]) -> np.ndarray:
        """Returns labels, one channel each, shape (*S, len(which)), float32; without labels, empty channels."""
        if self.labels is None:
            return np.zeros((*self.image.shape[:-1], len(which)), "float32")
        if self.soft:
            return (self.labels[..., list(which)] / self._one).astype("float32")
        return np.stack([self.labels == each + 1 for each in which], axis=-1).astype("float32")

    @property
    def _one(self) -> int:
        """What 1.0 is in soft labels."""
        return 255 if self.labels is not None and self.labels.dtype == np.uint8 else 1

    def plane(self, k: int) -> View:
        """Returns slice k of an image for a 2-D network: `image` (I, J, 1) and labels alike."""
        labels = None if self.labels is None else self.labels[:, :, k]
        return View(self.image[:, :, k], labels, self.grid)


def view(
    image: Image,
    config: InputConfig,
    *,
    beside: Grid | None = None,
    labels: Image | None = None,
    values: Sequence[int] = (),
    lungs: Image | None = None,
) -> View:
    """Shows an image to a network: on its grid, in its intensities; 0 is outside the image.

    Args:
        image: One channel.
        config: The network's input.
        beside: For the moving image of a pair, the grid of the fixed image's view. Both views then have the same
            voxels: in the same places for the alignment `world`, centre on centre for `center`.
        labels: Label map on the image's grid: of integers, sampled by nearest neighbour, or with one channel a label,
            sampled linearly.
        values: Labels that are wanted, in order: values of an integer map, or channels, counted from 1.
        lungs: Where the lungs are, for a grid around them; None: they are found.

    Raises:
        InvalidError: If the image is nearly constant, has no lungs where they are looked for, or, for a 2-D network,
            other slices than `beside`.
    """
    image = without_padding(image)
    grid = own_grid(image, config, lungs) if beside is None else _grid_beside(image, config, beside, lungs)
    scaled = Image(normalise(image.array, config.intensity), image.affine)
    array = resample(scaled, grid, outside=0.0).array[..., None]
    if labels is None:
        return View(array, None, grid)
    found = resample(labels, grid, order=0 if labels.channels is None else 1).array
    return View(array, (_numbered if labels.channels is None else _chosen)(found, values), grid)


def stands_alone(config: InputConfig) -> bool:
    """Tells whether the view of a moving image is the same beside any fixed image."""
    return config.alignment == "center" and config.around != "extent"


def start_matrix(fixed: Grid, moving: Grid) -> np.ndarray:
    """Returns what two views take for the same place, as a matrix (4, 4) from fixed to moving space in mm."""
    return moving.affine @ np.linalg.inv(fixed.affine)


def check_slices(fixed: Grid, moving: Grid, config: InputConfig) -> None:
    """Refuses two views of a 2-D network that do not show slice beside slice.

    Raises:
        InvalidError: If there are others, or they lie across by more than 45 degrees.
    """
    if len(config.shape) == 3:
        return
    if moving.shape[2] != fixed.shape[2]:
        expected = f"{fixed.shape[2]}, as the fixed image has, for a 2-D model"
        raise invalid("slices", expected, moving.shape[2], "With the alignment 'world' their places are compared.")
    across = [grid.affine[:3, 2] / grid.spacing[2] for grid in (fixed, moving)]
    if across[0] @ across[1] < np.sqrt(0.5):
        raise invalid("slices", "the fixed image's direction, within 45 degrees, for a 2-D model", "another")


def own_grid(image: Image, config: InputConfig, lungs: Image | None = None) -> Grid:
    """Returns the network's grid on an image.

    Its voxel `(n - 1) // 2` of each axis is put on the image's, or on the middle of the lungs. Around the `extent`,
    the spacing is stretched or shrunk evenly until the whole image just fits. Two values of spacing and shape, of a
    2-D network, keep the image's own slices along k; the axes, in the slice and across, run to the nearest of R, A and
    S, in this order, so that images that are stored the other way round are seen alike.

    Args:
        image: The image.
        config: The network's input.
        lungs: Where the lungs are, for a grid around them; None: they are found.
    """
    if config.around == "lungs":
        return centred_grid(lung_mask(image) if lungs is None else lungs, config.spacing, config.shape)
    spacing = np.array(config.spacing)
    if config.around == "extent":
        order = [max("RAS".find(axis), "LPI".find(axis)) for axis in config.axes]
        spacing = np.max(np.ptp(image.grid.box(), axis=0)[order] / (spacing * config.shape)) * spacing
    if len(config.shape) == 2:
        return _grid_of_slices(image, spacing, config.shape)
    return _grid_on(image, np.transpose([_DIRECTIONS[axis] for axis in config.axes]) * spacing, config.shape)


def _grid_on(image: Image, linear: np.ndarray, shape: Sequence[int]) -> Grid:
    return Grid(tuple(shape), about(linear, (np.array(shape) - 1) // 2, image.grid.centre))


def _grid_beside(image: Image, config: InputConfig, beside: Grid, lungs: Image | None) -> Grid:
    """Returns the grid of a moving image whose fixed image is seen on `beside`."""
    if config.alignment == "world":
        return beside
    if config.around == "extent":  # at the fixed image's scale
        return _grid_on(image, beside.affine[:3, :3], beside.shape)
    grid = own_grid(image, config, lungs)
    check_slices(beside, grid, config)
    return grid


def _grid_of_slices(image: Image, spacing: np.ndarray, shape: Sequence[int]) -> Grid:
    """Returns the grid of a 2-D network, which keeps the image's slices."""
    middle = (np.array((*shape, image.shape[2])) - 1) // 2
    directions = _towards_ras(image.affine[:3, :3] / image.spacing)
    if directions[:, 2] @ image.affine[:3, 2] < 0:  # the same slices, counted from the other end
        middle[2] = image.shape[2] - 1 - middle[2]
    linear = directions * (*spacing, image.spacing[2])
    return Grid((*shape, image.shape[2]), about(linear, middle, image.grid.centre))


def _towards_ras(directions: np.ndarray) -> np.ndarray:
    """Orders the first two of three axes (columns) as R, A, S are, and turns all three to the nearest of these."""
    turns = io_orientation(about(directions, np.zeros(3), np.zeros(3)))
    return (directions * turns[:, 1])[:, [0, 1, 2] if turns[0, 0] < turns[1, 0] else [1, 0, 2]]


def _numbered(found: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Turns label values into their places in `values`, from 1; 0 for any other."""
    order = np.argsort(values)
    at = np.searchsorted(np.asarray(values)[order], found)
    known = np.append(order + 1, 0)[at]
    wanted = np.append(np.asarray(values)[order], -1)[at] == found
    return np.where(wanted, known, 0).astype("uint8" if len(values) < 256 else "uint16")


def _chosen(found: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Takes the wanted channels; those that there are not are empty."""
    labels = np.zeros((*found.shape[:-1], len(values)), "float32")
    for channel, value in enumerate(values):
        if value <= found.shape[-1]:
            labels[..., channel] = np.clip(found[..., value - 1], 0, 1)
    return labels


def to_batch(array: np.ndarray, dims: int) -> np.ndarray:
    """Returns (I, J, K, C) as a batch for a network: (1, I, J, K, C), or for a 2-D one all slices, (K, I, J, C)."""
    return array[None] if dims == 3 else np.moveaxis(array, 2, 0)


def from_batch(array: np.ndarray, dims: int) -> np.ndarray:
    """Undoes `to_batch`."""
    return array[0] if dims == 3 else np.moveaxis(array, 0, 2)


def spatial_field(ddf: np.ndarray, dims: int) -> np.ndarray:
    """Returns a network's field (B, *S, D) in voxels as (I, J, K, 3); one of slices moves nothing across them."""
    ddf = from_batch(ddf, dims)
    return ddf if dims == 3 else np.concatenate([ddf, np.zeros_like(ddf[..., :1])], axis=-1)
