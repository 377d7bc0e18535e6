"""Registration of point sets without known correspondence: iterative closest points and coherent point drift.

All points are (N, 3) in RAS mm. A result maps FIXED points to moving space, as every `Transform` does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.spatial import cKDTree

from regzoo.checks import invalid, unknown
from regzoo.images import Grid
from regzoo.transforms import Transform

Constraint = Literal["rigid", "similarity", "affine"]
_LEAST = {"rigid": 3, "similarity": 3, "affine": 4}
MOST_EXACT = 5000
"""Fixed points up to which the deformable kernel is kept whole."""
_CHUNK = 2**23  # probabilities held at a time: 64 MB


@dataclass(frozen=True)
class PointResult:
    """What a registration of point sets gives.

    Args:
        transform: From fixed to moving space, RAS mm.
        rmse: Root mean square distance in mm of the matched points (ICP), or the standard deviation of the noise (CPD).
        fitness: Share of the fixed points that are matched (ICP), or the expected share that are no outliers (CPD).
        iterations: How many were done.
    """

    transform: Transform
    rmse: float
    fitness: float
    iterations: int


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
        start: Matrix (4, 4) to start from. None: the centroids are put on each other.
        normals: Normals at the moving points, (M, 3): distances to the tangent planes count, and not to the points.
            Rigid only.
        trim: Share of the matches, the farthest, that are left out in each iteration, in [0, 1).
        max_distance: Matches farther apart, in mm, are left out.
        iterations: Most iterations.
        tolerance: Stop once the error changes by less than this share.

    Raises:
        InvalidError: If an argument is out of range, or too few points are matched.

    Source: Besl and McKay, A method for registration of 3-D shapes, 1992; Chen and Medioni, Object modelling by
    registration of multiple range images, 1992 (planes); Chetverikov et al., The trimmed iterative closest point
    algorithm, 2002.
    """
    fixed, moving = _points("fixed", fixed), _points("moving", moving)
    if constraint not in _LEAST:
        raise unknown("constraint", constraint, _LEAST)
    if not 0 <= trim < 1:
        raise invalid("trim", "a share of at least 0 and below 1", trim)
    if normals is not None:
        normals = _unit_normals(normals, moving, constraint)
    matrix = _centroids(fixed, moving) if start is None else np.array(start, dtype=np.float64)
    tree, error = cKDTree(moving), np.inf
    done = 0
    while done < iterations:
        done += 1
        mapped = fixed @ matrix[:3, :3].T + matrix[:3, 3]
        distance, nearest = tree.query(mapped, distance_upper_bound=max_distance)
        matched = np.flatnonzero(np.isfinite(distance))
        if trim:
            kept = int(np.ceil((1 - trim) * matched.size))
            matched = matched[np.argsort(distance[matched], kind="stable")[:kept]]
        if matched.size < _LEAST[constraint]:
            advice = "Raise max_distance, lower trim, or start nearer."
            raise invalid("matches", f"at least {_LEAST[constraint]}", matched.size, advice)
        goal = moving[nearest[matched]]
        if normals is None:
            matrix = fit_matrix(fixed[matched], goal, constraint)
        else:
            matrix = _to_planes(mapped[matched], goal, normals[nearest[matched]]) @ matrix
        before, error = error, float(np.sqrt(np.mean(distance[matched] ** 2)))
        if abs(before - error) <= tolerance * max(error, 1e-12):
            break
    return PointResult(Transform.linear(matrix), error, matched.size / len(fixed), done)


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
    return _about(_linear(cross, spread, constraint), *centres)


def _linear(cross: np.ndarray, spread: np.ndarray, constraint: str) -> np.ndarray:
    """Returns the linear part from the moments `sum b a^T` and `sum a a^T` about the centres."""
    if constraint == "affine":
        return np.linalg.lstsq(spread, cross.T, rcond=None)[0].T
    left, singular, right = np.linalg.svd(cross)
    signs = np.ones(3)
    signs[-1] = np.sign(np.linalg.det(left @ right))
    rotation = (left * signs) @ right
    return rotation if constraint == "rigid" else rotation * (singular @ signs) / np.trace(spread)


