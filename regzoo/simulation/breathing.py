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
from regzoo.ops.grids import voxel_places
from regzoo.ops.random_numbers import normal
from regzoo.ops.warping import sample, warp
from regzoo.schema.priors import BreathingPrior
from regzoo.simulation.chests import FINE, Chest
from regzoo.simulation.measured import POINTS, REACH
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
        motions: Measured breathing, of which one is mixed in as it is drawn; from `regzoo.simulation.measured`.
    """

    def __init__(self, chest: Chest, motions: np.ndarray | None = None) -> None:
        self.chest = chest
        self.motions = motions
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
        hu, lungs, ddf, _ = (np.array(ops.convert_to_numpy(each)) for each in self.scans(drawn))
        return hu[..., 0], (lungs[..., 0] >= 0.5).astype("uint8"), ddf[0]

    def scans(self, drawn: Draw) -> tuple:
        """Computes a pair as tensors, fixed first.

        Args:
            drawn: From `regzoo.simulation.motion.draw`.

        Returns:
            HU (2, *S, 1); lungs, from 0 to 1, and where a scan shows anything, 1 there, each of the same shape; and the
            known displacement from fixed to moving in voxels, (1, *S, 3). All are float32, in the order HU, lungs,
            displacement, shown.
        """
        return backend.inference(self._scans, drawn)

    def _scans(self, drawn: Draw) -> tuple:
        """Goes step by step: in one piece, XLA would compute again what a warp reads for every voxel that reads it."""
        spacing, maps = self.spacing, self.chest.grid.shape
        coarse = tuple(step * n / half for step, n, half in zip(spacing, self.shape, self.half, strict=True))
        drawn = _tensors(self.chest, drawn, self.motions)
        places = _run(_places, drawn, spacing=spacing, shape=self.shape)
        local = _run(sample, self.maps, _run(_voxels, places, spacing=spacing, shape=maps))
        if self.motions is not None:
            found = _run(sample, drawn["motion"], _run(_on_motion, places, drawn))
            local = ops.concatenate([local, found], axis=-1)
        velocity = _run(_velocity, places, local, drawn, spacing=spacing)
        ddf = _exponential(velocity)
        psi = _exponential(_run(resize_field, velocity, shape=self.half) * drawn["stage"])
        shapes = _run(_random, drawn["shapes"], shape=self.half, spacing=coarse, every=SHAPES)
        motion = _run(_moving, psi, _run(warp, shapes, psi), shape=self.shape)
        lying = _run(_lying, drawn, spacing=spacing, shape=self.shape)
        moves = ops.concatenate([ddf, lying], axis=0)
        states = _run(_states, _run(sample, motion, _run(_at_half, moves, shape=self.half)), moves)
        voxels = _run(_seen, states, velocity, drawn, spacing=spacing, maps=maps)
        shown = _run(_shown, drawn, spacing=spacing, shape=self.shape)
        hu, lungs = _run(_look, _run(sample, self.image, voxels), states, shown, drawn)
        return hu, lungs, _run(_known, ddf, drawn, spacing=spacing), shown


def _run(function: Callable, *tensors: Tensor, **static: object) -> Tensor:
    return backend.compiled(function, **static)(*tensors)


def _tensors(chest: Chest, drawn: Draw, motions: np.ndarray | None) -> dict:
    """Returns the draw with what follows from it, the chest and measured breathing, as tensors."""
    spacing, shape = chest.grid.spacing, chest.network.shape
    # A band of this width has this standard deviation if everywhere in it counts alike.
    band = drawn["band"] / math.sqrt(12) / spacing
    added = {
        "half": chest.half.astype("float32"),
        "ends": _ends(chest, drawn).astype("float32"),
        "inverse": np.linalg.inv(drawn["linear"]).astype("float32"),
        "band": [_gaussian(sigma, size) for sigma, size in zip(band, shape, strict=True)],
        "blur": [_gaussian(drawn["blur"][:, int(axis == 2)], size) for axis, size in enumerate(shape)],
    }
    if motions is not None:
        added["motion"] = motions[int(drawn["patient"] * len(motions)), None]
    drawn = {**drawn, **added}
    flat = backend.sent({str(i): np.asarray(each, order="C") for i, each in enumerate(keras.tree.flatten(drawn))})
    return keras.tree.pack_sequence_as(drawn, [ops.convert_to_tensor(each) for each in flat.values()])


def _ends(chest: Chest, drawn: Draw) -> np.ndarray:
    """Returns the lower and the upper end of the CT in mm from the middle voxel of the network's grid."""
    middle = chest.network.affine[2, 2] * ((chest.network.shape[2] - 1) // 2) + chest.network.affine[2, 3]
    return (chest.scan - middle - drawn["offset"][2]) / drawn["linear"][2, 2]


def _exponential(velocity: Tensor) -> Tensor:
    return backend.repeat(_squared, _STEPS, velocity / 2**_STEPS)


def _squared(ddf: Tensor) -> Tensor:
    return compose(ddf, ddf)


# --- how the chest moves: on the network's grid, places and vectors (1, *S, 3) in mm ----------------------------------


def _places(drawn: Draw, spacing: Sequence[float], shape: Sequence[int]) -> Tensor:
    """Returns where the grid lies in the chest before it breathes."""
    shapes = _random(drawn["shapes"], shape, spacing, SHAPES)
    return _linear(_grid(shape, spacing, drawn["lying"]), drawn["linear"]) + drawn["offset"] + shapes


def _on_motion(places: Tensor, drawn: Draw) -> Tensor:
    """Returns the voxels of measured breathing that places lie in."""
    return (places / drawn["half"] / REACH + 1) * ((POINTS - 1) / 2)


def _velocity(places: Tensor, local: Tensor, drawn: Draw, spacing: Sequence[float]) -> Tensor:
    """Returns the velocity in voxels; `places` lie in the chest, `local` are its maps there."""
    shape = places.shape[1:4]
    body, sliding, deep, height = (local[..., i : i + 1] for i in range(4))
    wall, breath, depth = _breath(places / drawn["half"], height, local[..., 4:], drawn)
    breath = breath + _random(drawn["local"], shape, spacing, LOCAL) * (0.15 + 0.85 * depth)
    # Along the wall, which is upright nearly everywhere, the lungs slide; towards it they cannot move.
    sliding = _smooth(sliding, drawn["band"])
    sliding = ops.concatenate([sliding * deep, sliding * deep, sliding], axis=-1)
    inner = _linear(body * (wall + sliding * breath), drawn["inverse"])
    x, y, z = (_grid(shape, spacing, drawn["lying"])[..., i : i + 1] for i in range(3))
    a, b, c = (drawn["turn"][i] for i in range(3))
    rigid = ops.concatenate([b * z - c * y, c * x - a * z, a * y - b * x], axis=-1) + drawn["shift"]
    return (inner + rigid) / _row(spacing, drawn["lying"])


def _breath(q: Tensor, height: Tensor, measured: Tensor, drawn: Draw) -> tuple:
    """Returns the velocities of the chest wall and of what slides inside it, and how near the diaphragm a place is.

    Args:
        q: Places, from -1 to 1 along each axis of the box around the lungs.
        height: The map of that name.
        measured: Measured breathing, of size 1, with three channels, or none.
        drawn: The draw.
    """
    x, y, z = (_clip(q[..., i : i + 1], -1.3, 1.3) for i in range(3))
    level = 0.6 * z + 0.4  # above a flat diaphragm that lies a fifth above the lungs' lowest point
    height = level + drawn["column"] * (height - level)
    below = ops.relu(-height) * 2 * drawn["half"][2] / drawn["belly"]
    fading = ops.exp(-ops.square(below))
    depth = ops.power(_clip(1 - height, 1e-3, 1.0), drawn["profile"]) * fading
    dome = _clip((1 - drawn["back"] * y + drawn["side"] * x) / (1 + drawn["back"]), 0.0, 1.0)
    drift = drawn["drift"] * ops.ones_like(q[..., :2])
    breath = depth * ops.concatenate([drift, drawn["diaphragm"] * dome], axis=-1)
    if measured.shape[-1]:
        measured = measured * drawn["sizes"] * drawn["diaphragm"] * fading
        breath = breath + drawn["share"] * (measured - breath)
    front = ops.relu(y + 1) / 2
    wall = (1 - 0.5 * _clip(level, 0.0, 1.0)) * ops.concatenate([x, front, front], axis=-1) * drawn["wall"]
    return wall, breath, depth


def _moving(psi: Tensor, shapes: Tensor, shape: Sequence[int]) -> Tensor:
    """Returns what the moving scan shows, at half resolution: `psi` in voxels of the whole, shapes, volume change."""
    ratio = np.array(shape) / np.array(psi.shape[1:4])
    return ops.concatenate([psi * _row(ratio, psi), shapes, jacobian_determinant(psi)[..., None]], axis=-1)


def _at_half(ddf: Tensor, shape: Sequence[int]) -> Tensor:
    """Returns the voxels of a grid of half the resolution that voxels of the moving scan fall into."""
    ratio = np.array(shape) / np.array(ddf.shape[1:4])
    return (ddf + voxel_places(ddf.shape[1:4]) + 0.5) * _row(ratio, ddf) - 0.5


def _states(motion: Tensor, moves: Tensor) -> Tensor:
    """Returns what both scans show, fixed first, as `_moving` does, where voxels are moved so far; (2, *S, 7)."""
    volume = motion[..., 6:] * jacobian_determinant(moves)[..., None]
    return ops.concatenate([motion[..., :3] + moves, motion[..., 3:6], volume], axis=-1)


def _lying(drawn: Draw, spacing: Sequence[float], shape: Sequence[int]) -> Tensor:
    """Returns how far voxels of the moving scan are from where they were, had the patient not turned, in voxels."""
    grid = _grid(shape, spacing, drawn["lying"])
    return (_linear(grid, drawn["lying"]) + drawn["travel"] - grid) / _row(spacing, drawn["lying"])


def _known(ddf: Tensor, drawn: Draw, spacing: Sequence[float]) -> Tensor:
    """Returns the displacement to where the patient's turn, which `_lying` gives, puts each place; in voxels."""
    grid = _grid(ddf.shape[1:4], spacing, ddf)
    there = grid + ddf * _row(spacing, ddf) - drawn["travel"]
    return (_linear(there, ops.transpose(drawn["lying"])) - grid) / _row(spacing, drawn["lying"])


# --- what the scanner shows ------------------------------------------------------------------------------------------


def _seen(states: Tensor, velocity: Tensor, drawn: Draw, spacing: Sequence[float], maps: Sequence[int]) -> Tensor:
    """Returns which voxels of the chest's image both scans show, (1, 2 X, Y, Z, 3); late slabs show others."""
    shape = states.shape[1:4]
    late = drawn["slabs"][:, None, None, :, None] * velocity
    places = _grid(shape, spacing, drawn["lying"]) + (states[..., :3] + late) * _row(spacing, drawn["lying"])
    chest = _linear(places, drawn["linear"]) + drawn["offset"] + states[..., 3:6]
    voxels = (_voxels(chest, spacing, maps) + 0.5) * FINE - 0.5
    return ops.reshape(voxels, (1, 2 * shape[0], *shape[1:], 3))


def _shown(drawn: Draw, spacing: Sequence[float], shape: Sequence[int]) -> Tensor:
    """Returns 1 where a scan shows anything, shape (2, *S, 1).

    It ends where the CT ends, which turns with the patient, and where it is cropped.
    """
    grid, (low, high), crop = _grid(shape, spacing, drawn["lying"]), (drawn["ends"][i] for i in range(2)), drawn["crop"]
    lying = _linear(grid, drawn["lying"]) + drawn["travel"]
    ct = ops.concatenate([grid, lying], axis=0)[..., 2:]
    own = ops.concatenate([grid, grid + drawn["travel"]], axis=0)[..., 2:]
    inside = (ct > low) & (ct < high) & (own > low + _each(crop[0])) & (own < high - _each(crop[1]))
    return ops.cast(inside, "float32")


def _look(seen: Tensor, states: Tensor, shown: Tensor, drawn: Draw) -> tuple:
    """Returns HU and lungs, each (2, *S, 1), fixed first."""
    seen, seeds = ops.reshape(seen, (*states.shape[:4], 2)), ops.cast(drawn["seeds"], "int32")
    hu, lungs = seen[..., :1], seen[..., 1:]
    # Air comes and goes: its density follows the volume, while vessels keep theirs.
    airy = lungs * _clip((_TISSUE - hu) / (_TISSUE - _LUNG), 0.0, 1.0)
    gain = _clip(states[..., 6:], 0.3, 3.0) * _each(drawn["lung_gain"])
    hu = _AIR + (hu - _AIR) * (1 + airy * (gain - 1))
    hu = (
        hu
        + _each(drawn["offset_hu"]) * _clip((hu - _AIR) / 500, 0.0, 1.0)
        + drawn["noise"] * normal(seeds, 0, hu.shape[1:])
    )
    return _AIR + ops.relu(_smooth(hu, drawn["blur"]) - _AIR) * shown, lungs * shown


# --- small tools -----------------------------------------------------------------------------------------------------


def _row(values: Sequence[float], x: Tensor) -> Tensor:
    return backend.beside(np.array(values, dtype="float32"), x)


def _clip(x: Tensor, low: float, high: float) -> Tensor:
    """Does what `ops.clip` does, without numbers that PyTorch sends to the device each time."""
    return low + ops.relu(x - low) - ops.relu(x - high)


def _each(values: Tensor) -> Tensor:
    return ops.reshape(values, (-1, 1, 1, 1, 1))


def _grid(shape: Sequence[int], spacing: Sequence[float], x: Tensor) -> Tensor:
    """Returns the voxels' places from the middle voxel in mm, shape (1, *S, 3), where `x` is."""
    middle = _row((np.array(shape) - 1) // 2, x)
    return ((voxel_places(shape) - middle) * _row(spacing, x))[None]


def _voxels(places: Tensor, spacing: Sequence[float], shape: Sequence[int]) -> Tensor:
    """Returns places in mm from the middle voxel of another grid as that grid's voxels."""
    return places / _row(spacing, places) + _row((np.array(shape) - 1) // 2, places)


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
