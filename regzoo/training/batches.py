"""Batches of training pairs: drawn, augmented, stacked, and made ahead while the model trains."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

import keras
import numpy as np

from regzoo.data.draws import Draw
from regzoo.data.reader import Reader
from regzoo.errors import invalid
from regzoo.schema.augmentation import Augmentation
from regzoo.training.augmentation import augment, left_right
from regzoo.world.views import View

_AHEAD = 2


class MadeAhead(keras.utils.PyDataset):
    """Batches that a thread makes ahead, those of the next epoch too, while the model trains.

    A subclass says how: `make(epoch, step)`, which gives the same batch whenever and in which thread it is called.

    Whoever trains calls `start` before each epoch: Keras calls `on_epoch_end` once more where it builds an optimizer,
    so that counting there would give a resumed run other batches.

    Args:
        steps: Batches an epoch.
    """

    def __init__(self, steps: int) -> None:
        # Keras's own queue, for more than one worker, hands what is left of one epoch to the next.
        super().__init__(workers=1, use_multiprocessing=False)
        self.steps, self.epoch = steps, 0
        self._thread = ThreadPoolExecutor(1, "batches")
        self._made: dict[int, Future] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.steps

    def start(self, epoch: int, logs: dict | None = None) -> None:
        """Goes to the draws of an epoch."""
        self.epoch = epoch

    def __getitem__(self, step: int) -> tuple[dict]:
        now = self.epoch * self.steps + step
        wanted = range(now, now + 1 + _AHEAD)
        with self._lock:
            for other in self._made.keys() - set(wanted):
                self._made.pop(other).cancel()
            for number in wanted:
                if number not in self._made:
                    self._made[number] = self._thread.submit(self.make, *divmod(number, self.steps))
            batch = self._made[now]
        return (batch.result(),)

    def make(self, epoch: int, step: int) -> dict[str, np.ndarray]:
        """Returns a batch."""
        raise NotImplementedError


class Batches(MadeAhead):
    """Batches of drawn pairs; the same for the same seed, epoch and step.

    Args:
        reader: Reads a pair.
        draw: Draws a pair.
        steps: Batches an epoch.
        batch_size: Pairs a batch.
        seed: Seed of all draws.
        augmentation: Random changes; by default none.
        labels: `"all"` labels in a channel each, `"one"` or a number of different random labels that both images have,
            or None.
    """

    def __init__(
        self,
        reader: Reader,
        draw: Draw,
        *,
        steps: int,
        batch_size: int,
        seed: int,
        augmentation: Augmentation | None = None,
        labels: Literal["all", "one"] | int | None = "all",
    ) -> None:
        super().__init__(steps)
        self.reader, self.draw, self.batch_size, self.seed = reader, draw, batch_size, seed
        self.augmentation, self.labels = augmentation or Augmentation(), labels
        self._mirror = _mirrored(self.augmentation, reader.values) if labels else []

    def make(self, epoch: int, step: int) -> dict[str, np.ndarray]:
        """Returns a batch: `fixed` and `moving`, (B, *S, 1), and, unless `labels` is None, their labels, (B, *S, L)."""
        random = np.random.default_rng([self.seed, epoch, step])
        pairs = [self._pair(random) for _ in range(self.batch_size)]
        flip = self.augmentation.flip
        mirrored = [flip is not None and random.uniform() < flip.probability for _ in pairs]
        channels = [self._channels(*pair, mirror, random) for pair, mirror in zip(pairs, mirrored, strict=True)]
        sides = [placed for side in zip(*pairs, strict=True) for placed in side]  # all fixed, then all moving
        flips = [_axis(*each) for each in zip(sides, mirrored * 2, strict=True)]
        stack = np.stack([_stacked(*each) for each in zip(sides, channels * 2, strict=True)])
        return as_batch(
            *augment(stack, self.augmentation, self.reader.config.spacing, random, flips), self.labels is not None
        )

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


def _axis(placed: View, mirror: bool) -> int | None:
    return left_right(placed.grid, placed.image.ndim - 1) if mirror else None


def _stacked(placed: View, channels: Sequence[int | None]) -> np.ndarray:
    """Returns the image and behind it its labels, (*S, 1 + len(channels)); channels that are None are empty."""
    stacked = np.zeros((*placed.image.shape[:-1], 1 + len(channels)), "float32")
    stacked[..., :1] = placed.image
    for place, channel in enumerate(channels, start=1):
        if channel is not None:
            stacked[..., place : place + 1] = placed.channels([channel])
    return stacked


def _mirrored(augmentation: Augmentation, values: Sequence[int]) -> list[int]:
    """Returns, for each channel, the channel of the label that is its mirror image."""
    swap = augmentation.flip.swap if augmentation.flip else ()
    other = dict(swap) | {b: a for a, b in swap}
    unknown = other.keys() - set(values)
    if unknown:
        raise invalid("augmentation.flip.swap", f"labels among {tuple(values)}", min(unknown))
    return [values.index(other.get(value, value)) for value in values]


def as_batch(images: np.ndarray, labels: np.ndarray, labelled: bool) -> dict[str, np.ndarray]:
    """Splits stacked images, first all fixed, then all moving, into a batch for the model.

    A label that one of the images has not, or not any more after augmentation, is taken out of the other one too.
    """
    half = len(images) // 2
    batch = {"fixed": images[:half], "moving": images[half:]}
    if labelled:
        flat = labels.reshape(2, half, -1, labels.shape[-1])
        voxels = np.einsum("sbvl->sbl", flat)  # several times as fast as a sum along an inner axis
        for image, label in np.argwhere(voxels.min(axis=0) < 0.5):
            flat[:, image, :, label] = 0
        batch |= {"fixed_labels": labels[:half], "moving_labels": labels[half:]}
    return batch
