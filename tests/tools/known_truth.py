"""Pairs whose truth is known: two subjects with labels, images under simulated maps, and what was made to fail.

The cases that `expected_error.py` fits and tests on; each is made when it is asked for, and the same each time.
"""

import functools
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from regzoo.data.tables import PairFiles
from regzoo.io.landmarks import read_points
from regzoo.schema.priors import BreathingPrior
from regzoo.schema.recipe import Recipe
from regzoo.simulation.breathing import breathing_pair
from regzoo.simulation.breathing_pairs import BreathingPairs
from regzoo.simulation.chests import Chest
from regzoo.world.images import Grid, Image
from regzoo.world.matrices import map_points
from regzoo.world.transforms import Transform

MIRRORED = "mirrored"
COUNTS = {"known": 16, "turned": 24}
COUNTS |= dict.fromkeys((MIRRORED, "organ", "cropped", "blank", "noisy", "contrast", "spacing"), 8)
"""Cases of each kind, beside all pairs that have labels and the near misses."""
ORGANS = ("brain-mr/images", "hippocampus-mr/images", "cardiac-acdc", "lung-ct/chest", "limb-ct-mr")


@dataclass(frozen=True)
class Case:
    """A pair whose truth is known."""

    kind: str
    subject: str
    fixed: Image
    moving: Image
    fixed_labels: Image | None = None
    moving_labels: Image | None = None
    goal: Callable[[np.ndarray], np.ndarray] | None = None
    """Where points of fixed space (N, 3) belong; None where labels alone tell, or nothing fits."""
    marked: np.ndarray | None = None
    """Points of fixed space (N, 3), landmarks, at which alone `goal` is known; None: everywhere."""
    hopeless: bool = False
    """Whether there is no right answer."""
    first: bool = False
    """Whether the labels are the first of several that may overlap, the organ with what lies in it."""

    def sampled_through(self, matrix: np.ndarray) -> "Case":
        """Returns the case with `moving(matrix @ y)` in the place of `moving(y)`, on the same grid."""
        back, goal = np.linalg.inv(matrix), self.goal
        return replace(
            self,
            moving=_through(self.moving, matrix),
            moving_labels=self.moving_labels and _through(self.moving_labels, matrix),
            goal=goal and (lambda points: map_points(back, goal(points))),
        )

    def with_header(self, affine: np.ndarray) -> "Case":
        """Returns the case with another affine of the moving image."""
        change, goal = affine @ np.linalg.inv(self.moving.affine), self.goal
        labels = self.moving_labels and Image(self.moving_labels.array, affine)
        moved = goal and (lambda points: map_points(change, goal(points)))
        return replace(self, moving=Image(self.moving.array, affine), moving_labels=labels, goal=moved)

    def recoloured(self, change: Callable[[np.ndarray], np.ndarray]) -> "Case":
        """Returns the case with other intensities of the moving image, given and returned between 0 and 1."""
        low, high = np.percentile(self.moving.array, (0.5, 99.5))
        scaled = np.clip((self.moving.array - low) / max(high - low, 1e-9), 0, 1.2)
        array = (change(scaled) * (high - low) + low).astype("float32")
        return replace(self, moving=Image(array, self.moving.affine))


def _through(image: Image, matrix: np.ndarray) -> Image:
    labels = image.array.dtype.kind in "iu" or image.channels is not None
    moved = Transform.linear(matrix)
    if labels:
        return moved.apply_labels(image, image.grid)
    return moved.apply_image(image, image.grid, outside=float(image.array.min()))


def _about(linear: np.ndarray, middle: np.ndarray, shift: np.ndarray | float = 0.0) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = middle - linear @ middle + shift
    return matrix


def _turned(random: np.random.Generator, degrees: float, flat: bool) -> np.ndarray:
    axis = np.array([0, 0, 1.0]) if flat else random.normal(size=3)
    return Rotation.from_rotvec(axis / np.linalg.norm(axis) * degrees, degrees=True).as_matrix()


