"""Where a registration starts: image centres, scanner coordinates, centres of mass, or the axes of mass."""

import itertools
from typing import Literal

import numpy as np

from regzoo.errors import invalid
from regzoo.world.images import Grid, Image
from regzoo.world.matrices import about, map_points
from regzoo.world.transforms import Transform

Alignment = Literal["center", "world", "mass", "moments"]


def aligned(fixed: Image, moving: Image, how: Alignment) -> Transform:
    """Returns the linear transform from fixed to moving space that a registration starts from.

    Args:
        fixed: Fixed image.
        moving: Moving image.
        how: `"center"`: the middle of one image on that of the other. `"world"`: scanner coordinates as they are.
            `"mass"`: centre of mass on centre of mass; mass is the intensity above the image's lowest value.
            `"moments"`: also the principal axes of mass on each other, by the least of the rotations that do that.

    Raises:
        InvalidError: If the name is unknown.
    """
    if how == "world":
        return Transform.linear(np.eye(4), fixed.grid)
    if how == "center":
        return Transform.linear(about(np.eye(3), _middle(fixed.grid), _middle(moving.grid)), fixed.grid)
    if how not in ("mass", "moments"):
        raise invalid("alignment", "'center', 'world', 'mass' or 'moments'", repr(how))
    (centre_f, spread_f), (centre_m, spread_m) = _moments(fixed), _moments(moving)
    turn = np.eye(3) if how == "mass" else _turn(spread_f, spread_m)
    return Transform.linear(about(turn, centre_f, centre_m), fixed.grid)


def _middle(grid: Grid) -> np.ndarray:
    return map_points(grid.affine, (np.array(grid.shape) - 1) / 2)


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


def _turn(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Returns the rotation nearest to none that lays the axes of one covariance on those of the other."""
    axes_f, axes_m = np.linalg.eigh(fixed)[1], np.linalg.eigh(moving)[1]
    turns = (axes_m @ np.diag(signs) @ axes_f.T for signs in itertools.product((1, -1), repeat=3))
    return max((turn for turn in turns if np.linalg.det(turn) > 0), key=np.trace)
