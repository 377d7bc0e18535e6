"""Displacement and velocity fields in voxels: shape (B, *S, D), component d along axis d, float32."""

import math
from collections.abc import Sequence

import numpy as np
from keras import ops

from regzoo import backend
from regzoo.backend import Tensor
from regzoo.errors import invalid
from regzoo.ops.filters import along_axes, difference, interpolation_matrix
from regzoo.ops.warping import warp


def _field(field: Tensor) -> Tensor:
    return ops.convert_to_tensor(field, dtype="float32")


def compose(outer: Tensor, inner: Tensor) -> Tensor:
    """Returns the field of doing `inner`, then `outer`: `x -> inner(x) + outer(x + inner(x))`.

    Args:
        outer: Shape (B, *S_outer, D).
        inner: Shape (B, *S, D).

    Returns:
        Shape (B, *S, D).

    Example:
        >>> one, two = np.full((1, 4, 1), 1.0), np.full((1, 4, 1), 2.0)
        >>> ops.convert_to_numpy(compose(one, two))[0, :, 0].tolist()
        [3.0, 3.0, 3.0, 3.0]
    """
    inner = _field(inner)
    return inner + warp(_field(outer), inner)


def integrate(velocity: Tensor, steps: int = 7) -> Tensor:
    """Integrates a stationary velocity field over unit time by scaling and squaring.

    Args:
        velocity: Voxels per unit time, shape (B, *S, D). Its negation gives the inverse displacement.
        steps: Number of squarings; the first step is `velocity / 2**steps`.

    Returns:
        Displacement field, shape (B, *S, D).

    Example:
        >>> ops.convert_to_numpy(integrate(np.full((1, 4, 1), 0.5)))[0, :, 0].tolist()
        [0.5, 0.5, 0.5, 0.5]

    Source: Arsigny et al., A log-Euclidean framework for statistics on diffeomorphisms, 2006.
    """
    return backend.repeat(_squared, steps, _field(velocity) / 2**steps)


def _squared(ddf: Tensor) -> Tensor:
    return compose(ddf, ddf)


def invert(ddf: Tensor, iterations: int = 20) -> tuple[Tensor, Tensor]:
    """Inverts a displacement field, `v(x) = -ddf(x + v(x))`, by fixed-point iteration whose step is halved on growth.

    Args:
        ddf: Shape (B, *S, D).
        iterations: How many; a field that folds has no inverse, and its residual stays.

    Returns:
        The inverse, shape (B, *S, D), and its residual, the largest `|v(x) + ddf(x + v(x))|` in voxels, shape (B,).

    Example:
        >>> inverse, residual = invert(np.full((1, 4, 1), 0.5))
        >>> ops.convert_to_numpy(inverse)[0, :, 0].tolist(), float(residual[0])
        ([-0.5, -0.5, -0.5, -0.5], 0.0)

    Source: Chen et al., A simple fixed-point approach to invert a deformation field, 2008; where the field stretches
        more than twofold, the whole step would lead away.
    """
    ddf = _field(ddf)
    dims, start = ddf.shape[-1], -ddf
    found = ops.concatenate([start, compose(ddf, start), ops.ones_like(ddf[..., :1])], axis=-1)
    found = backend.repeat(_nearer, iterations, found, ddf)
    gap = ops.sqrt(ops.sum(ops.square(found[..., dims:-1]), axis=-1))
    return found[..., :dims], ops.max(gap, axis=tuple(range(1, len(gap.shape))))


def _nearer(found: Tensor, ddf: Tensor) -> Tensor:
    """Returns the inverse, its error `v(x) + ddf(x + v(x))` and the step, all along the channels, after a step."""
    dims = ddf.shape[-1]
    inverse, error, step = found[..., :dims], found[..., dims:-1], found[..., -1:]
    trial = inverse - step * error
    there = compose(ddf, trial)
    better = ops.sum(ops.square(there), axis=-1, keepdims=True) < ops.sum(ops.square(error), axis=-1, keepdims=True)
    kept = ops.where(better, ops.concatenate([trial, there], axis=-1), found[..., :-1])
    return ops.concatenate([kept, ops.where(better, step, step / 2)], axis=-1)


def resize_field(field: Tensor, shape: Sequence[int]) -> Tensor:
    """Resizes a field linearly to another grid over the same region, vectors rescaled to the new voxels.

    Args:
        field: Shape (B, *S, D).
        shape: New spatial shape. Voxel edges, not centres, coincide: voxel x sits at `(x + 0.5) * S / shape - 0.5`.

    Returns:
        Shape (B, *shape, D).

    Example:
        >>> ops.convert_to_numpy(resize_field(np.full((1, 2, 1), 1.0), (4,)))[0, :, 0].tolist()  # finer voxels
        [2.0, 2.0, 2.0, 2.0]
    """
    field = _field(field)
    factor = np.array(shape) / np.array(field.shape[1:-1])
    resized = along_axes(field, [_linear(old, new) for old, new in zip(field.shape[1:-1], shape, strict=True)])
    return resized * ops.convert_to_tensor(factor.astype("float32"))


