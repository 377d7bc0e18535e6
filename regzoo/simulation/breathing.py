"""Simulated breathing: two scans of one chest at two states of breathing, and the known field between them.

A velocity field v moves what lies inside the chest wall. The moving scan shows the chest at `psi = exp(s v)`, the fixed
scan at `psi(x + u(x))` with `u = exp(v)`: whatever the integration's error, x on the fixed and `x + u(x)` on the moving
scan are the same place of the chest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras
import numpy as np
from keras import ops

from regzoo import backend
from regzoo.backend import Tensor
from regzoo.ops.fields import bspline_field, compose, jacobian_determinant, resize_field
from regzoo.ops.filters import along_axes, interpolation_matrix
from regzoo.ops.grids import identity_grid
from regzoo.ops.warping import sample, warp
from regzoo.schema.priors import BreathingPrior
from regzoo.simulation.chests import FINE, Chest
from regzoo.simulation.motion import LOCAL, SHAPES, Draw, draw
from regzoo.world.images import Image

_STEPS = 3  # squarings; the first step is an eighth of the motion, a voxel at most
_AIR, _LUNG, _TISSUE = -1000.0, -500.0, -300.0  # HU: no density; below: density changes with volume; above: does not


@dataclass(frozen=True, eq=False)
class BreathingPair:
    """Two scans of one chest on one grid, and where every fixed voxel went.

    Args:
        fixed: HU.
        moving: HU.
        fixed_mask: Lungs of `fixed`, uint8.
        moving_mask: Lungs of `moving`, uint8.
        ddf: Known displacement from fixed to moving in voxels, shape (*S, 3), float32.
    """

    fixed: Image
    moving: Image
    fixed_mask: Image
    moving_mask: Image
    ddf: np.ndarray


def breathing_pair(chest: Chest, seed: int | np.random.Generator, prior: BreathingPrior | None = None) -> BreathingPair:
    """Simulates two scans of a chest at two states of breathing.

    Args:
        chest: From `regzoo.simulation.chests.prepare`.
        seed: Seed or generator; the same seed gives the same pair.
        prior: What is drawn from; None: the defaults.
    """
    drawn = draw(prior or BreathingPrior(), np.random.default_rng(seed), chest.network)
    hu, masks, ddf = Simulator(chest)(drawn)
    return BreathingPair(*(Image(each, chest.network.affine) for each in (*hu, *masks)), ddf)


class Simulator:
    """Computes drawn pairs of one chest on the running backend.

    Args:
        chest: From `regzoo.simulation.chests.prepare`.
    """

    def __init__(self, chest: Chest) -> None:
        self.chest = chest
        self.spacing, self.shape = tuple(chest.grid.spacing.tolist()), chest.network.shape
        self.half = tuple(-(-n // 2) for n in self.shape)
        self.image, self.maps = (ops.convert_to_tensor(each[None]) for each in (chest.image, chest.maps))

    def __call__(self, drawn: Draw) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Computes a pair.

        Args:
            drawn: From `regzoo.simulation.motion.draw`.

        Returns:
            HU of fixed and moving, shape (2, *S), float32; their lung masks, shape (2, *S), uint8; and the known
            displacement from fixed to moving in voxels, shape (*S, 3).
        """
        hu, lungs, ddf = (np.array(ops.convert_to_numpy(each)) for each in backend.inference(self._scans, drawn))
        hu, masks = hu[..., 0], (lungs[..., 0] >= 0.5).astype("uint8")
        for image, mask, seen in zip(hu, masks, _field_of_view(self.chest, drawn), strict=True):
            image[..., ~seen], mask[..., ~seen] = _AIR, 0
        return hu, masks, ddf[0]

    def _scans(self, drawn: Draw) -> tuple:
        """Goes step by step: in one piece, XLA would compute again what a warp reads for every voxel that reads it."""
        spacing, maps = self.spacing, self.chest.grid.shape
        coarse = tuple(step * n / half for step, n, half in zip(spacing, self.shape, self.half, strict=True))
        drawn = _tensors(self.chest, drawn)
        places = _run(_places, drawn, spacing=spacing, shape=self.shape)
        local = _run(sample, self.maps, _run(_voxels, places, spacing=spacing, shape=maps))
        velocity = _run(_velocity, places, local, drawn, spacing=spacing)
        ddf = _exponential(velocity)
        psi = _exponential(_run(resize_field, velocity, shape=self.half) * drawn["stage"])
        shapes = _run(_random, drawn["shapes"], shape=self.half, spacing=coarse, every=SHAPES)
        moving = _run(_moving, psi, _run(warp, shapes, psi), shape=self.shape)
        fixed = _run(sample, moving, _run(_at_half, ddf, shape=self.half))
        states = _run(_states, moving, fixed, ddf)
        voxels = _run(_seen, states, velocity, drawn, spacing=spacing, maps=maps)
        hu, lungs = _run(_look, _run(sample, self.image, voxels), states, drawn)
        return hu, lungs, ddf


def _run(function: Callable, *tensors: Tensor, **static: object) -> Tensor:
    return backend.compiled(function, **static)(*tensors)


