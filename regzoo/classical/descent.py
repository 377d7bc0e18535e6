"""Gradient descent: a registration model whose weights are the transform, trained on one pair from coarse to fine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import keras
import numpy as np
from keras import ops

from regzoo import backend, progress
from regzoo.backend import Tensor
from regzoo.classical.pyramid import Pair, level_grid, voxels
from regzoo.models import output_of
from regzoo.models.outputs.output import Output
from regzoo.models.trainable import Trainable
from regzoo.ops.fields import compose
from regzoo.schema.losses import LOSSES, WindowTerm
from regzoo.schema.outputs import OutputConfig
from regzoo.world.images import Grid
from regzoo.world.matrices import embedded
from regzoo.world.transforms import Transform

_PATIENCE = 10  # steps without a loss lower by a ten-thousandth, after which the rate falls, or a level is done
_FALLS = 2  # times that the learning rate falls to a quarter before a level is done


@dataclass(frozen=True)
class Descent:
    """How one kind of transform is optimised.

    Args:
        output: What is optimised.
        deformation: Deformation losses, name -> weight and settings.
        rate: Learning rate of Adam, in the weights' own unit: voxels, or half sizes of the image for matrices.
        factors: Levels of the pyramid: how much coarser than the images each is.
        window: Width of the windows of LNCC, in voxels of each level.
    """

    output: OutputConfig
    deformation: Mapping[str, Mapping] = field(default_factory=dict)
    rate: float = 0.01
    factors: Sequence[float] = (2,)
    window: int = 9

    def __call__(
        self, pair: Pair, start: Transform, objective: Mapping, iterations: int
    ) -> tuple[Transform, list[dict]]:
        """Returns the transform from fixed to moving space that starts with `start`, and what each level did.

        Args:
            pair: Both images.
            start: From fixed to moving space.
            objective: Image and label losses.
            iterations: Most steps of a level; it ends early once its loss no longer falls.
        """
        linear, tail, given = start.matrix, Transform(), None
        if self.output.is_linear:
            pair = pair.shared_view()
        if linear is None or pair.in_volume:
            linear, tail = np.eye(4), start
            # The moving image is seen through what comes before; slices may lie in two planes, so they are, too.
            if self.output.is_linear or pair.dims == 2:
                pair = pair.seen_through(start)
            else:
                given = start
        windows = [name for name, entry in LOSSES["image"].items() if issubclass(entry.config, WindowTerm)]
        images = {
            name: {"size": self.window} | terms if name in windows else terms
            for name, terms in objective["image"].items()
        }
        objective = {**objective, "image": images, "deformation": self._deformation(pair, given)}
        model, grid, levels = None, None, []
        for i, factor in enumerate(self.factors):
            finer = level_grid(pair.fixed.grid, factor)
            if grid is not None and finer.same_as(grid):
                continue
            before, model, grid = model, self._model(pair, finer, given), finer
            if before is not None and not self.output.is_linear:
                model.continue_from(before)
            with progress.part(i, len(self.factors)):
                levels.append(descend(model, pair.batch(grid, linear), objective, self.rate, iterations))
            if self.output.is_linear:
                linear = linear @ _world(model, grid)  # the next level starts from here, with zeros
        if self.output.is_linear:
            return Transform.linear(linear).then(tail), levels
        found = model.field(None, None)
        ddf = ops.convert_to_numpy(found.get("dense", found["ddf"]))[0]
        return pair.field(ddf, grid).then(Transform.linear(linear)).then(tail), levels

    def _deformation(self, pair: Pair, given: Transform | None) -> dict[str, dict]:
        """Returns the deformation losses, which are means over the whole image.

        Those of images are means over the mask: as many times as it is smaller than the image, each of its voxels would
        pull more strongly on the field than without a mask.
        """
        share = max(pair.compared(given), 1e-3)
        return {name: {**terms, "weight": terms["weight"] / share} for name, terms in self.deformation.items()}

    def _model(self, pair: Pair, grid: Grid, given: Transform | None) -> Trainable:
        spacing = tuple(float(each) for each in grid.spacing[: pair.dims])
        output, shape = output_of(self.output, pair.dims, spacing), grid.shape[: pair.dims]
        return Trainable(output, shape) if given is None else Before(output, shape, voxels(given, grid))


class Before(Trainable):
    """A registration by its weights, and then by a map that is given, so that the moving image is sampled once.

    Args:
        output: What the weights mean.
        shape: Spatial shape of the fixed image.
        given: What comes behind it, (*S, D) in voxels.
    """

    def __init__(self, output: Output, shape: Sequence[int], given: np.ndarray) -> None:
        super().__init__(output, shape)
        self.given = ops.convert_to_tensor(given[None])

    def field(self, fixed: Tensor, moving: Tensor) -> dict:
        """Returns `ddf` of both, and `dense`, what the weights mean."""
        own = super().field(fixed, moving)["ddf"]
        return {"ddf": backend.compiled(compose)(self.given, own), "dense": own}


def descend(model: Trainable, batch: Mapping, objective: Mapping, rate: float, iterations: int) -> dict:
    """Trains on one batch until the loss no longer falls, and leaves the weights of the lowest loss.

    Returns:
        `voxels` of the grid, `iterations`, the loss `before` and `after`, and whether it had `converged`.
    """
    model.supervise(objective, model.spacing)
    model.compile(keras.optimizers.Adam(rate), jit_compile=backend.NAME == "jax")
    model.optimizer.build(model.trainable_variables)  # made inside the first step, they would have it traced twice
    best, kept, reference, since, falls, first, step = np.inf, None, np.inf, 0, 0, None, 0
    converged = False
    for step in range(1, iterations + 2):
        weights = [ops.convert_to_numpy(each.value).copy() for each in model.trainable_variables]
        model.reset_metrics()
        loss = float(model.train_on_batch(batch, return_dict=True)["loss"])  # of the weights before this step
        progress.step(step, iterations + 1)
        first = loss if first is None else first
        if loss < best:
            best, kept = loss, weights
        since += 1
        if loss < reference - 1e-4 * abs(reference) or step == 1:
            reference, since = loss, 0
        if since >= _PATIENCE:
            if falls == _FALLS:
                converged = True
                break
            falls, since = falls + 1, 0
            model.optimizer.learning_rate.assign(rate / 4**falls)
            _set(model, kept)
    _set(model, kept)
    found = {"voxels": list(model.shape), "iterations": step - 1, "before": first, "after": best}
    return found | {"converged": converged}


def _set(model: keras.Model, values: Sequence[np.ndarray]) -> None:
    for variable, value in zip(model.trainable_variables, values, strict=True):
        variable.assign(value)


def _world(model: Trainable, grid: Grid) -> np.ndarray:
    """Returns a matrix in voxels as one in mm, (4, 4)."""
    matrix = embedded(ops.convert_to_numpy(model.field(None, None)["matrix"])[0])
    return grid.affine @ matrix @ np.linalg.inv(grid.affine)
