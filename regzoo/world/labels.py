"""Label maps: of integers, or with one channel a label."""

from __future__ import annotations

import numpy as np

from regzoo.world.counts import counts
from regzoo.world.images import Image


def mask(labels: Image, label: int) -> np.ndarray:
    """Returns where a label is, bool, shape (I, J, K)."""
    return labels.array == label if labels.channels is None else labels.array[..., label - 1] >= 0.5


def anywhere(labels: Image) -> np.ndarray:
    """Returns where any label is, bool, shape (I, J, K)."""
    return labels.array != 0 if labels.channels is None else (labels.array >= 0.5).any(axis=-1)


def present(labels: Image) -> list[int]:
    """Returns the labels that a map has: its values but 0, or the numbers, from 1, of the channels with a voxel."""
    return sorted(sizes(labels))


def sizes(labels: Image) -> dict[int, int]:
    """Returns the voxels of each label that a map has."""
    if labels.channels is None:
        return {value: count for value, count in counts(labels.array).items() if value}
    found = {each: int(mask(labels, each).sum()) for each in range(1, labels.channels + 1)}
    return {value: count for value, count in found.items() if count}


def like_a_series(labels: Image) -> bool:
    """Tells whether each channel lies for the most part where the next does, as in a series of one label in time."""
    if (labels.channels or 1) < 2:
        return False
    masks = labels.array >= 0.5
    sizes = masks.sum(axis=(0, 1, 2))
    both = (masks[..., :-1] & masks[..., 1:]).sum(axis=(0, 1, 2))
    return bool(sizes.all() and (4 * both >= sizes[:-1] + sizes[1:]).all())  # a Dice of one half


def shared_labels(fixed: Image, moving: Image) -> list[int]:
    """Returns the labels that both maps have."""
    return sorted(set(present(fixed)) & set(present(moving)))
