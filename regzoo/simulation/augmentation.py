"""Random changes to images: drawn by NumPy, applied to the whole batch at once on the backend."""

from collections.abc import Callable, Sequence

import numpy as np
from keras import ops

from regzoo import backend
from regzoo.backend import Tensor
from regzoo.ops.fields import bspline_field, control_positions
from regzoo.ops.grids import map_places, voxel_places
from regzoo.ops.matrices import random_affine, random_rigid
from regzoo.ops.warping import sample
from regzoo.schema.augmentation import Augmentation, FieldAugmentation


def augment(
    stack: np.ndarray,
    settings: Augmentation,
    spacing: Sequence[float],
    random: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Changes every image of a batch by draws of its own; an image's labels go where the image goes.

    Matrix and smooth field become one map, by which an image is sampled once, linearly, with 0 outside. Then its
    intensities change: negative, gamma, contrast, bias field, noise, in this order; they stay in [0, 1]. Flips, which
    are of a pair, are not made here.

    Args:
        stack: Images and behind each its labels, all in [0, 1], shape (N, *S, 1 + L).
        settings: What to draw.
        spacing: Millimetres a voxel along each axis.
        random: Where draws come from.

    Returns:
        Images (N, *S, 1) and labels (N, *S, L), float32.
    """
    where = drawn_places(settings, stack.shape[1:-1], spacing, random, len(stack))
    changes = _intensities(settings, (*stack.shape[:-1], 1), spacing, random)
    if where is not None:
        stack = moved(stack, where)
    # The sampler's weights may add up to 1 + 1e-7.
    images, labels = (np.clip(part, 0, 1) for part in (stack[..., :1], stack[..., 1:]))
    if changes:
        step = _in_voxels(settings.bias.smoothness, spacing) if settings.bias else None
        images = ops.convert_to_numpy(_run(_recoloured, images, changes, step=step))
    return images, labels


def drawn_places(
    settings: Augmentation,
    shape: Sequence[int],
    spacing: Sequence[float],
    random: np.random.Generator,
    count: int,
) -> Tensor | None:
    """Draws where images are sampled, by matrix and smooth field.

    Args:
        settings: What to draw.
        shape: Spatial shape `S` of the images.
        spacing: Millimetres a voxel along each axis.
        random: Where draws come from.
        count: How many images.

    Returns:
        Coordinates in voxels, shape (N, *S, D), or None where the settings move nothing.
    """
    places = place_draws(settings, shape, spacing, random, count)
    if not places:
        return None
    steps = tuple(_in_voxels(field.smoothness, spacing) for field in _octaves(settings))
    # By itself: in one piece with the sampling, XLA would compute it again for each of the corners.
    return _run(_coordinates, places, shape=tuple(shape), steps=steps)


def moved(stack: np.ndarray, where: Tensor) -> np.ndarray:
    """Samples images and labels (N, *S, C) at coordinates in voxels, linearly, with 0 outside."""
    return ops.convert_to_numpy(_run(_sampled, stack, where))


def _run(function: Callable, *arrays: Tensor, **static: object) -> Tensor:
    return backend.inference(backend.compiled(function, **static), *arrays)


def place_draws(
    settings: Augmentation,
    shape: Sequence[int],
    spacing: Sequence[float],
    random: np.random.Generator,
    count: int,
) -> dict[str, np.ndarray]:
    """Draws where images are sampled: `matrix` (N, D, D + 1), and `field0` on, control points (N, *n, D); in voxels."""
    draws, dims = {}, len(shape)
    if settings.moves:
        matrix = random_affine(random, shape, settings.affine, count)
        if settings.rotation or settings.shift:
            turn = random_rigid(random, shape, spacing, settings.rotation, settings.shift, count)
            matrix[..., -1:] += matrix[..., :-1] @ turn[..., -1:]
            matrix[..., :-1] = matrix[..., :-1] @ turn[..., :-1]
        draws["matrix"] = matrix
    for octave, field in enumerate(_octaves(settings)):
        lattice = _lattice(shape, field.smoothness, spacing)
        drawn = random.uniform(-1, 1, (count, *lattice, dims)) * field.strength / np.asarray(spacing)
        draws[f"field{octave}"] = drawn.astype("float32")
    return draws


def _octaves(settings: Augmentation) -> list[FieldAugmentation]:
    """Returns one field for each octave, the smoothest first."""
    if not settings.field:
        return []
    strength, smoothness = settings.field.strength, settings.field.smoothness
    shares = [0.5**octave for octave in range(settings.field.octaves)]
    return [FieldAugmentation(strength=share * strength, smoothness=share * smoothness) for share in shares]


def _intensities(
    settings: Augmentation, shape: Sequence[int], spacing: Sequence[float], random: np.random.Generator
) -> dict[str, np.ndarray]:
    """Draws how intensities change; all arrays multiply or add to images of this shape."""
    draws, one = {}, (shape[0], *(1,) * (len(shape) - 1))

    def factor(size: float) -> np.ndarray:
        return np.exp(random.uniform(-size, size, one)).astype("float32")

    if settings.invert:
        draws["invert"] = (random.uniform(size=one) < settings.invert).astype("float32")
    if settings.gamma:
        draws["gamma"] = factor(settings.gamma)
    if settings.contrast:
        draws["contrast"] = factor(settings.contrast)
    if settings.bias:
        lattice = _lattice(shape[1:-1], settings.bias.smoothness, spacing)
        drawn = random.uniform(-1, 1, (shape[0], *lattice, 1)) * settings.bias.strength
        draws["bias"] = drawn.astype("float32")
    if settings.noise:
        deviation = random.uniform(0, settings.noise, one).astype("float32")
        draws["noise"] = deviation * random.standard_normal(shape, dtype="float32")
    return draws


def _in_voxels(smoothness: float, spacing: Sequence[float]) -> tuple[float, ...]:
    return tuple(smoothness / each for each in spacing)


def _lattice(shape: Sequence[int], smoothness: float, spacing: Sequence[float]) -> list[int]:
    """Returns how many control points there are along each axis."""
    steps = _in_voxels(smoothness, spacing)
    return [len(control_positions(length, step)) for length, step in zip(shape, steps, strict=True)]


def _coordinates(places: dict[str, Tensor], shape: Sequence[int], steps: Sequence[Sequence[float]]) -> Tensor:
    """Returns `A u0(u1(...(x))) + b` for every voxel x: no map folds, so nor do all one after the other."""
    points = voxel_places(shape)[None]
    for octave in reversed(range(len(steps))):  # the finest is exact, the others hardly bend between voxels
        field = bspline_field(places[f"field{octave}"], shape, steps[octave])
        points = points + (field if octave == len(steps) - 1 else sample(field, points))
    return map_places(places["matrix"], points)


def _sampled(stack: Tensor, where: Tensor) -> Tensor:
    return sample(stack, where, "zero")


def _recoloured(images: Tensor, draws: dict[str, Tensor], step: Sequence[float] | None) -> Tensor:
    images = ops.convert_to_tensor(images)
    draws = {name: ops.convert_to_tensor(each) for name, each in draws.items()}
    if "invert" in draws:
        images = images + draws["invert"] * (1 - 2 * images)
    if "gamma" in draws:
        images = ops.power(images, draws["gamma"])
    if "contrast" in draws:
        mean = ops.mean(images, axis=tuple(range(1, len(images.shape))), keepdims=True)
        images = mean + draws["contrast"] * (images - mean)
    if "bias" in draws:
        images = images * ops.exp(bspline_field(draws["bias"], images.shape[1:-1], step))
    if "noise" in draws:
        images = images + draws["noise"]
    return ops.clip(images, 0.0, 1.0)
