"""Training and validation pairs: subjects brought to the network's grid, drawn, augmented and batched."""

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import ops

from regzoo import backend
from regzoo.checks import InvalidError, invalid
from regzoo.config import InputConfig
from regzoo.grids import affine_grid, random_affine
from regzoo.images import Grid, Image, network_grid, normalise, resample
from regzoo.pairs_csv import PairFiles
from regzoo.warping import sample


@dataclass(frozen=True)
class Files:
    """An image file and its label map, or None."""

    image: Path
    labels: Path | None = None


@dataclass(frozen=True)
class Placed:
    """An image on a network's grid: `image` (*S, 1) in [0, 1] and `labels` (*S, L), one channel a label, or None."""

    image: np.ndarray
    labels: np.ndarray | None
    grid: Grid


def place(image: Image, labels: Image | None, grid: Grid, config: InputConfig, values: Sequence[int] = ()) -> Placed:
    """Brings an image and its labels to a network's grid and intensities: the same for training and for `register`.

    Args:
        image: One channel.
        labels: Label map on the image's grid, or None.
        grid: Where to sample: linear for the image, nearest for labels; 0 outside the image.
        config: The network's input.
        values: Label values that get a channel, in order.
    """
    scaled = Image(normalise(image.array, config.intensity), image.affine)
    array = resample(scaled, grid, outside=0.0).array[..., None]
    if labels is None:
        return Placed(array, None, grid)
    maps = resample(labels, grid, order=0).array
    return Placed(array, np.stack([maps == value for value in values], axis=-1).astype("uint8"), grid)


def own_grid(image: Image, config: InputConfig) -> Grid:
    """Returns the network's grid on an image: its axes, spacing and shape, at the image's centre."""
    return network_grid(image, config.spacing, config.shape, config.axes)


def read_labelled(files: Files) -> tuple[Image, Image | None]:
    """Reads an image and its labels.

    Raises:
        ValueError: If a file cannot be read, or the labels are not one label map on the image's grid.
    """
    image = Image.read(files.image)
    if files.labels is None:
        return image, None
    labels = Image.read(files.labels, labels=True)
    if labels.channels is not None:
        raise invalid(str(files.labels), "one label map", f"{labels.channels} channels")
    if not labels.grid.same_as(image.grid):
        received = f"shape {labels.shape}" if labels.shape != image.shape else "another affine"
        raise invalid(str(files.labels), f"the grid of {files.image.name}, shape {image.shape}", received)
    return image, labels


