"""The files of a recipe's data: what to train on, and which pairs to score on."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np

from regzoo.data import folders
from regzoo.data.draws import Draw, Files, Grouped, Paired, Unpaired, different, sides
from regzoo.data.splits import list_subjects, read_names, refuse_overlap
from regzoo.data.tables import PairFiles, read_pairs
from regzoo.errors import InvalidError, MissingError, invalid
from regzoo.io import volumes
from regzoo.schema.data import BreathingData, FolderData, GroupedData, PairedData, ShapesData, UnpairedData
from regzoo.schema.losses import active
from regzoo.schema.recipe import Recipe, data_home

Groups = list[list[Files]]
"""Images by group, in order; images without groups are one group."""


def split_pairs(recipe: Recipe, split: str, home: str | Path | None = None) -> list[PairFiles]:
    """Returns the pairs of a split that a recipe's model is scored on.

    Args:
        recipe: Its `data` names the files.
        split: `"valid"` or `"test"`. Of single images, pairs are drawn by the recipe's seed; but test pairs that a
            splits file lists as `test_pairs`, (moving, fixed), are those.
        home: Folder that `data.root` is relative to; see `data_home`.

    Raises:
        RegzooError: If a file is missing, the recipe has no such split, or splits overlap.
    """
    if split not in ("valid", "test"):
        raise invalid("split", "'valid' or 'test'", split)
    data, root = recipe.data, data_home(home) / recipe.data.root
    if isinstance(data, BreathingData | ShapesData) and split == "valid":
        raise invalid("split", "'test', since the pairs to validate on are simulated", "'valid'")
    if isinstance(data, ShapesData):
        return _pairs(data, root, split)
    if isinstance(data, BreathingData):
        return [PairFiles(**{side: path and root / path for side, path in pair}) for pair in data.test]
    if _is_paired(data):
        return _pairs(data, root, split)
    if isinstance(data, UnpairedData | GroupedData) and split == "test":
        subjects, listed = list_subjects(data, root)
        if listed:
            files = {name: Files(each.image, each.labels) for name, each in subjects.items()}
            return [_pair(files[fixed], files[moving]) for moving, fixed in listed]
    return _drawn(recipe, split, _groups(data, root, split), root)


def train_draw(recipe: Recipe, home: str | Path | None = None) -> Draw:
    """Returns the draw of (fixed, moving) `Files` to train on; without labels, if no loss compares them.

    An image of given pairs may be in several splits, as an atlas is; a pair, in either order, may not, nor may a single
    image, nor a group: groups of one name are taken for one subject.

    Raises:
        RegzooError: If a file is missing, splits overlap, or there is nothing to draw.
    """
    data, root = recipe.data, data_home(home) / recipe.data.root
    splits = ["train", "valid", *["test"] * _has_test(data, root)]
    if _is_paired(data):
        found = {split: _pairs(data, root, split) for split in splits}
        refuse_overlap(root, {split: {_unordered(pair) for pair in pairs} for split, pairs in found.items()})
        return Paired([tuple(_wanted(recipe, side) for side in sides(pair)) for pair in found["train"]])
    found = {split: _groups(data, root, split) for split in splits}
    refuse_overlap(root, {split: _images(groups) for split, groups in found.items()})
    if getattr(data, "layout", None) == "grouped":
        refuse_overlap(root, {split: {f"group {name}" for name, _ in _named(data, root, split)} for split in splits})
    return _draw(data, [[_wanted(recipe, existing(files)) for files in group] for group in found["train"]])


def suffixed(path: Path, suffix: str) -> Path:
    """Returns FOLDER/NAME<suffix>.ENDING of FOLDER/NAME.ENDING."""
    stem, dot, ending = path.name.partition(".")
    return path.with_name(f"{stem}{suffix}{dot}{ending}")


def _is_paired(data: object) -> bool:
    return isinstance(data, PairedData) or getattr(data, "layout", None) == "paired"


def _has_test(data: object, root: Path) -> bool:
    """Tells whether there is a test split to keep apart, which who trains need not have; a list is checked whole."""
    if isinstance(data, PairedData):
        return data.test is not None and (root / data.test).is_file()
    if not isinstance(data, FolderData) or data.splits or not data.test:
        return False
    return all((root / path).is_dir() for path in data.test)


def _unordered(pair: PairFiles) -> str:
    return " and ".join(sorted(str(path.resolve()) for path in (pair.fixed, pair.moving)))


def _images(groups: Groups) -> set[str]:
    return {str(files.image.resolve()) for files in itertools.chain(*groups)}


def _wanted(recipe: Recipe, files: Files) -> Files:
    return files if active(recipe.loss.label) else replace(files, labels=None)


def _pairs(data: PairedData | FolderData | ShapesData, root: Path, split: str) -> list[PairFiles]:
    if isinstance(data, FolderData):
        return _in_folders(data, root, split)
    if getattr(data, split) is None:
        raise invalid(f"data.{split}", "a CSV file of pairs", None)
    table = root / getattr(data, split)
    if not table.exists():
        raise MissingError(f"{table} does not exist. If there is a prepare.py beside the shipped recipe, it makes it.")
    return read_pairs(table)


def _groups(data: UnpairedData | GroupedData | FolderData, root: Path, split: str) -> Groups:
    if isinstance(data, FolderData):
        found = _in_folders(data, root, split)
        return found if data.layout == "grouped" else [found]
    groups: dict[str | None, list[Files]] = {}
    for subject in list_subjects(data, root)[0].values():
        if subject.split == split:
            key = subject.group if isinstance(data, GroupedData) else None
            groups.setdefault(key, []).append(Files(subject.image, subject.labels))
    return list(groups.values())


def _in_folders(data: FolderData, root: Path, split: str) -> list:
    return [each for _, each in _named(data, root, split)]


def _named(data: FolderData, root: Path, split: str) -> list[tuple[str, object]]:
    """Returns the pairs, images or groups of a split: all that its folders have, or those that a splits file names."""
    read = {"paired": folders.paired, "unpaired": folders.single, "grouped": folders.grouped}[data.layout]
    if not getattr(data, split):
        raise invalid(f"data.{split}", "a list of folders", "none")
    layout = folders.Layout(data.images, data.labels, data.spacing)
    found = [item for folder in getattr(data, split) for item in read(root / folder, layout).items()]
    if data.splits is None:
        return found
    path = root / data.splits
    names = set(read_names(path, least=2 if data.layout == "unpaired" else 1).splits[split])
    if not names:
        raise invalid(f"{path}: {split}", "a list of names", "none")
    absent = names - {name for name, _ in found}
    if absent:
        raise MissingError(f"{path}: {split}: '{min(absent)}' is not in {', '.join(getattr(data, split))}.")
    return [(name, each) for name, each in found if name in names]


def _draw(data: UnpairedData | GroupedData | FolderData, groups: Groups) -> Unpaired | Grouped:
    if isinstance(data, UnpairedData) or getattr(data, "layout", None) == "unpaired":
        return Unpaired(list(itertools.chain(*groups)))
    return Grouped(groups, data.intra_group_prob, data.intra_group_option, data.sample_image_in_group)


def _drawn(recipe: Recipe, split: str, groups: Groups, root: Path) -> list[PairFiles]:
    """Draws the pairs to score on."""
    data, count = recipe.data, recipe.data.validation_pairs
    try:
        draw = _draw(data, groups)
    except InvalidError as error:
        raise InvalidError(f"{root / (data.splits or '')}: {split}: {str(error).removeprefix('data: ')}") from None
    if isinstance(data, UnpairedData):  # pairs may repeat, as in the scores that cards of this kind already show
        random = np.random.default_rng(recipe.seed)
        return [_pair(*draw(random)) for _ in range(count)]
    return [_pair(*pair) for pair in different(draw, count, recipe.seed)]


def _pair(fixed: Files, moving: Files) -> PairFiles:
    fixed, moving = existing(fixed), existing(moving)
    return PairFiles(fixed.image, moving.image, fixed.labels, moving.labels, spacing=fixed.spacing)


def existing(files: Files) -> Files:
    """Checks that files exist, and only where they are used: who trains need not have the test images."""
    for path in (files.image, files.labels):
        if path is not None and not volumes.exists(path):
            raise MissingError(f"{path}, which the splits file names, does not exist.")
    return files
