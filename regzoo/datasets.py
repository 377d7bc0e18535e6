"""The files of a recipe's data: what to train on, and which pairs to score on."""

from pathlib import Path

import numpy as np

from regzoo.checks import InvalidError, MissingError, invalid
from regzoo.documents import parse_json, read_text
from regzoo.pairs_csv import PairFiles, read_pairs
from regzoo.recipe import PairedData, Recipe, UnpairedData, data_home

SPLITS_LIMIT = 2**24


def split_pairs(recipe: Recipe, split: str, home: str | Path | None = None) -> list[PairFiles]:
    """Returns the pairs of a split that a recipe's model is scored on.

    Args:
        recipe: Its `data` names the files.
        split: `"valid"` or `"test"`. For unpaired data, validation pairs are drawn by the recipe's seed, and test
            pairs are listed as `test_pairs`, (moving, fixed), in the splits file.
        home: Folder that `data.root` is relative to; see `data_home`.

    Raises:
        RegzooError: If a file is missing, or the recipe has no such split.
    """
    if split not in ("valid", "test"):
        raise invalid("split", "'valid' or 'test'", split)
    data, root = recipe.data, data_home(home) / recipe.data.root
    if isinstance(data, PairedData):
        if getattr(data, split) is None:
            raise invalid(f"data.{split}", "a CSV file of pairs", None)
        return read_pairs(root / getattr(data, split))
    splits = _splits(root / data.splits)
    if split == "test":
        pairs = [(fixed, moving) for moving, fixed in splits["test_pairs"]]
    else:
        random, names = np.random.default_rng(recipe.seed), splits["valid"]
        pairs = [random.choice(names, 2, replace=False) for _ in range(data.validation_pairs)]
    return [_pair(data, root, *pair) for pair in pairs]


def train_images(recipe: Recipe, home: str | Path | None = None) -> list[PairFiles]:
    """Returns the training images of unpaired data, each paired with itself."""
    data, root = recipe.data, data_home(home) / recipe.data.root
    return [_pair(data, root, name, name) for name in _splits(root / data.splits)["train"]]


def _splits(path: Path) -> dict[str, list]:
    splits = parse_json(read_text(path, SPLITS_LIMIT), str(path))
    for key in ("train", "valid"):
        names = splits.get(key)
        if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, str) for name in names):
            raise invalid(f"{path}: {key}", "a list of at least two names", names)
    pairs = splits.setdefault("test_pairs", [])
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise InvalidError(f"{path}: test_pairs: expected a list of [moving, fixed] names.")
    return splits


def _pair(data: UnpairedData, root: Path, fixed: str, moving: str) -> PairFiles:
    def file(folder: str | None, name: str) -> Path | None:
        if folder is None:
            return None
        path = root / folder / f"{name}.nii.gz"
        if not path.exists():
            raise MissingError(f"{path}, which the splits file names, does not exist.")
        return path

    images, labels = data.images, data.labels
    return PairFiles(file(images, fixed), file(images, moving), file(labels, fixed), file(labels, moving))
