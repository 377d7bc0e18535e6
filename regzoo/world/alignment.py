"""Where a registration starts: image centres, scanner coordinates, centres of mass, or the axes of mass."""

import itertools
from typing import Literal

import numpy as np

from regzoo.errors import invalid
from regzoo.world.images import Image
from regzoo.world.matrices import about, map_points
from regzoo.world.resampling import sample_points
from regzoo.world.transforms import Transform

Alignment = Literal["center", "world", "mass", "moments"]
Start = Literal["auto", "center", "world", "mass", "moments", "rigid", "affine"]
"""How a registration starts: by an `Alignment`, a quick rigid search, an affine network, or what matches best."""


def aligned(fixed: Image, moving: Image, how: Alignment) -> Transform:
    """Returns the linear transform from fixed to moving space that a registration starts from.

    Args:
        fixed: Fixed image.
        moving: Moving image.
        how: `"center"`: the middle of one image on that of the other. `"world"`: scanner coordinates as they are.
            `"mass"`: centre of mass on centre of mass; mass is the intensity above the image's lowest value.
            `"moments"`: also the principal axes of mass on each other. Four rotations do that; it is the least of
            them, or another by which the images are plainly more alike.

    Raises:
        InvalidError: If the name is unknown.
    """
    if how == "world":
        return Transform.linear(np.eye(4), fixed.grid)
    if how == "center":
        return Transform.linear(about(np.eye(3), origin(fixed, how), origin(moving, how)), fixed.grid)
    if how not in ("mass", "moments"):
        raise invalid("alignment", "'center', 'world', 'mass' or 'moments'", repr(how))
    (centre_f, spread_f), (centre_m, spread_m) = _moments(fixed), _moments(moving)
    turns = [np.eye(3)] if how == "mass" else _turns(spread_f, spread_m)
    starts = [Transform.linear(about(turn, centre_f, centre_m), fixed.grid) for turn in turns]
    likeness = [_likeness(fixed, moving, start) for start in starts]
    best = int(np.argmax(likeness))
    return starts[best if 1 - likeness[best] < _PLAINLY * (1 - likeness[0]) else 0]


def origin(image: Image, how: Alignment) -> np.ndarray:
    """Returns the point of an image, (3,) in RAS mm, that a start lays on the same point of another image.

    Args:
        image: The image.
        how: As in `aligned`; for `"world"` it is the scanner's origin.
    """
    if how == "world":
        return np.zeros(3)
    return map_points(image.affine, (np.array(image.shape) - 1) / 2) if how == "center" else _moments(image)[0]


_PLAINLY = 0.6
"""What more than the least turn must leave, at most, of what differs by the least."""
_POINTS = 24  # along each axis of the fixed image, at which images are compared


def _likeness(fixed: Image, moving: Image, start: Transform) -> float:
    """Returns the squared correlation of both images on a coarse lattice: of one contrast, or its negative."""
    at = np.meshgrid(*(np.linspace(0, n - 1, min(n, _POINTS)) for n in fixed.shape), indexing="ij")
    places = map_points(fixed.affine, np.stack(at, axis=-1).reshape(-1, 3))
    outside = float(moving.array.min())
    values = sample_points(fixed, places), sample_points(moving, start.apply_points(places), outside=outside)
    if not all(np.ptp(each) for each in values):
        return 0.0
    return float(np.corrcoef(*values)[0, 1] ** 2)


def _moments(image: Image) -> tuple[np.ndarray, np.ndarray]:
    """Returns the centre (3,) and the covariance (3, 3) of an image's mass, in RAS mm."""
    mass = image.array.astype("float64") - float(image.array.min())
    places = image.grid.coordinates()
    if not mass.any():
        raise invalid("alignment", "'center' or 'world', since an image is constant", "'mass' or 'moments'")
    mass /= mass.sum()
    centre = np.einsum("ijk,ijkd->d", mass, places)
    away = places - centre
    return centre, np.einsum("ijk,ijkd,ijke->de", mass, away, away)


def _turns(fixed: np.ndarray, moving: np.ndarray) -> list[np.ndarray]:
    """Returns the four rotations that lay the axes of one covariance on those of the other, the least first."""
    axes_f, axes_m = np.linalg.eigh(fixed)[1], np.linalg.eigh(moving)[1]
    turns = (axes_m @ np.diag(signs) @ axes_f.T for signs in itertools.product((1, -1), repeat=3))
    return sorted((turn for turn in turns if np.linalg.det(turn) > 0), key=np.trace, reverse=True)
