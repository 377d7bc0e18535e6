"""Images and label maps as bytes: all that may be drawn, so that they can lie on the device while a model trains."""

import math
from collections.abc import Sequence

import numpy as np

from regzoo.data.draws import Files
from regzoo.data.reader import Reader
from regzoo.world.views import View, from_batch, stands_alone, to_batch


class Held:
    """Reads every image once, so that one that cannot be used ends a run at its start, and holds them if they fit.

    Args:
        reader: Reads an image.
        files: The images.
        labelled: Whether labels are held too.
        memory: Bytes to hold at most.

    Attributes:
        arrays: `images` and, if `labelled`, `labels` or `soft`, as `regzoo.data.kinds.Drawn` has them; a row is an
            image, or for a 2-D network a slice. Empty where they do not fit, or an image looks different beside others.
        views: What is held of each file, as bytes, and its first row.
        soft: Whether labels have a channel each, which is so for all images if it is for one.
    """

    def __init__(self, reader: Reader, files: Sequence[Files], labelled: bool, memory: int) -> None:
        files, values, dims = list(dict.fromkeys(files)), reader.values, len(reader.config.shape)
        sizes = [(seen.image.shape, seen.soft) for seen in map(reader.own, files)]
        self.arrays: dict[str, np.ndarray] = {}
        self.views: dict[Files, tuple[View, int]] = {}
        self.soft = labelled and any(soft for _, soft in sizes)
        channels = (len(values) if self.soft else _numbers(values).itemsize) if labelled else 0
        if not stands_alone(reader.config) or sum(math.prod(shape) for shape, _ in sizes) * (1 + channels) > memory:
            return
        ends = np.cumsum([1 if dims == 3 else shape[2] for shape, _ in sizes]).tolist()
        for each, first, end in zip(files, [0, *ends], ends, strict=False):
            seen = reader.own(each)
            parts = {"images": image_bytes(seen)}
            if labelled:
                parts[label_name(self.soft)] = label_bytes(seen, values, self.soft)
            for key, part in parts.items():
                rows = to_batch(part, dims)
                if key not in self.arrays:
                    self.arrays[key] = np.empty((ends[-1], *rows.shape[1:]), rows.dtype)
                self.arrays[key][first:end] = rows
            # A view of the arrays' own bytes: a second copy of a large set would not fit where the first one does.
            shown = {key: from_batch(array[first:end], dims) for key, array in self.arrays.items()}
            labels = shown["labels"][..., 0] if "labels" in shown else shown.get("soft")
            self.views[each] = View(shown["images"], labels, seen.grid), first
            reader.release(each)


def label_name(soft: bool) -> str:
    """Returns what labels are called in `regzoo.data.kinds.Drawn`."""
    return "soft" if soft else "labels"


def image_bytes(seen: View) -> np.ndarray:
    """Returns an image as bytes, 255 for 1.0."""
    return np.rint(seen.image * 255).astype("uint8")


def label_bytes(seen: View, values: Sequence[int], soft: bool) -> np.ndarray:
    """Returns the numbers of labels, counted from 1, (*S, 1); if `soft`, a channel for each label, 255 for 1.0."""
    if soft:
        return np.rint(seen.channels(range(len(values))) * 255).astype("uint8")
    if seen.labels is None:
        return np.zeros(seen.image.shape, _numbers(values))
    return seen.labels[..., None].astype(_numbers(values))


def _numbers(values: Sequence[int]) -> np.dtype:
    return np.dtype("uint8" if len(values) < 256 else "int16")
