"""A kind of data: pairs of random shapes (see `shapes`), drawn while a model trains; nothing is read."""

import math
from pathlib import Path

import numpy as np
from keras import ops

from regzoo.data.given_pairs import listed_pairs
from regzoo.data.kinds import Batch, Examples, only_test, without_unshared
from regzoo.data.tables import PairFiles
from regzoo.ops.grids import identity_grid
from regzoo.schema.augmentation import Augmentation
from regzoo.schema.data import ShapesData
from regzoo.schema.inputs import InputConfig
from regzoo.schema.recipe import Recipe
from regzoo.simulation.augmentation import drawn_places, moved, recoloured
from regzoo.simulation.shapes import contrasts, label_map, painted


class ShapePairs:
    """Pairs of random shapes; those to validate on are drawn by another seed, and only real pairs are tested.

    Args:
        recipe: Its `data` and `augmentation` say what is drawn.
        home: Folder that `data.root` is relative to.
    """

    def __init__(self, recipe: Recipe, home: Path) -> None:
        self.recipe, self.data, self.root = recipe, recipe.data, home / recipe.data.root

    def pairs(self, split: str) -> list[PairFiles]:
        """Returns the real pairs of `data.test`."""
        only_test(split)
        return listed_pairs(self.root, split, self.data.test)

    def examples(self, inputs: InputConfig) -> Examples:
        """Returns the draw of pairs, and `validation_pairs` of them, which are judged by the overlap of shapes."""
        drawn, seed = ShapesBatches(self.data, inputs, self.recipe.augmentation), self.recipe.seed + 1
        randoms = [np.random.default_rng([seed, 0, number]) for number in range(self.data.validation_pairs)]
        valid = [drawn(random, 1) for random in randoms]
        return Examples(drawn, [{name: batch[name] for name in _JUDGED} for batch in valid])


_JUDGED = ("fixed", "moving", "fixed_labels", "moving_labels")


class ShapesBatches:
    """Draws batches of pairs of random shapes.

    The moving image shows a map of shapes as it is drawn, the fixed image shows it moved, so the field between them is
    known. The map goes on beyond the grid as far as it may move: were there nothing, the edges would tell the motion.

    Args:
        data: What is drawn.
        inputs: The network's grid.
        augmentation: What moves the fixed image, and changes the intensities of both.
    """

    def __init__(self, data: ShapesData, inputs: InputConfig, augmentation: Augmentation) -> None:
        self.data, self.inputs, self.augmentation = data, inputs, augmentation

    def __call__(self, random: np.random.Generator, count: int) -> Batch:
        """Returns a batch of so many pairs.

        Returns:
            `fixed` and `moving`, (B, *S, 1) in [0, 1]; some of their shapes as `fixed_labels` and `moving_labels`,
            (B, *S, L); the `known` field (B, *S, D) in voxels; and `fixed_mask` (B, *S, 1), 0 where the fixed image
            shows nothing; float32.
        """
        shape, spacing, margin = self.inputs.shape, self.inputs.spacing, 0
        identity = identity_grid(shape)
        known = np.zeros((count, *identity.shape), "float32")
        seeds = random.integers(2**31, size=2 * count, dtype="int32")
        where = drawn_places(self.augmentation, shape, spacing, seeds[:count])
        if where is not None:
            # Of any size up to the full one: from large motion alone, nothing is learned for a long time.
            share = random.uniform(0, 1, (count, *(1,) * identity.ndim)).astype("float32")
            known = share * (ops.convert_to_numpy(where) - identity)
            places = known + identity
            beyond = max(0.0, -places.min(), (places - np.asarray(shape) + 1).max())
            margin = 4 * math.ceil(beyond / 4)  # in a few sizes, since the sampling is compiled for each
        drawn = [self._pair(random, margin) for _ in range(count)]
        fixed, moving = (np.stack(side) for side in zip(*drawn, strict=True))
        moving = moving[(slice(None), *(slice(margin, margin + length) for length in shape))]
        fixed = moving if where is None else ops.convert_to_numpy(moved(fixed, places + margin))
        both = np.concatenate([fixed, moving]).clip(0, 1)  # the sampler's weights may add up to 1 + 1e-7
        images, others = recoloured(both[..., :1], self.augmentation, spacing, seeds), both[..., 1:]
        views = np.stack([self._view(random) for _ in images])
        images = ops.convert_to_numpy(images) * views
        batch = {"fixed": images[:count], "moving": images[count:]}
        batch |= {"fixed_labels": others[:count, ..., :-1], "moving_labels": others[count:, ..., :-1]}
        mask = (others[:count, ..., -1:] >= 0.5) * views[:count]
        return without_unshared(batch) | {"known": known, "fixed_mask": mask}

    def _pair(self, random: np.random.Generator, margin: int) -> list[np.ndarray]:
        """Draws one map, with a margin in voxels on all sides, and paints it twice.

        Returns:
            For each image (*S, 2 + label_sampling): itself, the labels, and what is not 0.
        """
        prior, spacing, inside = self.data.prior, self.inputs.spacing, np.asarray(self.inputs.shape)
        body = None
        if random.uniform() < prior.black:
            body = random.uniform(*prior.body, len(inside)) * inside / 2
        shapes = label_map(random, inside + 2 * margin, spacing, prior, body)
        black = None if body is None else 0
        seen = np.flatnonzero(np.bincount(shapes.ravel(), minlength=prior.shapes))
        drawn = random.permutation(seen[seen != (-1 if black is None else black)])[: self.data.label_sampling]
        labels = np.zeros((*shapes.shape, self.data.label_sampling), "float32")
        for channel, value in enumerate(drawn):
            labels[..., channel] = shapes == value
        images = [painted(random, shapes, means, spacing, prior, black) for means in contrasts(random, prior)]
        shown = (shapes != (-1 if black is None else black)).astype("float32")[..., None]
        return [np.concatenate([image[..., None], labels, shown], axis=-1) for image in images]

    def _view(self, random: np.random.Generator) -> np.ndarray:
        """Draws a box in which an image shows something: 1 there, else 0, shape (*S, 1)."""
        shape = self.inputs.shape
        view = np.ones((*shape, 1), "float32")
        if random.uniform() < self.data.prior.cut:
            for axis, length in enumerate(shape):
                first, last = random.uniform(0, length / 6, 2)
                away = np.arange(length)
                seen = (away >= first) & (away < length - last)
                view *= seen.astype("float32").reshape([-1 if each == axis else 1 for each in range(len(shape) + 1)])
        return view
