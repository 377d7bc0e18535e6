"""What can be seen of a registration without labels: of each voxel, and of the pair. More of it is worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from keras import ops
from scipy import ndimage

from regzoo.ops.descriptors import self_similarity
from regzoo.world.images import Image
from regzoo.world.jacobians import central_determinant
from regzoo.world.matrices import map_points
from regzoo.world.resampling import sample_points
from regzoo.world.transforms import Transform
from regzoo.world.views import to_batch

_WINDOW = 7  # voxels
_FLAT = 1e-3  # of an image's variance
_DARK = 0.1  # of black to white: below, there is no anatomy
_SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True, eq=False)
class Asked:
    """A pair as it was compared, and how other answers differ from the one that was given.

    Args:
        fixed: In [0, 1], on the grid on which all is compared.
        moving: In [0, 1], on a grid of its own.
        dims: 2 where slices were registered, each alone.
        differences: Of other answers for the same pair, (I, J, K, 3) in mm.
        remaining: How the moved image would be moved still, (I, J, K, 3) in mm; None: not at all.
        mirror: By how much the moving image's mirror image leaves less of a residual (LNCC) than itself.
        anatomy: Where the anatomy is, bool; None: where the fixed image is not dark.
    """

    fixed: Image
    moving: Image
    dims: int = 3
    differences: Sequence[np.ndarray] = ()
    remaining: np.ndarray | None = None
    mirror: float = 0.0
    anatomy: np.ndarray | None = None

    @property
    def inside(self) -> np.ndarray:
        """Where the error is judged; everywhere, if no anatomy is seen."""
        found = self.fixed.array > _DARK if self.anatomy is None else self.anatomy
        return found if found.any() else np.ones(self.fixed.shape, bool)


@dataclass(frozen=True, eq=False)
class Evidence:
    """What was seen.

    Args:
        asked: What was compared.
        voxels: Of each voxel, (I, J, K) each, larger is worse.
        pair: Of the pair, larger is worse.
        looks: What each image looks like, (2, N); see `looks`.
    """

    asked: Asked
    voxels: dict[str, np.ndarray]
    pair: dict[str, float]
    looks: np.ndarray = field(repr=False)


def evidence(asked: Asked, transform: Transform, start: Transform) -> Evidence:
    """Gathers what speaks against a registration.

    Args:
        asked: The pair as it was compared.
        transform: What the registration gave, from fixed to moving space.
        start: What it started from.

    Returns:
        Of each voxel: `disagreement`, how far the other answers lie from this one, mm; `remaining`, how far it would be
        moved once more, mm; `lncc` and `mind`, how little the images match there, 0 to 1; `stretch`, `|log J|`;
        `bending`, mm that no linear map explains; `flatness`, how little structure the fixed image has; `unseen`, 1
        where the moving image shows nothing. Of the pair: means
        of these inside the anatomy and what else there is.
    """
    grid, inside = asked.fixed.grid, asked.inside
    vectors = transform.displacement(grid).astype("float32")
    points = grid.coordinates().reshape(*grid.shape, 3) + vectors
    moved = sample_points(asked.moving, points).astype("float32")
    unseen = sample_points(Image(np.ones(asked.moving.shape, "float32"), asked.moving.affine), points) < 0.5
    pair, bent = _linear_figures(points, start, asked, inside)
    stretch = np.abs(np.log(np.clip(central_determinant(vectors, grid), 0.05, 20)))
    voxels = {
        "disagreement": _soft(_apart(asked, asked.differences), asked.dims),
        "remaining": _soft(_apart(asked, [] if asked.remaining is None else [asked.remaining]), asked.dims),
        "lncc": lncc_residual(asked.fixed.array, moved, asked.dims),
        "mind": _mind_residual(asked.fixed.array, moved, asked.dims),
        "stretch": _soft(stretch, asked.dims),
        "bending": bent,
        "flatness": -np.log(_soft(_slope(asked.fixed.array, asked.dims), asked.dims) + 1e-3),
        "unseen": unseen.astype("float32"),
    }
    pair |= {name: float(values[inside].mean()) for name, values in voxels.items()}
    for name in ("disagreement", "remaining"):
        pair[f"{name}_most"] = float(np.percentile(voxels[name][inside], 95))
    pair["lncc_most"] = float(np.percentile(voxels["lncc"][inside], 90))
    pair["mirror"] = asked.mirror
    return Evidence(asked, voxels, pair, np.stack([looks(asked.fixed.array), looks(asked.moving.array)]))


def looks(array: np.ndarray) -> np.ndarray:
    """Returns what an image looks like to a network: its share of the view, brightness, slopes and grain; (8,).

    Args:
        array: In [0, 1], 0 around the image.
    """
    lit = array[array > 0]
    if lit.size < 100:
        return np.zeros(3 + len(_SHARES))
    spread = lit.std() + 1e-3
    grain = np.abs(array - ndimage.uniform_filter(array, 3))[array > 0].mean() / spread
    slope = _slope(array, 3)[array > 0].mean() / spread
    return np.array([lit.size / array.size, *np.quantile(lit, _SHARES), slope, grain])


def lncc_residual(fixed: np.ndarray, moved: np.ndarray, dims: int) -> np.ndarray:
    """Returns 1 less the squared correlation around each voxel, 0 where images (I, J, K) match, 1 where they do not."""
    size = _size(fixed.shape, dims, _WINDOW)
    one, two = (each.astype("float32") - each.mean() for each in (fixed, moved))
    means = [ndimage.uniform_filter(each, size) for each in (one, two, one * one, two * two, one * two)]
    spread = [np.maximum(means[2 + i] - means[i] ** 2, _FLAT * each.var() + 1e-8) for i, each in enumerate((one, two))]
    shared = means[4] - means[0] * means[1]
    # One that falls where the other rises is no match: networks see one contrast, and so do methods but by MIND.
    return 1 - np.clip(np.sign(shared) * shared**2 / (spread[0] * spread[1]), 0, 1)


def _mind_residual(fixed: np.ndarray, moved: np.ndarray, dims: int) -> np.ndarray:
    batches = (to_batch(each[..., None].astype("float32"), dims) for each in (fixed, moved))
    (one, content), (two, other) = (self_similarity(each, 2, 2, 1e-3) for each in batches)
    difference = ops.mean(ops.square(one - two), axis=-2) * ops.maximum(content, other)
    found = ops.convert_to_numpy(difference)[..., 0]
    return found[0] if dims == 3 else np.moveaxis(found, 0, 2)


def _apart(asked: Asked, differences: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the root mean square of differences, mm."""
    squares = [np.sum(each.astype("float32") ** 2, axis=-1) for each in differences]
    return np.sqrt(np.mean(squares, axis=0)) if squares else np.zeros(asked.fixed.shape, "float32")


