"""Pairs that are given: by CSV files, one a split."""

from pathlib import Path

from regzoo.data.draws import Paired, sides
from regzoo.data.file_pairs import FilePairs
from regzoo.data.splits import refuse_overlap
from regzoo.data.tables import PairFiles, read_pairs
from regzoo.errors import MissingError, invalid


class GivenPairs(FilePairs):
    """Pairs of CSV files: `data.train`, `data.valid` and, if given, `data.test`.

    An image of given pairs may be in several splits, as an atlas is; a pair, in either order, may not.
    """

    def pairs(self, split: str) -> list[PairFiles]:
        """Returns the pairs of a split."""
        return listed_pairs(self.root, split, getattr(self.data, split))

    def train_draw(self) -> Paired:
        """Returns the draw of pairs to train on."""
        splits = ["train", "valid", *["test"] * self.has_test()]
        found = {split: self.pairs(split) for split in splits}
        refuse_overlap(self.root, {split: {_unordered(pair) for pair in pairs} for split, pairs in found.items()})
        return Paired([tuple(self.wanted(side) for side in sides(pair)) for pair in found["train"]])

    def has_test(self) -> bool:
        """Tells whether there is a test split to keep apart, which who trains need not have."""
        return self.data.test is not None and (self.root / self.data.test).is_file()


def listed_pairs(root: Path, split: str, table: str | None) -> list[PairFiles]:
    """Returns the pairs that the CSV file of a split lists.

    Raises:
        RegzooError: If there is no such file or one that it names, or it is no table of pairs.
    """
    if table is None:
        raise invalid(f"data.{split}", "a CSV file of pairs", None)
    if not (root / table).exists():
        message = f"{root / table} does not exist. If there is a prepare.py beside the shipped recipe, it makes it."
        raise MissingError(message)
    return read_pairs(root / table)


def _unordered(pair: PairFiles) -> str:
    return " and ".join(sorted(str(path.resolve()) for path in (pair.fixed, pair.moving)))
