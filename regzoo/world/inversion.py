"""Where a map leads to a given place: its inverse, point by point."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from regzoo.world.matrices import cross, dot

if TYPE_CHECKING:
    from regzoo.world.steps import Field, Spline

_SHORTEST = 2**-10  # a step that was halved ten times in a row leads nowhere


def solve(field: Field | Spline, goal: np.ndarray, tolerance: float, iterations: int) -> np.ndarray:
    """Finds x with `field(x) = goal` for points (N, 3).

    By x <- x - step (field(x) - goal), then by Newton's method; the step is halved on growth.
    """
    found, step = goal.copy(), np.ones(len(goal))
    error = field(found) - goal
    size = np.linalg.norm(error, axis=-1)
    for iteration in range(iterations):
        todo = np.flatnonzero((size > tolerance) & (step > _SHORTEST))
        if not todo.size:
            break
        towards = error[todo] if iteration < 3 else _newton(field, found[todo], error[todo], goal[todo])
        trial = found[todo] - step[todo, None] * towards
        trial_error = field(trial) - goal[todo]
        trial_size = np.linalg.norm(trial_error, axis=-1)
        better = trial_size < size[todo]
        kept = todo[better]
        found[kept], error[kept], size[kept] = trial[better], trial_error[better], trial_size[better]
        step[todo] = np.where(better, np.minimum(2 * step[todo], 1), step[todo] / 2)
    missed = size > tolerance
    if missed.any():
        warnings.warn(
            f"inverse: {missed.sum() / len(goal):.2%} of the places miss the tolerance of {tolerance:g} mm "
            f"(by up to {size.max():.3g} mm). The field folds or stretches too much there.",
            stacklevel=4,
        )
    return found


def _newton(field: Field | Spline, places: np.ndarray, error: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Returns Newton's step (N, 3), at most four voxels; where the field folds or nearly does, the error itself."""
    near = 0.05 * field.grid.spacing.min()
    a, b, c = (((field(places + near * axis) - error - goal) / near).T.copy() for axis in np.eye(3))
    # By Cramer's rule, a tenth of the time that LAPACK takes over as many matrices of 3 x 3.
    normal, missed = cross(b, c), error.T
    volume = dot(a, normal)
    sound = volume > 0.02
    step = np.stack([dot(missed, normal), dot(a, cross(missed, c)), dot(a, cross(b, missed))], axis=-1)
    towards = np.where(sound[:, None], step / np.where(sound, volume, 1)[:, None], error)
    length = np.linalg.norm(towards, axis=-1, keepdims=True)
    return towards * np.minimum(1, 4 * field.grid.spacing.max() / np.maximum(length, near))
