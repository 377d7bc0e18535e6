"""Data sources: batches of pairs that are simulated while the model trains, from single chest CTs or from nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from keras import ops
from scipy import ndimage

from regzoo.augmentation import augment, drawn_places, moved
from regzoo.batches import MadeAhead, as_batch
from regzoo.breathing import Simulator
from regzoo.checks import invalid
from regzoo.chest import Chest
from regzoo.config import InputConfig, WindowIntensity
from regzoo.grids import identity_grid
from regzoo.images import normalise
from regzoo.motion import BreathingPrior, draw
from regzoo.shapes import label_map, painted
from regzoo.sources import Augmentation, ShapesData


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
    known.

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
            shows nothing, or what lies outside the moving one; float32.
        """
        random = np.random.default_rng([self.seed, epoch, step])
        pairs = [self._pair(random) for _ in range(self.batch_size)]
        fixed, moving = (np.stack(side) for side in zip(*pairs, strict=True))
        shape, spacing = fixed.shape[1:-1], self.inputs.spacing
        identity = identity_grid(shape)
        where = drawn_places(self.augmentation, shape, spacing, random, [None] * len(pairs))
        if where is None:
            known = np.zeros((len(pairs), *identity.shape), "float32")
        else:
            fixed, known = moved(fixed, where), ops.convert_to_numpy(where) - identity
        still = self.augmentation.model_copy(update={"affine": 0.0, "field": None, "flip": None})
        images, others = augment(np.concatenate([fixed, moving]), still, spacing, random)
        mask = (others[: len(pairs), ..., -1:] >= 0.5).astype("float32")
        return as_batch(images, others[..., :-1], labelled=True) | {"known": known, "fixed_mask": mask}

    def _pair(self, random: np.random.Generator) -> list[np.ndarray]:
        """Draws one map and paints it twice; each side is the image, behind it the labels, and what is not black."""
        prior, grid = self.data.prior, (self.inputs.shape, self.inputs.spacing)
        shapes = label_map(random, *grid, prior)
        counts = np.bincount(shapes.ravel(), minlength=prior.shapes)
        black = int(counts.argmax()) if random.uniform() < prior.black else None
        seen = np.flatnonzero(counts)
        drawn = random.permutation(seen[seen != (-1 if black is None else black)])[: self.data.label_sampling]
        labels = np.zeros((*shapes.shape, self.data.label_sampling), "float32")
        for channel, value in enumerate(drawn):
            labels[..., channel] = shapes == value
        images = [painted(random, shapes, grid[1], prior, black) for _ in range(2)]
        shown = (shapes != (-1 if black is None else black)).astype("float32")[..., None]
        return [np.concatenate([image[..., None], labels, shown], axis=-1) for image in images]
