"""One sampler, and the warp made of it."""

import itertools
from typing import Literal

import keras
import numpy as np
from keras import ops

from regzoo import backend
from regzoo.backend import Tensor
from regzoo.errors import invalid, unknown
from regzoo.ops.grids import voxel_places

Boundary = Literal["edge", "zero"]
Method = Literal["linear", "nearest"]


def sample(image: Tensor, coordinates: Tensor, boundary: Boundary = "edge", method: Method = "linear") -> Tensor:
    """Reads an image at any coordinates.

    Args:
        image: Shape (B, *S, C). Integers count as float32 if `method` is `"linear"`.
        coordinates: In voxels of `image`, shape (B, *T, D) or (1, *T, D); component d is along axis d. Read as float32.
        boundary: Value outside the image: `"edge"` (a a | a b c | c c) or `"zero"` (0 0 | a b c | 0 0).
        method: `"linear"`, or `"nearest"` for labels, which keeps the dtype (halves round up).

    Returns:
        Shape (B, *T, C).

    Raises:
        ValueError: If the shapes do not fit, or `boundary` or `method` is unknown.

    On a border between cells the gradient is the slope of one of them; which one, the backend chooses.

    Example:
        >>> image = np.arange(4.0).reshape(1, 4, 1)
        >>> ops.convert_to_numpy(sample(image, [[[0.5], [9.0]]]))[0, :, 0].tolist()
        [0.5, 3.0]

    Source: Jaderberg et al., Spatial transformer networks, 2015, eq. 4. Checked against scipy (`nearest` and
    `grid-constant`).
    """
    image, coordinates = ops.convert_to_tensor(image), ops.convert_to_tensor(coordinates, dtype="float32")
    _check(image, coordinates, boundary, method)
    if method == "linear" and not keras.backend.is_float_dtype(image.dtype):
        image = ops.cast(image, "float32")  # weights cast to integers would all be 0
    if method == "linear" and backend.has_sampler(image):
        return backend.linear_sample(image, coordinates, boundary)
    size = np.array(image.shape[1:-1])
    x = _bounded(coordinates, size, boundary)
    low = ops.floor(x + 0.5) if method == "nearest" else ops.floor(x)
    part, index = x - low, ops.cast(low, "int32")
    flat = ops.reshape(image, (-1, image.shape[-1]))
    corners = [(0,) * len(size)] if method == "nearest" else itertools.product((0, 1), repeat=len(size))
    total = None
    for corner in corners:
        value = _corner(flat, index + ops.convert_to_tensor(corner, dtype="int32"), size, ops.shape(image)[0])
        if method == "nearest" and boundary == "edge":
            return value
        weight = _weight(part, index, corner, size, boundary, method)
        value = value * ops.cast(weight, value.dtype)
        total = value if total is None else total + value
    return total


def check_names(boundary: object, method: object) -> None:
    """Raises InvalidError for a boundary or a method that `sample` does not know."""
    if boundary not in ("edge", "zero"):
        raise unknown("boundary", str(boundary), ("edge", "zero"))
    if method not in ("linear", "nearest"):
        raise unknown("method", str(method), ("linear", "nearest"))


def _check(image: Tensor, coordinates: Tensor, boundary: str, method: str) -> None:
    check_names(boundary, method)
    if coordinates.shape[-1] != len(image.shape) - 2:
        expected = f"shape (B, ..., {len(image.shape) - 2}) for an image {tuple(image.shape)}"
        raise invalid("coordinates", expected, tuple(coordinates.shape))
    batches = image.shape[0], coordinates.shape[0]
    if None not in batches and 1 not in batches and batches[0] != batches[1]:
        raise invalid("coordinates", f"a batch of {batches[0]}, as the image has, or of 1", batches[1])


def _bounded(x: Tensor, size: np.ndarray, boundary: str) -> Tensor:
    """Keeps coordinates within the image (edge) or one voxel around it (zero), so that no index overflows.

    `where` and not `clip`: at a tie, their gradients differ between backends.
    """
    margin = 0.0 if boundary == "edge" else 1.0
    low, high = ops.full_like(x, -margin), ops.ones_like(x) * ops.cast(size - 1 + margin, x.dtype)
    return ops.where(x < low, low, ops.where(x > high, high, x))


def _corner(flat: Tensor, index: Tensor, size: np.ndarray, batch: Tensor) -> Tensor:
    """Gathers (B, *T, C) from the image flattened to (B * prod(S), C)."""
    index = ops.clip(index, 0, ops.convert_to_tensor((size - 1).astype("int32")))
    strides = np.append(np.cumprod(size[:0:-1])[::-1], 1).astype("int32")
    offset = ops.reshape(ops.arange(batch, dtype="int32") * int(np.prod(size)), (-1,) + (1,) * (len(index.shape) - 2))
    return ops.take(flat, ops.sum(index * ops.convert_to_tensor(strides), axis=-1) + offset, axis=0)


def _weight(part: Tensor, index: Tensor, corner: tuple, size: np.ndarray, boundary: str, method: str) -> Tensor:
    weight = ops.ones_like(part[..., :1])
    for axis, up in enumerate(corner):
        if method == "linear":
            weight = weight * (part if up else 1 - part)[..., axis : axis + 1]
        if boundary == "zero":
            at = index[..., axis : axis + 1] + up
            weight = weight * ops.cast((at >= 0) & (at < int(size[axis])), weight.dtype)
    return weight


def warp(image: Tensor, ddf: Tensor, boundary: Boundary = "edge", method: Method = "linear") -> Tensor:
    """Moves an image by a displacement field (pull-back): `moved(x) = image(x + ddf(x))`.

    Args:
        image: Moving image, shape (B, *S_moving, C).
        ddf: Displacement in voxels on the fixed grid, shape (B, *S_fixed, D); component d displaces along axis d.
        boundary: Value outside the image: `"edge"` or `"zero"`.
        method: `"linear"`, or `"nearest"` for labels.

    Returns:
        Moved image, shape (B, *S_fixed, C).

    Raises:
        ValueError: If the last axis of `ddf` is not the number of spatial axes.

    Example:
        >>> image = np.array([0.0, 1.0, 4.0, 9.0], "float32").reshape(1, 4, 1)
        >>> ops.convert_to_numpy(warp(image, np.full((1, 4, 1), 1.0)))[0, :, 0].tolist()
        [1.0, 4.0, 9.0, 9.0]
    """
    ddf = ops.convert_to_tensor(ddf, dtype="float32")
    if ddf.shape[-1] != len(ddf.shape) - 2:
        raise invalid("ddf", f"shape (B, *S, {len(ddf.shape) - 2})", tuple(ddf.shape))
    return sample(image, voxel_places(ddf.shape[1:-1]) + ddf, boundary, method)
