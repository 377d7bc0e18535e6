"""A start for large motion: all displacements of a coarse grid are tried, and a smooth choice is made among them."""

import itertools
from collections.abc import Mapping

import numpy as np
from keras import ops
from scipy import ndimage

from regzoo import backend, progress
from regzoo.classical.pyramid import Pair, level_grid
from regzoo.ops.descriptors import self_similarity
from regzoo.world.transforms import Transform

_FACTOR = 2  # of the pyramid's level that is compared
_NODE = 3  # voxels of that level between the nodes of the field; displacements are whole voxels of it
_REACH = 0.08  # of the largest extent of the fixed image: the longest displacement along each axis
_COUPLING = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # how strongly the choice is drawn to the smooth field, in turn


def convex(pair: Pair, start: Transform, objective: Mapping, iterations: int) -> tuple[Transform, list[dict]]:
    """Searches a cost volume of MIND features; like `Descent`, which see for arguments and result.

    Source: Siebert, Hansen and Heinrich, Fast 3D registration with accurate optimisation and little learning for
    Learn2Reg 2021 (the coupled convex search of ConvexAdam), 2021.
    """
    grid = level_grid(pair.fixed.grid, _FACTOR)
    moving = pair.seen_through(start)
    fixed, moved = (_features(pair.tensor(image, grid)) for image in (pair.fixed, moving.moving))
    shape = grid.shape[: pair.dims]
    weight = np.ones(shape, "float32")
    for name in ("fixed_mask", "moving_mask"):
        if name in moving.others:
            weight = weight * pair.tensor(moving.others[name], grid, 0.0)[0, ..., 0]
    reach = [min(round(_REACH * max(grid.spacing * grid.shape) / each), 8) for each in grid.spacing[: pair.dims]]
    moves = np.array(list(itertools.product(*(range(-r, r + 1) for r in reach))), "float32")
    nodes = [np.arange(min(_NODE // 2, n - 1), n, _NODE) for n in shape]
    costs = []
    for i, move in enumerate(moves):
        costs.append(_cost(fixed, moved, weight, move.astype(int), nodes))
        progress.step(i, len(moves))
    costs = np.stack(costs)
    chosen, before, after = _choose(costs, moves)
    field = np.stack([_spread(chosen[..., d], nodes, shape) for d in range(pair.dims)], axis=-1)
    level = {"voxels": list(shape), "iterations": len(_COUPLING), "before": before, "after": after}
    return pair.field(field.astype("float32"), grid).then(start), [level]


def _features(image: np.ndarray) -> np.ndarray:
    """Returns what is compared, (*S, F)."""
    found, _ = backend.inference(self_similarity, ops.convert_to_tensor(image), 1, 2, 1e-3)
    return ops.convert_to_numpy(found)[0, ..., 0]


def _cost(fixed: np.ndarray, moved: np.ndarray, weight: np.ndarray, move: np.ndarray, nodes: list) -> np.ndarray:
    """Returns the mean squared difference around each node if the moving image is read `move` voxels further."""
    index = np.ix_(*(np.clip(np.arange(n) + d, 0, n - 1) for n, d in zip(weight.shape, move, strict=True)))
    gap = weight * np.square(fixed - moved[index]).mean(axis=-1)
    return ndimage.uniform_filter(gap, _NODE, mode="nearest")[np.ix_(*nodes)]


def _choose(costs: np.ndarray, moves: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Returns displacements (*nodes, D), and the mean cost of none and of theirs."""
    dims, still = moves.shape[1], int(np.flatnonzero((moves == 0).all(axis=1))[0])
    span = max(1.0, float(np.square(np.abs(moves).max())))
    scale = costs.std() + 1e-12
    # Where all displacements cost the same (flat background, outside a mask), none is the choice.
    little = 1e-3 * scale / span * np.square(moves).sum(axis=1)
    smooth = _smoothed(moves[(costs + little.reshape(-1, *(1,) * dims)).argmin(axis=0)])
    for coupling in _COUPLING:
        best, picked = np.full(costs.shape[1:], np.inf), np.zeros(costs.shape[1:], int)
        for i, move in enumerate(moves):
            total = costs[i] / scale + 30 * coupling / span * np.square(move - smooth).sum(axis=-1)
            better = total < best
            best[better], picked[better] = total[better], i
        smooth = _smoothed(moves[picked])
    near = np.clip(np.rint(smooth), moves.min(axis=0), moves.max(axis=0))
    sizes = (2 * moves.max(axis=0) + 1).astype(int)
    index = np.ravel_multi_index(tuple((near[..., d] + moves[:, d].max()).astype(int) for d in range(dims)), sizes)
    return smooth, float(costs[still].mean()), float(np.take_along_axis(costs, index[None], axis=0).mean())


def _smoothed(field: np.ndarray) -> np.ndarray:
    size = (*(3,) * (field.ndim - 1), 1)
    return ndimage.uniform_filter(ndimage.uniform_filter(field, size, mode="nearest"), size, mode="nearest")


def _spread(values: np.ndarray, nodes: list, shape: tuple) -> np.ndarray:
    """Reads values at nodes linearly at every voxel, edge values outside."""
    places = np.meshgrid(*((np.arange(n) - at[0]) / _NODE for n, at in zip(shape, nodes, strict=True)), indexing="ij")
    return ndimage.map_coordinates(values, places, order=1, mode="nearest")
