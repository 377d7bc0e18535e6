"""Whether the anatomy of two images is turned or mirrored against each other more than a model or a method knows."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from keras import ops

from regzoo import backend, progress
from regzoo.classical import Guidance, coarse_affine
from regzoo.classical.pyramid import level_grid, seen
from regzoo.errors import InvalidError
from regzoo.ops.warping import warp
from regzoo.registration.expected.evidence import lncc_residual
from regzoo.registration.starts import method_start
from regzoo.schema.card import Card
from regzoo.world.alignment import Start
from regzoo.world.images import Image
from regzoo.world.pose import Pose, pose

_KNOWN = np.array([30.0, 10.0, 10.0])
"""Degrees about R, A and S. People nod more than they tilt or turn their heads on a table: of 60 training pairs of
brains none is turned further than 27, 7 and 5. Turning by 15 about R, A or S costs brain-mr-dvf 4 0.03 of Dice, by 25
0.04, 0.08 and 0.15 (its card)."""
_HALF = 150.0  # degrees: half a circle, or the mirror image
_WELL = 0.4  # of the local structure does not match (LNCC), up to which it tells left from right
_MIRRORED = 1e-3
_COARSELY = 2e-3  # of an affine registration, which is less sure
_COARSE = 2
"""How much coarser than the finest level of a method the images are compared that a matrix alone lays on each other."""


def shows_inside(image: Image) -> bool:
    """Tells whether an image shows more than an outline: a blob's own tells neither its turn nor left from right."""
    return any(len(np.unique(image.array[..., k])) > 2 for k in range(image.shape[2]))


def turned_start(card: Card, fixed: Image, moving: Image) -> list[str]:
    """Says that the moving image is turned further against the fixed one than a model knows.

    Args:
        card: The model's; `training.rotation` are the degrees that its training images were turned by, and
            `training.rotation_tested` those by which test images were turned that it registered as well as upright.
        fixed: Fixed image.
        moving: Moving image.
    """
    rotations = (card.training.get(name, 0.0) for name in ("rotation", "rotation_tested"))
    known = np.maximum(_KNOWN, max(map(float, rotations)))
    found = pose(fixed, moving) if shows_inside(fixed) and shows_inside(moving) else None
    if found is None or not found.plain or np.all(np.abs(found.turn) <= known):
        return []
    limits = ", ".join(f"{each:.0f}" for each in known)
    return [
        f"moving: turned by {_degrees(found)} against the fixed image; {card.name} knows turns of about {limits} "
        "degrees about R, A, S, and its result may be wrong. --start rigid or --start moments may straighten it; where "
        "they do not, turn the image by hand first, in a viewer."
    ]


def still_turned(fixed: Image, moved: Image) -> list[str]:
    """Says that what was moved by optimisation is still turned against the fixed image."""
    found = pose(fixed, moved)
    if found is None or not found.plain or np.abs(found.turn).max() <= _KNOWN.min():
        return []
    return [
        f"moved: still turned by {_degrees(found)} against the fixed image. Begin with the method rigid and "
        "--start moments; where that was so, turn the image by hand first, in a viewer."
    ]


def mirrored(batch: Mapping, prediction: Mapping, predict: Callable[[Mapping], Mapping], axes: str) -> list[str]:
    """Says that the mirror image of the moving image fits better than itself, after a registration of each.

    Left and right of a brain differ by little: of the local structure of ten pairs of brains 0.23 to 0.28 did not fit,
    and 0.0022 to 0.015 more with the mirror image (brain-mr-dvf 5, valid pairs); of seven pairs of another scanner
    0.0035 to 0.017 more. Correlation of the whole told one of these wrongly. Nothing is said of a smaller difference,
    nor where a registration fits less well.

    Args:
        batch: `fixed` and `moving` as a network sees them, (1, *S, 1), 0 around the anatomy.
        prediction: Of the network for them, with a `ddf`.
        predict: The network.
        axes: Of the network's grid, such as `"RAS"`.
    """
    itself = _unlike(batch["fixed"], batch["moving"], prediction)
    if not itself <= _WELL:
        return []
    mirror = np.flip(batch["moving"], 1 + max(axes.find("R"), axes.find("L"))).copy()
    return _told(itself, _unlike(batch["fixed"], mirror, predict({**batch, "moving": mirror})), _MIRRORED)


