"""Which image is in which split, as a file lists it; no split shares anything with another one."""

import itertools
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from regzoo.data.tables import SPLITS, SubjectFiles, read_subjects
from regzoo.errors import InvalidError, invalid
from regzoo.io.yaml_json import parse_json, read_text
from regzoo.schema.data import GroupedData, UnpairedData

SPLITS_LIMIT = 2**24


@dataclass(frozen=True)
class Names:
    """What a JSON file lists.

    Args:
        splits: The names in `train`, `valid` and `test`; those of the test pairs are among the last.
        test_pairs: (moving, fixed) names.
    """

    splits: dict[str, list[str]]
    test_pairs: list[list[str]]


def read_names(path: Path, least: int = 2) -> Names:
    """Reads a JSON file of splits.

    Args:
        path: The file.
        least: How many names training and validation need.

    Raises:
        RegzooError: If the file is missing or of another form, or a name is in two splits.
    """
    splits = parse_json(read_text(path, SPLITS_LIMIT), str(path))
    pairs = splits.get("test_pairs", [])
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise InvalidError(f"{path}: test_pairs: expected a list of [moving, fixed] names.")
    tested = splits.get("test", [])
    if not isinstance(tested, list):
        raise invalid(f"{path}: test", "a list of names", tested)
    tested = list(dict.fromkeys(map(str, [*tested, *itertools.chain(*pairs)])))
    names = {"train": splits.get("train"), "valid": splits.get("valid"), "test": tested}
    _check(path, names, least)
    return Names(names, pairs)


def list_subjects(data: UnpairedData | GroupedData, root: Path) -> tuple[dict[str, SubjectFiles], list[list[str]]]:
    """Returns every image that a splits file lists, and the (moving, fixed) names of the test pairs, if it lists them.

    Args:
        data: Names the splits file, JSON or CSV.
        root: The folder of the data.

    Raises:
        RegzooError: If the file is missing or of another form, or an image or a group is in two splits.
    """
    path = root / data.splits
    if path.suffix == ".csv":
        rows, pairs = read_subjects(path), []
        _check(path, {split: [str(row.image) for row in rows if row.split == split] for split in SPLITS})
        subjects = {str(row.image): row for row in rows}
    else:
        names, pairs = (found := read_names(path)).splits, found.test_pairs
        subjects = {name: _subject(data, root, name, split) for split in SPLITS for name in names[split]}
    if data.in_groups:
        _check_groups(path, subjects)
    return subjects, pairs


def refuse_overlap(source: Path, splits: dict[str, set[str]]) -> None:
    """Refuses splits that would score a model on what it was trained or chosen on."""
    for one, other in itertools.combinations(splits, 2):
        both = sorted(splits[one] & splits[other])
        if both:
            raise InvalidError(f"{source}: '{both[0]}' is in both {one} and {other}. Keep the splits apart.")


def _check(path: Path, splits: dict[str, list[str]], least: int = 2) -> None:
    for split in ("train", "valid"):
        names = splits[split]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(set(names)) < least:
            raise invalid(f"{path}: {split}", f"a list of at least {'two names' if least > 1 else 'one name'}", names)
    for split, names in splits.items():
        if len(set(names)) < len(names):
            raise InvalidError(f"{path}: {split}: a name is listed twice.")
    refuse_overlap(path, {split: set(names) for split, names in splits.items()})


def _check_groups(path: Path, subjects: dict[str, SubjectFiles]) -> None:
    for name, subject in subjects.items():
        if subject.group is None:
            raise invalid(f"{path}: {name}", "a group, in column 'group' or as GROUP/IMAGE", "none")
    members = subjects.values()
    refuse_overlap(path, {split: {each.group for each in members if each.split == split} for split in SPLITS})


def _subject(data: UnpairedData | GroupedData, root: Path, name: str, split: str) -> SubjectFiles:
    image, labels = (folder and root / folder / f"{name}.nii.gz" for folder in (data.images, data.labels))
    return SubjectFiles(image, split, labels, PurePosixPath(name).parent.as_posix() if "/" in name else None)
