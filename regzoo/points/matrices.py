"""What both methods share: their result, matrices by least squares, and checks of point sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from regzoo.errors import invalid
from regzoo.world.matrices import about, checked_points
from regzoo.world.transforms import Transform

Constraint = Literal["rigid", "similarity", "affine"]
DIMENSIONS = {"rigid": 2, "similarity": 2, "affine": 3, "deformable": 1}
"""In how many dimensions points must spread, so that there is one best answer."""


@dataclass(frozen=True)
class PointResult:
    """What a registration of point sets gives.

    Args:
        transform: From fixed to moving space, RAS mm.
        rmse: Root mean square distance in mm of the matched points (ICP), or the standard deviation of the noise (CPD).
        fitness: Share of the fixed points that are matched (ICP), or the expected share of the moving points that are
            no outliers (CPD).
        iterations: How many were done.
    """

    transform: Transform
    rmse: float
    fitness: float
    iterations: int


def fit_matrix(
    fixed: np.ndarray, moving: np.ndarray, constraint: Constraint, weights: np.ndarray | None = None
) -> np.ndarray:
    """Returns the matrix (4, 4) that maps fixed points best, by least squares, to the moving points beside them.

    Args:
        fixed: Shape (N, 3).
        moving: Shape (N, 3).
        constraint: `"rigid"`, `"similarity"` or `"affine"`. No matrix mirrors, unless the affine one fits best so.
        weights: Shape (N,), at least 0.

    Source: Umeyama, Least-squares estimation of transformation parameters between two point patterns, 1991.
    """
    weights = np.ones(len(fixed)) if weights is None else weights
    share = weights / weights.sum()
    centres = share @ fixed, share @ moving
    a, b = fixed - centres[0], moving - centres[1]
    cross, spread = (b * share[:, None]).T @ a, (a * share[:, None]).T @ a
    return about(linear_part(cross, spread, constraint), *centres)


def linear_part(cross: np.ndarray, spread: np.ndarray, constraint: str) -> np.ndarray:
    """Returns the linear part (3, 3) from the moments `sum b a^T` and `sum a a^T` about the centres."""
    if constraint == "affine":
        return np.linalg.lstsq(spread, cross.T, rcond=None)[0].T
    left, singular, right = np.linalg.svd(cross)
    signs = np.ones(3)
    signs[-1] = np.sign(np.linalg.det(left @ right))
    rotation = (left * signs) @ right
    return rotation if constraint == "rigid" else rotation * (singular @ signs) / np.trace(spread)


def checked_set(name: str, points: np.ndarray, constraint: str) -> np.ndarray:
    """Returns points as float64.

    Raises:
        InvalidError: If they are fewer than 4, not finite, or too flat for the constraint.
    """
    points = checked_points(name, points)
    if len(points) < 4:
        raise invalid(name, "at least 4 points, shape (N, 3)", points.shape)
    check_spread(name, points, constraint)
    return points


def check_spread(name: str, points: np.ndarray, constraint: str) -> None:
    """Raises InvalidError if points lie too flat for the constraint: a line leaves the turn around it open."""
    singular = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    rounding = 1e-12 * np.abs(points).max() * np.sqrt(len(points))
    found = int((singular > max(1e-6 * singular[0], rounding)).sum())
    if found < DIMENSIONS[constraint]:
        received = ("one place only", "points on one line", "points on one plane")[found]
        advice = "Choose a method of fewer parameters, or other points." if found else ""
        raise invalid(name, f"points spread in {DIMENSIONS[constraint]} dimensions ({constraint})", received, advice)


def check_positive(**values: float) -> None:
    """Raises InvalidError if a value is not above 0."""
    for name, value in values.items():
        if not value > 0:
            raise invalid(name, "a number above 0", value)
