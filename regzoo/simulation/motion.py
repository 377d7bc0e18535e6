"""How chests breathe and how scanners see them: draws from the prior. Places and vectors in mm along R, A, S."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from regzoo.schema.priors import BreathingPrior
from regzoo.world.images import Grid

Draw = Mapping[str, np.ndarray]

LOCAL, SHAPES = 60.0, 150.0
"""mm between the control points of random motion and of random shapes of the chest."""
_STEEP = 20.0  # mm of the diaphragm from which random motion grows no more: it would fold


def draw(prior: BreathingPrior, random: np.random.Generator, grid: Grid) -> dict[str, np.ndarray]:
    """Draws one pair of scans: how the chest lies and breathes, and what each scan looks like.

    Args:
        prior: What to draw from.
        random: The source of all randomness.
        grid: The network's grid.

    Returns:
        float32 arrays by name, for `regzoo.simulation.breathing`. Every number is drawn whatever the prior, so that
        switching a part off leaves the others as they were.
    """
    moves = prior if random.uniform() >= prior.still else prior.model_copy(update=_hardly(prior))
    drawn = {**_breath(moves, random, grid), **_anatomy(prior, random, grid), **_scans(prior, random, grid.shape)}
    drawn |= {**_measured(prior, random), **_placed(prior, random)}
    drawn["crop"] = drawn["crop"] + _cut(prior, random)
    return {name: np.asarray(value, dtype=np.float32) for name, value in drawn.items()}


def _hardly(prior: BreathingPrior) -> dict:
    """Returns what changes in the prior of a pair that hardly moves."""
    return {"diaphragm": min(prior.diaphragm, 2.0), "jitter": min(prior.jitter, 0.7)}


def _breath(prior: BreathingPrior, random: np.random.Generator, grid: Grid) -> dict:
    # Mostly as in quiet breathing, seldom nothing, seldom the most.
    amplitude = prior.diaphragm * random.beta(1.2, 1.2) * random.choice([-1.0, 1.0])
    wall = prior.wall * amplitude * random.uniform(-0.5, 1.0)
    follows = prior.local * min(abs(amplitude), _STEEP) * random.uniform(0.2, 1.0)
    local = np.hypot(follows, prior.jitter * random.uniform())
    smooth, rough = _control(random, grid, LOCAL, 1.2), _control(random, grid, LOCAL)
    return {
        "diaphragm": amplitude,
        "profile": random.uniform(0.9, 2.2),
        "column": random.uniform(0.0, 0.6),
        "belly": random.uniform(100.0, 300.0),
        "back": random.uniform(0.2, 1.3),
        "side": random.normal(0.0, 0.1),
        "drift": amplitude * random.normal((0.0, -0.04), (0.06, 0.1)),
        "wall": wall * np.array([-0.5 * random.uniform(), -1.0, -0.3 * random.uniform(-1.0, 1.0)]),
        "local": local * (0.82 * smooth + 0.57 * rough) * (1.0, 1.1, 1.0),
        "band": prior.pleura * random.uniform(0.2, 1.0),
        "shift": prior.position * random.normal(size=3),
        "turn": np.deg2rad(0.25 * prior.position * random.normal(size=3)),
        "stage": -random.uniform(),
    }


def _control(random: np.random.Generator, grid: Grid, every: float, smooth: float = 0.0) -> np.ndarray:
    """Draws control points of a cubic B-spline field of standard deviation 1; `smooth` counts in control points."""
    sizes = [math.ceil(n * step / every - 1e-6) + 3 for n, step in zip(grid.shape, grid.spacing, strict=True)]
    points = ndimage.gaussian_filter(random.standard_normal((1, *sizes, 3)), (0, smooth, smooth, smooth, 0))
    # Filter and B-spline, whose variance is 1/3, are together nearly Gaussian: white noise keeps this much of itself.
    kept = (2 * math.sqrt(math.pi * (smooth**2 + 1 / 3))) ** -1.5
    return points / kept


def _anatomy(prior: BreathingPrior, random: np.random.Generator, grid: Grid) -> dict:
    """Draws where a voxel of the network's grid lies in the chest: `linear @ x + offset + shapes(x)` in mm."""
    strength = prior.anatomy
    size = np.exp(strength * (random.uniform(-0.8, 0.8) + random.uniform(-0.4, 0.4, 3)))
    x, y, z = strength * random.uniform(-0.6, 0.6, 3)
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    mirror = np.diag([-1.0 if random.uniform() < 0.5 and strength else 1.0, 1.0, 1.0])
    return {
        "linear": mirror @ np.diag(size) @ (np.eye(3) + skew),
        "offset": 100 * strength * random.uniform(-1, 1, 3),
        "shapes": 30 * strength * _control(random, grid, SHAPES) * random.uniform(),
    }


def _scans(prior: BreathingPrior, random: np.random.Generator, shape: tuple[int, int, int]) -> dict:
    """Draws the looks of both scans, fixed first."""
    strength = prior.appearance
    lungs = strength * (random.normal(0, 0.12) + random.normal(0, 0.04, 2))
    return {
        "lung_gain": np.exp(lungs),
        "offset_hu": strength * (random.normal(0, 15) + random.normal(0, 8, 2)),
        "blur": strength * random.uniform(0, 0.7, (2, 2)) * random.integers(0, 2, (2, 2)),
        "noise": strength * 40.0 * random.uniform(size=(2, 1, 1, 1, 1)) ** 2,
        "seeds": random.integers(2**24, size=2),  # float32 holds them
        "slabs": strength * np.stack([_slabs(random, shape[2]) for _ in range(2)]),
        "crop": strength * _crop(random),
    }


def _slabs(random: np.random.Generator, count: int) -> np.ndarray:
    """Draws by what share of the breath each slice was taken too late: two scans in three have no such slabs."""
    edges = np.sort(random.integers(0, count, 8))
    late = random.normal(0, 0.12, 9) * (random.uniform() < 1 / 3)
    return late[np.searchsorted(edges, np.arange(count), side="right")]


def _measured(prior: BreathingPrior, random: np.random.Generator) -> dict:
    """Draws whose measured breathing a pair has, from 0 to 1 of all, how much of it, and by which it is stretched."""
    share = random.uniform(0.3, 1.0) * (random.uniform() < prior.measured)
    return {"patient": random.uniform(), "share": share, "sizes": random.uniform(0.8, 1.2, 3)}


def _placed(prior: BreathingPrior, random: np.random.Generator) -> dict:
    """Draws how the patient was turned and shifted before the moving scan; every second was neither."""
    moved = random.uniform() < 0.5
    axis = random.normal(size=3)
    angle = np.deg2rad(prior.rotation) * random.uniform()
    turn = Rotation.from_rotvec(moved * angle * axis / np.linalg.norm(axis))
    return {"lying": turn.as_matrix(), "travel": moved * prior.travel * random.uniform(-1, 1, 3)}


def _cut(prior: BreathingPrior, random: np.random.Generator) -> np.ndarray:
    """Draws how many mm more are missing of one end of one scan, as `_crop`; of two pairs in three nothing."""
    cut = np.zeros((2, 2))
    cut[random.integers(2), random.integers(2)] = prior.cut * random.uniform()
    return cut * (random.uniform() < 1 / 3)


def _crop(random: np.random.Generator) -> np.ndarray:
    """Draws how many mm are missing of the lower and of the upper end of both scans; mostly none.

    Returns:
        Shape (2, 2): end, scan.
    """
    both = random.uniform(-60, (30, 20))
    return np.maximum(0, both[:, None] + random.uniform(-15, 15, (2, 2)) * (random.uniform() < 0.5))