class Reader:
    """Reads pairs onto a network's grid and keeps what was read while it fits.

    Args:
        config: The network's input.
        values: Label values that get a channel.
        memory: Bytes of images to keep.
    """

    def __init__(self, config: InputConfig, values: Sequence[int], memory: int = 2**31) -> None:
        self.config, self.values = config, tuple(values)
        size = math.prod(config.shape) * (4 + len(self.values))  # float32 image, uint8 labels
        self._own = functools.lru_cache(maxsize=max(2, memory // size))(self._read_own)

    def check(self, files: Iterable[Files]) -> None:
        """Reads every image once, so that one that cannot be used ends a run at its start and not overnight."""
        for each in dict.fromkeys(files):
            self._own(each)

    def pair(self, fixed: Files, moving: Files) -> tuple[Placed, Placed]:
        """Returns both images on the fixed image's network grid, aligned as the network expects."""
        placed = self._own(fixed)
        if self.config.alignment == "center":
            return placed, self._own(moving)
        return placed, place(*read_labelled(moving), placed.grid, self.config, self.values)

    def _read_own(self, files: Files) -> Placed:
        image, labels = read_labelled(files)
        try:
            return place(image, labels, own_grid(image, self.config), self.config, self.values)
        except InvalidError as error:
            raise InvalidError(f"{files.image}: {error}") from None


def label_values(files: Sequence[Files]) -> tuple[int, ...]:
    """Returns every label value in the files, background left out; none if no file has labels.

    Raises:
        ValueError: If there are label maps, and all of them are empty.
    """
    paths = dict.fromkeys(each.labels for each in files if each.labels is not None)
    found = set().union(*(np.unique(Image.read(path, labels=True).array).tolist() for path in paths)) - {0}
    if paths and not found:
        raise invalid("labels", f"a value other than 0 in one of {len(paths)} label maps", "none")
    return tuple(sorted(found))


Draw = Callable[[np.random.Generator], tuple[Files, Files]]


def sides(pair: PairFiles) -> tuple[Files, Files]:
    """Returns the files of the fixed and of the moving side."""
    return Files(pair.fixed, pair.fixed_labels), Files(pair.moving, pair.moving_labels)


def unpaired(files: Sequence[Files]) -> Draw:
    """Returns a draw of two different images, in either order."""
    if len(files) < 2:
        raise invalid("data", "at least two training images", len(files))

    def draw(random: np.random.Generator) -> tuple[Files, Files]:
        fixed, moving = random.choice(len(files), 2, replace=False)
        return files[fixed], files[moving]

    return draw


def paired(pairs: Sequence[tuple[Files, Files]]) -> Draw:
    """Returns a draw of one of the given (fixed, moving) pairs."""
    if not pairs:
        raise invalid("data", "at least one training pair", 0)
    return lambda random: pairs[random.integers(len(pairs))]


class Batches(keras.utils.PyDataset):
    """Batches of drawn pairs; the same for the same seed, epoch and step.

    Whoever trains calls `start` before each epoch: Keras calls `on_epoch_end` once more where it builds an optimizer,
    so that counting there would give a resumed run other batches.

    Args:
        reader: Reads a pair.
        draw: Draws a pair.
        steps: Batches an epoch.
        batch_size: Pairs a batch.
        affine: Scale of the random affine about the image centre, drawn for fixed and moving; see `random_affine`.
        seed: Seed of all draws.
    """

    def __init__(self, reader: Reader, draw: Draw, *, steps: int, batch_size: int, affine: float, seed: int) -> None:
        super().__init__(workers=1, use_multiprocessing=False, max_queue_size=8)
        self.reader, self.draw, self.steps, self.batch_size = reader, draw, steps, batch_size
        self.affine, self.seed, self.epoch = affine, seed, 0

    def __len__(self) -> int:
        return self.steps

    def start(self, epoch: int, logs: dict | None = None) -> None:
        """Goes to the draws of an epoch."""
        self.epoch = epoch

    def __getitem__(self, step: int) -> tuple[dict]:
        random = np.random.default_rng([self.seed, self.epoch, step])
        pairs = [self.reader.pair(*self.draw(random)) for _ in range(self.batch_size)]
        stacked = [fixed for fixed, _ in pairs] + [moving for _, moving in pairs]
        return (as_batch(*augment(stacked, self.affine, random)),)


def augment(
    subjects: Sequence[Placed], affine: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray | None]:
    """Stacks images and moves each by its own random affine, image and labels alike.

    Returns:
        Images (B, *S, 1) and labels (B, *S, L), or None.
    """
    images = np.stack([subject.image for subject in subjects])
    labelled = subjects[0].labels is not None
    if labelled:
        labels = np.stack([subject.labels for subject in subjects]).astype("float32")
        images = np.concatenate([images, labels], axis=-1)
    if affine:
        matrix = random_affine(random, images.shape[1:-1], affine, len(images))
        images = ops.convert_to_numpy(backend.inference(backend.compiled(_move), images, matrix))
    return images[..., :1], images[..., 1:] if labelled else None


def _move(image: object, matrix: object) -> object:
    return sample(image, affine_grid(matrix, image.shape[1:-1]), "zero")


def as_batch(images: np.ndarray, labels: np.ndarray | None) -> dict:
    """Splits stacked images, first all fixed, then all moving, into a batch for the model."""
    batch = {}
    for suffix, values in (("", images), ("_labels", labels)):
        if values is not None:
            half = len(values) // 2
            batch["fixed" + suffix] = values[:half]
            batch["moving" + suffix] = values[half:]
    return batch