def mirror_gain(fixed: Image, moving: Image, start: Start, guidance: Guidance) -> float | None:
    """Returns by how much the mirror image of the moving one fits better, after an affine registration of each.

    A field, which makes what is mirrored fit too, has no say in it. Of four pairs of brains of OASIS-TRT, 0.32 to 0.41
    of the local structure did not fit so, and 0.005 to 0.028 more with the mirror image.

    Args:
        fixed: Fixed image.
        moving: Moving image.
        start: How both registrations start.
        guidance: What they look at.

    Returns:
        How much more of the local structure fits, -1 to 1; None where a registration fits less well than `_WELL`, as
        between modalities or people who are little alike, and for slices and outlines, where nothing can be said.
    """
    if min(fixed.shape[2], moving.shape[2]) == 1 or not (shows_inside(fixed) and shows_inside(moving)):
        return None
    grid, guidance = level_grid(fixed.grid, _COARSE), replace(guidance, labels=None)
    view = seen(fixed, grid)

    def unlike(image: Image, guidance: Guidance) -> float:
        found = coarse_affine(fixed, image, method_start(fixed, image, start)[1], guidance)
        moved = found.apply_image(image, fixed.grid, outside=float(image.array.min()))
        return _unlike_images(view, seen(moved, grid))

    with progress.part(0, 2):
        itself = unlike(moving, guidance)
    if not itself <= _WELL:
        return None
    mask, middle = guidance.moving_mask, fixed.grid.box()[:, 0].mean()  # both start alike, however they start
    try:
        with progress.part(1, 2):
            mask = mask and _mirrored_about(mask, middle)
            mirror = unlike(_mirrored_about(moving, middle), replace(guidance, moving_mask=mask))
    except InvalidError:  # it shows nothing where the fixed image is, or nothing that both masks leave
        return None
    return itself - mirror


def gain_told(gain: float | None) -> list[str]:
    """Says that the mirror image fits better, by `mirror_gain`."""
    return _told(gain or 0.0, 0.0, _COARSELY)


def _told(itself: float, mirror: float, least: float) -> list[str]:
    if not mirror < itself - least:
        return []
    return [
        "moving: its mirror image fits the fixed image better than itself: left and right may be exchanged in one of "
        "the two. Check their headers."
    ]


def _mirrored_about(image: Image, x: float) -> Image:
    """Returns an image whose left and right are exchanged in the world, about a plane in mm."""
    mirror = np.diag([-1.0, 1, 1, 1])
    mirror[0, 3] = 2 * x
    return Image(image.array, mirror @ image.affine)


def _unlike(fixed: np.ndarray, moving: np.ndarray, prediction: Mapping) -> float:
    """Returns how much of the local structure does not match in the anatomy, 0 to 1, nan where there is none."""
    moved = ops.convert_to_numpy(backend.compiled(warp)(moving, prediction["ddf"]))
    return _unlike_images(fixed[0, ..., 0], moved[0, ..., 0])


def _unlike_images(fixed: np.ndarray, moved: np.ndarray) -> float:
    inside = fixed > 0.1
    return float(lncc_residual(fixed, moved, dims=3)[inside].mean()) if inside.any() else float("nan")


def _degrees(found: Pose) -> str:
    angle = float(np.linalg.norm(found.turn))
    parts = ", ".join(f"{each:.0f} about {axis}" for each, axis in zip(found.turn, "RAS", strict=True))
    return f"{angle:.0f} degrees ({parts})" + (" or a mirror image" if angle > _HALF else "")