def _field_of_view(chest: Chest, drawn: Draw) -> np.ndarray:
    """Returns which slices each scan has, shape (2, S): those of the CT, wherever breathing moved the chest."""
    height = chest.network.coordinates()[0, 0, :, 2] - chest.network.centre[2]
    low, high = (chest.scan - chest.grid.centre[2] - drawn["offset"][2]) / drawn["linear"][2, 2]
    missing = drawn["crop"]
    return (height > low + missing[0][:, None]) & (height < high - missing[1][:, None])


def _tensors(chest: Chest, drawn: Draw) -> dict:
    """Returns the draw with what follows from it and the chest, as tensors."""
    spacing, shape = chest.grid.spacing, chest.network.shape
    # A band of this width has this standard deviation if everywhere in it counts alike.
    band = drawn["band"] / math.sqrt(12) / spacing
    added = {
        "half": chest.half.astype("float32"),
        "inverse": np.linalg.inv(drawn["linear"]).astype("float32"),
        "band": [_gaussian(sigma, size) for sigma, size in zip(band, shape, strict=True)],
        "blur": [_gaussian(drawn["blur"][:, int(axis == 2)], size) for axis, size in enumerate(shape)],
    }
    return keras.tree.map_structure(ops.convert_to_tensor, {**drawn, **added})


def _exponential(velocity: Tensor) -> Tensor:
    return backend.repeat(_squared, _STEPS, velocity / 2**_STEPS)


def _squared(ddf: Tensor) -> Tensor:
    return compose(ddf, ddf)


# --- how the chest moves: on the network's grid, places and vectors (1, *S, 3) in mm ----------------------------------


def _places(drawn: Draw, spacing: Sequence[float], shape: Sequence[int]) -> Tensor:
    """Returns where the grid lies in the chest before it breathes."""
    shapes = _random(drawn["shapes"], shape, spacing, SHAPES)
    return _linear(_grid(shape, spacing), drawn["linear"]) + drawn["offset"] + shapes


def _velocity(places: Tensor, local: Tensor, drawn: Draw, spacing: Sequence[float]) -> Tensor:
    """Returns the velocity in voxels; `places` lie in the chest, `local` are its maps there."""
    shape = places.shape[1:4]
    body, sliding, deep, height = (local[..., i : i + 1] for i in range(4))
    wall, breath, depth = _breath(places / drawn["half"], height, drawn)
    breath = breath + _random(drawn["local"], shape, spacing, LOCAL) * (0.15 + 0.85 * depth)
    # Along the wall, which is upright nearly everywhere, the lungs slide; towards it they cannot move.
    sliding = _smooth(sliding, drawn["band"])
    sliding = ops.concatenate([sliding * deep, sliding * deep, sliding], axis=-1)
    inner = _linear(body * (wall + sliding * breath), drawn["inverse"])
    x, y, z = (_grid(shape, spacing)[..., i : i + 1] for i in range(3))
    a, b, c = (drawn["turn"][i] for i in range(3))
    rigid = ops.concatenate([b * z - c * y, c * x - a * z, a * y - b * x], axis=-1) + drawn["shift"]
    return (inner + rigid) / _row(spacing)


def _breath(q: Tensor, height: Tensor, drawn: Draw) -> tuple:
    """Returns the velocities of the chest wall and of what slides inside it, and how near the diaphragm a place is.

    Args:
        q: Places, from -1 to 1 along each axis of the box around the lungs.
        height: The map of that name.
        drawn: The draw.
    """
    x, y, z = (ops.clip(q[..., i : i + 1], -1.3, 1.3) for i in range(3))
    level = 0.6 * z + 0.4  # above a flat diaphragm that lies a fifth above the lungs' lowest point
    height = level + drawn["column"] * (height - level)
    below = ops.maximum(-height, 0.0) * 2 * drawn["half"][2] / drawn["belly"]
    depth = ops.power(ops.clip(1 - height, 1e-3, 1.0), drawn["profile"]) * ops.exp(-ops.square(below))
    dome = ops.clip((1 - drawn["back"] * y + drawn["side"] * x) / (1 + drawn["back"]), 0.0, 1.0)
    drift = drawn["drift"] * ops.ones_like(q[..., :2])
    breath = depth * ops.concatenate([drift, drawn["diaphragm"] * dome], axis=-1)
    front = ops.maximum(y + 1, 0.0) / 2
    wall = (1 - 0.5 * ops.clip(level, 0.0, 1.0)) * ops.concatenate([x, front, front], axis=-1) * drawn["wall"]
    return wall, breath, depth


def _moving(psi: Tensor, shapes: Tensor, shape: Sequence[int]) -> Tensor:
    """Returns what the moving scan shows, at half resolution: `psi` in voxels of the whole, shapes, volume change."""
    ratio = np.array(shape) / np.array(psi.shape[1:4])
    return ops.concatenate([psi * _row(ratio), shapes, jacobian_determinant(psi)[..., None]], axis=-1)


