"""Diffeomorphic demons: forces from the difference of intensities, smoothed, composed as small diffeomorphisms."""

from collections.abc import Mapping

import numpy as np
from keras import ops

from regzoo import backend, progress
from regzoo.backend import Tensor
from regzoo.classical.pyramid import Pair, level_grid
from regzoo.ops.fields import compose, integrate, resize_field
from regzoo.ops.filters import difference, smooth
from regzoo.ops.grids import map_places, voxel_places
from regzoo.ops.warping import sample
from regzoo.world.transforms import Transform

_FACTORS = (4, 2, 1)
_STEP = 2.0  # voxels, the longest step
_FLUID, _ELASTIC = 5, 9  # voxels, Gaussian windows that smooth each step, and the field after it
_PATIENCE = 10


def demons(pair: Pair, start: Transform, objective: Mapping, iterations: int) -> tuple[Transform, list[dict]]:
    """Registers two images of the same contrast; like `Descent`, which see for arguments and result.

    Steps are efficient second-order ones: along the mean of both images' gradients.

    Source: Vercauteren et al., Diffeomorphic demons: efficient non-parametric image registration, 2009.
    """
    linear, tail = start.matrix, Transform()
    if linear is None:
        pair, linear, tail = pair.seen_through(start), np.eye(4), start
    field, grid, levels = None, None, []
    for i, factor in enumerate(_FACTORS):
        finer = level_grid(pair.fixed.grid, factor)
        if grid is not None and finer.same_as(grid):
            continue
        grid, shape = finer, finer.shape[: pair.dims]
        field = ops.zeros((1, *shape, pair.dims), dtype="float32") if field is None else resize_field(field, shape)
        batch = {name: ops.convert_to_tensor(each) for name, each in pair.batch(grid, linear).items()}
        with progress.part(i, len(_FACTORS)):
            field, level = _level(field, batch, iterations)
        levels.append({"voxels": list(shape), **level})
    return pair.field(ops.convert_to_numpy(field)[0], grid).then(Transform.linear(linear)).then(tail), levels


def _level(field: Tensor, batch: Mapping, iterations: int) -> tuple[Tensor, dict]:
    """Takes steps until the mean squared difference no longer falls; returns the field of the lowest."""
    kept, best, first, since, count = field, np.inf, None, 0, 0
    for count in range(iterations + 1):
        after, loss = backend.inference(_step, field, batch)
        loss = float(ops.convert_to_numpy(loss))  # of the field before the step
        progress.step(count, iterations + 1)
        first = loss if first is None else first
        if loss < best * (1 - 1e-3) or count == 0:
            kept, best, since = field, loss, 0
        else:
            since += 1
        if since >= _PATIENCE:
            break
        field = after
    return kept, {"iterations": count, "before": first, "after": best}


def _step(field: Tensor, batch: Mapping) -> tuple[Tensor, Tensor]:
    """Returns the field after a step, and the loss before it."""
    update, loss = backend.compiled(_update)(field, batch)
    return backend.compiled(_composed)(field, integrate(update, 4)), loss


def _update(field: Tensor, batch: Mapping) -> tuple[Tensor, Tensor]:
    fixed, dims = batch["fixed"], field.shape[-1]
    moved = _read(batch["moving"], field, batch["moving_matrix"])
    weight = batch.get("fixed_mask", ops.ones_like(fixed))
    if "moving_mask" in batch:
        weight = weight * _read(batch["moving_mask"], field, batch["moving_matrix"])
    gap = weight * (fixed - moved)
    slope = ops.concatenate([difference((fixed + moved) / 2, axis) for axis in range(dims)], axis=-1)
    # The second part of the denominator bounds the step by half of _STEP where the slope is small.
    steep = ops.sum(ops.square(slope), axis=-1, keepdims=True) + ops.square(gap) / _STEP**2
    update = ops.where(steep > 1e-9, gap * slope / ops.maximum(steep, 1e-9), 0.0)
    return smooth(update, _FLUID, "gaussian"), ops.sum(ops.square(gap)) / ops.maximum(ops.sum(weight), 1.0)


def _composed(field: Tensor, update: Tensor) -> Tensor:
    return smooth(compose(field, update), _ELASTIC, "gaussian")


def _read(image: Tensor, field: Tensor, matrix: Tensor) -> Tensor:
    """Reads the moving image at `matrix @ (x + field(x))`."""
    return sample(image, map_places(matrix, voxel_places(field.shape[1:-1]) + field))
