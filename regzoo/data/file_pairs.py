"""Pairs of image files: what all kinds of them have in common."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from regzoo.data.draws import Draw, Files, Paired, sides
from regzoo.data.kinds import Examples
from regzoo.data.pair_batches import DrawnBatches, ReadBatches
from regzoo.data.reader import Reader, label_values, values_of
from regzoo.data.tables import PairFiles
from regzoo.errors import MissingError, invalid
from regzoo.io import volumes
from regzoo.schema.inputs import InputConfig
from regzoo.schema.losses import active
from regzoo.schema.recipe import Recipe
from regzoo.world.images import Image


class FilePairs(ABC):
    """Pairs of image files of a recipe.

    Args:
        recipe: Its `data` names the files.
        home: Folder that `data.root` is relative to.
    """

    def __init__(self, recipe: Recipe, home: Path) -> None:
        self.recipe, self.data, self.root = recipe, recipe.data, home / recipe.data.root

    @abstractmethod
    def pairs(self, split: str) -> list[PairFiles]:
        """Returns the pairs of a split that a model is scored on.

        Raises:
            RegzooError: If a file is missing, the recipe has no such split, or splits overlap.
        """

    @abstractmethod
    def train_draw(self) -> Draw:
        """Returns the draw of (fixed, moving) `Files` to train on; without labels, if no loss compares them.

        Raises:
            RegzooError: If a file is missing, splits overlap, or there is nothing to draw.
        """

    def examples(self, inputs: InputConfig) -> Examples:
        """Returns what a run trains and validates on; every image to train on has been read once.

        Raises:
            RegzooError: If a file is missing or cannot be used, splits overlap, or there are no labels to compare.
        """
        loss = self.recipe.loss
        valid, draw = [sides(pair) for pair in self.pairs("valid")], self.train_draw()
        if active(loss.label):
            _check_labels(draw, alone=not active(loss.image))
        reader = Reader(inputs, self._values(draw.items, [*itertools.chain(*valid)]))
        labels = self.data.label_sampling if active(loss.label) else None
        drawn = DrawnBatches(reader, draw, labels, self.recipe.augmentation.flip)
        return Examples(drawn, ReadBatches(reader, valid), self.recipe.augmentation, drawn.held.arrays)

    def wanted(self, files: Files) -> Files:
        """Returns files without their labels, if no loss compares them."""
        return files if active(self.recipe.loss.label) else replace(files, labels=None)

    def _values(self, train: list[Files], valid: list[Files]) -> tuple[int, ...]:
        """Returns the labels to train on and to score, all of which are there."""
        wanted = self.data.label_values
        if wanted is None:
            return label_values([*train, *valid])
        where, files = ("training", train) if active(self.recipe.loss.label) else ("validation", valid)
        absent = _absent(wanted, files)
        if absent:
            maps = sum(each.labels is not None for each in files)
            expected = f"labels that the {where} images have"
            raise invalid("data.label_values", expected, f"{absent[0]}, which none of their {maps} label maps has")
        return wanted


_NO_LABELS = " If the image has none, list the images in a CSV file, image,labels,split, where a cell may be empty."


def existing(files: Files) -> Files:
    """Checks that files exist, and only where they are used: who trains need not have the test images."""
    for path in (files.image, files.labels):
        if path is not None and not volumes.exists(path):
            advice = "" if path == files.image else _NO_LABELS
            raise MissingError(f"{path}, which the splits file names, does not exist.{advice}")
    return files


def pair_of(fixed: Files, moving: Files) -> PairFiles:
    """Returns two images, which exist, as a pair."""
    fixed, moving = existing(fixed), existing(moving)
    return PairFiles(fixed.image, moving.image, fixed.labels, moving.labels, spacing=fixed.spacing)


def _absent(values: Iterable[int], files: Iterable[Files]) -> list[int]:
    """Returns which of the values no label map has; reads no more of them than it takes."""
    absent = dict.fromkeys(values)
    for each in files:
        if absent and each.labels is not None:
            for value in values_of(Image.read(each.labels, labels=True)):
                absent.pop(value, None)
    return list(absent)


def _check_labels(draw: Draw, alone: bool) -> None:
    """Refuses data without labels to compare, and images without labels where a pair has no other loss (`alone`)."""
    without = [files for files in draw.items if files.labels is None]
    if alone and without:
        raise invalid("training data", "labels for every image, since no image loss is used", f"none for {without[0]}")
    if isinstance(draw, Paired):
        labelled = any(fixed.labels and moving.labels for fixed, moving in draw.pairs)
    else:
        labelled = len(without) < len(draw.items) - 1
    if not labelled:
        raise invalid("training data", "a pair with labels, since loss.label has a weight above 0", "none")