def _at_half(ddf: Tensor, shape: Sequence[int]) -> Tensor:
    """Returns the voxels of a grid of half the resolution that voxels of the moving scan fall into."""
    ratio = np.array(shape) / np.array(ddf.shape[1:4])
    return (ddf + _row(identity_grid(ddf.shape[1:4]) + 0.5)) * _row(ratio) - 0.5


def _states(moving: Tensor, fixed: Tensor, ddf: Tensor) -> Tensor:
    """Returns what both scans show, fixed first, as in `_moving`, shape (2, *S, 7)."""
    halves = zip(ddf.shape[1:4], moving.shape[1:4], strict=True)
    doubling = [interpolation_matrix((np.arange(n) + 0.5) * half / n - 0.5, half) for n, half in halves]
    moving = along_axes(moving, doubling)
    volume = fixed[..., 6:] * jacobian_determinant(ddf)[..., None]
    fixed = ops.concatenate([fixed[..., :3] + ddf, fixed[..., 3:6], volume], axis=-1)
    return ops.concatenate([fixed, moving], axis=0)


# --- what the scanner shows ------------------------------------------------------------------------------------------


def _seen(states: Tensor, velocity: Tensor, drawn: Draw, spacing: Sequence[float], maps: Sequence[int]) -> Tensor:
    """Returns which voxels of the chest's image both scans show, (1, 2 X, Y, Z, 3); late slabs show others."""
    shape = states.shape[1:4]
    late = drawn["slabs"][:, None, None, :, None] * velocity
    places = _grid(shape, spacing) + (states[..., :3] + late) * _row(spacing)
    chest = _linear(places, drawn["linear"]) + drawn["offset"] + states[..., 3:6]
    voxels = (_voxels(chest, spacing, maps) + 0.5) * FINE - 0.5
    return ops.reshape(voxels, (1, 2 * shape[0], *shape[1:], 3))


def _look(seen: Tensor, states: Tensor, drawn: Draw) -> tuple:
    """Returns HU and lungs, each (2, *S, 1), fixed first."""
    seen = ops.reshape(seen, (*states.shape[:4], 2))
    hu, lungs = seen[..., :1], seen[..., 1:]
    # Air comes and goes: its density follows the volume, while vessels keep theirs.
    airy = lungs * ops.clip((_TISSUE - hu) / (_TISSUE - _LUNG), 0.0, 1.0)
    gain = ops.clip(states[..., 6:], 0.3, 3.0) * _each(drawn["lung_gain"])
    hu = _AIR + (hu - _AIR) * (1 + airy * (gain - 1))
    hu = hu + _each(drawn["offset_hu"]) * ops.clip((hu - _AIR) / 500, 0.0, 1.0) + drawn["noise"]
    return ops.maximum(_smooth(hu, drawn["blur"]), _AIR), lungs


# --- small tools -----------------------------------------------------------------------------------------------------


def _row(values: Tensor) -> Tensor:
    return ops.convert_to_tensor(np.array(values, dtype="float32"))


def _each(values: Tensor) -> Tensor:
    return ops.reshape(values, (-1, 1, 1, 1, 1))


def _grid(shape: Sequence[int], spacing: Sequence[float]) -> Tensor:
    """Returns the voxels' places from the middle voxel in mm, shape (1, *S, 3)."""
    middle = (np.array(shape) - 1) // 2
    return _row((identity_grid(shape) - middle) * np.array(spacing))[None]


def _voxels(places: Tensor, spacing: Sequence[float], shape: Sequence[int]) -> Tensor:
    """Returns places in mm from the middle voxel of another grid as that grid's voxels."""
    return places / _row(spacing) + _row((np.array(shape) - 1) // 2)


def _linear(vectors: Tensor, matrix: Tensor) -> Tensor:
    return sum(vectors[..., i : i + 1] * matrix[:, i] for i in range(3))


def _random(control: Tensor, shape: Sequence[int], spacing: Sequence[float], every: float) -> Tensor:
    """Returns the field of control points that lie every so many mm, shape (1, *S, 3)."""
    return bspline_field(control, shape, [every / step for step in spacing])


def _gaussian(sigmas: Tensor, size: int) -> np.ndarray:
    """Returns matrices (B, size, size) that smooth an axis, one for each standard deviation in voxels."""
    offset = np.arange(size)[:, None] - np.arange(size)[None, :]
    weights = np.exp(-0.5 * (offset / np.maximum(np.reshape(sigmas, (-1, 1, 1)), 0.1)) ** 2)
    return (weights / weights.sum(axis=-1, keepdims=True)).astype("float32")


def _smooth(x: Tensor, kernels: Sequence[Tensor]) -> Tensor:
    """Applies to each batch item its own matrix along each axis; x (B, *S, 1), kernels (B, n, n)."""
    b, i, j, k, _ = x.shape
    x = ops.matmul(kernels[0], ops.reshape(x, (b, i, j * k)))
    x = ops.matmul(kernels[1][:, None], ops.reshape(x, (b, i, j, k)))
    x = ops.matmul(ops.reshape(x, (b, i * j, k)), ops.transpose(kernels[2], (0, 2, 1)))
    return ops.reshape(x, (b, i, j, k, 1))
