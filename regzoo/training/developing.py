"""From what was drawn to a batch, on the device: bytes to images, mirrored, moved, recoloured; labels to channels."""

import math
from collections.abc import Callable, Mapping, Sequence

from keras import ops

from regzoo import backend
from regzoo.backend import Tensor
from regzoo.data.kinds import Drawn
from regzoo.schema.augmentation import Augmentation
from regzoo.simulation.augmentation import drawn_places, moved, recoloured, shared


def developed(
    drawn: Drawn, held: Mapping[str, Tensor], settings: Augmentation, spacing: Sequence[float]
) -> dict[str, Tensor]:
    """Makes a batch on the device.

    Each image has random changes of its own, but for what both of a pair have together. Labels go where their image
    goes, numbers by nearest neighbour and soft labels linearly, with 0 outside; what leaves one image of a pair is
    taken out of the other one too.

    Args:
        drawn: What it is made of.
        held: What is kept on the device, of which `drawn` names rows; empty if it brings its own.
        settings: What to draw, but for flips, which are drawn.
        spacing: Millimetres a voxel.

    Returns:
        A `regzoo.data.kinds.Batch` of tensors, float32.
    """
    sent = {**held, **backend.sent(drawn)}
    seeds = sent["seeds"]
    found = {name: _taken(sent, name) for name in ("images", "labels", "soft") if name in sent}
    images = found["images"]
    where = drawn_places(settings, images.shape[1:-1], spacing, seeds)
    if where is not None:
        images = moved(images, where)
    images = recoloured(_run(_scaled, images), settings, spacing, seeds)
    batch = dict(zip(("fixed", "moving"), ops.split(images, 2), strict=True))
    if "labels" in found:
        numbers = found["labels"] if where is None else moved(found["labels"], where, "nearest")
        labels = _run(_numbered, numbers, sent["channels"])
    elif "soft" in found:
        chosen = _run(_chosen, found["soft"], sent["channels"])
        labels = _run(_soft, chosen if where is None else moved(chosen, where))
    else:
        return batch
    return batch | dict(zip(("fixed_labels", "moving_labels"), labels, strict=True))


def _run(function: Callable, *arrays: Tensor) -> Tensor:
    return backend.inference(backend.compiled(function), *arrays)


def _taken(sent: Mapping[str, Tensor], name: str) -> Tensor:
    """Returns the bytes of each image, (N, *S, C), mirrored."""
    found = sent[name]
    if "rows" in sent:
        found = _run(_rows, found, sent["rows"])
    return _run(_mirrored, found, sent["mirror"]) if "mirror" in sent else found


def _rows(held: Tensor, rows: Tensor) -> Tensor:
    return ops.take(held, rows, axis=0)


def _mirrored(found: Tensor, mirror: Tensor) -> Tensor:
    found, mirror = ops.convert_to_tensor(found), ops.convert_to_tensor(mirror)
    for axis in range(mirror.shape[-1]):
        wanted = ops.reshape(mirror[:, axis] > 0, (-1, *(1,) * (len(found.shape) - 1)))
        found = ops.where(wanted, ops.flip(found, axis + 1), found)
    return found


def _scaled(found: Tensor) -> Tensor:
    """Returns what bytes mean; the sampler's weights may add up to 1 + 1e-7."""
    return ops.clip(ops.cast(found, "float32") / 255, 0.0, 1.0)


def _numbered(numbers: Tensor, channels: Tensor) -> list[Tensor]:
    """Returns a channel for each of the labels that are wanted, of the fixed and of the moving images."""
    numbers, channels = ops.cast(numbers, "int32"), ops.convert_to_tensor(channels)
    wanted = ops.reshape(channels, (-1, *(1,) * (len(numbers.shape) - 2), channels.shape[-1]))
    return shared(ops.cast((numbers == wanted) & (wanted > 0), "float32"))


def _chosen(soft: Tensor, channels: Tensor) -> Tensor:
    """Takes the channels that are wanted, by a product with ones and zeros."""
    soft, channels = ops.cast(soft, "float32"), ops.convert_to_tensor(channels)
    ones = ops.arange(1, soft.shape[-1] + 1, dtype="int32")[None, :, None] == channels[:, None]
    flat = ops.reshape(soft, (-1, math.prod(soft.shape[1:-1]), soft.shape[-1]))
    return ops.reshape(ops.matmul(flat, ops.cast(ones, "float32")), (-1, *soft.shape[1:-1], channels.shape[-1]))


def _soft(found: Tensor) -> list[Tensor]:
    return shared(_scaled(found))
