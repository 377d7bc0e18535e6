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
from regzoo.ops.fields import compose, jacobian_determinant, resize_field
from regzoo.ops.grids import voxel_places
from regzoo.ops.warping import sample, warp
from regzoo.schema.priors import BreathingPrior
from regzoo.simulation.chests import Chest
from regzoo.simulation.measured import POINTS, REACH
from regzoo.simulation.motion import LOCAL, SHAPES, Draw, draw
from regzoo.simulation.places import gaussians, linear, mm_grid, random_field, row, smoothed, to_voxels
from regzoo.simulation.scanner import look, seen, shown
from regzoo.world.images import Image

_STEPS = 3  # squarings; the first step is an eighth of the motion, a voxel at most


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
            Float32: HU (2, *S, 1); lungs, from 0 to 1, of the same shape; the known displacement from fixed to moving
            in voxels, (1, *S, 3); and 1 where a scan shows anything, (2, *S, 1).
        """
        return backend.inference(self._scans, drawn)

    def _scans(self, drawn: Draw) -> tuple:
        """Goes step by step: in one piece, XLA would compute again what a warp reads for every voxel that reads it."""
        spacing, maps = self.spacing, self.chest.grid.shape
        coarse = tuple(step * n / half for step, n, half in zip(spacing, self.shape, self.half, strict=True))
        drawn = _tensors(self.chest, drawn, self.motions)
        places = _run(_places, drawn, spacing=spacing, shape=self.shape)
        local = _run(sample, self.maps, _run(to_voxels, places, spacing=spacing, shape=maps))
        if self.motions is not None:
            found = _run(sample, drawn["motion"], _run(_on_motion, places, drawn))
            local = ops.concatenate([local, found], axis=-1)
        velocity = _run(_velocity, places, local, drawn, spacing=spacing)
        ddf = _exponential(velocity)
        psi = _exponential(_run(resize_field, velocity, shape=self.half) * drawn["stage"])
        shapes = _run(random_field, drawn["shapes"], shape=self.half, spacing=coarse, every=SHAPES)
        motion = _run(_moving, psi, _run(warp, shapes, psi), shape=self.shape)
        lying = _run(_lying, drawn, spacing=spacing, shape=self.shape)
        moves = ops.concatenate([ddf, lying], axis=0)
        states = _run(_states, _run(sample, motion, _run(_at_half, moves, shape=self.half)), moves)
        voxels = _run(seen, states, velocity, drawn, spacing=spacing, maps=maps)
        inside = _run(shown, drawn, spacing=spacing, shape=self.shape)
        hu, lungs = _run(look, _run(sample, self.image, voxels), states, inside, drawn)
        return hu, lungs, _run(_known, ddf, drawn, spacing=spacing), inside


def _run(function: Callable, *tensors: Tensor, **static: object) -> Tensor:
    return backend.compiled(function, **static)(*tensors)


def _tensors(chest: Chest, drawn: Draw, motions: np.ndarray | None) -> dict:
    """Returns the draw with what follows from it, the chest and measured breathing, as tensors."""
    spacing, shape = chest.grid.spacing, chest.network.shape
    # A band of this width has this standard deviation if everywhere in it counts alike.
    band = drawn["band"] / math.sqrt(12) / spacing
    added = {
        "half": chest.half.astype("float32"),
        "crop": np.where(drawn["crop"] > 0, drawn["crop"], -1e4).astype("float32"),
        "ends": _ends(chest, drawn).astype("float32"),
        "inverse": np.linalg.inv(drawn["linear"]).astype("float32"),
        "band": [gaussians(sigma, size) for sigma, size in zip(band, shape, strict=True)],
        "blur": [gaussians(drawn["blur"][:, int(axis == 2)], size) for axis, size in enumerate(shape)],
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


def _places(drawn: Draw, spacing: Sequence[float], shape: Sequence[int]) -> Tensor:
    """Returns where the grid lies in the chest before it breathes."""
    shapes = random_field(drawn["shapes"], shape, spacing, SHAPES)
    return linear(mm_grid(shape, spacing), drawn["linear"]) + drawn["offset"] + shapes


def _on_motion(places: Tensor, drawn: Draw) -> Tensor:
    """Returns the voxels of measured breathing that places lie in."""
    return (places / drawn["half"] / REACH + 1) * ((POINTS - 1) / 2)


def _velocity(places: Tensor, local: Tensor, drawn: Draw, spacing: Sequence[float]) -> Tensor:
    """Returns the velocity in voxels; `places` lie in the chest, `local` are its maps there."""
    shape = places.shape[1:4]
    body, sliding, deep, height = (local[..., i : i + 1] for i in range(4))
    wall, breath, depth = _breath(places / drawn["half"], height, local[..., 4:], drawn)
    breath = breath + random_field(drawn["local"], shape, spacing, LOCAL) * (0.15 + 0.85 * depth)
    # Along the wall, which is upright nearly everywhere, the lungs slide; towards it they cannot move.
    sliding = smoothed(sliding, drawn["band"])
    sliding = ops.concatenate([sliding * deep, sliding * deep, sliding], axis=-1)
    inner = linear(body * (wall + sliding * breath), drawn["inverse"])
    grid = mm_grid(shape, spacing)
    x, y, z = (grid[..., i : i + 1] for i in range(3))
    a, b, c = (drawn["turn"][i] for i in range(3))
    rigid = ops.concatenate([b * z - c * y, c * x - a * z, a * y - b * x], axis=-1) + drawn["shift"]
    return (inner + rigid) / row(spacing)


def _breath(q: Tensor, height: Tensor, measured: Tensor, drawn: Draw) -> tuple:
    """Returns the velocities of the chest wall and of what slides inside it, and how near the diaphragm a place is.

    Args:
        q: Places, from -1 to 1 along each axis of the box around the lungs.
        height: The map of that name.
        measured: Measured breathing, of size 1, with three channels, or none.
        drawn: The draw.
    """
    x, y, z = (ops.clip(q[..., i : i + 1], -1.3, 1.3) for i in range(3))
    level = 0.6 * z + 0.4  # above a flat diaphragm that lies a fifth above the lungs' lowest point
    height = level + drawn["column"] * (height - level)
    below = ops.maximum(-height, 0.0) * 2 * drawn["half"][2] / drawn["belly"]
    fading = ops.exp(-ops.square(below))
    depth = ops.power(ops.clip(1 - height, 1e-3, 1.0), drawn["profile"]) * fading
    dome = ops.clip((1 - drawn["back"] * y + drawn["side"] * x) / (1 + drawn["back"]), 0.0, 1.0)
    drift = drawn["drift"] * ops.ones_like(q[..., :2])
    breath = depth * ops.concatenate([drift, drawn["diaphragm"] * dome], axis=-1)
    if measured.shape[-1]:
        measured = measured * drawn["sizes"] * drawn["diaphragm"] * fading
        breath = breath + drawn["share"] * (measured - breath)
    front = ops.maximum(y + 1, 0.0) / 2
    wall = (1 - 0.5 * ops.clip(level, 0.0, 1.0)) * ops.concatenate([x, front, front], axis=-1) * drawn["wall"]
    return wall, breath, depth


def _moving(psi: Tensor, shapes: Tensor, shape: Sequence[int]) -> Tensor:
    """Returns what the moving scan shows, at half resolution: `psi` in voxels of the whole, shapes, volume change."""
    ratio = np.array(shape) / np.array(psi.shape[1:4])
    return ops.concatenate([psi * row(ratio), shapes, jacobian_determinant(psi)[..., None]], axis=-1)


def _at_half(ddf: Tensor, shape: Sequence[int]) -> Tensor:
    """Returns the voxels of a grid of half the resolution that voxels of the moving scan fall into."""
    ratio = np.array(shape) / np.array(ddf.shape[1:4])
    return (ddf + voxel_places(ddf.shape[1:4]) + 0.5) * row(ratio) - 0.5


def _states(motion: Tensor, moves: Tensor) -> Tensor:
    """Returns what both scans show, fixed first, as `_moving` does, where voxels are moved so far; (2, *S, 7)."""
    volume = motion[..., 6:] * jacobian_determinant(moves)[..., None]
    return ops.concatenate([motion[..., :3] + moves, motion[..., 3:6], volume], axis=-1)


def _lying(drawn: Draw, spacing: Sequence[float], shape: Sequence[int]) -> Tensor:
    """Returns how far voxels of the moving scan are from where they were, had the patient not turned, in voxels."""
    grid = mm_grid(shape, spacing)
    return (linear(grid, drawn["lying"]) + drawn["travel"] - grid) / row(spacing)


def _known(ddf: Tensor, drawn: Draw, spacing: Sequence[float]) -> Tensor:
    """Returns the displacement to where the patient's turn, which `_lying` gives, puts each place; in voxels."""
    grid = mm_grid(ddf.shape[1:4], spacing)
    there = grid + ddf * row(spacing) - drawn["travel"]
    return (linear(there, ops.transpose(drawn["lying"])) - grid) / row(spacing)
