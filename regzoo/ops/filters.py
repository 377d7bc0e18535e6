"""Separable linear operators on grids: one small matrix an axis smooths, shifts or resizes; differences; float32."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from keras import ops

from regzoo.backend import Tensor
from regzoo.errors import invalid, unknown

Window = Literal["box", "triangular", "gaussian"]
Kernel = Literal["gaussian", "cauchy"]


def along_axes(x: Tensor, matrices: Sequence[np.ndarray | None]) -> Tensor:
    """Applies one matrix along each spatial axis.

    Args:
        x: Shape (B, *S, C).
        matrices: One for each spatial axis, shape (n_out, n_in); `None` leaves the axis alone.

    Returns:
        Shape (B, *S_out, C).

    Example:
        >>> x = np.arange(3.0).reshape(1, 3, 1)
        >>> ops.convert_to_numpy(along_axes(x, [np.eye(3)[::-1]]))[0, :, 0].tolist()
        [2.0, 1.0, 0.0]
    """
    x = ops.moveaxis(ops.convert_to_tensor(x, dtype="float32"), -1, 1)  # or the last axis would have strides of C
    for axis, matrix in enumerate(matrices, start=2):
        if matrix is not None:
            x = _along(x, matrix.astype("float32"), axis)
    return ops.moveaxis(x, 1, -1)


def _along(x: Tensor, matrix: np.ndarray, axis: int) -> Tensor:
    shape = list(x.shape)
    batch = ops.shape(x)[0]
    before, after = int(np.prod(shape[1:axis])), int(np.prod(shape[axis + 1 :]))
    out = (batch, *shape[1:axis], matrix.shape[0], *shape[axis + 1 :])
    if after == 1:  # one product of two large matrices, where the other way has one of a matrix and a vector a row
        rows = ops.reshape(x, (batch * before, shape[axis]))
        return ops.reshape(ops.matmul(rows, ops.convert_to_tensor(np.ascontiguousarray(matrix.T))), out)
    # (n_out, n_in) @ (B * before, n_in, after): no transposes.
    rows = ops.reshape(x, (batch * before, shape[axis], after))
    return ops.reshape(ops.matmul(ops.convert_to_tensor(matrix), rows), out)


def window_matrix(length: int, size: int, window: Window = "box") -> np.ndarray:
    """Returns the matrix that averages a window along an axis, over the voxels inside the image only.

    Args:
        length: Voxels along the axis.
        size: Window width in voxels, odd.
        window: `"box"`; `"triangular"` (zero one voxel outside); `"gaussian"` (standard deviation `size / 6`, so that
            the window spans three of them on either side).

    Returns:
        Shape (length, length); every row sums to 1.

    Raises:
        ValueError: If `size` is even or less than 1, or `window` is unknown.

    Example:
        >>> window_matrix(3, 3).round(2).tolist()
        [[0.5, 0.5, 0.0], [0.33, 0.33, 0.33], [0.0, 0.5, 0.5]]
    """
    if size < 1 or size % 2 == 0:
        raise invalid("size", "an odd number of voxels of at least 1", size)
    offset = np.abs(np.arange(length)[:, None] - np.arange(length)[None, :])
    half = (size - 1) // 2
    shapes = {
        "box": np.ones_like(offset, dtype="float64"),
        "triangular": half + 1.0 - offset,
        "gaussian": np.exp(-0.5 * (offset / (size / 6.0)) ** 2),
    }
    if window not in shapes:
        raise unknown("window", window, shapes)
    weights = np.where(offset <= half, shapes[window], 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def smooth(x: Tensor, size: int, window: Window = "box") -> Tensor:
    """Averages a window around every voxel, over the voxels inside the image only.

    Args:
        x: Shape (B, *S, C).
        size: Window width in voxels, odd.
        window: `"box"`, `"triangular"` or `"gaussian"`; see `window_matrix`.

    Returns:
        Shape (B, *S, C).

    Example:
        >>> x = np.array([0.0, 3.0, 0.0]).reshape(1, 3, 1)
        >>> ops.convert_to_numpy(smooth(x, 3))[0, :, 0].tolist()
        [1.5, 1.0, 1.5]
    """
    return along_axes(x, [window_matrix(length, size, window) for length in x.shape[1:-1]])


def blur_matrix(length: int, sigma: float, kernel: Kernel = "gaussian") -> np.ndarray:
    """Returns the matrix that blurs along an axis, with zeros outside the image.

    Args:
        length: Voxels along the axis.
        sigma: Width in voxels, above 0.
        kernel: `"gaussian"` (standard deviation `sigma`, cut at `3 * sigma`) or `"cauchy"` (`1 / (1 + (x / sigma)^2)`,
            half as high at `sigma`, cut at `5 * sigma`).

    Returns:
        Shape (length, length); rows whose kernel lies inside the image sum to 1.

    Raises:
        ValueError: If `kernel` is unknown.

    Example:
        >>> blur_matrix(7, 1.0)[3].round(3).tolist()
        [0.004, 0.054, 0.242, 0.399, 0.242, 0.054, 0.004]
    """
    shapes = {"gaussian": (3, lambda x: np.exp(-0.5 * x**2)), "cauchy": (5, lambda x: 1 / (1 + x**2))}
    if kernel not in shapes:
        raise unknown("kernel", kernel, shapes)
    tail, shape = shapes[kernel]
    reach = int(tail * sigma)
    offset = np.abs(np.arange(length)[:, None] - np.arange(length)[None, :])
    weights = np.where(offset <= reach, shape(offset / sigma), 0.0)
    return weights / shape(np.arange(-reach, reach + 1) / sigma).sum()


def blur(x: Tensor, sigma: float, kernel: Kernel = "gaussian") -> Tensor:
    """Blurs along every axis, with zeros outside the image.

    Args:
        x: Shape (B, *S, C).
        sigma: Width in voxels, the same along every axis; 0 leaves `x` as it is.
        kernel: `"gaussian"` or `"cauchy"`; see `blur_matrix`.

    Returns:
        Shape (B, *S, C).

    Raises:
        ValueError: If `sigma` is negative or `kernel` is unknown.

    Example:
        >>> x = np.ones((1, 9, 1))
        >>> float(ops.convert_to_numpy(blur(x, 1.0))[0, 4, 0].round(4))
        1.0
    """
    if sigma < 0:
        raise invalid("sigma", "a width in voxels of at least 0", sigma)
    lengths = x.shape[1:-1]
    return along_axes(x, [blur_matrix(length, sigma, kernel) if sigma else None for length in lengths])


def interpolation_matrix(places: np.ndarray, length: int) -> np.ndarray:
    """Returns the matrix that samples an axis linearly, edge values outside.

    Args:
        places: Voxel coordinates, shape (N,).
        length: Voxels along the axis.

    Returns:
        Shape (N, length), for `along_axes`.

    Example:
        >>> interpolation_matrix(np.array([0.25, 9.0]), 3).tolist()
        [[0.75, 0.25, 0.0], [0.0, 0.0, 1.0]]
    """
    places = np.clip(places, 0, length - 1)
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(length)[None, :]))


def shift(x: Tensor, axis: int, step: int) -> Tensor:
    """Returns `x` at the voxel `step` further along a spatial axis; outside the image, its edge is repeated.

    Args:
        x: Shape (B, *S, C).
        axis: Spatial axis, from 0.
        step: Voxels, of either sign.

    Returns:
        Shape (B, *S, C).

    Example:
        >>> x = np.arange(3.0).reshape(1, 3, 1)
        >>> ops.convert_to_numpy(shift(x, 0, 1))[0, :, 0].tolist()
        [1.0, 2.0, 2.0]
    """
    length = x.shape[axis + 1]
    source = np.clip(np.arange(length) + step, 0, length - 1)
    matrices = [None] * (len(x.shape) - 2)
    matrices[axis] = np.eye(length)[source]
    return along_axes(x, matrices)


def forward_difference(x: Tensor, axis: int) -> Tensor:
    """Returns each voxel's difference to the next one along a spatial axis; unlike `difference`, it sees every wave.

    Args:
        x: Shape (B, *S, C).
        axis: Spatial axis, from 0.

    Returns:
        One value fewer along the axis; along an axis of length 1, one zero.

    Example:
        >>> x = np.array([0.0, 1.0, 4.0]).reshape(1, 3, 1)
        >>> ops.convert_to_numpy(forward_difference(x, 0))[0, :, 0].tolist()
        [1.0, 3.0]
    """
    x = ops.convert_to_tensor(x, dtype="float32")
    before = (slice(None),) * (axis + 1)
    if x.shape[axis + 1] == 1:
        return ops.zeros_like(x)
    return x[(*before, slice(1, None))] - x[(*before, slice(None, -1))]


def difference(x: Tensor, axis: int) -> Tensor:
    """Returns the derivative along a spatial axis per voxel: central inside, one-sided at both ends (`np.gradient`).

    Args:
        x: Shape (B, *S, C).
        axis: Spatial axis, from 0.

    Returns:
        Shape (B, *S, C); zero along an axis of length 1.

    Example:
        >>> x = np.array([0.0, 1.0, 4.0]).reshape(1, 3, 1)
        >>> ops.convert_to_numpy(difference(x, 0))[0, :, 0].tolist()
        [1.0, 2.0, 3.0]
    """
    x = ops.convert_to_tensor(x, dtype="float32")
    axis += 1
    length = x.shape[axis]
    if length == 1:
        return ops.zeros_like(x)

    def part(start: int, stop: int) -> Tensor:
        return x[(slice(None),) * axis + (slice(start, stop),)]

    first, last = part(1, 2) - part(0, 1), part(length - 1, length) - part(length - 2, length - 1)
    inside = [] if length == 2 else [(part(2, length) - part(0, length - 2)) / 2]
    return ops.concatenate([first, *inside, last], axis=axis)
