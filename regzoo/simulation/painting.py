"""Label maps become images, on the device: taken where they are moved to, painted, textured, blurred and cut."""

from collections.abc import Mapping, Sequence

import numpy as np
from keras import ops

from regzoo import backend
from regzoo.backend import Tensor
from regzoo.ops.fields import bspline_field, control_positions
from regzoo.ops.random_numbers import normal
from regzoo.ops.warping import sample
from regzoo.schema.priors import MapsPrior
from regzoo.simulation.augmentation import shared

# A stream of random numbers that `regzoo.simulation.augmentation` does not use.
_TEXTURE = 12


def numbers_at(held: Tensor, rows: Tensor, places: Tensor, frame: Tensor) -> Tensor:
    """Reads label maps where images show them.

    Args:
        held: All maps, numbers of labels, shape (M, *T, 1), uint8. Beyond its edge, a map goes on as it ends.
        rows: Which of them each image shows, shape (N,), int32.
        places: Where images are sampled, in voxels of the network's grid, shape (N, *S, D).
        frame: What takes those to voxels of a map, `factor * x + offset` along each axis, shape (N, 2, D).

    Returns:
        Shape (N, *S, 1), uint8.
    """
    return _run(_read, _run(_rows, held, rows), _run(_framed, places, frame))


def painted(
    numbers: Tensor, looks: Mapping[str, Tensor], seeds: Tensor, spacing: Sequence[float], prior: MapsPrior
) -> Tensor:
    """Paints label maps.

    Args:
        numbers: Numbers of labels from 0 to K - 1, shape (N, *S, 1).
        looks: `intensities` of labels and `seen`, 1 for those that are not black, shape (N, K) each; `texture`, its
            standard deviation, (N,); and `filter0` on, what blurs along each axis, (N, n, n).
        seeds: One for each image, shape (N,), int32.
        spacing: Millimetres a voxel along each axis.
        prior: How smooth the texture is.

    Returns:
        Intensities that span [0, 1], shape (N, *S, 1), float32.
    """
    step = tuple(max(prior.size[0] / 4 / each, 1.0) for each in spacing)
    names = ("intensities", "seen", "texture", *(f"filter{axis}" for axis in range(len(step))))
    return _run(_painted, numbers, seeds, *(looks[name] for name in names), step=step)


def grouped(numbers: Tensor, groups: Tensor) -> list[Tensor]:
    """Returns a channel for each group of labels, of the fixed and of the moving images.

    Args:
        numbers: Numbers of labels from 0 to K - 1, first of all fixed images, shape (2 B, *S, 1).
        groups: 1 where a label is in a group, else 0, shape (2 B, K, L), float32.

    Returns:
        Two of shape (B, *S, L), float32, 0 for a group of which one of the two images has nothing.
    """
    return _run(_grouped, numbers, groups)


def cut(images: Tensor, *views: Tensor) -> Tensor:
    """Blackens what lies outside a box, given as 1 inside along each axis (N, n); images are (N, *S, 1)."""
    return _run(_cut, images, *views)


def looks_of(
    random: np.random.Generator,
    tissues: np.ndarray,
    hidden: np.ndarray,
    shape: Sequence[int],
    spacing: Sequence[float],
    prior: MapsPrior,
) -> dict[str, np.ndarray]:
    """Draws what the two images of a pair look like.

    Args:
        random: Where draws come from.
        tissues: The tissue of each of the K labels, shape (K,), int.
        hidden: Whether each label is black in each image, shape (2, K), bool.
        shape: Shape of the images.
        spacing: Millimetres a voxel along each axis.
        prior: What is drawn from.

    Returns:
        As `painted` takes it, N = 2; and `view0` on, where each image shows something, shape (2, n); float32.
    """
    first, second = (_intensities(random, tissues, prior) for _ in range(2))
    if random.uniform() < prior.related:
        second = 0.8 * (first if random.uniform() < 0.5 else 1 - first) + 0.2 * second
    looks = {"intensities": np.stack([first, second]), "seen": ~hidden, "texture": random.uniform(0, prior.texture, 2)}
    filters, views = zip(*(_blurred_and_cut(random, shape, spacing, prior) for _ in range(2)), strict=True)
    looks |= {f"filter{axis}": np.stack(both) for axis, both in enumerate(zip(*filters, strict=True))}
    looks |= {f"view{axis}": np.stack(both) for axis, both in enumerate(zip(*views, strict=True))}
    return {name: each.astype("float32") for name, each in looks.items()}


def _run(function: object, *arrays: Tensor, **static: object) -> Tensor:
    return backend.inference(backend.compiled(function, **static), *arrays)


def _rows(held: Tensor, rows: Tensor) -> Tensor:
    return ops.take(held, rows, axis=0)


