"""Coherent point drift."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from regzoo.errors import invalid, unknown
from regzoo.points.matrices import DIMENSIONS, PointResult, check_positive, checked_set, linear_part
from regzoo.world.images import Grid
from regzoo.world.matrices import about, map_points
from regzoo.world.transforms import Transform

OUTLIERS = 0.1
"""Default share of outliers."""
LAM = 10.0
"""Default weight of smoothness: sound on surfaces of lungs and of hippocampi (tests/benchmarks/points.py)."""
MOST_EXACT = 5000
"""Fixed points up to which the deformable kernel is kept whole."""
_CHUNK = 2**23  # probabilities held at a time: 64 MB
_MOST_VOXELS = 2**22  # of the grid on which a deformable result is kept: 50 MB


def cpd(
    fixed: np.ndarray,
    moving: np.ndarray,
    method: Literal["rigid", "similarity", "affine", "deformable"] = "rigid",
    *,
    outliers: float = OUTLIERS,
    beta: float | None = None,
    lam: float = LAM,
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
        beta: Width in mm of the kernel that makes neighbours move together (deformable). None: twice the standard
            deviation of the fixed points along an axis, about the half of what they span.
        lam: Weight of the smoothness of the motion (deformable).
        iterations: Most iterations.
        tolerance: Stop once the noise changes by less than this share.
        rank: Eigenvectors of the kernel that are kept above `MOST_EXACT` fixed points (deformable).

    Raises:
        InvalidError: If an argument is out of range.

    Source: Myronenko and Song, Point set registration: coherent point drift, 2010.
    """
    if method not in DIMENSIONS:
        raise unknown("method", method, DIMENSIONS)
    fixed, moving = checked_set("fixed", fixed, method), checked_set("moving", moving, method)
    if not 0 <= outliers < 1:
        raise invalid("outliers", "a share of at least 0 and below 1", outliers)
    beta = default_beta(fixed) if beta is None else beta
    check_positive(beta=beta, lam=lam, iterations=iterations, rank=rank)
    grid = _grid_around(fixed, beta) if method == "deformable" else None
    # Each set about its centre and in its own size, so that sets of different units start on each other and lam means
    # the same in any unit; a rigid matrix must keep one size.
    centres, scales = (fixed.mean(axis=0), moving.mean(axis=0)), [size_of(fixed), size_of(moving)]
    if method == "rigid":
        scales[0] = scales[1]
    a, b = ((part - centre) / scale for part, centre, scale in zip((fixed, moving), centres, scales, strict=True))
    update = _Deformable(a, lam, beta / scales[0], rank) if method == "deformable" else _Linear(a, method)
    mapped, variance = a, _first_variance(a, b)
    for done in range(1, iterations + 1):  # noqa: B007
        p1, pt1, px = _expect(mapped, b, variance, outliers)
        total = p1.sum()
        if total < 1e-6 * len(moving):
            raise invalid("moving", "points that match some fixed ones", "outliers only", "Lower outliers.")
        mapped = update(p1, px, variance)
        spread = pt1 @ (b**2).sum(1) - 2 * (px * mapped).sum() + p1 @ (mapped**2).sum(1)
        before, variance = variance, max(spread / (3 * total), 1e-10)
        if abs(before - variance) <= tolerance * before:
            break
    transform = _transform(update, grid, centres, scales)
    return PointResult(transform, float(scales[1] * np.sqrt(variance)), float(total / len(moving)), done)


def _transform(
    update: _Linear | _Deformable, grid: Grid | None, centres: tuple[np.ndarray, np.ndarray], scales: list[float]
) -> Transform:
    """Returns what was found between the points as they were, of which each set was moved and scaled."""
    start = about(np.eye(3) / scales[0], centres[0], np.zeros(3))
    end = about(np.eye(3) * scales[1], np.zeros(3), centres[1])
    if grid is None:
        return Transform.linear(end @ update.matrix @ start)
    axes = [
        (grid.affine[d, 3] + grid.affine[d, d] * np.arange(grid.shape[d]) - centres[0][d]) / scales[0] for d in range(3)
    ]
    return Transform.from_field(scales[0] * update.motion(axes), grid).then(Transform.linear(end @ start))


def default_beta(points: np.ndarray) -> float:
    """Returns the kernel's default width: twice the standard deviation of points (N, 3), in their unit.

    It goes with their size, because a width that suits a hippocampus tears a lung.
    """
    return 2 * size_of(np.asarray(points, dtype=np.float64))


class _Linear:
    """The M-step of a matrix."""

    def __init__(self, points: np.ndarray, constraint: str) -> None:
        self.points, self.constraint, self.matrix = points, constraint, np.eye(4)

    def __call__(self, p1: np.ndarray, px: np.ndarray, variance: float) -> np.ndarray:
        total = p1.sum()
        from_centre, to_centre = p1 @ self.points / total, px.sum(axis=0) / total
        a = self.points - from_centre
        cross = (px - p1[:, None] * to_centre).T @ a
        self.matrix = about(linear_part(cross, (a * p1[:, None]).T @ a, self.constraint), from_centre, to_centre)
        return map_points(self.matrix, self.points)


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

    def motion(self, axes: list[np.ndarray]) -> np.ndarray:
        """Returns the motion on the lattice of three axes, shape (I, J, K, 3): the Gaussian is a product over them."""
        x, y, z = (_gaussian_1d(axis, self.points[:, d], self.beta) for d, axis in enumerate(axes))
        last = (z.T[:, :, None] * self.weights[:, None]).reshape(len(self.weights), -1)
        return np.stack([(y * row) @ last for row in x]).reshape(len(x), len(y), len(z), 3)


def _grid_around(points: np.ndarray, beta: float) -> Grid:
    """Returns a grid along R, A, S, fine enough for a kernel of width `beta` and wide enough for it to fade."""
    low, high = points.min(axis=0) - 3 * beta, points.max(axis=0) + 3 * beta
    for part in (8, 4):  # linear interpolation at beta / 4 cost 0.1 mm of 0.4 on lungs that move by 15
        step = beta / part
        shape = np.ceil((high - low) / step) + 1
        if shape.prod() <= _MOST_VOXELS:
            break
    if shape.prod() > _MOST_VOXELS:
        extent = np.ptp(points, axis=0).max()
        raise invalid("beta", f"a width in mm that suits points {extent:.3g} mm apart", beta, "Raise it.")
    return Grid(tuple(shape.astype(int)), about(step * np.eye(3), np.zeros(3), low))


def size_of(points: np.ndarray) -> float:
    """Returns the standard deviation of points about their centre, along one axis in the mean."""
    return float(np.sqrt(((points - points.mean(axis=0)) ** 2).mean()))


def _gaussian_1d(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-((a[:, None] - b[None]) ** 2) / (2 * width**2))


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
