"""Where a registration starts: as asked, or found, as the place by which two images match best."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from regzoo.errors import invalid
from regzoo.world.alignment import Start, aligned
from regzoo.world.images import Image
from regzoo.world.rigid import NEAR, Laid, Search
from regzoo.world.transforms import Transform

_LEFT, _LEFT_IF_SURE = 0.45, 0.65
"""Of what does not match at the usual start, at most, is left by one that takes its place; more where that turns far,
or where both images are nearly the same. As they lie, eight pairs of hippocampi left 0.37 (turned by 24 degrees against
each other), 0.51 and more, two of chests 0.70 and 0.76, one of brains 0.77; turned by 30 degrees, hippocampi left 0.31
to 0.59, chests at most 0.06, brains 0.30 (valid pairs)."""
_FAR, _SAME = 20.0, 0.9
"""Degrees, and likeness: what a network copes with by itself, and what two scans of one patient or two brains reach."""
_ALIKE = 0.4
"""Likeness from which a place is believed; hippocampi of two people that are cropped by a quarter have 0.5."""


def method_start(fixed: Image, moving: Image, how: Start) -> tuple[str, Transform]:
    """Returns the start of an optimisation from fixed to moving space, and its name.

    Args:
        fixed: Fixed image.
        moving: Moving image.
        how: Any but `"affine"`, which is by a network; the usual one is `"center"`.

    Raises:
        InvalidError: If the name is unknown, or an image is too thin or constant for it.
    """
    if how not in ("auto", "rigid"):
        return how, aligned(fixed, moving, how)
    name, matrix = found_start(fixed, moving, how, ("center", aligned(fixed, moving, "center").matrix))
    return name, Transform.linear(matrix, fixed.grid)


def found_start(fixed: Image, moving: Image, how: Start, usual: tuple[str, np.ndarray]) -> tuple[str, np.ndarray]:
    """Looks for the rigid map by which two coarse images match best.

    It begins at the usual start, the centres of the images, scanner coordinates and centres of mass, each as it is and
    turned. What matches is judged where both images show something, so that a crop does not count against it.

    Args:
        fixed: Fixed image.
        moving: Moving image.
        how: `"rigid"`: that map. `"auto"`: the usual start, unless that map is clearly better.
        usual: Name and matrix (4, 4), from fixed to moving space in mm, of the usual start.

    Returns:
        Name and matrix of the start.

    Raises:
        InvalidError: If a rigid start is asked for and an image is a slice or constant.
    """
    if min(*fixed.shape, *moving.shape) < 4 or not (np.ptp(fixed.array) and np.ptp(moving.array)):
        if how == "auto":
            return usual
        raise invalid("start", "'center' or 'world', since an image is constant or thin", "'rigid'")
    search = Search(fixed, moving)
    begun = [usual[1]]
    for other in (aligned(fixed, moving, "center").matrix, np.eye(4)):
        if search.distance(other, usual[1]) > NEAR * search.extent:
            begun.append(other)
    best, (now, *_) = search.rigid(begun)
    return ("rigid", best.matrix) if how == "rigid" or _clearly_better(best, now) else usual


def _clearly_better(found: Laid, usual: Laid) -> bool:
    sure = found.likeness > _SAME or _degrees(np.linalg.solve(usual.matrix, found.matrix)) > _FAR
    left = _LEFT_IF_SURE if sure else _LEFT
    return found.likeness > _ALIKE and 1 - found.likeness < left * (1 - usual.likeness)


def _degrees(matrix: np.ndarray) -> float:
    """Returns the angle of the rotation that is nearest to a matrix."""
    left, _, right = np.linalg.svd(matrix[:3, :3])
    return float(np.degrees(Rotation.from_matrix(left @ right).magnitude()))


def start_told(matrix: np.ndarray, fixed: Image) -> str:
    """Says how a start turns and shifts the fixed image's middle: `turned by 21 degrees, shifted by 4 mm`."""
    middle = fixed.grid.box().mean(axis=0)
    shift = np.linalg.norm(matrix[:3, :3] @ middle + matrix[:3, 3] - middle)
    return f"turned by {_degrees(matrix):.0f} degrees, shifted by {shift:.0f} mm"
