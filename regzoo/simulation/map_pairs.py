"""A kind of data: label maps and random shapes that lie on the device and are painted there while a model trains."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from keras import ops

from regzoo import backend
from regzoo.backend import Tensor
from regzoo.data.kinds import Batch, Examples
from regzoo.data.splits import read_names
from regzoo.errors import invalid
from regzoo.schema.data import MapsData
from regzoo.schema.inputs import InputConfig
from regzoo.schema.recipe import Recipe
from regzoo.simulation.augmentation import drawn_places, recoloured
from regzoo.simulation.painting import cut, grouped, looks_of, numbers_at, painted
from regzoo.simulation.shape_pairs import ShapePairs
from regzoo.simulation.shapes import label_map
from regzoo.world.images import Grid, Image
from regzoo.world.resampling import resample

_BEYOND = 1.25
"""How much larger than the network's grid maps of random shapes are."""
_LEAST = 20
"""Voxels of the network's grid that a label has at least, to be compared."""


class MapPairs(ShapePairs):
    """Pairs of painted maps; those to validate on show other maps, and only real pairs are tested.

    Args:
        recipe: Its `data` and `augmentation` say what is drawn.
        home: Folder that `data.root` is relative to.
    """

    def examples(self, inputs: InputConfig) -> Examples:
        """Returns the draw of pairs, and `validation_pairs` of them, which are judged by the overlap of labels."""
        names, seed, data = read_names(self.root / self.data.splits, least=1).splits, self.recipe.seed, self.data
        drawn = {}
        for number, split in enumerate(("train", "valid")):
            random = np.random.default_rng([seed + number, 0])
            count = data.shapes if split == "train" else data.validation_pairs
            sources = read_maps(self.root, names[split], inputs, data), shape_maps(random, count, inputs, data)
            drawn[split] = MapBatches(self.recipe, inputs, *sources)
        randoms = [np.random.default_rng([seed + 1, 1, number]) for number in range(data.validation_pairs)]
        valid = [drawn["valid"](random, 1) for random in randoms]
        return Examples(drawn["train"], [{name: _array(each) for name, each in pair.items()} for pair in valid])


@dataclass(frozen=True, eq=False)
class Maps:
    """Maps of one kind, on the device.

    Args:
        held: Numbers of labels, 0 for what is black, shape (M, *T, 1), uint8; the middle of what is of interest is
            that of the array.
        shown: Which of the K labels each map has enough of to be compared, shape (M, K), bool.
        spacing: Millimetres a voxel, D values.
        reach: Millimetres from the middle to the end of what is of interest along each axis, D values.
        tissues: The tissue of each label, shape (K,), int.
        zoom: Least and largest part of a map that the grid covers; see `MapsData`.
        layers: The layer of each label, 0 for what is of interest, else counted from the outermost, 1; shape (K,), int.
    """

    held: Tensor
    shown: np.ndarray
    spacing: np.ndarray
    reach: np.ndarray
    zoom: tuple[float, float]
    tissues: np.ndarray
    layers: np.ndarray


