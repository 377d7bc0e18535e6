"""A data source: batches of pairs that are simulated from single chest CTs while the model trains."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from regzoo.batches import MadeAhead
from regzoo.breathing import Simulator
from regzoo.checks import invalid
from regzoo.chest import Chest
from regzoo.config import WindowIntensity
from regzoo.images import normalise
from regzoo.motion import BreathingPrior, draw


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
