"""Iterative closest points."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from regzoo.errors import invalid, unknown
from regzoo.points.matrices import (
    Constraint,
    PointResult,
    check_positive,
    check_spread,
    checked_set,
    fit_matrix,
)
from regzoo.world.matrices import about, checked_matrix, map_points
from regzoo.world.transforms import Transform

_LEAST = {"rigid": 3, "similarity": 3, "affine": 4}
_LEAST_PLANES = {"rigid": 6, "similarity": 7, "affine": 12}  # each plane gives one equation


def icp(
    fixed: np.ndarray,
    moving: np.ndarray,
    constraint: Constraint = "rigid",
    *,
    start: np.ndarray | None = None,
    normals: np.ndarray | None = None,
    trim: float = 0.0,
    max_distance: float = np.inf,
    iterations: int = 100,
    tolerance: float = 1e-6,
) -> PointResult:
    """Registers by iterative closest points: each fixed point is matched to the moving point nearest to it.

    Args:
        fixed: Shape (N, 3).
        moving: Shape (M, 3).
        constraint: `"rigid"`, `"similarity"` or `"affine"`.
        start: Matrix (4, 4) to start from, fixed to moving. None: the centroids are put on each other.
        normals: Normals at the moving points, (M, 3), of any length: distances to the tangent planes are minimised,
            and not those to the points.
        trim: Share of the matches, the farthest, that are left out in each iteration, in [0, 1).
        max_distance: Matches farther apart, in mm, are left out.
        iterations: Most iterations.
        tolerance: Stop once the error changes by less than this share.

    Raises:
        InvalidError: If an argument is out of range, or the points matched are too few or too flat.

    Source: Besl and McKay, A method for registration of 3-D shapes, 1992; Chen and Medioni, Object modelling by
    registration of multiple range images, 1992 (planes); Chetverikov et al., The trimmed iterative closest point
    algorithm, 2002.
    """
    if constraint not in _LEAST:
        raise unknown("constraint", constraint, _LEAST)
    fixed, moving = checked_set("fixed", fixed, constraint), checked_set("moving", moving, constraint)
    if not 0 <= trim < 1:
        raise invalid("trim", "a share of at least 0 and below 1", trim)
    check_positive(max_distance=max_distance, iterations=iterations)
    normals = None if normals is None else _unit_normals(normals, moving)
    least = (_LEAST if normals is None else _LEAST_PLANES)[constraint]
    centred = about(np.eye(3), fixed.mean(axis=0), moving.mean(axis=0))
    matrix = centred if start is None else checked_matrix("start", start)
    tree, error = cKDTree(moving), np.inf
    for done in range(1, iterations + 1):  # noqa: B007
        mapped = map_points(matrix, fixed)
        matched, nearest, distance = _matches(tree, mapped, trim, max_distance)
        if matched.size < least:
            raise invalid("matches", f"at least {least}", matched.size, "Raise max_distance, lower trim, start nearer.")
        goal = moving[nearest]
        for part in (fixed[matched], goal):  # many points on one would shrink to it and look perfect
            check_spread("matches", part, constraint)
        if normals is None:
            matrix = fit_matrix(fixed[matched], goal, constraint)
        else:
            matrix = _to_planes(mapped[matched], goal, normals[nearest], constraint) @ matrix
        before, error = error, float(np.sqrt(np.mean(distance**2)))
        if abs(before - error) <= tolerance * max(error, 1e-12):
            break
    return PointResult(Transform.linear(matrix), error, matched.size / len(fixed), done)


def _matches(
    tree: cKDTree, points: np.ndarray, trim: float, max_distance: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns which points are matched, to which of the tree's, and how far these are."""
    distance, nearest = tree.query(points, distance_upper_bound=max_distance)
    matched = np.flatnonzero(np.isfinite(distance))
    if trim:
        kept = int(np.ceil((1 - trim) * matched.size))
        matched = matched[np.argsort(distance[matched], kind="stable")[:kept]]
    return matched, nearest[matched], distance[matched]


def _to_planes(mapped: np.ndarray, goal: np.ndarray, normals: np.ndarray, constraint: str) -> np.ndarray:
    """Returns the matrix that brings points nearest to planes; but for affine, in closed form for small angles."""
    centre = mapped.mean(axis=0)
    a, depth = mapped - centre, ((goal - mapped) * normals).sum(axis=1)
    if constraint == "affine":
        rows = np.concatenate([(normals[:, :, None] * a[:, None]).reshape(-1, 9), normals], axis=1)
        found = np.linalg.lstsq(rows, depth, rcond=None)[0]
        return about(np.eye(3) + found[:9].reshape(3, 3), centre, centre + found[9:])
    rows = [np.cross(a, normals), normals]
    if constraint == "similarity":
        rows.append((a * normals).sum(axis=1, keepdims=True))
    found = np.linalg.lstsq(np.concatenate(rows, axis=1), depth, rcond=None)[0]
    scale = np.exp(found[6]) if constraint == "similarity" else 1.0
    return about(scale * Rotation.from_rotvec(found[:3]).as_matrix(), centre, centre + found[3:6])


def _unit_normals(normals: np.ndarray, moving: np.ndarray) -> np.ndarray:
    normals = np.asarray(normals, dtype=np.float64)
    if normals.shape != moving.shape:
        raise invalid("normals", f"shape {moving.shape}, one for each moving point", normals.shape)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    bad = int((~np.isfinite(length) | (length == 0)).sum())
    if bad:
        raise invalid("normals", "finite directions", f"{bad} that are NaN, infinite or of length 0")
    return normals / length
