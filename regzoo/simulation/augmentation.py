"""Random changes to images: drawn from a seed each and applied to all of a batch at once, on the device."""

import math
from collections.abc import Callable, Sequence

from keras import ops

from regzoo import backend
from regzoo.backend import Tensor
from regzoo.ops.fields import bspline_field, control_positions
from regzoo.ops.grids import map_places, voxel_places
from regzoo.ops.matrices import linear_matrix
from regzoo.ops.random_numbers import normal, symmetric, uniform
from regzoo.ops.warping import Method, sample
from regzoo.schema.augmentation import Augmentation, FieldAugmentation, TogetherAugmentation

# Each kind of draw has a stream of random numbers; octaves of the field have those from 16 on.
_AFFINE, _ANGLE, _AXIS, _SHIFT, _INVERT, _GAMMA, _CONTRAST, _BIAS, _DEVIATION, _NOISE, _CROP, _TOGETHER = range(12)
_FIELD = 16


def drawn_places(
    settings: Augmentation, shape: Sequence[int], spacing: Sequence[float], seeds: Tensor
) -> Tensor | None:
    """Draws where images are sampled, by matrix and smooth field, which become one map.

    Args:
        settings: What to draw; flips, which are of a pair, are not made here.
        shape: Spatial shape `S` of the images.
        spacing: Millimetres a voxel along each axis.
        seeds: One for each image, shape (N,), int32; where `settings.together` is drawn, those of the fixed images,
            then those of the moving ones.

    Returns:
        Coordinates in voxels, shape (N, *S, D), or None where the settings move nothing.
    """
    if not settings.moves:
        return None
    # By itself: in one piece with the sampling, XLA would compute it again for each of the corners.
    return _run(_coordinates, seeds, settings=settings, shape=tuple(shape), spacing=tuple(spacing))


def moved(stack: Tensor, where: Tensor, method: Method = "linear") -> Tensor:
    """Samples images or labels (N, *S, C) once at coordinates in voxels, with 0 outside; labels by `"nearest"`."""
    return _run(_sampled, stack, where, method=method)


def recoloured(images: Tensor, settings: Augmentation, spacing: Sequence[float], seeds: Tensor) -> Tensor:
    """Changes intensities, within [0, 1], by draws: negative, gamma, contrast, bias field, noise, crop, in this order.

    Args:
        images: In [0, 1], shape (N, *S, 1).
        settings: What to draw.
        spacing: Millimetres a voxel along each axis.
        seeds: One for each image, shape (N,), int32.
    """
    if not settings.recolours:
        return images
    return _run(_recoloured, images, seeds, settings=settings, spacing=tuple(spacing))


def shared(labels: Tensor) -> list[Tensor]:
    """Takes a label that one image of a pair has not half a voxel of out of the other one too.

    Args:
        labels: A channel for each label, of all fixed and then of all moving images, (2 B, *S, L).

    Returns:
        Two of shape (B, *S, L).
    """
    sides = ops.split(labels, 2)
    axes = tuple(range(1, len(labels.shape) - 1))
    sums = [ops.sum(side, axis=axes, keepdims=True) for side in sides]
    keep = ops.cast(ops.minimum(*sums) >= 0.5, "float32")
    return [side * keep for side in sides]


def _run(function: Callable, *arrays: Tensor, **static: object) -> Tensor:
    return backend.inference(backend.compiled(function, **static), *arrays)


def place_draws(
    settings: Augmentation, shape: Sequence[int], spacing: Sequence[float], seeds: Tensor
) -> dict[str, Tensor]:
    """Draws where images are sampled: `matrix` (N, D, D + 1), and `field0` on, control points (N, *n, D); in voxels.

    Arguments are those of `drawn_places`.
    """
    dims, step = len(shape), ops.convert_to_tensor(spacing, dtype="float32")
    # An affine matrix is drawn in units of the half size of each axis, so that it is the same on any grid.
    drawn = settings.affine * symmetric(seeds, _AFFINE, (dims + dims * dims,))
    draws = {"matrix": linear_matrix(drawn, "affine", shape, [1 / length for length in shape])}
    if settings.rotation or settings.shift:
        tangent = ops.tan(symmetric(seeds, _ANGLE, (1,)) * (math.radians(settings.rotation) / 2))
        axes = normal(seeds, _AXIS, (3,))
        axes = axes / ops.sqrt(ops.sum(ops.square(axes), axis=-1, keepdims=True) + 1e-12)
        half = step * ops.convert_to_tensor(shape, dtype="float32") / 2
        shift = symmetric(seeds, _SHIFT, (dims,)) * settings.shift / half
        parameters = ops.concatenate([shift, tangent * axes if dims == 3 else tangent], axis=-1)
        turn = linear_matrix(parameters, "rigid", shape, spacing)
        draws["matrix"] = _composed(draws["matrix"], turn)
    if settings.together:
        draws["matrix"] = _composed(_together(settings.together, shape, spacing, seeds), draws["matrix"])
    for octave, field in enumerate(_octaves(settings)):
        points = symmetric(seeds, _FIELD + octave, (*_lattice(shape, field.smoothness, spacing), dims))
        draws[f"field{octave}"] = points * field.strength / step
    return draws