def _linear(old: int, new: int) -> np.ndarray | None:
    return None if old == new else interpolation_matrix((np.arange(new) + 0.5) * old / new - 0.5, old)


def control_positions(length: int, spacing: float) -> np.ndarray:
    """Returns where the control points along an axis are, in voxels: from one spacing before the image to one behind.

    The second one is on the image's edge, at -0.5: in mm, they are the same for an image in any resolution.

    Example:
        >>> control_positions(8, 4.0).tolist()
        [-4.5, -0.5, 3.5, 7.5, 11.5]
    """
    return spacing * (np.arange(math.ceil(length / spacing - 1e-6) + 3) - 1) - 0.5


def bspline_field(control: Tensor, shape: Sequence[int], spacing: Sequence[float]) -> Tensor:
    """Returns the cubic B-spline field of control points: a free-form deformation.

    Args:
        control: Displacements of the control points in voxels, shape (B, *N, D), N as `control_positions` has.
        shape: Spatial shape of the field.
        spacing: Voxels between control points along each axis, D values above 0.

    Returns:
        Shape (B, *shape, D). Control points that all move alike move every voxel alike.

    Raises:
        ValueError: If the control points do not span the grid.

    Example:
        >>> field = bspline_field(np.full((1, 5, 1), 2.0), (8,), (4.0,))
        >>> ops.convert_to_numpy(field)[0, :, 0].round(4).tolist()
        [2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]

    Source: Rueckert et al., Nonrigid registration using free-form deformations, 1999, eq. 2.
    """
    control = _field(control)
    positions = [control_positions(n, each) for n, each in zip(shape, spacing, strict=True)]
    if tuple(control.shape[1:-1]) != tuple(len(each) for each in positions):
        expected = f"shape (B, {', '.join(str(len(each)) for each in positions)}, D) for a grid {tuple(shape)}"
        raise invalid("control", expected, tuple(control.shape))
    offsets = [(np.arange(n)[:, None] - x) / s for n, x, s in zip(shape, positions, spacing, strict=True)]
    return along_axes(control, [cubic_bspline(offset) for offset in offsets])


def cubic_bspline(x: np.ndarray) -> np.ndarray:
    """Returns the cubic B-spline, which is 0 from |x| = 2 on.

    Example:
        >>> cubic_bspline(np.array([0.0, 1.0, 2.0])).round(4).tolist()
        [0.6667, 0.1667, 0.0]
    """
    x = np.abs(x)
    return np.where(x < 1, 2 / 3 - x**2 + x**3 / 2, np.maximum(2 - x, 0) ** 3 / 6)


def jacobian_determinant(ddf: Tensor) -> Tensor:
    """Returns how much volume changes: det(I + dddf/dx), by central differences (one-sided at the border).

    The value is the same in voxels and in millimetres, whatever the spacing.

    Args:
        ddf: Shape (B, *S, D), D of 2 or 3.

    Returns:
        Shape (B, *S); below 0 where the field folds.

    Example:
        >>> along = np.meshgrid([0.0, 0.5, 1.0], [0.0, 0.0, 0.0], indexing="ij")  # stretched along axis 0
        >>> ddf = np.stack(along, axis=-1)[None]
        >>> ops.convert_to_numpy(jacobian_determinant(ddf))[0, 1].tolist()
        [1.5, 1.5, 1.5]
    """
    ddf = _field(ddf)
    return determinant([difference(ddf, axis) for axis in range(ddf.shape[-1])])


def determinant(slopes: Sequence[Tensor]) -> Tensor:
    """Returns det(I + dddf/dx) from a field's derivatives.

    Args:
        slopes: The derivative along each of the D axes, D of 2 or 3, shape (B, *S, D) each.

    Returns:
        Shape (B, *S).

    Example:
        >>> still = np.zeros((1, 2, 2, 2), "float32")
        >>> ops.convert_to_numpy(determinant([still, still])).tolist()
        [[[1.0, 1.0], [1.0, 1.0]]]
    """
    dims, j = len(slopes), [_field(each) for each in slopes]
    m = [[j[b][..., a] + float(a == b) for b in range(dims)] for a in range(dims)]
    if dims == 2:
        return m[0][0] * m[1][1] - m[0][1] * m[1][0]
    return (
        m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1])
        - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
        + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0])
    )
