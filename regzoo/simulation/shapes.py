"""Random shapes in random contrasts: training pairs that show no patient, for models that no modality binds.

Source: Hoffmann et al., SynthMorph: learning contrast-invariant registration without acquired images, 2022.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from regzoo.ops.fields import control_positions, cubic_bspline
from regzoo.ops.grids import identity_grid
from regzoo.schema.priors import ShapesPrior


def label_map(
    random: np.random.Generator,
    shape: Sequence[int],
    spacing: Sequence[float],
    prior: ShapesPrior,
    body: Sequence[float] | None = None,
) -> np.ndarray:
    """Draws a map of shapes: every voxel belongs to the one whose smooth random map is highest there.

    Args:
        random: Where draws come from.
        shape: Shape of the map.
        spacing: Millimetres a voxel.
        prior: What is drawn from.
        body: Voxels from the centre along each axis; about there shape 0 begins, which lies around all others. None:
            shape 0 is like the others.

    Returns:
        Numbers from 0 to `prior.shapes - 1`, shape `shape`, uint8.
    """
    size = np.exp(random.uniform(*np.log(prior.size)))
    maps = smooth_noise(random, prior.shapes, shape, size / np.asarray(spacing))
    maps += prior.detail * smooth_noise(random, prior.shapes, shape, size / 2 / np.asarray(spacing))
    if body is not None:
        offsets = identity_grid(shape) - (np.asarray(shape, "float32") - 1) / 2
        away = np.linalg.norm(offsets / np.asarray(body, "float32"), axis=-1)
        # Where the others' highest is as likely as not above a map of this height, the boundary is at `body`.
        maps[0] += maps.max(axis=0).mean() + 4 * (away - 1)
    return np.argmax(maps, axis=0).astype("uint8")


def contrasts(random: np.random.Generator, prior: ShapesPrior) -> tuple[np.ndarray, np.ndarray]:
    """Draws the intensities of all shapes in the two images of a pair, in [0, 1], shape (prior.shapes,) each."""
    first, second = random.uniform(0, 1, (2, prior.shapes))
    if random.uniform() < prior.related:
        alike = first if random.uniform() < 0.5 else 1 - first
        second = 0.8 * alike + 0.2 * second
    return first, second


def painted(
    random: np.random.Generator,
    labels: np.ndarray,
    means: np.ndarray,
    spacing: Sequence[float],
    prior: ShapesPrior,
    black: int | None,
) -> np.ndarray:
    """Paints a map of shapes: each gets its intensity, then the image is textured and blurred.

    Args:
        random: Where draws come from.
        labels: As `label_map` gives.
        means: Intensity of each shape.
        spacing: Millimetres a voxel.
        prior: What is drawn from.
        black: A shape that is 0, as what lies around a body or a brain without its skull; None: there is none.

    Returns:
        Intensities that span [0, 1], the shape of `labels`, float32.
    """
    spacing = np.asarray(spacing)
    image = means[labels]
    texture = smooth_noise(random, 1, labels.shape, np.maximum(prior.size[0] / 2 / spacing, 1.0))[0]
    image = image + random.uniform(0, prior.texture) * texture
    if black is not None:
        image[labels == black] = image.min()
    image = ndimage.gaussian_filter(image, random.uniform(0, prior.blur) / spacing)
    low, high = image.min(), image.max()
    return ((image - low) / max(high - low, 1e-6)).astype("float32")


def smooth_noise(random: np.random.Generator, count: int, shape: Sequence[int], step: Sequence[float]) -> np.ndarray:
    """Returns maps of normal noise, as smooth as a cubic B-spline of control points every `step` voxels.

    Args:
        random: Where draws come from.
        count: How many maps.
        shape: Shape of each.
        step: Voxels between control points along each axis, above 0.

    Returns:
        Shape (count, *shape), float32.
    """
    weights = []
    for length, each in zip(shape, step, strict=True):
        places = control_positions(length, float(each))
        weights.append(cubic_bspline((np.arange(length)[:, None] - places) / each).astype("float32"))
    noise = random.standard_normal((count, *(each.shape[1] for each in weights)), dtype="float32")
    for each in weights:  # each turn takes the first of the lattice's axes away and puts the image's last
        noise = np.tensordot(noise, each, axes=(1, 1))
    return noise
