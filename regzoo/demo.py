"""The demonstration: a bundled model registers a pair, and the error before and after is printed."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from regzoo.checks import MissingError
from regzoo.documents import parse_json, read_text
from regzoo.images import Image
from regzoo.registration import register
from regzoo.results import Result
from regzoo.transforms import Transform

MODEL = "hippocampus-mr-dvf"
_SHAPE = (40, 56, 40)


def run(output: Path, data: Path | None = None) -> Iterator[str]:
    """Registers a pair and writes the result.

    Args:
        output: Folder for images, transform, picture and figures.
        data: Folder that holds `hippocampus-mr` with its `splits.json`: its first test pair is registered. None: a
            synthetic pair whose true displacement is known.

    Yields:
        Lines to print.

    Raises:
        MissingError: If `data` has no such data set.
    """
    if data is None:
        fixed, moving, fixed_labels, moving_labels, truth = synthetic_pair()
        yield "SYNTHETIC pair: random texture, two ellipsoids as labels, a known smooth displacement. No real anatomy."
        result = register(fixed, moving, MODEL, fixed_labels=fixed_labels, moving_labels=moving_labels)
        before, after = (_error(transform, truth, fixed_labels) for transform in (result.start, result.transform))
        yield f"displacement error inside the labels: {before:.2f} mm before, {after:.2f} mm after"
    else:
        fixed, moving, fixed_labels, moving_labels = real_files(data)
        yield f"Real pair: {moving.name} (moving) to {fixed.name} (fixed), the first test pair of hippocampus-mr."
        result = register(fixed, moving, MODEL, fixed_labels=fixed_labels, moving_labels=moving_labels)
    yield from _figures(result)
    result.save(output)
    yield f"Picture: {output / 'report.png'}; everything else is beside it."


def synthetic_pair(seed: int = 4) -> tuple[Image, Image, Image, Image, Transform]:
    """Makes a pair with a known displacement: (fixed, moving, fixed labels, moving labels, the true transform).

    The moving image is smooth random texture with a bright, bent body in two parts; the fixed image is the moving
    image pulled through the true transform, with other noise.
    """
    random = np.random.default_rng(seed)
    x, y, z = (np.indices(_SHAPE) - (np.array(_SHAPE) - 1).reshape(3, 1, 1, 1) / 2).astype("float64")
    body = ((x - 0.01 * y**2) / 6.5) ** 2 + (y / 19) ** 2 + ((z + 0.012 * y**2 - 2) / 5.5) ** 2 < 1
    labels = np.where(body, np.where(y > 3, 1, 2), 0).astype("uint8")
    texture = gaussian_filter(random.normal(size=_SHAPE), 2.5)
    image = 0.8 * texture / texture.std() + 3.0 * gaussian_filter(body.astype("float64"), 0.7)
    affine = np.eye(4)
    moving, moving_labels = Image(image.astype("float32"), affine), Image(labels, affine)
    field = np.stack([gaussian_filter(random.normal(size=_SHAPE), 8) for _ in range(3)], axis=-1)
    truth = Transform.from_field(2.5 * field / field.std(), moving.grid)
    fixed = truth.apply_image(moving, moving.grid, outside="edge").array
    fixed = fixed + 0.1 * random.normal(size=_SHAPE)
    return (
        Image(fixed.astype("float32"), affine),
        moving,
        truth.apply_labels(moving_labels, moving.grid),
        moving_labels,
        truth,
    )


def _error(transform: Transform, truth: Transform, labels: Image) -> float:
    """Returns the mean distance in mm between two transforms inside the labels."""
    gap = transform.displacement(labels.grid) - truth.displacement(labels.grid)
    return float(np.linalg.norm(gap, axis=-1)[labels.array > 0].mean())


def real_files(data: Path) -> list[Path]:
    """Returns the files of the first hippocampus test pair: fixed, moving, fixed labels, moving labels."""
    folder = data / "hippocampus-mr"
    if not (folder / "splits.json").exists():
        raise MissingError(f"{folder} has no splits.json. Leave --data out for a synthetic pair.")
    moving, fixed = parse_json(read_text(folder / "splits.json", 2**24), "splits.json")["test_pairs"][0]
    return [folder / kind / f"{name}.nii.gz" for kind in ("images", "labels") for name in (fixed, moving)]


def _figures(result: Result) -> Iterator[str]:
    before, after, facts = result.facts["scores"]["before"], result.facts["scores"]["after"], result.facts
    yield f"Dice of the labels: {before['mean_dice']:.3f} before, {after['mean_dice']:.3f} after"
    yield f"folds: {100 * facts['jacobian']['folds']:.4f} % of voxels; network {facts['seconds']['network']:.2f} s"
