"""How one image's anatomy is turned against another's: both seen coarsely."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import ndimage, optimize
from scipy.spatial.transform import Rotation

from regzoo.world.images import Grid, Image
from regzoo.world.matrices import map_points
from regzoo.world.resampling import resample

_ACROSS = 32  # voxels of the coarse image along its longest axis
_NODES = 13  # points compared along each axis
_REACH = 1.35  # radii of mass, as far as points are compared
_NEAR = 10.0  # degrees within which a start is the same as none
_ALIKE = 0.9
_PLAINLY = 0.7  # of what differs, at most, is left by a turn that is one
_BETTER = 0.6  # the same, by one start beside the other
_SHARP = 8.0  # points along an axis that the smoothing leaves apart


@dataclass(frozen=True)
class Pose:
    """How the moving anatomy lies against the fixed one.

    Args:
        turn: Rotation from fixed to moving about R, A and S, in degrees, shape (3,): its axis by its angle.
        likeness: Correlation of both, so turned, shifted and scaled; 1: the same.
        unturned: The same without turning.
    """

    turn: np.ndarray
    likeness: float
    unturned: float

    @property
    def plain(self) -> bool:
        """Whether the images are alike, and plainly more so turned than unturned."""
        return self.likeness >= _ALIKE and 1 - self.likeness < _PLAINLY * (1 - self.unturned)


def pose(fixed: Image, moving: Image) -> Pose | None:
    """Compares two images of the same contrast and, roughly, the same part of the body, wherever they lie.

    Rotation, shift and one scale are fitted so that the coarse images correlate best, starting unturned and from the
    axes of mass.

    Args:
        fixed: One channel.
        moving: One channel.

    Returns:
        The pose; None for a slice or a constant image.
    """
    if min(*fixed.shape, *moving.shape) < 4 or not (np.ptp(fixed.array) and np.ptp(moving.array)):
        return None
    pair = _Coarse(fixed, moving)
    first = max(pair.axes_on_axes(), key=pair.likeness)
    best, at = pair.fitted(np.eye(3))
    if np.trace(first) < 1 + 2 * np.cos(np.radians(_NEAR)):
        other, there = pair.fitted(first)
        # A body that looks much the same from both ends is not turned by half a circle.
        best, at = (other, there) if 1 - other < _BETTER * (1 - best) else (best, at)
    unturned, _ = pair.fitted(np.eye(3), free=False)
    return Pose(np.degrees(at[:3]), best, unturned)


class _Coarse:
    """Both images about their centres of mass, in radii of mass."""

    def __init__(self, fixed: Image, moving: Image) -> None:
        steps = np.linspace(-_REACH, _REACH, _NODES)
        self.points = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
        self.fixed, self.moving = _Body(fixed), _Body(moving)
        self.values = _standard(self.fixed.at(self.points))

    def axes_on_axes(self) -> list[np.ndarray]:
        """Returns the four rotations that lay the axes of one mass on those of the other."""
        axes_f, axes_m = (np.linalg.eigh(each.spread)[1] for each in (self.fixed, self.moving))
        turns = (axes_m @ np.diag(signs) @ axes_f.T for signs in itertools.product((1, -1), repeat=3))
        return [turn for turn in turns if np.linalg.det(turn) > 0]

    def residual(self, parameters: np.ndarray) -> np.ndarray:
        turn = Rotation.from_rotvec(parameters[:3]).as_matrix()
        there = np.exp(parameters[6]) * (self.points @ turn.T + parameters[3:6])
        return _standard(self.moving.at(there)) - self.values

    def likeness(self, turn: np.ndarray) -> float:
        return 1 - float(np.square(self.residual(_parameters(turn))).mean()) / 2

    def fitted(self, turn: np.ndarray, free: bool = True) -> tuple[float, np.ndarray]:
        """Returns the best likeness from a start, and rotation vector, shift and log of the scale."""
        start, fixed = _parameters(turn), 0 if free else 3

        def residual(values: np.ndarray) -> np.ndarray:
            return self.residual(np.concatenate([start[:fixed], values]))

        found = optimize.least_squares(residual, start[fixed:], diff_step=1e-3, max_nfev=12, x_scale=0.1)
        return 1 - found.cost / len(self.points), np.concatenate([start[:fixed], found.x])


class _Body:
    """An image on coarse voxels, smooth, and where its mass lies."""

    def __init__(self, image: Image) -> None:
        box = image.grid.box()
        step = max(float(np.ptp(box, axis=0).max()) / _ACROSS, float(image.spacing.min()))
        affine = np.diag([step, step, step, 1.0])
        affine[:3, 3] = box.min(axis=0) + step / 2
        low, high = np.percentile(image.array, (1, 99))
        low, high = (low, high) if high > low else (image.array.min(), image.array.max())
        scaled = Image(np.clip((image.array.astype("float32") - low) / (high - low), 0, 1), image.affine)
        grid = Grid(tuple(np.maximum(1, np.rint(np.ptp(box, axis=0) / step)).astype(int)), affine)
        mass = resample(scaled, grid).array.astype("float64")
        places, share = grid.coordinates(), mass / mass.sum()
        self.centre = np.einsum("ijk,ijkd->d", share, places)
        away = places - self.centre
        self.spread = np.einsum("ijk,ijkd,ijke->de", share, away, away)
        self.radius = float(np.sqrt(np.trace(self.spread)))
        self.inverse = np.linalg.inv(affine)
        self.array = ndimage.gaussian_filter(mass, _REACH * self.radius / step / _SHARP)

    def at(self, points: np.ndarray) -> np.ndarray:
        """Samples at points in radii of mass from the centre."""
        voxels = map_points(self.inverse, self.centre + self.radius * points)
        return ndimage.map_coordinates(self.array, voxels.T, order=1, mode="constant")


def _parameters(turn: np.ndarray) -> np.ndarray:
    return np.concatenate([Rotation.from_matrix(turn).as_rotvec(), np.zeros(4)])


def _standard(values: np.ndarray) -> np.ndarray:
    values = values - values.mean()
    return values / max(float(values.std()), 1e-9)