def smooth_map(grid: Grid, random: np.random.Generator, strength: float, flat: bool) -> Transform:
    """Returns a smooth map of a grid's place onto itself: random vectors on a lattice, cubic between them."""
    size = np.ptp(grid.box(), axis=0)
    step = random.uniform(0.15, 0.5) * size.min()
    shape = np.maximum(np.ceil(np.abs(np.array(grid.shape) * grid.spacing) / step).astype(int) + 1, 2)
    control = random.normal(0, strength * step, (*shape, 3))
    if flat:
        control = control @ np.diag([1, 1, 0])
    places = [np.linspace(0, n - 1, m) for n, m in zip(shape, grid.shape, strict=True)]
    at = np.meshgrid(*places, indexing="ij")
    vectors = np.stack([ndimage.map_coordinates(control[..., d], at, order=3, mode="nearest") for d in range(3)], -1)
    return Transform.from_voxel_ddf((vectors @ np.linalg.inv(grid.affine[:3, :3]).T).astype("float32"), grid)


def known(kind: str, subject: str, fixed: Image, random: np.random.Generator, near: bool, flat: bool) -> Case:
    """Returns an image and itself under a known map, with other brightness and noise."""
    size, middle = np.ptp(fixed.grid.box(), axis=0), fixed.grid.box().mean(axis=0)
    strength = random.uniform(0.02, 0.18 if near else 0.12)
    back = smooth_map(fixed.grid, random, strength, flat)  # from moving to fixed space
    turn = random.uniform(4, 35) if near else random.uniform(0, 4)
    shift = random.uniform(-1, 1, 3) * (0.1 if near else 0.03) * size * ([1, 1, 0] if flat else 1)
    scale = np.exp(random.uniform(-1, 1) * (0.12 if near else 0.05))
    back = Transform.linear(_about(scale * _turned(random, turn, flat), middle, shift)).then(back)
    moving = back.apply_image(fixed, fixed.grid, outside=float(fixed.array.min()))
    case = Case(kind, subject, fixed, moving, goal=back.invert_points)
    exponent, noise = np.exp(random.uniform(-0.25, 0.25)), random.uniform(0, 0.03)
    return case.recoloured(lambda x: x**exponent + random.normal(0, noise, x.shape) * (x > 0))


def changed(case: Case, kind: str, random: np.random.Generator, flat: bool, organs: list[Path]) -> Case:
    """Returns a case that is made to fail in a way, or nearly."""
    middle = case.moving.grid.box().mean(axis=0)
    if kind == "turned":
        return case.sampled_through(_about(_turned(random, random.uniform(0, 180), flat), middle))
    if kind == MIRRORED:
        return case.sampled_through(_about(np.diag([-1.0, 1, 1]), middle))
    if kind == "cropped":
        keep = [slice(None)] * 3
        axis = int(random.integers(2 if flat else 3))
        n = case.moving.shape[axis]
        left = max(4, round(n * random.uniform(0.3, 0.6)))
        first = int(random.choice([0, n - left]))
        keep[axis] = slice(first, first + left)
        affine = case.moving.affine.copy()
        affine[:3, 3] += affine[:3, axis] * first
        labels = case.moving_labels and Image(case.moving_labels.array[tuple(keep)], affine)
        return replace(case, moving=Image(case.moving.array[tuple(keep)], affine), moving_labels=labels)
    if kind == "blank":
        if random.random() < 0.5:
            array = random.normal(0, 0.02, case.moving.shape) * np.ptp(case.moving.array) + case.moving.array.min()
            return replace(case, moving=Image(array.astype("float32"), case.moving.affine), hopeless=True)
        array, n = case.moving.array.copy(), case.moving.shape[1]
        array[:, : round(n * random.uniform(0.5, 0.8))] = array.min()
        return replace(case, moving=Image(array, case.moving.affine))
    if kind == "noisy":
        level = random.uniform(0.15, 0.8)
        return case.recoloured(lambda x: x + random.normal(0, level, x.shape))
    if kind == "contrast":
        heights = random.permutation(np.linspace(0, 1, 5)) if random.random() < 0.5 else np.linspace(1, 0, 5)
        return case.recoloured(lambda x: np.where(x > 0, np.interp(x, np.linspace(0, 1, 5), heights), 0))
    if kind == "spacing":
        factors = np.exp(random.uniform(-0.8, 0.8, 3)) * ([1, 1, 0] if flat else 1) + ([0, 0, 1] if flat else 0)
        return case.with_header(case.moving.affine @ np.diag([*factors, 1]))
    other = Image.read(organs[int(random.integers(len(organs)))])
    other = Image(other.array if other.channels is None else other.array[..., 0], other.affine)
    return replace(case, moving=other, moving_labels=None, goal=None, hopeless=True)