def _framed(places: Tensor, frame: Tensor) -> Tensor:
    factor, offset = (
        ops.reshape(each, (-1, *(1,) * places.shape[-1], places.shape[-1])) for each in ops.split(frame, 2, 1)
    )
    return places * factor + offset


def _read(maps: Tensor, where: Tensor) -> Tensor:
    return sample(maps, where, "edge", "nearest")


def _index(numbers: Tensor, count: int) -> Tensor:
    """Returns where each voxel's label stands in tables of all images one behind the other, (N, *S), int32."""
    numbers = ops.convert_to_tensor(numbers)
    first = ops.arange(numbers.shape[0], dtype="int32") * count
    return ops.cast(numbers[..., 0], "int32") + ops.reshape(first, (-1, *(1,) * (len(numbers.shape) - 2)))


def _grouped(numbers: Tensor, groups: Tensor) -> list[Tensor]:
    groups = ops.convert_to_tensor(groups)
    table = ops.reshape(groups, (-1, groups.shape[-1]))
    return shared(ops.take(table, _index(numbers, groups.shape[1]), axis=0))


def _painted(
    numbers: Tensor,
    seeds: Tensor,
    intensities: Tensor,
    seen: Tensor,
    texture: Tensor,
    *filters: Tensor,
    step: tuple[float, ...],
) -> Tensor:
    numbers, intensities = ops.convert_to_tensor(numbers), ops.convert_to_tensor(intensities)
    shape, count = tuple(numbers.shape[1:-1]), intensities.shape[-1]
    one = (-1, *(1,) * len(shape))
    index = _index(numbers, count)
    lattice = [len(control_positions(length, each)) for length, each in zip(shape, step, strict=True)]
    grain = bspline_field(normal(seeds, _TEXTURE, (*lattice, 1)), shape, step)[..., 0]
    image = ops.take(ops.reshape(intensities, (-1,)), index) + ops.reshape(texture, one) * grain
    image = ops.maximum(image, 0.0) * ops.take(ops.reshape(seen, (-1,)), index)
    for axis, each in enumerate(filters, start=1):
        image = _along(image, each, axis)
    axes = tuple(range(1, len(shape) + 1))
    low, high = ops.min(image, axis=axes, keepdims=True), ops.max(image, axis=axes, keepdims=True)
    return ((image - low) / ops.maximum(high - low, 1e-6))[..., None]


def _along(image: Tensor, matrices: Tensor, axis: int) -> Tensor:
    """Applies a matrix (N, n, n) of each image along one of its axes; images are (N, *S)."""
    turned = ops.moveaxis(image, axis, 1)
    rows = ops.reshape(turned, (turned.shape[0], turned.shape[1], -1))
    return ops.moveaxis(ops.reshape(ops.matmul(matrices, rows), turned.shape), 1, axis)


def _cut(images: Tensor, *views: Tensor) -> Tensor:
    for axis, each in enumerate(views, start=1):
        images = images * ops.reshape(
            each, [-1 if a == 0 else each.shape[-1] if a == axis else 1 for a in range(len(images.shape))]
        )
    return images


def _intensities(random: np.random.Generator, tissues: np.ndarray, prior: MapsPrior) -> np.ndarray:
    means = random.uniform(0.05, 1, tissues.max() + 1)[tissues]
    return np.clip(means + random.uniform(0, prior.spread) * random.standard_normal(len(means)), 0, 1)


def _blurred_and_cut(
    random: np.random.Generator, shape: Sequence[int], spacing: Sequence[float], prior: MapsPrior
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns the matrix that blurs along each axis (n, n), and 1 where the image shows something (n,)."""
    blur, slices, box = random.uniform(0, prior.blur), random.uniform(0, prior.slices), random.uniform() < prior.cut
    along = random.integers(len(shape)) if random.uniform() < prior.sliced else -1
    filters, views = [], []
    for axis, (length, step) in enumerate(zip(shape, spacing, strict=True)):
        matrix = _gaussian(length, blur / step)
        if axis == along and slices > step:
            matrix = _sliced(length, slices / step, random.uniform()) @ matrix
        filters.append(matrix)
        first, last = random.uniform(0, length / 6, 2)
        away = np.arange(length)
        views.append((away >= first) & (away < length - last) if box else np.ones(length, bool))
    return filters, views


def _gaussian(length: int, sigma: float) -> np.ndarray:
    away = np.arange(length)[:, None] - np.arange(length)
    weights = np.exp(-0.5 * (away / max(sigma, 0.1)) ** 2)
    return weights / weights.sum(axis=1, keepdims=True)


def _sliced(length: int, thickness: float, phase: float) -> np.ndarray:
    """Averages slices of so many voxels, and goes from one to the next about as linear interpolation does."""
    slices = np.floor(np.arange(length) / thickness + phase)
    weights = (slices[:, None] == slices).astype(float)
    return _gaussian(length, 0.3 * thickness) @ (weights / weights.sum(axis=1, keepdims=True))