def _linear_figures(
    points: np.ndarray, start: Transform, asked: Asked, inside: np.ndarray
) -> tuple[dict[str, float], np.ndarray]:
    """Returns how much the best linear map inside the anatomy turns, scales and shifts, and what it leaves, mm."""
    before = start.displacement(asked.fixed.grid) + asked.fixed.grid.coordinates().reshape(points.shape)
    chosen = np.flatnonzero(inside)
    chosen = chosen[:: max(1, len(chosen) // 5000)]
    x, y = before.reshape(-1, 3)[chosen], points.reshape(-1, 3)[chosen]
    middle = x.mean(axis=0)
    full = np.column_stack([x - middle, np.ones(len(x))])
    solved = np.linalg.lstsq(full, y, rcond=1e-3)[0].T
    left, sizes, right = np.linalg.svd(solved[:, :3])
    turn = np.degrees(np.arccos(np.clip((np.trace(left @ right) - 1) / 2, -1, 1)))
    known = sizes[: asked.dims].clip(0.05, 20)
    matrix = np.eye(4)
    matrix[:3] = np.column_stack([solved[:, :3], solved[:, 3] - solved[:, :3] @ middle])
    bent = np.linalg.norm(points - map_points(matrix, before), axis=-1).astype("float32")
    shift = float(np.linalg.norm(solved[:, 3] - middle))
    return {"turn": float(turn), "scale": float(np.abs(np.log(known)).max()), "shift": shift}, bent


def _slope(array: np.ndarray, dims: int) -> np.ndarray:
    axes = [axis for axis in range(dims) if array.shape[axis] > 1]
    return np.sqrt(sum(np.gradient(array.astype("float32"), axis=axis) ** 2 for axis in axes))


def _soft(array: np.ndarray, dims: int) -> np.ndarray:
    return ndimage.uniform_filter(array.astype("float32"), _size(array.shape, dims, 5))


def _size(shape: Sequence[int], dims: int, width: int) -> list[int]:
    return [width if n > 1 and axis < dims else 1 for axis, n in enumerate(shape)]
