"""Pairs of image files as batches: what is drawn of them, as bytes; and one after the other."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from regzoo.data.draws import Draw, Files
from regzoo.data.held import Held, image_bytes, label_bytes, label_name
from regzoo.data.kinds import Batch, Drawn
from regzoo.data.reader import Reader, check_pair
from regzoo.errors import invalid
from regzoo.schema.augmentation import FlipAugmentation
from regzoo.world.images import Grid
from regzoo.world.views import View, to_batch


class DrawnBatches:
    """Draws what batches are made of; every image has been read once before.

    Args:
        reader: Reads a pair.
        draw: Draws a pair.
        labels: `"all"` labels in a channel each, `"one"` or a number of different random labels that both images have,
            or None.
        flip: How often both images of a pair are mirrored; None: never.
        memory: Bytes of images and labels to hold; if they are more, each batch brings its own.
    """

    def __init__(
        self,
        reader: Reader,
        draw: Draw,
        labels: Literal["all", "one"] | int | None = "all",
        flip: FlipAugmentation | None = None,
        memory: int = 2**31,
    ) -> None:
        self.reader, self.draw, self.labels, self.flip = reader, draw, labels, flip
        self._mirror = _mirrored(flip, reader.values) if labels else []
        self.held = Held(reader, draw.items, labels is not None, memory)

    def __call__(self, random: np.random.Generator, count: int) -> Drawn:
        """Returns what a batch of so many pairs is made of."""
        pairs = [self._pair(random) for _ in range(count)]
        mirrored = [self.flip is not None and random.uniform() < self.flip.probability for _ in pairs]
        channels = [self._channels(*pair, mirror, random) for (pair, _), mirror in zip(pairs, mirrored, strict=True)]
        views = [pair[side] for side in (0, 1) for pair, _ in pairs]
        drawn = {"seeds": random.integers(2**31, size=2 * count, dtype="int32")}
        if self.flip is not None:
            drawn["mirror"] = np.stack([_axes(*each) for each in zip(views, 2 * mirrored, strict=True)])
        if self.labels is not None:
            drawn["channels"] = np.array(2 * channels, "int32").reshape(2 * count, -1)
        if self.held.arrays:
            return drawn | {"rows": np.array([rows[side] for side in (0, 1) for _, rows in pairs], "int32")}
        drawn["images"] = np.stack([image_bytes(seen) for seen in views])
        if self.labels is not None:
            soft, values = self.held.soft, self.reader.values
            drawn[label_name(soft)] = np.stack([label_bytes(seen, values, soft) for seen in views])
        return drawn

    def _pair(self, random: np.random.Generator) -> tuple[tuple[View, View], tuple[int, int]]:
        """Draws a pair and its rows; for a 2-D network, one slice of it in which both images show something."""
        files = self.draw(random)
        if self.held.arrays:
            seen, rows = zip(*(self.held.views[each] for each in files), strict=True)
            check_pair(*seen, files[1], self.reader.config)
        else:
            seen, rows = self.reader.pair(*files), (0, 0)
        if len(self.reader.config.shape) == 3:
            return seen, rows
        shown = np.flatnonzero(math.prod(np.ptp(each.image, axis=(0, 1)) > 0 for each in seen))
        k = int(random.choice(shown)) if shown.size else (seen[0].image.shape[2] - 1) // 2
        return tuple(each.plane(k) for each in seen), tuple(row + k for row in rows)

    def _channels(self, fixed: View, moving: View, mirror: bool, random: np.random.Generator) -> list[int]:
        """Returns the number of the label that goes into each channel, counted from 1; 0: nothing."""
        if self.labels is None:
            return []
        if self.labels == "all":
            return [each + 1 for each in self._mirror] if mirror else list(range(1, len(self.reader.values) + 1))
        wanted = 1 if self.labels == "one" else self.labels
        shared = sorted(fixed.present & moving.present)
        drawn = random.choice(shared, min(wanted, len(shared)), replace=False).tolist() if shared else []
        return [each + 1 for each in drawn] + [0] * (wanted - len(drawn))


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


def _axes(seen: View, mirror: bool) -> np.ndarray:
    """Returns 1 for the axis to be mirrored, and 0 for the others, int32."""
    axes = np.zeros(seen.image.ndim - 1, "int32")
    if mirror:
        axes[left_right(seen.grid, len(axes))] = 1
    return axes


def _mirrored(flip: FlipAugmentation | None, values: Sequence[int]) -> list[int]:
    """Returns, for each channel, the channel of the label that is its mirror image."""
    swap = flip.swap if flip else ()
    other = dict(swap) | {b: a for a, b in swap}
    unknown = other.keys() - set(values)
    if unknown:
        raise invalid("augmentation.flip.swap", f"labels among {tuple(values)}", min(unknown))
    return [values.index(other.get(value, value)) for value in values]