def _about(linear: np.ndarray, from_centre: np.ndarray, to_centre: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, to_centre - linear @ from_centre
    return matrix


def _to_planes(mapped: np.ndarray, goal: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Returns the small rigid motion that brings points nearest to planes, in closed form for small angles."""
    centre = mapped.mean(axis=0)
    rows = np.concatenate([np.cross(mapped - centre, normals), normals], axis=1)
    found = np.linalg.lstsq(rows, ((goal - mapped) * normals).sum(axis=1), rcond=None)[0]
    angle = np.linalg.norm(found[:3])
    axis = found[:3] / max(angle, 1e-300)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    rotation = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return _about(rotation, centre, centre + found[3:])


def cpd(
    fixed: np.ndarray,
    moving: np.ndarray,
    method: Literal["rigid", "similarity", "affine", "deformable"] = "rigid",
    *,
    outliers: float = 0.1,
    beta: float = 20.0,
    lam: float = 3.0,
    iterations: int = 150,
    tolerance: float = 1e-5,
    rank: int = 200,
) -> PointResult:
    """Registers by coherent point drift: the fixed points are centres of a Gaussian mixture that moving points fit.

    Args:
        fixed: Shape (N, 3).
        moving: Shape (M, 3).
        method: `"rigid"`, `"similarity"`, `"affine"` or `"deformable"`.
        outliers: Expected share of moving points without a counterpart, in [0, 1); the weight w of the uniform part.
        beta: Width in mm of the kernel that makes neighbours move together (deformable).
        lam: Weight of the smoothness of the motion (deformable).
        iterations: Most iterations.
        tolerance: Stop once the noise changes by less than this share.
        rank: Eigenvectors of the kernel that are kept above `MOST_EXACT` fixed points (deformable).

    Raises:
        InvalidError: If an argument is out of range.

    Source: Myronenko and Song, Point set registration: coherent point drift, 2010.
    """
    fixed, moving = _points("fixed", fixed), _points("moving", moving)
    if method not in (*_LEAST, "deformable"):
        raise unknown("method", method, (*_LEAST, "deformable"))
    if not 0 <= outliers < 1:
        raise invalid("outliers", "a share of at least 0 and below 1", outliers)
    for name, value in (("beta", beta), ("lam", lam)):
        if not value > 0:
            raise invalid(name, "a number above 0", value)
    centres = fixed.mean(axis=0), moving.mean(axis=0)
    scale = np.sqrt(((moving - centres[1]) ** 2).sum() / len(moving) / 3)  # so that lam means the same in any size
    a, b = (fixed - centres[0]) / scale, (moving - centres[1]) / scale
    update = _Deformable(a, lam, beta / scale, rank) if method == "deformable" else _Linear(a, method)
    mapped, variance = a, _first_variance(a, b)
    done = 0
    while done < iterations:
        done += 1
        p1, pt1, px = _expect(mapped, b, variance, outliers)
        mapped = update(p1, px, variance)
        total = p1.sum()
        spread = pt1 @ (b**2).sum(1) - 2 * (px * mapped).sum() + p1 @ (mapped**2).sum(1)
        before, variance = variance, max(spread / (3 * total), 1e-10)
        if abs(before - variance) <= tolerance * before:
            break
    start = Transform.linear(_about(np.eye(3) / scale, centres[0], np.zeros(3)))
    end = Transform.linear(_about(np.eye(3) * scale, np.zeros(3), centres[1]))
    transform = update.transform(start, end, fixed, beta)
    return PointResult(transform, float(scale * np.sqrt(variance)), float(total / len(moving)), done)


class _Linear:
    """The M-step of a matrix."""

    def __init__(self, points: np.ndarray, constraint: str) -> None:
        self.points, self.constraint, self.matrix = points, constraint, np.eye(4)

    def __call__(self, p1: np.ndarray, px: np.ndarray, variance: float) -> np.ndarray:
        total = p1.sum()
        from_centre, to_centre = p1 @ self.points / total, px.sum(axis=0) / total
        a = self.points - from_centre
        cross = (px - p1[:, None] * to_centre).T @ a
        self.matrix = _about(_linear(cross, (a * p1[:, None]).T @ a, self.constraint), from_centre, to_centre)
        return self.points @ self.matrix[:3, :3].T + self.matrix[:3, 3]

    def transform(self, start: Transform, end: Transform, fixed: np.ndarray, beta: float) -> Transform:
        return Transform.linear(start.then(Transform.linear(self.matrix)).then(end).matrix)


class _Deformable:
    """The M-step of a smooth motion `x + G(x, points) W`, G Gaussian."""

    def __init__(self, points: np.ndarray, lam: float, beta: float, rank: int) -> None:
        self.points, self.lam, self.beta = points, lam, beta
        self.weights = np.zeros_like(points)
        self.basis = _eigenvectors(points, beta, rank) if len(points) > MOST_EXACT else None
        self.kernel = _gaussian(points, points, beta) if self.basis is None else None

    def __call__(self, p1: np.ndarray, px: np.ndarray, variance: float) -> np.ndarray:
        goal, strength = px - p1[:, None] * self.points, self.lam * variance
        if self.basis is None:
            # (diag(p1) G + strength I) W = goal, made symmetric: W = sqrt(p1) V.
            root = np.sqrt(np.maximum(p1, 1e-12))
            system = root[:, None] * self.kernel * root + strength * np.eye(len(root))
            self.weights = root[:, None] * np.linalg.solve(system, goal / root[:, None])
            return self.points + self.kernel @ self.weights
        # The motion is V a, with (V^T diag(p1) V + strength / values) a = V^T goal; W = V (a / values) gives it too.
        vectors, values = self.basis
        system = vectors.T @ (p1[:, None] * vectors) + np.diag(strength / values)
        motion = np.linalg.solve(system, vectors.T @ goal)
        self.weights = vectors @ (motion / values[:, None])
        return self.points + vectors @ motion

    def transform(self, start: Transform, end: Transform, fixed: np.ndarray, beta: float) -> Transform:
        """Samples the motion on a grid around the fixed points, fine enough for its kernel, in mm."""
        step = beta / 4
        low, high = fixed.min(axis=0) - 3 * beta, fixed.max(axis=0) + 3 * beta
        affine = np.diag([step, step, step, 1.0])
        affine[:3, 3] = low
        grid = Grid(tuple(np.ceil((high - low) / step).astype(int) + 1), affine)
        places = grid.coordinates().reshape(-1, 3)
        moved = [self._moved(start.apply_points(part)) for part in _parts(places, _CHUNK // len(self.points) + 1)]
        vectors = start.inverse().apply_points(np.concatenate(moved)) - places
        dense = Transform.from_field(vectors.reshape(*grid.shape, 3), grid)
        return dense.then(Transform.linear(start.then(end).matrix))

    def _moved(self, points: np.ndarray) -> np.ndarray:
        return points + _gaussian(points, self.points, self.beta) @ self.weights


def _gaussian(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-_squared(a, b) / (2 * width**2))


def _eigenvectors(points: np.ndarray, beta: float, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the leading eigenvectors and values of the kernel, by Nystroem's extension of a sample of points."""
    sample = points[np.random.default_rng(0).choice(len(points), min(4 * rank, len(points)), replace=False)]
    inner = _gaussian(sample, sample, beta)
    values, vectors = np.linalg.eigh(inner)
    kept = values > 1e-8 * values[-1]
    half = _gaussian(points, sample, beta) @ (vectors[:, kept] / np.sqrt(values[kept]))
    left, singular, _ = np.linalg.svd(half, full_matrices=False)
    count = min(rank, int((singular**2 > 1e-6 * singular[0] ** 2).sum()))
    return left[:, :count], singular[:count] ** 2


def _expect(mapped: np.ndarray, data: np.ndarray, variance: float, outliers: float) -> tuple:
    """Returns row sums (N,), column sums (M,) and `P data` (N, 3) of the probabilities, by parts of the data."""
    n, m = len(mapped), len(data)
    uniform = (2 * np.pi * variance) ** 1.5 * outliers / (1 - outliers) * n / m
    p1, px, pt1 = np.zeros(n), np.zeros((n, 3)), []
    for part in _parts(data, _CHUNK // n + 1):
        p = np.exp(-_squared(mapped, part) / (2 * variance))
        p /= np.maximum(p.sum(axis=0) + uniform, 1e-300)
        p1 += p.sum(axis=1)
        px += p @ part
        pt1.append(p.sum(axis=0))
    return p1, np.concatenate(pt1), px


def _parts(points: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (points[i : i + size] for i in range(0, len(points), size))


def _first_variance(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a**2).sum() / len(a) + (b**2).sum() / len(b) - 2 * a.mean(0) @ b.mean(0)) / 3)


def _squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T, 0)


def _centroids(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    return _about(np.eye(3), fixed.mean(axis=0), moving.mean(axis=0))


def _points(name: str, points: np.ndarray) -> np.ndarray:
    points = np.asarray(points, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 3 or len(points) < 4:
        raise invalid(name, "at least 4 points, shape (N, 3)", points.shape)
    if not np.isfinite(points).all():
        raise invalid(name, "finite coordinates", "NaN or infinite values")
    return points


def _unit_normals(normals: np.ndarray, moving: np.ndarray, constraint: str) -> np.ndarray:
    normals = np.asarray(normals, dtype=np.float64)
    if normals.shape != moving.shape:
        raise invalid("normals", f"shape {moving.shape}, one for each moving point", normals.shape)
    if constraint != "rigid":
        raise invalid("constraint", "'rigid', where normals are given", f"'{constraint}'")
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)
