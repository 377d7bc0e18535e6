"""The surfaces of labels, and how far those of two maps are from each other, of all labels at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

_REACH = 2.0
"""Of the smallest voxel size: what is so near is looked up voxel by voxel, at a fifth of the cost of asking a tree."""


_BLOCK, _SLACK = 4, 1e-6
"""Voxels along each axis of a block of which one is asked first; mm, more than rounding makes of a distance."""


def outline(labels: np.ndarray) -> np.ndarray:
    """Returns which voxels of labels but 0 have a face neighbour with another value or outside, bool, same shape.

    Axes of one voxel do not count as faces.
    """
    found = np.zeros(labels.shape, bool)
    for axis, size in enumerate(labels.shape):
        if size > 1:
            along, border = np.moveaxis(labels, axis, 0), np.moveaxis(found, axis, 0)
            differ = along[1:] != along[:-1]
            border[1:] |= differ
            border[:-1] |= differ
            border[[0, -1]] = True
    return found & (labels != 0)


def hd95_of_labels(fixed: np.ndarray, moved: np.ndarray, spacing: Sequence[float]) -> dict[int, float]:
    """Returns `metrics.hd95` of each label that both maps have.

    Args:
        fixed: Integer label map, any shape of n axes.
        moved: Integer label map of the same shape.
        spacing: Voxel size in mm, n numbers.

    Returns:
        Distances in mm by label.
    """
    spacing = np.asarray(spacing, np.float64)
    sides = [_Outlines(labels) for labels in (fixed, moved)]
    shared = sorted(sides[0].groups.keys() & sides[1].groups.keys())
    ways = [_directed(*pair, shared, spacing) for pair in (sides, sides[::-1])]
    return {label: max(way[label] for way in ways) for label in shared}


class _Outlines:
    """The outlines of a label map: their voxels (N, n) and labels (N,), label by label.

    Args:
        labels: The map.
    """

    def __init__(self, labels: np.ndarray) -> None:
        where = outline(labels)
        chosen = np.flatnonzero(where)
        values = labels.ravel()[chosen]
        order = np.argsort(values, kind="stable")
        self.values = values[order]
        self.places = np.stack(np.unravel_index(chosen[order], labels.shape), axis=-1)
        self.map = np.where(where, labels, 0)
        parts = (each.tolist() for each in np.unique(self.values, return_index=True, return_counts=True))
        self.groups = {label: slice(start, start + count) for label, start, count in zip(*parts, strict=True)}


def _directed(start: _Outlines, end: _Outlines, labels: list[int], spacing: np.ndarray) -> dict[int, float]:
    """Returns the 95th percentile of the distances from each voxel of an outline to the nearest of the other's."""
    distances, found = _near(start, end, spacing), {}
    for label in labels:
        own = distances[start.groups[label]]
        far, rank = np.flatnonzero(np.isinf(own)), 0.95 * (len(own) - 1)
        near, first, last = len(own) - len(far), math.floor(rank - _SLACK), math.floor(rank + _SLACK) + 1
        if near <= min(last, len(own) - 1):  # else those that are far do not count; NumPy looks at the next one too
            places = start.places[start.groups[label]][far]
            # Surfaces are spread evenly: such trees are built faster, and as fast to ask.
            tree = cKDTree(end.places[end.groups[label]] * spacing, balanced_tree=False, compact_nodes=False)
            ranks = max(first - near, 0), min(last, len(own) - 1) - near
            own[far] = _ranked(tree, places, spacing, ranks)
        found[label] = float(np.percentile(own, 95))
    return found


def _ranked(tree: cKDTree, places: np.ndarray, spacing: np.ndarray, ranks: tuple[int, int]) -> np.ndarray:
    """Returns distances to a tree of which those of two ranks, from 0, and what lies between them are true.

    The others are on the right side of these. From place to place a distance changes by no more than the places are
    apart: where that tells the side, the tree, which is slow, is not asked.
    """
    blocks = (places // _BLOCK).T
    numbers = np.ravel_multi_index(tuple(blocks), tuple(blocks.max(axis=1) + 1))
    _, first, block = np.unique(numbers, return_index=True, return_inverse=True)
    points = places * spacing
    known, apart = tree.query(points[first])[0][block], np.linalg.norm(points - points[first][block], axis=1)
    least, most = known - apart - _SLACK, known + apart + _SLACK
    low, high = np.partition(least, ranks[0])[ranks[0]], np.partition(most, ranks[1])[ranks[1]]
    found, asked = np.where(most < low, most, least), (most >= low) & (least <= high)
    found[asked] = tree.query(points[asked])[0]
    return found


def _near(start: _Outlines, end: _Outlines, spacing: np.ndarray) -> np.ndarray:
    """Returns the distance of each voxel to the nearest one of the same label that lies within reach; else infinity."""
    reach = _REACH * spacing.min()
    steps = np.floor(reach / spacing).astype(int)
    offsets = np.array(list(itertools.product(*(range(-step, step + 1) for step in steps))))
    lengths = np.linalg.norm(offsets * spacing, axis=1)
    padded = np.pad(end.map, [(step, step) for step in steps])
    table, flat = padded.ravel(), np.ravel_multi_index(tuple((start.places + steps).T), padded.shape)
    shifts = offsets @ np.array([math.prod(padded.shape[axis + 1 :]) for axis in range(padded.ndim)])
    distances, left, values = np.full(len(flat), np.inf), np.arange(len(flat)), start.values
    for place in np.argsort(lengths, kind="stable"):
        if lengths[place] > reach:
            break
        missed = table[flat + shifts[place]] != values
        distances[left[~missed]] = lengths[place]
        left, flat, values = left[missed], flat[missed], values[missed]
    return distances
