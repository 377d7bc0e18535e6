"""Arrays that are read where they are sliced, brought into memory piece by piece: once, and in the type that stays."""

import math
from collections.abc import Iterator
from typing import Literal, Protocol

import numpy as np

_PIECE = 2**22
"""Bytes, as a file stores them, that are worked on at a time."""
Order = Literal["C", "F"]
"""In which order a file has its numbers: the last axis fastest, or the first one."""


class Voxels(Protocol):
    """What is read where it is sliced: an array, a dataset of HDF5, or what another library gives in their place."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def __getitem__(self, places: tuple[slice, ...]) -> np.ndarray:
        """Reads some of them."""


def pieces(voxels: Voxels, order: Order) -> Iterator[np.ndarray]:
    """Reads all, in pieces that are flat and follow each other in the file's order."""
    axes = range(len(voxels.shape)) if order == "C" else reversed(range(len(voxels.shape)))
    chunks = getattr(voxels, "chunks", None)
    for block in _blocks(voxels.shape, [*axes], voxels.dtype.base.itemsize, chunks):
        yield np.asanyarray(voxels[tuple(block.get(axis, slice(None)) for axis in range(len(voxels.shape)))]).ravel(
            order
        )


def _blocks(
    shape: tuple[int, ...], axes: list[int], itemsize: int, chunks: tuple[int, ...] | None
) -> Iterator[dict[int, slice]]:
    """Yields the places of each piece along the axes that it is part of; the slowest axis comes first."""
    axis, *faster = axes
    row = math.prod(shape[each] for each in faster) * itemsize
    if row > _PIECE and faster and not chunks:
        for place in range(shape[axis]):
            yield from ({axis: slice(place, place + 1)} | block for block in _blocks(shape, faster, itemsize, None))
        return
    chunk = chunks[axis] if chunks else 1  # of HDF5, which is read whole, and should be once
    step = max(1, _PIECE // max(row * chunk, 1)) * chunk
    yield from ({axis: slice(start, start + step)} for start in range(0, shape[axis], step))


def filled(voxels: Voxels, order: Order, dtype: np.dtype) -> np.ndarray:
    """Returns all in a type, read into the memory that they stay in."""
    flat, done = np.empty(math.prod(voxels.shape), dtype), 0
    for piece in pieces(voxels, order):
        flat[done : done + piece.size] = piece
        done += piece.size
    return flat.reshape(voxels.shape, order=order)
