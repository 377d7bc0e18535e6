"""Data sources: batches of pairs that are simulated while the model trains, from single chest CTs or from nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from keras import ops
from scipy import ndimage

from regzoo.data.datasets import existing, suffixed
from regzoo.data.draws import Files
from regzoo.data.splits import refuse_overlap
from regzoo.errors import invalid
from regzoo.ops.grids import identity_grid
from regzoo.schema.augmentation import Augmentation
from regzoo.schema.data import ShapesData
from regzoo.schema.inputs import InputConfig, WindowIntensity
from regzoo.schema.priors import BreathingPrior
from regzoo.schema.recipe import Recipe, data_home
from regzoo.simulation.breathing import Simulator
from regzoo.simulation.chests import Chest, prepare
from regzoo.simulation.motion import draw
from regzoo.simulation.shapes import contrasts, label_map, painted
from regzoo.training.augmentation import augment, drawn_places, moved
from regzoo.training.batches import MadeAhead, as_batch
from regzoo.world.images import Image, normalise
from regzoo.world.lungs import lung_mask


class BreathingBatches(MadeAhead):
    """Batches of simulated pairs; the same for the same seed, epoch and step.

    Args:
        chests: One or more, all for one network's grid.
        window: The HU that become 0 and 1.
        steps: Batches an epoch.
        batch_size: Pairs a batch.
        seed: Seed of all draws.
        prior: What is drawn from; None: the defaults.

    Raises:
        InvalidError: If there is no chest, or the chests are for different grids.
    """

    def __init__(
        self,
        chests: Sequence[Chest],
        window: WindowIntensity,
        *,
        steps: int,
        batch_size: int,
        seed: int,
        prior: BreathingPrior | None = None,
    ) -> None:
        super().__init__(steps)
        grids = sorted({(chest.network.shape, tuple(chest.network.spacing.tolist())) for chest in chests})
        if len(grids) != 1:
            raise invalid("chests", "at least one, all for a grid of one shape and spacing", grids)
        self.simulators = [Simulator(chest) for chest in chests]
        self.window, self.batch_size, self.seed = window, batch_size, seed
        self.prior = prior or BreathingPrior()

    def make(self, epoch: int, step: int) -> dict[str, np.ndarray]:
        """Returns a batch.

        Returns:
            `fixed` and `moving` (B, *S, 1) in [0, 1]; `fixed_labels` and `moving_labels` (B, *S, 1), the lungs;
            `fixed_mask`, the lungs and the voxels next to them; and the `known` field (B, *S, 3) in voxels; float32.
        """
        random = np.random.default_rng([self.seed, epoch, step])
        pairs = [self._pair(random) for _ in range(self.batch_size)]
        hu, masks, ddf = (np.stack(each) for each in zip(*pairs, strict=True))
        images, masks = normalise(hu, self.window)[..., None], masks[..., None].astype("float32")
        fixed, moving = masks[:, 0], masks[:, 1]
        near = ndimage.maximum_filter(fixed, (1, 3, 3, 3, 1))
        batch = {"fixed": images[:, 0], "moving": images[:, 1], "known": ddf, "fixed_mask": near}
        return {**batch, "fixed_labels": fixed, "moving_labels": moving}

    def _pair(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        simulator = self.simulators[random.integers(len(self.simulators))]
        return simulator(draw(self.prior, random, simulator.chest.network))


class ShapesBatches(MadeAhead):
    """Batches of pairs of random shapes; the same for the same seed, epoch and step.

    The moving image shows a map of shapes as it is drawn, the fixed image shows it moved, so the field between them is
    known. The map goes on beyond the grid as far as it may move: were there nothing, the edges would tell the motion.

    Args:
        data: What is drawn.
        inputs: The network's grid.
        augmentation: What moves the fixed image, and changes the intensities of both.
        steps: Batches an epoch.
        batch_size: Pairs a batch.
        seed: Seed of all draws.
    """

    def __init__(
        self,
        data: ShapesData,
        inputs: InputConfig,
        augmentation: Augmentation,
        *,
        steps: int,
        batch_size: int,
        seed: int,
    ) -> None:
        super().__init__(steps)
        self.data, self.inputs, self.augmentation = data, inputs, augmentation
        self.batch_size, self.seed = batch_size, seed

    def make(self, epoch: int, step: int) -> dict[str, np.ndarray]:
        """Returns a batch.

        Returns:
            `fixed` and `moving`, (B, *S, 1) in [0, 1]; some of their shapes as `fixed_labels` and `moving_labels`,
            (B, *S, L); the `known` field (B, *S, D) in voxels; and `fixed_mask` (B, *S, 1), 0 where the fixed image
            shows nothing; float32.
        """
        random = np.random.default_rng([self.seed, epoch, step])
        shape, spacing, margin = self.inputs.shape, self.inputs.spacing, 0
        identity = identity_grid(shape)
        known = np.zeros((self.batch_size, *identity.shape), "float32")
        where = drawn_places(self.augmentation, shape, spacing, random, [None] * self.batch_size)
        if where is not None:
            # Of any size up to the full one: from large motion alone, nothing is learned for a long time.
            share = random.uniform(0, 1, (self.batch_size, *(1,) * identity.ndim)).astype("float32")
            known = share * (ops.convert_to_numpy(where) - identity)
            places = known + identity
            beyond = max(0.0, -places.min(), (places - np.asarray(shape) + 1).max())
            margin = 4 * math.ceil(beyond / 4)  # in a few sizes, since the sampling is compiled for each
        drawn = [self._pair(random, margin) for _ in range(self.batch_size)]
        fixed, moving = (np.stack(side) for side in zip(*drawn, strict=True))
        moving = moving[(slice(None), *(slice(margin, margin + length) for length in shape))]
        fixed = moving if where is None else moved(fixed, places + margin)
        still = self.augmentation.model_copy(update={"affine": 0.0, "field": None, "flip": None})
        images, others = augment(np.concatenate([fixed, moving]), still, spacing, random)
        views = np.stack([self._view(random) for _ in images])
        images = images * views
        mask = (others[: len(drawn), ..., -1:] >= 0.5) * views[: len(drawn)]
        return as_batch(images, others[..., :-1], labelled=True) | {"known": known, "fixed_mask": mask}

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


def chests(recipe: Recipe, inputs: InputConfig, split: str, home: str | Path | None = None) -> list[Chest]:
    """Reads the CTs of a split of a recipe with `data.kind` breathing, made ready for simulation.

    Args:
        recipe: Its `data` names the files.
        inputs: The network's input.
        split: `"train"` or `"valid"`.
        home: Folder that `data.root` is relative to; see `data_home`.

    Raises:
        RegzooError: If a file is missing or unfit, or a CT is in both splits.
    """
    data, root = recipe.data, data_home(home) / recipe.data.root
    names = {each: {str((root / path).resolve()) for path in getattr(data, each)} for each in ("train", "valid")}
    refuse_overlap(root, names)
    found = []
    for name in getattr(data, split):
        ct = Image.read(existing(Files(root / name)).image)
        if data.mask_suffix is None:
            lungs = lung_mask(ct)
        else:
            lungs = Image.read(suffixed(root / name, data.mask_suffix), labels=True)
        found.append(prepare(ct, lungs, inputs.spacing, inputs.shape))
    return found