def _together(settings: TogetherAugmentation, shape: Sequence[int], spacing: Sequence[float], seeds: Tensor) -> Tensor:
    """Draws the matrices (N, D, D + 1) of pairs, by the seeds of the fixed images."""
    dims, fixed = len(shape), ops.split(ops.convert_to_tensor(seeds), 2)[0]
    drawn = symmetric(ops.concatenate([fixed, fixed], axis=0), _TOGETHER, (3,))
    angle, scale = math.radians(settings.turn) * drawn[:, 0], ops.exp(-settings.scale * drawn[:, 1])
    slices = ops.exp(-settings.stretch * ops.maximum(drawn[:, 2], 0.0))
    across, along = scale * ops.cos(angle), scale * ops.sin(angle)
    none = ops.zeros_like(angle)
    rows = [[across, -along, none], [along, across, none], [none, none, slices]]
    entries = ops.stack([ops.stack(row[:dims], axis=-1) for row in rows[:dims]], axis=-2) - ops.eye(dims)
    parameters = ops.concatenate([ops.zeros_like(entries[:, 0]), ops.reshape(entries, (-1, dims * dims))], axis=-1)
    return linear_matrix(parameters, "affine", shape, spacing)


def _composed(outer: Tensor, inner: Tensor) -> Tensor:
    """Returns the matrices (N, D, D + 1) of `outer(inner(x))`."""
    both = ops.matmul(outer[..., :-1], inner)
    return ops.concatenate([both[..., :-1], both[..., -1:] + outer[..., -1:]], axis=-1)


def _octaves(settings: Augmentation) -> list[FieldAugmentation]:
    """Returns one field for each octave, the smoothest first."""
    if not settings.field:
        return []
    strength, smoothness = settings.field.strength, settings.field.smoothness
    shares = [0.5**octave for octave in range(settings.field.octaves)]
    return [FieldAugmentation(strength=share * strength, smoothness=share * smoothness) for share in shares]


def _in_voxels(smoothness: float, spacing: Sequence[float]) -> tuple[float, ...]:
    return tuple(smoothness / each for each in spacing)


def _lattice(shape: Sequence[int], smoothness: float, spacing: Sequence[float]) -> list[int]:
    """Returns how many control points there are along each axis."""
    steps = _in_voxels(smoothness, spacing)
    return [len(control_positions(length, step)) for length, step in zip(shape, steps, strict=True)]


def _coordinates(seeds: Tensor, settings: Augmentation, shape: Sequence[int], spacing: Sequence[float]) -> Tensor:
    """Returns `A u0(u1(...(x))) + b` for every voxel x: no map folds, so nor do all one after the other."""
    places, octaves = place_draws(settings, shape, spacing, seeds), _octaves(settings)
    points = voxel_places(shape)[None]
    for octave in reversed(range(len(octaves))):  # the finest is exact, the others hardly bend between voxels
        field = bspline_field(places[f"field{octave}"], shape, _in_voxels(octaves[octave].smoothness, spacing))
        points = points + (field if octave == len(octaves) - 1 else sample(field, points))
    return map_places(places["matrix"], points)


def _sampled(stack: Tensor, where: Tensor, method: Method) -> Tensor:
    return sample(stack, where, "zero", method)


def _recoloured(images: Tensor, seeds: Tensor, settings: Augmentation, spacing: Sequence[float]) -> Tensor:
    images = ops.convert_to_tensor(images)
    shape, one = images.shape[1:-1], (1,) * (len(images.shape) - 1)
    if settings.invert:
        images = ops.where(uniform(seeds, _INVERT, one) < settings.invert, 1 - images, images)
    if settings.gamma:
        images = ops.power(images, ops.exp(settings.gamma * symmetric(seeds, _GAMMA, one)))
    if settings.contrast:
        mean = ops.mean(images, axis=tuple(range(1, len(images.shape))), keepdims=True)
        images = mean + ops.exp(settings.contrast * symmetric(seeds, _CONTRAST, one)) * (images - mean)
    if settings.bias:
        smoothness = settings.bias.smoothness
        points = settings.bias.strength * symmetric(seeds, _BIAS, (*_lattice(shape, smoothness, spacing), 1))
        images = images * ops.exp(bspline_field(points, shape, _in_voxels(smoothness, spacing)))
    if settings.noise:
        deviation = settings.noise * uniform(seeds, _DEVIATION, one)
        images = images + deviation * normal(seeds, _NOISE, (*shape, 1))
    if settings.crop:
        images = images * _view(symmetric(seeds, _CROP, (len(shape),)), settings.crop, shape, spacing)
    return ops.clip(images, 0.0, 1.0)


def _view(draws: Tensor, crop: float, shape: Sequence[int], spacing: Sequence[float]) -> Tensor:
    """Returns 1 where an image shows something, else 0, (N, *S, 1), of a draw from -1 to 1 for each axis (N, D).

    From -1/2 to 1/2 an axis is whole; beyond, the lower or the upper end is cut.
    """
    view = 1.0
    for axis, (length, step) in enumerate(zip(shape, spacing, strict=True)):
        cut = ops.reshape(draws[:, axis], (-1, *(1,) * (len(shape) + 1)))
        width = ops.maximum(2 * ops.abs(cut) - 1, 0.0) * (crop / step)
        place = [-1 if each == axis + 1 else 1 for each in range(len(shape) + 2)]
        voxels = ops.reshape(ops.arange(length, dtype="float32"), place)
        end = ops.where(cut > 0, length - 1 - voxels, voxels)
        view = view * ops.cast(end >= width, "float32")
    return view
