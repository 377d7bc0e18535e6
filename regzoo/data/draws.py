"""Which two images make a pair: given pairs, any two images, or images of groups in temporal order."""

import itertools
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regzoo.data.tables import PairFiles, Spacing
from regzoo.errors import invalid

Pair = tuple[Hashable, Hashable]
"""Fixed and moving."""


@dataclass(frozen=True)
class Files:
    """An image file, its label map or None, and the millimetres a voxel where they are in HDF5 (see `Image.read`)."""

    image: Path
    labels: Path | None = None
    spacing: Spacing | None = None

    def __str__(self) -> str:
        return str(self.image)


def sides(pair: PairFiles) -> tuple[Files, Files]:
    """Returns the files of the fixed and of the moving side."""
    fixed = Files(pair.fixed, pair.fixed_labels, pair.spacing)
    return fixed, Files(pair.moving, pair.moving_labels, pair.spacing)


@dataclass(frozen=True)
class Paired:
    """Draws one of the given (fixed, moving) pairs.

    Args:
        pairs: The pairs, at least one.
    """

    pairs: Sequence[Pair]

    def __post_init__(self) -> None:
        if not self.pairs:
            raise invalid("data", "at least one pair", 0)

    @property
    def items(self) -> list:
        """Every image, once."""
        return list(dict.fromkeys(itertools.chain(*self.pairs)))

    def __call__(self, random: np.random.Generator) -> Pair:
        """Returns (fixed, moving)."""
        return self.pairs[random.integers(len(self.pairs))]


@dataclass(frozen=True)
class Unpaired:
    """Draws two different images, in either order.

    Args:
        images: The images, at least two.
    """

    images: Sequence[Hashable]

    def __post_init__(self) -> None:
        if len(self.images) < 2:
            raise invalid("data", "at least two images", len(self.images))

    @property
    def items(self) -> list:
        """Every image, once."""
        return list(self.images)

    def __call__(self, random: np.random.Generator) -> Pair:
        """Returns (fixed, moving)."""
        fixed, moving = random.choice(len(self.images), 2, replace=False)
        return self.images[fixed], self.images[moving]

    def all(self) -> Iterator[Pair]:
        """Yields every pair that can be drawn."""
        return itertools.permutations(self.images, 2)


@dataclass(frozen=True)
class Grouped:
    """Draws two images of one group, or of two groups; a group's images are in temporal order.

    Args:
        groups: The images of each group. Where every pair is to be of one group, each needs two.
        intra_group_prob: Share of the pairs that are of one group.
        intra_group_option: `"forward"`: within a group, the moving image comes before the fixed one, at any distance;
            `"backward"`: after it; `"unconstrained"`: either.
        sample_image_in_group: Whether groups are drawn equally often, or pairs of images.

    Source: the options of DeepReg's grouped loader; unlike it, one group of one image does not thin out the epoch.
    """

    groups: Sequence[Sequence[Hashable]]
    intra_group_prob: float = 1.0
    intra_group_option: str = "unconstrained"
    sample_image_in_group: bool = True

    def __post_init__(self) -> None:
        alone = [group[0] for group in self.groups if len(group) == 1]
        if self.intra_group_prob == 1 and alone:
            raise invalid("data", "at least two images in every group, since all pairs are of one group", alone[0])
        if self.intra_group_prob > 0 and len(alone) == len(self.groups):
            raise invalid("data", "a group of at least two images, since intra_group_prob is above 0", "none")
        if self.intra_group_prob < 1 and len(self.groups) < 2:
            raise invalid("data", "at least two groups, since intra_group_prob is below 1", len(self.groups))

    @property
    def items(self) -> list:
        """Every image, once."""
        return list(itertools.chain(*self.groups))

    def __call__(self, random: np.random.Generator) -> Pair:
        """Returns (fixed, moving)."""
        return (self._within if random.random() < self.intra_group_prob else self._between)(random)

    def all(self) -> Iterator[Pair]:
        """Yields every pair that can be drawn."""
        if self.intra_group_prob > 0:
            for group in self.groups:
                yield from (pair for pair in itertools.permutations(group, 2) if self._in_order(group, *pair))
        if self.intra_group_prob < 1:
            for one, other in itertools.permutations(self.groups, 2):
                yield from itertools.product(one, other)

    def _in_order(self, group: Sequence[Hashable], fixed: Hashable, moving: Hashable) -> bool:
        if self.intra_group_option == "unconstrained":
            return True
        return (group.index(moving) < group.index(fixed)) == (self.intra_group_option == "forward")

    def _within(self, random: np.random.Generator) -> Pair:
        groups = [group for group in self.groups if len(group) > 1]
        pairs = np.array([len(group) * (len(group) - 1) for group in groups])
        group = groups[random.choice(len(groups), p=None if self.sample_image_in_group else pairs / pairs.sum())]
        fixed, moving = (int(place) for place in random.choice(len(group), 2, replace=False))
        if self.intra_group_option != "unconstrained":
            moving, fixed = sorted((fixed, moving), reverse=self.intra_group_option == "backward")
        return group[fixed], group[moving]

    def _between(self, random: np.random.Generator) -> Pair:
        if self.sample_image_in_group:
            chosen = random.choice(len(self.groups), 2, replace=False)
            fixed, moving = (self.groups[group][random.integers(len(self.groups[group]))] for group in chosen)
            return fixed, moving
        owner = np.repeat(np.arange(len(self.groups)), [len(group) for group in self.groups])
        while True:
            fixed, moving = random.choice(len(owner), 2, replace=False)
            if owner[fixed] != owner[moving]:
                images = self.items
                return images[fixed], images[moving]


Draw = Paired | Unpaired | Grouped


def different(draw: Unpaired | Grouped, count: int, seed: int) -> list[Pair]:
    """Returns `count` different pairs as `draw` draws them, or all that there are, if they are fewer."""
    known = list(itertools.islice(draw.all(), count + 1))
    if len(known) <= count:
        return known
    random, found = np.random.default_rng(seed), {}
    while len(found) < count:
        found[draw(random)] = None
    return list(found)
