"""Pairs of image files as batches: drawn, their labels in channels, mirrored; and one after the other."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from regzoo.data.draws import Draw, Files
from regzoo.data.kinds import Batch, without_unshared
from regzoo.data.reader import Reader
from regzoo.errors import invalid
from regzoo.schema.augmentation import FlipAugmentation
from regzoo.world.images import Grid
from regzoo.world.views import View, to_batch


class DrawnBatches:
    """Draws batches.

    Args:
        reader: Reads a pair.
        draw: Draws a pair.
        labels: `"all"` labels in a channel each, `"one"` or a number of different random labels that both images have,
            or None.
        flip: How often both images of a pair are mirrored; None: never.
    """

    def __init__(
        self,
        reader: Reader,
        draw: Draw,
        labels: Literal["all", "one"] | int | None = "all",
        flip: FlipAugmentation | None = None,
    ) -> None:
        self.reader, self.draw, self.labels, self.flip = reader, draw, labels, flip
        self._mirror = _mirrored(flip, reader.values) if labels else []

    def __call__(self, random: np.random.Generator, count: int) -> Batch:
        """Returns a batch: `fixed` and `moving`, (B, *S, 1), and, unless `labels` is None, their labels, (B, *S, L)."""
        pairs = [self._pair(random) for _ in range(count)]
        mirrored = [self.flip is not None and random.uniform() < self.flip.probability for _ in pairs]
        channels = [self._channels(*pair, mirror, random) for pair, mirror in zip(pairs, mirrored, strict=True)]
        batch = {}
        for name, side in zip(("fixed", "moving"), zip(*pairs, strict=True), strict=True):
            axes = [_axis(*each) for each in zip(side, mirrored, strict=True)]
            batch[name] = np.stack([np.flip(seen.image, axis) for seen, axis in zip(side, axes, strict=True)])
            if self.labels is not None:
                labels = [_chosen(*each) for each in zip(side, channels, strict=True)]
                batch[f"{name}_labels"] = np.stack([np.flip(*each) for each in zip(labels, axes, strict=True)])
        return batch if self.labels is None else without_unshared(batch)

    def _pair(self, random: np.random.Generator) -> tuple[View, View]:
        """Draws a pair; for a 2-D network, one slice of it in which both images show something."""
        fixed, moving = self.reader.pair(*self.draw(random))
        if len(self.reader.config.shape) == 3:
            return fixed, moving
        shown = np.flatnonzero(np.ptp(fixed.image, axis=(0, 1)) * np.ptp(moving.image, axis=(0, 1)))
        k = int(random.choice(shown)) if shown.size else (fixed.image.shape[2] - 1) // 2
        return fixed.plane(k), moving.plane(k)

    def _channels(self, fixed: View, moving: View, mirror: bool, random: np.random.Generator) -> list[int | None]:
        """Returns which label goes into each channel; None: nothing."""
        if self.labels is None:
            return []
        if self.labels == "all":
            return self._mirror if mirror else list(range(len(self.reader.values)))
        wanted = 1 if self.labels == "one" else self.labels
        shared = sorted(fixed.present & moving.present)
        drawn = random.choice(shared, min(wanted, len(shared)), replace=False).tolist() if shared else []
        return drawn + [None] * (wanted - len(drawn))


class ReadBatches(Sequence):
    """Given pairs in a row, as batches of one pair, read when they are asked for.

    Args:
        reader: Reads a pair.
        pairs: (fixed, moving) files.
    """

    def __init__(self, reader: Reader, pairs: Sequence[tuple[Files, Files]]) -> None:
        self.reader, self.pairs = reader, pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, place: int) -> Batch:
        """Returns `fixed` and `moving`, and their labels if both have some: soft ones, or numbers from 1 (int32)."""
        sides, dims = self.reader.pair(*self.pairs[place]), len(self.reader.config.shape)
        batch = {name: to_batch(seen.image, dims) for name, seen in zip(("fixed", "moving"), sides, strict=True)}
        if all(seen.labels is not None for seen in sides):
            for name, seen in zip(("fixed_labels", "moving_labels"), sides, strict=True):
                labels = seen.labels if seen.soft else seen.labels[..., None].astype("int32")
                batch[name] = to_batch(labels, dims)
        return batch


def left_right(grid: Grid, dims: int) -> int:
    """Returns the axis of a network's grid that runs most nearly between left and right.

    Args:
        grid: Where the image lies.
        dims: How many of its axes the network sees.

    Raises:
        InvalidError: If it is none of them, as in sagittal slices.
    """
    axis = int(np.argmax(np.abs(grid.affine[0, :3]) / grid.spacing))
    if axis >= dims:
        raise invalid("augmentation.flip", "images that show left and right", "slices across that axis")
    return axis


def _axis(seen: View, mirror: bool) -> int | tuple[()]:
    """Returns the axis to be mirrored, or none of them."""
    return left_right(seen.grid, seen.image.ndim - 1) if mirror else ()


def _chosen(seen: View, channels: Sequence[int | None]) -> np.ndarray:
    """Returns the labels of channels, (*S, len(channels)); those that are None are empty."""
    labels = np.zeros((*seen.image.shape[:-1], len(channels)), "float32")
    for place, channel in enumerate(channels):
        if channel is not None:
            labels[..., place : place + 1] = seen.channels([channel])
    return labels


def _mirrored(flip: FlipAugmentation | None, values: Sequence[int]) -> list[int]:
    """Returns, for each channel, the channel of the label that is its mirror image."""
    swap = flip.swap if flip else ()
    other = dict(swap) | {b: a for a, b in swap}
    unknown = other.keys() - set(values)
    if unknown:
        raise invalid("augmentation.flip.swap", f"labels among {tuple(values)}", min(unknown))
    return [values.index(other.get(value, value)) for value in values]
