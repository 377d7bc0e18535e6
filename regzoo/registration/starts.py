"""Where a registration starts: as asked, or found, as the place by which two images match best."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from regzoo.errors import invalid
from regzoo.world.alignment import Start, aligned
from regzoo.world.images import Image
from regzoo.world.rigid import NEAR, Laid, Search
from regzoo.world.transforms import Transform

_LEFT, _LEFT_IF_SURE, _LEFT_BY_HEADER = 0.45, 0.65, 0.7
"""Of what does not match at the usual start, at most, is left by one that takes its place: by any rigid map; by one
that turns far, or where both images are nearly the same; by what the headers say, which a crop keeps. As they lie,
eight pairs of hippocampi left 0.37 (turned by 24 degrees against each other), 0.51 and more by a rigid map, and 0.88
and more by another header (four pairs); two of chests 0.70 and 0.76, one of brains 0.77. Turned by 30 degrees,
hippocampi left 0.31 to 0.59, chests at most 0.06, brains 0.30 (valid pairs)."""
_FAR, _SAME = 20.0, 0.9
"""Degrees, and likeness: what a network copes with by itself, and what two scans of one patient or two brains reach."""
_MOVED = 0.02
"""Of the fixed image's extent: what lies nearer to the usual start is left to the registration."""
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
    """Looks for the start by which two coarse images match best.

    There are the usual start, the centres of the images, scanner coordinates, and the best rigid map that is found from
    each of these and the centres of mass, as they are and turned. What matches is judged where both images show
    something, so that a crop does not count against a start.

    Args:
        fixed: Fixed image.
        moving: Moving image.
        how: `"rigid"`: the best rigid map. `"auto"`: the usual start, unless another is clearly better.
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
    plain = dict([usual])
    for name, matrix in (("center", aligned(fixed, moving, "center").matrix), ("world", np.eye(4))):
        if search.distance(matrix, usual[1]) > NEAR * search.extent:
            plain[name] = matrix
    best, laid = search.rigid([*plain.values()])
    if how == "rigid":
        return "rigid", best.matrix
    (kept, at), *others = zip(plain, laid, strict=True)
    for name, other in others:
        if other.likeness > _ALIKE and _left(other, at) < _LEFT_BY_HEADER:
            kept, at = name, other
    if search.distance(best.matrix, at.matrix) < _MOVED * search.extent:
        return kept, at.matrix
    sure = best.likeness > _SAME or _degrees(np.linalg.solve(at.matrix, best.matrix)) > _FAR
    if best.likeness > _ALIKE and _left(best, at) < (_LEFT_IF_SURE if sure else _LEFT):
        kept, at = "rigid", best
    return kept, at.matrix


def better(fixed: Image, moving: Image, one: np.ndarray, other: np.ndarray) -> bool:
    """Tells whether two coarse images match better by a matrix than by another one, (4, 4), fixed to moving in mm."""
    found, before = Search(fixed, moving).judged([one, other])
    return found.likeness > before.likeness


def _left(found: Laid, usual: Laid) -> float:
    """Returns how much is left of what did not match."""
    return (1 - found.likeness) / max(1 - usual.likeness, 1e-9)


def _degrees(matrix: np.ndarray) -> float:
    """Returns the angle of the rotation that is nearest to a matrix."""
    left, _, right = np.linalg.svd(matrix[:3, :3])
    return float(np.degrees(Rotation.from_matrix(left @ right).magnitude()))


def start_told(matrix: np.ndarray, fixed: Image) -> str:
    """Says how a start turns and shifts the fixed image's middle: `turned by 21 degrees, shifted by 4 mm`."""
    middle = fixed.grid.box().mean(axis=0)
    shift = np.linalg.norm(matrix[:3, :3] @ middle + matrix[:3, 3] - middle)
    return f"turned by {_degrees(matrix):.0f} degrees, shifted by {shift:.0f} mm"
