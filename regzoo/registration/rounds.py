"""The rounds by which a template is made: register all to the average, find the middle, average there."""

import contextlib
import functools
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regzoo import progress
from regzoo.errors import InvalidError, RegzooError
from regzoo.registration.averages import KeptMaps, MeanImage, MeanMap, anatomy, laid
from regzoo.registration.results import Result
from regzoo.registration.scores import Side
from regzoo.registration.sides import read_side
from regzoo.world.images import Grid, Image, Source
from regzoo.world.transforms import Transform


@dataclass(frozen=True)
class Subject:
    """An image of which a template is made.

    Args:
        name: It names the files.
        source: The image.
        away: From the template's space to the image's as it lay at the start: a shift.
    """

    name: str
    source: Source
    away: Transform


@dataclass(frozen=True)
class Study:
    """What each round needs.

    Args:
        subjects: The images.
        grid: The template's.
        find: Finds the map from the average to an image.
        register: The same as `register` does it, with its doubts.
        work: Folder that is there during the work.
        mirror: The map from left to right; None: the template need not be symmetric.
        matched: Whether intensities are matched.
    """

    subjects: tuple[Subject, ...]
    grid: Grid
    find: Callable[[Source, Source], Transform]
    register: Callable[[Source, Source], Result]
    work: Path
    mirror: Transform | None
    matched: bool

    @functools.cached_property
    def found(self) -> KeptMaps:
        """The maps that a round finds."""
        return KeptMaps(self.work / "found", self.grid)

    @functools.cached_property
    def kept(self) -> KeptMaps:
        """The same, once their mean moves nothing."""
        return KeptMaps(self.work / "kept", self.grid)

    @property
    def voxel(self) -> float:
        """The edge in mm of a cube of a voxel's volume."""
        return float(np.prod(self.grid.spacing) ** (1 / 3))


@dataclass(frozen=True)
class Round:
    """What a round came to.

    Args:
        image: The average after it.
        mean: The same, before left and right were made the same.
        facts: `displacement`, of the mean of the maps: its mean over the anatomy in voxels and mm, and its largest;
            `change` of the maps since the round before, their mean in voxels, null in the first; `seconds`.
        doubts: What is to be warned of, of the last round.
    """

    image: Image
    mean: MeanImage
    facts: dict
    doubts: list[str]


def plain_mean(study: Study) -> MeanImage:
    """Returns the mean of the images as they lie at the start."""
    progress.stage("averaging")
    mean = MeanImage(study.grid)
    for subject in each(study):
        with named(subject):
            mean.add(*laid(read(subject), subject.away, study.grid, study.matched))
    return mean


def run(study: Study, start: Image, most: int, tolerance: float) -> Iterator[Round]:
    """Yields each round. The last one, once little changed in the one before, also says what is doubtful.

    Args:
        study: What each round needs.
        start: What the first round registers to, on the study's grid.
        most: Most rounds.
        tolerance: Voxels, up to which the change is little.
    """
    image, last = start, most == 1
    for number in range(1, most + 1):
        progress.stage(f"round {number}")
        done = _round(study, image, last)
        image = done.image
        yield done
        if last:
            return
        last = settled(done.facts, tolerance) or number + 1 == most


def settled(facts: dict, tolerance: float) -> bool:
    """Tells whether a round changed little.

    What it undid is not asked: a registration that errs alike for all images does so in every round, and no more
    rounds make it less.
    """
    return facts["change"] is not None and facts["change"] <= tolerance


def _round(study: Study, template: Image, last: bool) -> Round:
    begun, inside = time.perf_counter(), anatomy(template)
    middle, doubts = _middle(study, template, last)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        back = middle.inverse()
    doubts += [f"The mean of the maps: {each.message}" for each in caught]
    lengths = np.linalg.norm(middle.displacement(study.grid)[inside], axis=-1)
    mean, change = _brought(study, back, inside)
    image = mean.image()
    if study.mirror is not None:
        other = study.mirror.apply_image(image, study.grid).array
        image = Image((image.array + other) / 2, image.affine)
    shift = {"voxels": float(lengths.mean()) / study.voxel, "mm": float(lengths.mean()), "max_mm": float(lengths.max())}
    facts = {"displacement": shift, "change": change, "seconds": round(time.perf_counter() - begun, 3)}
    return Round(image, mean, facts, doubts)


def _middle(study: Study, template: Image, last: bool) -> tuple[Transform, list[str]]:
    """Registers all images to the template; returns the mean of the maps, and in the last round what is doubtful."""
    mean, doubts = MeanMap(study.grid), []
    for subject in each(study, 0, 2):
        with named(subject):
            found, doubted = _registered(study, template, subject, last)
            mean.add(study.found.keep(subject.name, found.then(subject.away.inverse())))
        doubts += [f"{subject.name}: {text}" for text in doubted]
    if study.mirror is None:
        return mean.value(), doubts
    return _of_both_sides(study, template, mean.value()), doubts


def _registered(study: Study, template: Image, subject: Subject, last: bool) -> tuple[Transform, list[str]]:
    if not last:
        return study.find(template, subject.source), []
    result = study.register(template, subject.source)
    return result.transform, result.facts["warnings"]


def _of_both_sides(study: Study, template: Image, middle: Transform) -> Transform:
    """Returns the mean of the maps to the subjects, and to their mirror images.

    `other` leads a place of the template to the same anatomy of its mirror image, and so to that side of the template;
    from there the mean leads to the subjects, and the mirror to their mirror images.
    """
    mirror, both = study.mirror, MeanMap(study.grid)
    other = study.find(template, mirror.apply_image(template, study.grid))
    both.add(middle)
    both.add(other.then(mirror).then(middle).then(mirror))
    return both.value()


def _brought(study: Study, back: Transform, inside: np.ndarray) -> tuple[MeanImage, float | None]:
    """Brings the maps that were found to the middle, and averages the images there.

    Returns:
        The mean, and the change of the maps since the round before in voxels.
    """
    mean, changes = MeanImage(study.grid), []
    for subject in each(study, 1, 2):
        before = study.kept.of(subject.name) if study.kept.has(subject.name) else None
        own = study.kept.keep(subject.name, back.then(study.found.of(subject.name)))
        if before is not None:
            change = own.displacement(study.grid)[inside] - before.displacement(study.grid)[inside]
            changes.append(np.linalg.norm(change, axis=-1).mean())
        with named(subject):
            mean.add(*laid(read(subject), own.then(subject.away), study.grid, study.matched))
    return mean, float(np.mean(changes)) / study.voxel if changes else None


def each(study: Study, part: int = 0, of: int = 1) -> Iterator[Subject]:
    """Yields the subjects, and tells how far it is, in this part of so many."""
    count = len(study.subjects)
    for number, subject in enumerate(study.subjects):
        progress.step(part * count + number, of * count)
        yield subject


def read(subject: Subject) -> Side:
    """Reads a subject's image."""
    return read_side(subject.name, Image.of(subject.source, subject.name), None)


@contextlib.contextmanager
def named(subject: Subject) -> Iterator[None]:
    """Has an error in the block tell of which image it is."""
    try:
        yield
    except RegzooError as error:
        raise InvalidError(f"{subject.name}: {error}") from error