def cases(
    pairs: Sequence[PairFiles], split: str, data: str, flat: bool, share: float = 1.0, near: int = 60
) -> Iterator[tuple[str, Callable[[], Case]]]:
    """Yields the cases of the pairs of a split by name.

    Args:
        pairs: The pairs.
        split: Its name, which their random changes hang on.
        data: Folder of the data sets, for images of other organs.
        flat: Whether slices are registered, each alone.
        share: Of the cases but near misses.
        near: Near misses.
    """
    own = {part for pair in pairs for part in pair.fixed.parts}
    organs = [
        file
        for folder in ORGANS
        if folder.split("/")[0] not in own
        for file in sorted((Path(data) / folder).glob("*.nii.gz"))[:10]
        if "mask" not in file.name and "gt" not in file.name
    ]
    labelled = [pair for pair in pairs if pair.fixed_labels and pair.moving_labels]
    for number, pair in enumerate(labelled[: math.ceil(share * len(labelled))]):
        yield f"plain-{number:03d}", functools.partial(_labelled, "plain", pair)
    for number, pair in enumerate(pair for pair in pairs if pair.fixed_points and pair.moving_points):
        yield f"marked-{number:03d}", functools.partial(_marked, pair)
    counts = {kind: math.ceil(share * count) for kind, count in COUNTS.items()} | {"near": near}
    for kind, count in counts.items():
        for number in range(count):
            random = np.random.default_rng(zlib.crc32(f"{split} {kind} {number}".encode()))
            simulated = kind in ("known", "near") or number % 2 == 1 or not labelled
            pair = pairs[number % len(pairs)] if simulated else labelled[number // 2 % len(labelled)]
            second = number // len(pairs) % 2 == 1
            yield f"{kind}-{number:03d}", functools.partial(_made, kind, pair, simulated, second, random, flat, organs)


def _made(
    kind: str, pair: PairFiles, simulated: bool, second: bool, random: np.random.Generator, flat: bool, organs: list
) -> Case:
    if not simulated:
        return changed(_labelled(kind, pair), kind, random, flat, organs)
    file = pair.moving if second else pair.fixed
    case = known(kind, file.name, Image.read(file), random, kind == "near", flat)
    return case if kind in ("known", "near") else changed(case, kind, random, flat, organs)


def _marked(pair: PairFiles) -> Case:
    here, there = read_points(pair.fixed_points), read_points(pair.moving_points)
    goal = lambda points: there[cKDTree(here).query(points)[1]]  # noqa: E731
    return Case("marked", pair.fixed.name, Image.read(pair.fixed), Image.read(pair.moving), goal=goal, marked=here)


def breaths(recipe: Recipe, home: Path, count: int) -> Iterator[tuple[str, Callable[[], Case]]]:
    """Yields pairs of scans that a recipe simulates of the chests it validates on, as they are, by name."""
    source = BreathingPairs(recipe, home)
    chests = source.chests(recipe.input, "valid")
    prior = recipe.data.prior.model_copy(update={"anatomy": 0.0})
    for number in range(count):
        place = number % len(chests)
        yield f"breath-{number:03d}", functools.partial(_breath, recipe.data.valid[place], chests[place], prior, number)


def _breath(subject: str, chest: Chest, prior: BreathingPrior, number: int) -> Case:
    pair = breathing_pair(chest, zlib.crc32(f"breath {number}".encode()), prior)
    goal = Transform.from_voxel_ddf(pair.ddf, pair.fixed.grid).apply_points
    return Case("breath", Path(subject).name, pair.fixed, pair.moving, goal=goal)


def _labelled(kind: str, pair: PairFiles) -> Case:
    labels = [Image.read(each, labels=True) for each in (pair.fixed_labels, pair.moving_labels)]
    first = any(each.channels is not None for each in labels)
    if first:
        arrays = [each.array if each.channels is None else each.array[..., 0] for each in labels]
        labels = [Image((a > 0.5).astype("uint8"), each.affine) for a, each in zip(arrays, labels, strict=True)]
    return Case(kind, pair.fixed.name, Image.read(pair.fixed), Image.read(pair.moving), *labels, first=first)
