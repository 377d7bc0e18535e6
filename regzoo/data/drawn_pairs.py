"""Pairs that are drawn from single images, any two of them or two of a group, as a splits file lists them."""

import itertools
from abc import abstractmethod

import numpy as np

from regzoo.data.draws import Draw, Files, Grouped, Pair, Unpaired, different
from regzoo.data.file_pairs import FilePairs, existing, pair_of
from regzoo.data.splits import list_subjects, refuse_overlap
from regzoo.data.tables import PairFiles, SubjectFiles
from regzoo.errors import InvalidError

Groups = list[list[Files]]
"""Images by group, in order; images without groups are one group."""


class DrawnPairs(FilePairs):
    """Pairs that are drawn from single images; no image may be in two splits."""

    @abstractmethod
    def groups(self, split: str) -> Groups:
        """Returns the images of a split."""

    @abstractmethod
    def draw(self, groups: Groups) -> Draw:
        """Returns the draw of pairs from images."""

    def has_test(self) -> bool:
        """Tells whether there is a test split to keep apart here, which who trains need not have."""
        return False

    def group_names(self, split: str) -> set[str]:
        """Returns what else than images may not be in two splits."""
        return set()

    def pairs(self, split: str) -> list[PairFiles]:
        """Returns `validation_pairs` pairs of a split, drawn by the recipe's seed."""
        groups = self.groups(split)
        try:
            draw = self.draw(groups)
        except InvalidError as error:
            place = self.root / (self.data.splits or "")
            raise InvalidError(f"{place}: {split}: {str(error).removeprefix('data: ')}") from None
        return [pair_of(*pair) for pair in self.scored(draw)]

    def scored(self, draw: Draw) -> list[Pair]:
        """Returns the pairs of a draw to score on."""
        return different(draw, self.data.validation_pairs, self.recipe.seed)

    def train_draw(self) -> Draw:
        """Returns the draw of images to train on."""
        found = {split: self.groups(split) for split in ("train", "valid", *["test"] * self.has_test())}
        refuse_overlap(self.root, {split: _images(groups) for split, groups in found.items()})
        refuse_overlap(self.root, {split: self.group_names(split) for split in found})
        return self.draw([[self.wanted(existing(each)) for each in group] for group in found["train"]])


class ListedImages(DrawnPairs):
    """Single images that a splits file lists."""

    def pairs(self, split: str) -> list[PairFiles]:
        """Returns the pairs of a split; test pairs that the splits file lists, (moving, fixed), are those."""
        subjects, listed = list_subjects(self.data, self.root)
        if split == "test" and listed:
            files = {name: Files(each.image, each.labels) for name, each in subjects.items()}
            return [pair_of(files[fixed], files[moving]) for moving, fixed in listed]
        return super().pairs(split)

    def groups(self, split: str) -> Groups:
        """Returns the images of a split by group."""
        groups: dict[str | None, list[Files]] = {}
        for each in list_subjects(self.data, self.root)[0].values():
            if each.split == split:
                groups.setdefault(self.group(each), []).append(Files(each.image, each.labels))
        return list(groups.values())

    def group(self, subject: SubjectFiles) -> str | None:
        """Returns the group that an image is in."""
        return subject.group


class UnpairedImages(ListedImages):
    """Pairs are any two images."""

    def group(self, subject: SubjectFiles) -> None:
        """Returns None: all images are one group."""

    def draw(self, groups: Groups) -> Unpaired:
        """Returns the draw of any two images."""
        return Unpaired(list(itertools.chain(*groups)))

    def scored(self, draw: Draw) -> list[Pair]:
        """Returns pairs to score on, which may repeat, as in the scores that cards of this kind already show."""
        random = np.random.default_rng(self.recipe.seed)
        return [draw(random) for _ in range(self.data.validation_pairs)]


class GroupedImages(ListedImages):
    """Pairs are of images in groups, such as a patient's visits."""

    def draw(self, groups: Groups) -> Grouped:
        """Returns the draw of two images of groups."""
        return draw_of_groups(groups, self.data)


def draw_of_groups(groups: Groups, data: object) -> Grouped:
    """Returns the draw from groups that a recipe's `data` asks for."""
    return Grouped(groups, data.intra_group_prob, data.intra_group_option, data.sample_image_in_group)


def _images(groups: Groups) -> set[str]:
    return {str(files.image.resolve()) for files in itertools.chain(*groups)}