class MapBatches:
    """Draws batches of pairs of painted maps.

    Args:
        recipe: Its `data` and `augmentation` say what is drawn.
        inputs: The network's grid.
        maps: Label maps, two of which are a pair.
        shapes: Maps of random shapes, one of which is.
    """

    def __init__(self, recipe: Recipe, inputs: InputConfig, maps: Maps, shapes: Maps) -> None:
        self.data, self.augmentation, self.inputs = recipe.data, recipe.augmentation, inputs
        self.maps, self.shapes = maps, shapes

    def __call__(self, random: np.random.Generator, count: int) -> Batch:
        """Returns a batch of so many pairs, of tensors on the device: images and labels, float32."""
        random_shapes = random.uniform() < self.data.share
        maps = self.shapes if random_shapes else self.maps
        pairs = [self._pair(random, maps, random_shapes) for _ in range(count)]
        sides = [pair[side] for side in (0, 1) for pair in pairs]  # fixed images first
        drawn = {name: np.stack([each[name] for each in sides]) for name in sides[0]}
        drawn["seeds"] = random.integers(2**31, size=2 * count, dtype="int32")
        sent = backend.sent(drawn)
        shape, spacing, seeds = self.inputs.shape, self.inputs.spacing, sent["seeds"]
        places = drawn_places(self.augmentation, shape, spacing, seeds)
        numbers = numbers_at(maps.held, sent["rows"], places, sent["frame"])
        images = recoloured(painted(numbers, sent, seeds, spacing, self.data.prior), self.augmentation, spacing, seeds)
        images = cut(images, *(sent[f"view{axis}"] for axis in range(len(shape))))
        batch = dict(zip(("fixed", "moving"), ops.split(images, 2), strict=True))
        return batch | dict(zip(("fixed_labels", "moving_labels"), grouped(numbers, sent["groups"]), strict=True))

    def _pair(self, random: np.random.Generator, maps: Maps, same: bool) -> list[dict[str, np.ndarray]]:
        """Draws what the fixed and the moving image of a pair are made of."""
        data, count = self.data, len(maps.shown)
        same = same or count == 1 or random.uniform() < data.same
        rows = np.repeat(random.integers(count), 2) if same else random.choice(count, 2, replace=False)
        stripped = random.uniform(size=2) < data.prior.stripped
        depth = stripped * np.ceil(random.uniform(size=2) * maps.layers.max())
        hidden = (maps.layers > 0) & (maps.layers <= depth[:, None])
        hidden[:, 0] = True
        looks = looks_of(random, maps.tissues, hidden, self.inputs.shape, self.inputs.spacing, data.prior)
        seen = np.flatnonzero(maps.shown[rows].all(axis=0) & ~hidden.any(axis=0))
        # Half of the channels are a label each, the others any of them together, whose borders are all over the image.
        groups = np.zeros((len(maps.tissues), data.label_sampling), "float32")
        singles = random.permutation(seen)[: (data.label_sampling + 1) // 2]
        groups[singles, np.arange(len(singles))] = 1
        groups[seen, len(singles) :] = random.integers(2, size=(len(seen), data.label_sampling - len(singles)))
        frame = self._frame(random, maps)
        return [
            {"rows": np.int32(rows[side]), "frame": frame, "groups": groups}
            | {name: each[side] for name, each in looks.items()}
            for side in (0, 1)
        ]

    def _frame(self, random: np.random.Generator, maps: Maps) -> np.ndarray:
        """Draws what part of both maps the grid covers; see `numbers_at`."""
        shape, spacing = np.array(self.inputs.shape), np.array(self.inputs.spacing)
        zoom = np.exp(random.uniform(*np.log(maps.zoom)))
        beyond = np.maximum(maps.reach - zoom * shape * spacing / 2, 0)
        factor = zoom * spacing / maps.spacing
        if self.augmentation.flip and random.uniform() < self.augmentation.flip.probability:
            factor[0] *= -1
        middle = (np.array(maps.held.shape[1:-1]) - 1) / 2 + random.uniform(-1, 1, len(shape)) * beyond / maps.spacing
        return np.stack([factor, middle - factor * (shape - 1) / 2]).astype("float32")


def read_maps(root: Path, names: Sequence[str], inputs: InputConfig, data: MapsData) -> Maps:
    """Reads label maps, each laid with the middle of what is of interest on the middle of a common grid.

    Args:
        root: The folder of `NAME.nii.gz`.
        names: The names.
        inputs: The network's grid.
        data: Tissues and layers.

    Raises:
        RegzooError: If a file is missing or damaged, or maps have more than 255 labels.
    """
    images = [Image.read(root / f"{name}.nii.gz", labels=True) for name in names]
    values = np.unique(np.concatenate([[0], *(np.unique(each.array) for each in images)]))
    if len(values) > 256:
        raise invalid("data", "maps of at most 255 labels", f"{len(values) - 1} labels")
    layers = np.zeros(len(values), int)
    for number, group in enumerate(data.layers, start=1):
        layers[np.isin(values, group)] = number
    spacing = float(images[0].spacing.min())
    shape = np.max([each.grid.upright(spacing).shape for each in images], axis=0)
    inside = values[(layers == 0) & (values > 0)]
    boxes = [_box(image, inside) for image in images]
    held = [_laid(image, box.mean(axis=0), spacing, shape, values) for image, box in zip(images, boxes, strict=True)]
    least = _LEAST * np.prod(inputs.spacing) / spacing**3
    shown = np.stack([np.bincount(each.ravel(), minlength=len(values)) >= least for each in held])
    reach = np.mean([np.ptp(box, axis=0) / 2 for box in boxes], axis=0)
    return _held(held, shown, spacing, reach, data.zoom, _tissues(values, data), layers)


def shape_maps(random: np.random.Generator, count: int, inputs: InputConfig, data: MapsData) -> Maps:
    """Draws maps of random shapes (`label_map`) on a grid somewhat larger than a network's.

    Args:
        random: Where draws come from.
        count: How many.
        inputs: The network's grid.
        data: Says of what prior.
    """
    prior, inside = data.prior, np.asarray(inputs.shape)
    larger, labels = np.ceil(_BEYOND * inside).astype(int), prior.shapes + 1

    def drawn(random: np.random.Generator) -> np.ndarray:
        body = random.uniform(*prior.body, len(inside)) * inside / 2 if random.uniform() < prior.black else None
        # Shape 0 is black where it lies around the others, and else like them.
        return label_map(random, larger, inputs.spacing, prior, body) + np.uint8(body is None)

    with ThreadPoolExecutor() as pool:
        held = list(pool.map(drawn, random.spawn(count)))
    shown = np.stack([np.bincount(each.ravel(), minlength=labels) >= _LEAST for each in held])
    reach = inside * np.asarray(inputs.spacing) / 2
    zoom = min(data.zoom[0], 1.0), min(data.zoom[1], 1.0)  # beyond its edge, such a map is no shape
    return _held(held, shown, inputs.spacing, reach, zoom, np.arange(labels), np.zeros(labels, int))


def _held(held: list, shown: np.ndarray, spacing: object, reach: np.ndarray, *rest: object) -> Maps:
    spacing = np.broadcast_to(np.asarray(spacing, "float64"), reach.shape)
    return Maps(ops.convert_to_tensor(np.stack(held)[..., None].astype("uint8")), shown, spacing, reach, *rest)


def _tissues(values: np.ndarray, data: MapsData) -> np.ndarray:
    """Returns the tissue of each label, counted from 0."""
    tissues = np.arange(len(values))
    for number, group in enumerate(data.tissues, start=len(values)):
        tissues[np.isin(values, group)] = number
    return np.unique(tissues, return_inverse=True)[1]


def _box(image: Image, values: np.ndarray) -> np.ndarray:
    """Returns the two corners of the box around labels, in world mm, shape (2, 3)."""
    found = np.argwhere(np.isin(image.array, values))
    if not len(found):
        raise invalid(str(image.file), "a label that is not among data.layers", "none")
    corners = image.grid.places(np.stack([found.min(axis=0), found.max(axis=0)], axis=-1).astype(float))
    return np.sort(corners, axis=0)


def _laid(image: Image, middle: np.ndarray, spacing: float, shape: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns the numbers of labels on a grid around a point; a map goes on as it ends."""
    affine = np.diag([spacing, spacing, spacing, 1.0])
    first, own = middle - spacing * (shape - 1) / 2, image.affine[:3, 3]
    affine[:3, 3] = own + spacing * np.rint((first - own) / spacing)  # voxel on voxel, where that is possible
    found = resample(image, Grid(tuple(shape.tolist()), affine), order=0, outside="edge").array
    return np.searchsorted(values, found).astype("uint8")


def _array(tensor: Tensor) -> np.ndarray:
    return np.asarray(ops.convert_to_numpy(tensor))
