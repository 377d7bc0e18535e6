"""The files of a recipe's data: what to train on, and which pairs to score on."""

import itertools
from pathlib import Path

import numpy as np

from regzoo.checks import InvalidError, MissingError, invalid
from regzoo.documents import parse_json, read_text
from regzoo.pairs_csv import SPLITS, PairFiles, SubjectFiles, read_pairs, read_subjects
from regzoo.recipe import Recipe, data_home
from regzoo.sources import PairedData, UnpairedData

SPLITS_LIMIT = 2**24


def split_pairs(recipe: Recipe, split: str, home: str | Path | None = None) -> list[PairFiles]:
    """Returns the pairs of a split that a recipe's model is scored on.

    Args:
        recipe: Its `data` names the files.
        split: `"valid"` or `"test"`. For unpaired data, pairs are drawn by the recipe's seed; but test pairs that a
            splits file lists as `test_pairs`, (moving, fixed), are those.
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
    subjects, test_pairs = _subjects(data, root)
    if split == "test" and test_pairs:
        return [_pair(subjects[fixed], subjects[moving]) for moving, fixed in test_pairs]
    names = [name for name, subject in subjects.items() if subject.split == split]
    if len(names) < 2:
        raise invalid(f"{root / data.splits}: {split}", "at least two images", len(names))
    random = np.random.default_rng(recipe.seed)
    drawn = [random.choice(names, 2, replace=False) for _ in range(data.validation_pairs)]
    return [_pair(subjects[fixed], subjects[moving]) for fixed, moving in drawn]


def train_images(recipe: Recipe, home: str | Path | None = None) -> list[PairFiles]:
    """Returns the training images of unpaired data, each paired with itself."""
    subjects, _ = _subjects(recipe.data, data_home(home) / recipe.data.root)
    return [_pair(subject, subject) for subject in subjects.values() if subject.split == "train"]


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
            raise InvalidError(f"{source}: '{both[0]}' is in both {one} and {other}. Keep the splits apart.")


def _subjects(data: UnpairedData, root: Path) -> tuple[dict[str, SubjectFiles], list[list[str]]]:
    """Returns every image by name, and the (moving, fixed) names of the test pairs, if they are listed."""
    path = root / data.splits
    if path.suffix == ".csv":
        rows = read_subjects(path)
        names = {split: [str(row.image) for row in rows if row.split == split] for split in SPLITS}
        _check_splits(path, names)
        return {str(row.image): row for row in rows}, []
    splits = parse_json(read_text(path, SPLITS_LIMIT), str(path))
    pairs = splits.get("test_pairs", [])
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise InvalidError(f"{path}: test_pairs: expected a list of [moving, fixed] names.")
    tested = splits.get("test", [])
    if not isinstance(tested, list):
        raise invalid(f"{path}: test", "a list of names", tested)
    tested = list(dict.fromkeys(map(str, [*tested, *itertools.chain(*pairs)])))
    names = {"train": splits.get("train"), "valid": splits.get("valid"), "test": tested}
    _check_splits(path, names)
    found = {name: _subject(data, root, name, split) for split in SPLITS for name in names[split]}
    return found, pairs


def _check_splits(path: Path, splits: dict[str, list[str]]) -> None:
    for split in ("train", "valid"):
        names = splits[split]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(set(names)) < 2:
            raise invalid(f"{path}: {split}", "a list of at least two names", names)
    for split, names in splits.items():
        if len(set(names)) < len(names):
            raise InvalidError(f"{path}: {split}: a name is listed twice.")
    _refuse_overlap(path, {split: set(names) for split, names in splits.items()})


def _subject(data: UnpairedData, root: Path, name: str, split: str) -> SubjectFiles:
    image, labels = (folder and root / folder / f"{name}.nii.gz" for folder in (data.images, data.labels))
    return SubjectFiles(image, split, labels)


def _pair(fixed: SubjectFiles, moving: SubjectFiles) -> PairFiles:
    """Returns the files of a pair. Only here must they exist: who trains need not have the test images."""
    for path in (fixed.image, moving.image, fixed.labels, moving.labels):
        if path is not None and not path.is_file():
            raise MissingError(f"{path}, which the splits file names, does not exist.")
    return PairFiles(fixed.image, moving.image, fixed.labels, moving.labels)
