"""The files of a recipe's data: what to train on, and which pairs to score on."""

import itertools
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
        RegzooError: If a file is missing, the recipe has no such split, or splits overlap.
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
        if not splits["test_pairs"]:
            raise invalid(f"{root / data.splits}: test_pairs", "a list of [moving, fixed] names", "none")
        pairs = [(fixed, moving) for moving, fixed in splits["test_pairs"]]
    else:
        random, names = np.random.default_rng(recipe.seed), splits["valid"]
        pairs = [random.choice(names, 2, replace=False) for _ in range(data.validation_pairs)]
    return [_pair(data, root, *pair) for pair in pairs]


def train_images(recipe: Recipe, home: str | Path | None = None) -> list[PairFiles]:
    """Returns the training images of unpaired data, each paired with itself."""
    data, root = recipe.data, data_home(home) / recipe.data.root
    return [_pair(data, root, name, name) for name in _splits(root / data.splits)["train"]]


def train_pairs(recipe: Recipe, home: str | Path | None = None) -> list[PairFiles]:
    """Returns the training pairs of paired data.

    An image may be in several splits, as an atlas is; a pair, in either order, may not.
    """
    data, root = recipe.data, data_home(home) / recipe.data.root
    splits = {split: read_pairs(root / getattr(data, split)) for split in ("train", "valid")}
    if data.test is not None and (root / data.test).is_file():
        splits["test"] = read_pairs(root / data.test)
    _refuse_overlap(root, {split: {_unordered(pair) for pair in pairs} for split, pairs in splits.items()})
    return splits["train"]


def _unordered(pair: PairFiles) -> str:
    return " and ".join(sorted(str(path.resolve()) for path in (pair.fixed, pair.moving)))


def _refuse_overlap(source: Path, splits: dict[str, set[str]]) -> None:
    """Refuses splits that would score a model on what it was trained or chosen on."""
    for one, other in itertools.combinations(splits, 2):
        both = sorted(splits[one] & splits[other])
        if both:
            raise InvalidError(
                f"{source}: '{both[0]}' is in {one} and in {other}, {len(both)} in all. Keep them apart."
            )


def _splits(path: Path) -> dict[str, list]:
    splits = parse_json(read_text(path, SPLITS_LIMIT), str(path))
    for key in ("train", "valid"):
        names = splits.get(key)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(set(names)) < 2:
            raise invalid(f"{path}: {key}", "a list of at least two names", names)
        if len(set(names)) < len(names):
            raise InvalidError(f"{path}: {key}: a name is listed twice.")
    pairs = splits.setdefault("test_pairs", [])
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise InvalidError(f"{path}: test_pairs: expected a list of [moving, fixed] names.")
    names = {"train": splits["train"], "valid": splits["valid"], "test_pairs": itertools.chain(*pairs)}
    _refuse_overlap(path, {split: set(map(str, listed)) for split, listed in names.items()})
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
