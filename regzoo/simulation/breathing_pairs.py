"""A kind of data: pairs that are simulated, while a model trains, from single chest CTs (see `breathing`)."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
from keras import ops

from regzoo import backend
from regzoo.backend import Tensor
from regzoo.data.draws import Files
from regzoo.data.file_pairs import existing
from regzoo.data.kinds import Examples, only_test
from regzoo.data.splits import refuse_overlap
from regzoo.data.tables import PairFiles
from regzoo.errors import invalid
from regzoo.schema.inputs import InputConfig, WindowIntensity
from regzoo.schema.priors import BreathingPrior
from regzoo.schema.recipe import Recipe
from regzoo.simulation.breathing import Simulator
from regzoo.simulation.chests import Chest, prepare
from regzoo.simulation.measured import read_motions
from regzoo.simulation.motion import draw
from regzoo.world.images import Image
from regzoo.world.lungs import lung_mask


class BreathingPairs:
    """Simulated pairs; the CTs to validate on are no CTs to train on, and only real pairs are tested.

    Args:
        recipe: Its `data` names the files.
        home: Folder that `data.root` is relative to.
    """

    def __init__(self, recipe: Recipe, home: Path) -> None:
        self.recipe, self.data, self.root = recipe, recipe.data, home / recipe.data.root

    def pairs(self, split: str) -> list[PairFiles]:
        """Returns the real pairs of `data.test`."""
        only_test(split)
        return [PairFiles(**{side: path and self.root / path for side, path in pair}) for pair in self.data.test]

    def examples(self, inputs: InputConfig) -> Examples:
        """Returns the draw of simulated pairs, and `validation_pairs` of patients as they are."""
        train, valid = (self.chests(inputs, split) for split in ("train", "valid"))
        prior, seed = self.data.prior, self.recipe.seed
        motions = self.data.motions and read_motions(self.root / self.data.motions)
        drawn = BreathingBatches(train, inputs.intensity, prior, motions)
        real = BreathingBatches(valid, inputs.intensity, prior.model_copy(update={"anatomy": 0.0}), motions)
        randoms = [np.random.default_rng([seed, 0, number]) for number in range(self.data.validation_pairs)]
        valid = [keras.tree.map_structure(ops.convert_to_numpy, real(random, 1)) for random in randoms]
        return Examples(drawn, valid)

    def chests(self, inputs: InputConfig, split: str) -> list[Chest]:
        """Reads the CTs of a split, `"train"` or `"valid"`, made ready for simulation on a network's grid.

        Raises:
            RegzooError: If a file is missing or unfit, or a CT is in both splits.
        """
        names = {each: {str((self.root / path).resolve()) for path in getattr(self.data, each)} for each in _SPLITS}
        refuse_overlap(self.root, names)
        with ThreadPoolExecutor() as pool:  # a chest takes several seconds
            return list(pool.map(lambda name: self._chest(self.root / name, inputs), getattr(self.data, split)))

    def _chest(self, path: Path, inputs: InputConfig) -> Chest:
        ct = Image.read(existing(Files(path)).image)
        if self.data.mask_suffix is None:
            lungs = lung_mask(ct)
        else:
            lungs = Image.read(suffixed(path, self.data.mask_suffix), labels=True)
        return prepare(ct, lungs, inputs.spacing, inputs.shape)


_SPLITS = ("train", "valid")


class BreathingBatches:
    """Draws batches of simulated pairs.

    Args:
        chests: One or more, all for one network's grid.
        window: The HU that become 0 and 1.
        prior: What is drawn from.
        motions: Measured breathing, from `regzoo.simulation.measured`.

    Raises:
        InvalidError: If there is no chest, or the chests are for different grids.
    """

    def __init__(
        self,
        chests: Sequence[Chest],
        window: WindowIntensity,
        prior: BreathingPrior,
        motions: np.ndarray | None = None,
    ) -> None:
        grids = sorted({(chest.network.shape, tuple(chest.network.spacing.tolist())) for chest in chests})
        if len(grids) != 1:
            raise invalid("chests", "at least one, all for a grid of one shape and spacing", grids)
        self.simulators = [Simulator(chest, motions) for chest in chests]
        self.window, self.prior = window, prior

    def __call__(self, random: np.random.Generator, count: int) -> dict[str, Tensor]:
        """Returns a batch of so many pairs, on the device.

        Returns:
            `fixed` and `moving` (B, *S, 1) in [0, 1]; `fixed_labels` and `moving_labels` (B, *S, 1), the lungs;
            `fixed_mask`, the lungs and the voxels next to them; `moving_mask`, where the moving scan shows anything;
            and the `known` field (B, *S, 3) in voxels; float32.
        """
        pairs = [self._pair(random) for _ in range(count)]
        stacks = [ops.stack(each) for each in zip(*pairs, strict=True)]
        finish = backend.compiled(_batch, low=self.window.low, high=self.window.high)
        return backend.inference(finish, *stacks)

    def _pair(self, random: np.random.Generator) -> tuple:
        simulator = self.simulators[random.integers(len(self.simulators))]
        return simulator.scans(draw(self.prior, random, simulator.chest.network))


def _batch(hu: Tensor, lungs: Tensor, ddf: Tensor, shown: Tensor, low: float, high: float) -> dict[str, Tensor]:
    images, lungs = ops.clip((hu - low) / (high - low), 0.0, 1.0), ops.cast(lungs >= 0.5, "float32")
    batch = {"fixed": images[:, 0], "moving": images[:, 1], "known": ddf[:, 0]}
    batch |= {"fixed_labels": lungs[:, 0], "moving_labels": lungs[:, 1], "moving_mask": shown[:, 1]}
    return batch | {"fixed_mask": ops.max_pool(lungs[:, 0], 3, strides=1, padding="same")}


def suffixed(path: Path, suffix: str) -> Path:
    """Returns FOLDER/NAME<suffix>.ENDING of FOLDER/NAME.ENDING."""
    stem, dot, ending = path.name.partition(".")
    return path.with_name(f"{stem}{suffix}{dot}{ending}")
