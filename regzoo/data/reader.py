"""Pairs on the network's grid: images and labels read, brought there and kept while they fit in memory."""

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from regzoo.data.draws import Files
from regzoo.errors import InvalidError, invalid
from regzoo.schema.inputs import InputConfig
from regzoo.world.images import Grid, Image, network_grid, normalise, resample
from regzoo.world.lungs import centred_grid, lung_mask


@dataclass(frozen=True)
class Placed:
    """An image on a network's grid.

    Args:
        image: Shape (*S, 1), in [0, 1]. For a 2-D network S still has the slices, until `plane` takes one.
        labels: From an integer map, shape (*S,): which of the wanted labels, counted from 1, or 0 for none of them.
            From one channel a label, shape (*S, L), float32. None: no labels.
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
        return set(np.flatnonzero(self.labels.sum(axis=tuple(range(self.labels.ndim - 1))) >= 0.5).tolist())

    def channels(self, which: Sequence[int]) -> np.ndarray:
        """Returns labels, one channel each, shape (*S, len(which)), float32; without labels, empty channels."""
        if self.labels is None:
            return np.zeros((*self.image.shape[:-1], len(which)), "float32")
        if self.soft:
            return self.labels[..., list(which)]
        return np.stack([self.labels == each + 1 for each in which], axis=-1).astype("float32")

    def plane(self, k: int) -> "Placed":
        """Returns slice k of an image for a 2-D network: `image` (I, J, 1) and labels alike."""
        labels = None if self.labels is None else self.labels[:, :, k]
        return Placed(self.image[:, :, k], labels, self.grid)


def to_batch(array: np.ndarray, dims: int) -> np.ndarray:
    """Returns (I, J, K, C) as a batch for a network: (1, I, J, K, C), or for a 2-D one all slices, (K, I, J, C)."""
    return array[None] if dims == 3 else np.moveaxis(array, 2, 0)


def from_batch(array: np.ndarray, dims: int) -> np.ndarray:
    """Undoes `to_batch`."""
    return array[0] if dims == 3 else np.moveaxis(array, 0, 2)


def place(image: Image, labels: Image | None, grid: Grid, config: InputConfig, values: Sequence[int] = ()) -> Placed:
    """Brings an image and its labels to a network's grid and intensities: the same for training and for `register`.

    Args:
        image: One channel.
        labels: Label map on the image's grid, of integers or with one channel a label, or None.
        grid: Where to sample: linear for the image and for channels, nearest for integers; 0 outside the image.
        config: The network's input.
        values: Labels that are wanted, in order: values of an integer map, or channels, counted from 1.
    """
    scaled = Image(normalise(image.array, config.intensity), image.affine)
    array = resample(scaled, grid, outside=0.0).array[..., None]
    if labels is None:
        return Placed(array, None, grid)
    found = resample(labels, grid, order=0 if labels.channels is None else 1).array
    return Placed(array, (_numbered if labels.channels is None else _chosen)(found, values), grid)


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


def fitted(config: InputConfig, fixed: Image) -> InputConfig:
    """Returns the input with the spacing that it has for a fixed image: another one where `around` is `extent`."""
    if config.around != "extent":
        return config
    order = [max("RAS".find(axis), "LPI".find(axis)) for axis in config.axes]
    spacing = np.array(config.spacing)
    scale = np.max(np.ptp(fixed.grid.box(), axis=0)[order] / (spacing * config.shape))
    return config.model_copy(update={"spacing": tuple((scale * spacing).tolist()), "around": "image"})


def own_grid(image: Image, config: InputConfig, lungs: Image | None = None) -> Grid:
    """Returns the network's grid on an image: its axes, spacing and shape, at the image's centre or its lungs'.

    Args:
        image: The fixed image.
        config: The network's input.
        lungs: Where they are, for a grid around them; None: they are found.
    """
    if config.around == "lungs":
        return centred_grid(lung_mask(image) if lungs is None else lungs, config.spacing, config.shape)
    return network_grid(image, config.spacing, config.shape, config.axes)


def read_labelled(files: Files) -> tuple[Image, Image | None]:
    """Reads an image and its labels.

    Raises:
        ValueError: If a file cannot be read, or the labels are not on the image's grid, or channels not in [0, 1].
    """
    image = Image.read(files.image, spacing=files.spacing)
    if files.labels is None:
        return image, None
    labels = Image.read(files.labels, labels=True, spacing=files.spacing)
    if labels.channels is not None and not (labels.array.min() >= 0 and labels.array.max() <= 1):
        received = f"{labels.array.min():g} to {labels.array.max():g}"
        raise invalid(str(files.labels), "channels of labels with values from 0 to 1", received)
    if not labels.grid.same_as(image.grid):
        received = f"shape {labels.shape}" if labels.shape != image.shape else "another affine"
        raise invalid(str(files.labels), f"the grid of {files.image.name}, shape {image.shape}", received)
    return image, labels


class Reader:
    """Reads pairs onto a network's grid and keeps what was read last while it fits; safe to share between threads.

    Args:
        config: The network's input.
        values: Labels that are wanted; see `place`.
        memory: Bytes of images and labels to keep.
    """

    def __init__(self, config: InputConfig, values: Sequence[int], memory: int = 2**31) -> None:
        self.config, self.values, self.memory = config, tuple(values), memory
        self._kept: OrderedDict[tuple[Files, ...], Placed] = OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()

    def check(self, files: Iterable[Files]) -> None:
        """Reads every image once, so that one that cannot be used ends a run at its start and not overnight."""
        for each in dict.fromkeys(files):
            self._own(each)

    def pair(self, fixed: Files, moving: Files) -> tuple[Placed, Placed]:
        """Returns both images on the fixed image's network grid, aligned as the network expects."""
        placed = self._own(fixed)
        if self.config.around == "extent":
            return placed, self._once((moving, fixed), lambda: self._place(moving, placed.grid, at_scale=True))
        if self.config.alignment == "center":
            other = self._own(moving)
            if other.image.shape != placed.image.shape:  # only slices, of a 2-D network, can differ
                received = other.image.shape[2]
                expected = f"{placed.image.shape[2]} slices, as {fixed.image.name} has, for a 2-D model"
                advice = "Set input.alignment to world to compare them by their places."
                raise invalid(str(moving.image), expected, received, advice)
            return placed, other
        return placed, self._once((moving, fixed), lambda: self._place(moving, placed.grid))

    def _own(self, files: Files) -> Placed:
        return self._once((files,), lambda: self._place(files, None))

    def _place(self, files: Files, grid: Grid | None, at_scale: bool = False) -> Placed:
        image, labels = read_labelled(files)
        config = fitted(self.config, image)
        if at_scale:
            config = config.model_copy(update={"spacing": tuple(grid.spacing.tolist())})
            grid = None if config.alignment == "center" else grid
        try:
            return place(image, labels, grid or own_grid(image, config), config, self.values)
        except InvalidError as error:
            raise InvalidError(f"{files.image}: {error}") from None

    def _once(self, key: tuple[Files, ...], read: Callable[[], Placed]) -> Placed:
        """Returns what is kept under a key, or reads it and keeps it in the place of what was not used for longest."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        placed = read()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = placed
                self._bytes += _size(placed)
            while self._bytes > self.memory:
                self._bytes -= _size(self._kept.popitem(last=False)[1])
        return placed


def _size(placed: Placed) -> int:
    return placed.image.nbytes + (0 if placed.labels is None else placed.labels.nbytes)


def label_values(files: Sequence[Files]) -> tuple[int, ...]:
    """Returns every label in the files, background left out: values of integer maps, channels counted from 1.

    Raises:
        ValueError: If there are label maps, and all of them are empty.
    """
    paths = dict.fromkeys(each.labels for each in files if each.labels is not None)
    found = set().union(*(_values(Image.read(path, labels=True)) for path in paths))
    if paths and not found:
        raise invalid("labels", f"a value other than 0 in one of {len(paths)} label maps", "none")
    return tuple(sorted(found))


def _values(labels: Image) -> set[int]:
    if labels.channels is None:
        return set(np.unique(labels.array).tolist()) - {0}
    return {channel + 1 for channel in range(labels.channels) if labels.array[..., channel].any()}
