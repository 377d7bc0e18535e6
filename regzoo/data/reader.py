"""Pairs on the network's grid: images and labels read, brought there and kept while they fit in memory."""

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from regzoo.data.draws import Files
from regzoo.errors import InvalidError, invalid
from regzoo.schema.inputs import InputConfig
from regzoo.world.images import Grid, Image, check_beside
from regzoo.world.views import View, check_slices, stands_alone, view


def read_labelled(files: Files) -> tuple[Image, Image | None]:
    """Reads an image and its labels.

    Raises:
        ValueError: If a file cannot be read, or the labels are not on the image's grid, or channels not in [0, 1].
    """
    image = Image.read(files.image, spacing=files.spacing)
    if files.labels is None:
        return image, None
    labels = Image.read(files.labels, labels=True, spacing=files.spacing)
    if labels.channels is not None and not (labels.array.min() >= 0 and labels.array.max() <= 1):
        received = f"{labels.array.min():g} to {labels.array.max():g}"
        raise invalid(str(files.labels), "channels of labels with values from 0 to 1", received)
    check_beside(str(files.labels), labels, image, f"the grid of {files.image.name}")
    return image, labels


class Reader:
    """Reads pairs onto a network's grid and keeps what was read last while it fits; safe to share between threads.

    Args:
        config: The network's input.
        values: Labels that are wanted; see `view`.
        memory: Bytes of images and labels to keep.
    """

    def __init__(self, config: InputConfig, values: Sequence[int], memory: int = 2**31) -> None:
        self.config, self.values, self.memory = config, tuple(values), memory
        self._kept: OrderedDict[tuple[Files, ...], View] = OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()

    def own(self, files: Files) -> View:
        """Returns an image as the network sees it by itself."""
        return self._once((files,), lambda: self._view(files, None))

    def pair(self, fixed: Files, moving: Files) -> tuple[View, View]:
        """Returns both images as the network sees them: the moving one beside the fixed one."""
        seen = self.own(fixed)
        if not stands_alone(self.config):
            return seen, self._once((moving, fixed), lambda: self._view(moving, seen.grid))
        other = self.own(moving)
        check_pair(seen, other, moving, self.config)
        return seen, other

    def release(self, files: Files) -> None:
        """Forgets what was kept of an image by itself."""
        with self._lock:
            seen = self._kept.pop((files,), None)
            self._bytes -= 0 if seen is None else _size(seen)

    def _view(self, files: Files, beside: Grid | None) -> View:
        image, labels = read_labelled(files)
        with _named(files):
            return view(image, self.config, beside=beside, labels=labels, values=self.values)

    def _once(self, key: tuple[Files, ...], read: Callable[[], View]) -> View:
        """Returns what is kept under a key, or reads it and keeps it in the place of what was not used for longest."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        seen = read()
        with self._lock:
            if key not in self._kept:
                self._kept[key] = seen
                self._bytes += _size(seen)
            while self._bytes > self.memory:
                self._bytes -= _size(self._kept.popitem(last=False)[1])
        return seen


def check_pair(fixed: View, moving: View, files: Files, config: InputConfig) -> None:
    """Refuses two views of a 2-D network that do not show slice beside slice, by the name of the moving one's files."""
    with _named(files):
        check_slices(fixed.grid, moving.grid, config)


@contextlib.contextmanager
def _named(files: Files) -> Iterator[None]:
    """Puts the name of an image in front of what is wrong with it."""
    try:
        yield
    except InvalidError as error:
        raise InvalidError(f"{files.image}: {error}") from None


def _size(seen: View) -> int:
    return seen.image.nbytes + (0 if seen.labels is None else seen.labels.nbytes)


def label_values(files: Sequence[Files]) -> tuple[int, ...]:
    """Returns every label in the files, background left out: values of integer maps, channels counted from 1.

    Raises:
        ValueError: If there are label maps, and all of them are empty.
    """
    paths = dict.fromkeys(each.labels for each in files if each.labels is not None)
    found = set().union(*(values_of(Image.read(path, labels=True)) for path in paths))
    if paths and not found:
        raise invalid("labels", f"a value other than 0 in one of {len(paths)} label maps", "none")
    return tuple(sorted(found))


def values_of(labels: Image) -> set[int]:
    """Returns the labels that an image has; see `label_values`."""
    if labels.channels is None:
        return set(np.unique(labels.array).tolist()) - {0}
    return {channel + 1 for channel in range(labels.channels) if labels.array[..., channel].any()}
