"""What a kind of data gives: pairs of files to score a model on, and what a run trains and validates on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from regzoo.data.tables import PairFiles
from regzoo.errors import invalid
from regzoo.schema.augmentation import Augmentation
from regzoo.schema.inputs import InputConfig

Batch = dict[str, np.ndarray]
"""`fixed` and `moving`, (B, *S, 1) in [0, 1]. What else is known of the pairs: `fixed_labels` and `moving_labels`,
(B, *S, L) in [0, 1]; the `known` field from fixed to moving in voxels, (B, *S, D); `fixed_mask`, (B, *S, 1)."""


Drawn = dict[str, np.ndarray]
"""What a batch is made of on the device, for N = 2 B images, first the fixed ones and then the moving ones:

- `rows` (N,), int32, of what is held; or, where nothing is, `images` and `labels` or `soft` themselves;
- `mirror` (N, D), int32, 1 where an image is mirrored along an axis; absent where none ever is;
- `channels` (N, L), int32, the label of each channel, counted from 1, 0: none; absent where labels are not compared;
- `seeds` (N,), int32, of the random changes.

`images` are (*S, 1), uint8, 255 for 1.0; `labels` (*S, 1), uint8 or int16, numbers of labels from 1; `soft` labels
(*S, V), uint8, a channel for each of the V labels that there are, 255 for 1.0."""


@dataclass(frozen=True)
class Examples:
    """What a run trains and validates on, on a network's grid.

    Args:
        draw: Draws so many pairs; the same for the same state of the generator. A `Batch`, or, where `held` is given,
            what one is made of (`Drawn`).
        valid: Batches of one pair each (of a 2-D network's slices, all of the pair), made or read when asked for. A
            model is judged by `known`, where that is given; else by labels, which may be numbers of labels, from 1,
            (B, *S, 1), int32; else by the images.
        augmentation: Random changes that are still to be made to what is `Drawn`.
        held: `images` and `labels` or `soft`, all that may be drawn, to be kept on the device; empty if they do not
            fit, None if batches are drawn whole.
    """

    draw: Callable[[np.random.Generator, int], Batch | Drawn]
    valid: Sequence[Batch]
    augmentation: Augmentation = field(default_factory=Augmentation)
    held: Mapping[str, np.ndarray] | None = None


class Kind(Protocol):
    """A recipe's data, made of the recipe and of the folder that `data.root` is relative to."""

    def pairs(self, split: str) -> list[PairFiles]:
        """Returns the pairs of files of a split, `"valid"` or `"test"`, that a model is scored on."""

    def examples(self, inputs: InputConfig) -> Examples:
        """Returns what a run trains and validates on; what cannot be used is found out here."""


def only_test(split: str) -> None:
    """Refuses another split than `test` where no file is validated on."""
    if split != "test":
        raise invalid("split", "'test', since the pairs to validate on are simulated", f"'{split}'")


def without_unshared(batch: Batch) -> Batch:
    """Takes a label that one image of a pair has not (has not half a voxel of) out of the other one too, in place."""
    sides = batch["fixed_labels"], batch["moving_labels"]
    # Flat, since einsum sums over outer axes several times as fast as `sum` over inner ones.
    voxels = [np.einsum("bvl->bl", side.reshape(len(side), -1, side.shape[-1])) for side in sides]
    for image, label in np.argwhere(np.minimum(*voxels) < 0.5):
        for side in sides:
            side[image, ..., label] = 0
    return batch
