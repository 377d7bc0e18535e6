"""Pairs of DeepReg's folders (see `regzoo.data.folders`): all that folders have, or those that a splits file names."""

import itertools
from pathlib import Path

from regzoo.data import folders
from regzoo.data.drawn_pairs import DrawnPairs, Groups, draw_of_groups
from regzoo.data.draws import Grouped, Unpaired
from regzoo.data.file_pairs import FilePairs
from regzoo.data.given_pairs import GivenPairs
from regzoo.data.splits import read_names
from regzoo.data.tables import PairFiles
from regzoo.errors import MissingError, invalid
from regzoo.schema.data import FolderData
from regzoo.schema.recipe import Recipe


def folder_pairs(recipe: Recipe, home: Path) -> FilePairs:
    """Returns the kind of data that the folders' layout makes of them."""
    kinds = {"paired": GivenInFolders, "unpaired": UnpairedInFolders, "grouped": GroupedInFolders}
    return kinds[recipe.data.layout](recipe, home)


class GivenInFolders(GivenPairs):
    """Pairs by name of `moving_images` and `fixed_images`."""

    def pairs(self, split: str) -> list[PairFiles]:
        """Returns the pairs of a split."""
        return [pair for _, pair in _named(self.data, self.root, split)]

    def has_test(self) -> bool:
        """Tells whether there are test folders to keep apart."""
        return _has_test(self.data, self.root)


class UnpairedInFolders(DrawnPairs):
    """Any two images of `images`."""

    def groups(self, split: str) -> Groups:
        """Returns the images of a split, in one group."""
        return [[files for _, files in _named(self.data, self.root, split)]]

    def draw(self, groups: Groups) -> Unpaired:
        """Returns the draw of any two images."""
        return Unpaired(list(itertools.chain(*groups)))

    def has_test(self) -> bool:
        """Tells whether there are test folders to keep apart."""
        return _has_test(self.data, self.root)


class GroupedInFolders(DrawnPairs):
    """Images of groups; groups of one name are taken for one subject, which may not be in two splits."""

    def groups(self, split: str) -> Groups:
        """Returns the images of a split by group."""
        return [group for _, group in _named(self.data, self.root, split)]

    def group_names(self, split: str) -> set[str]:
        """Returns the names of the groups of a split."""
        return {f"group {name}" for name, _ in _named(self.data, self.root, split)}

    def draw(self, groups: Groups) -> Grouped:
        """Returns the draw of two images of groups."""
        return draw_of_groups(groups, self.data)

    def has_test(self) -> bool:
        """Tells whether there are test folders to keep apart."""
        return _has_test(self.data, self.root)


def _has_test(data: FolderData, root: Path) -> bool:
    """Tells whether the folders of the test split are here, which who trains need not have; a list is checked whole."""
    return bool(data.test) and not data.splits and all((root / path).is_dir() for path in data.test)


def _named(data: FolderData, root: Path, split: str) -> list[tuple[str, object]]:
    """Returns the pairs, images or groups of a split by name."""
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
