"""A method asked again about a pair that was changed a little, and each known change undone in its answer.

As `passes` does it with a network, but on images that are twice as coarse as the method's finest level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from regzoo import progress
from regzoo.classical import Guidance, optimise
from regzoo.classical.pyramid import coarsened, level_grid, seen
from regzoo.errors import InvalidError
from regzoo.registration.expected.evidence import Asked
from regzoo.registration.expected.passes import SHIFT, recoloured, turn
from regzoo.schema.calibration import Calibration
from regzoo.world.images import Image
from regzoo.world.matrices import about
from regzoo.world.resampling import resample
from regzoo.world.transforms import Transform

CALIBRATED = {("affine", "dvf"): "affine-dvf.json"}
"""Chains of methods whose error was held against a known truth, and the file that says what is known of it."""
_COARSE = 2


def calibration(names: Sequence[str], fixed: Image, guidance: Guidance) -> Calibration | None:
    """Returns what is known of the error of methods as they are by default, in volumes; None: nothing."""
    usual = Guidance()
    default = guidance.loss == usual.loss and guidance.iterations == usual.iterations and guidance.labels is None
    file = Path(__file__).parent / CALIBRATED.get(tuple(names), "none.json")
    if not default or fixed.shape[2] == 1 or not file.is_file():
        return None
    return Calibration.model_validate_json(file.read_text(encoding="utf-8"))


def asked_again(
    fixed: Image,
    moving: Image,
    start: Transform,
    found: Transform,
    names: Sequence[str],
    guidance: Guidance,
    mirror: float | None,
) -> Asked | None:
    """Registers a pair twice more, coarsely: changed a little, and the other way round.

    Args:
        fixed: Fixed image.
        moving: Moving image.
        start: Where the methods started.
        found: What they gave.
        names: The methods.
        guidance: What they looked at.
        mirror: By how much the mirror image of the moving image fits better; None: nothing is known of it.

    Returns:
        The pair as it was compared and how the answers differ, None if a changed pair cannot be registered.
    """
    grid = level_grid(fixed.grid, _COARSE)
    other = coarsened(moving.grid, float(grid.spacing.min()))
    fixed, moving = Image(seen(fixed, grid), grid.affine), Image(seen(moving, other), other.affine)
    places = grid.coordinates().reshape(*grid.shape, 3)
    answer = found.displacement(grid) + places
    try:
        guidance = replace(
            guidance,
            labels=None,
            fixed_mask=guidance.fixed_mask and resample(guidance.fixed_mask, grid, order=0),
            moving_mask=guidance.moving_mask and resample(guidance.moving_mask, other, order=0),
        )
        with progress.part(0, 2):
            undone = _undone(fixed, moving, start, names, guidance)
        with progress.part(1, 2):
            back = _exchanged(fixed, moving, start, names, guidance)
    except InvalidError:  # what was cut or masked shows nothing where the other image is any more
        return None
    differences = [
        undone.displacement(grid) + places - answer,
        back.apply_points(answer.reshape(-1, 3)).reshape(places.shape) - places,
    ]
    anatomy = guidance.fixed_mask and guidance.fixed_mask.array > 0
    return Asked(fixed, moving, 3, differences, mirror=mirror or 0.0, anatomy=anatomy)


def _undone(fixed: Image, moving: Image, start: Transform, names: Sequence[str], guidance: Guidance) -> Transform:
    """Returns the answer for a moving image that lies elsewhere, and other brightness and noise, taken back."""
    one, two = recoloured(fixed.array, moving.array)
    # Both about and by what the images share, however much wider one of them is.
    middle = start.apply_points(fixed.grid.centre[None])[0]
    size = np.minimum(*(np.ptp(image.grid.box(), axis=0) for image in (fixed, moving)))
    matrix = about(turn(3), middle, middle + SHIFT * size)
    mask = guidance.moving_mask
    changed = replace(guidance, moving_mask=mask and Image(mask.array, matrix @ mask.affine))
    found, _ = optimise(Image(one, fixed.affine), Image(two, matrix @ moving.affine), start, names, changed)
    return found.then(Transform.linear(np.linalg.inv(matrix)))


def _exchanged(fixed: Image, moving: Image, start: Transform, names: Sequence[str], guidance: Guidance) -> Transform:
    """Returns the answer for the pair the other way round, from moving to fixed space."""
    other = replace(guidance, fixed_mask=guidance.moving_mask, moving_mask=guidance.fixed_mask)
    return optimise(moving, fixed, start.inverse(), names, other)[0]
