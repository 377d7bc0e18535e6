"""Registration of one pair by optimisation, without a network: method after method, fields from coarse to fine."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from regzoo.classical.convex import convex
from regzoo.classical.demons import demons
from regzoo.classical.descent import Descent
from regzoo.classical.pyramid import Pair
from regzoo.errors import invalid, unknown
from regzoo.schema.networks import AffineConfig, DDFConfig, DVFConfig, FFDConfig
from regzoo.world.images import Image
from regzoo.world.transforms import Transform

_SMOOTH = {"gradient": {"weight": 1.0}}
# Wide windows find a matrix from afar; small ones say more of a field: on simulated breathing, 2.1 mm instead of 2.5.
_NEAR = 5
# What nothing else keeps from folding: two prostates, 3.7 % of the voxels without it and 0.002 % with it.
_WHOLE = {"folding": {"weight": 10.0, "margin": 0.1}}
METHODS: Mapping[str, Callable] = MappingProxyType(
    {
        "rigid": Descent(AffineConfig(constraint="rigid")),
        "similarity": Descent(AffineConfig(constraint="similarity")),
        "affine": Descent(AffineConfig()),
        "ffd": Descent(FFDConfig(spacing=(20.0, 10.0)), {"bending": {"weight": 1.0}}, 0.3, (2, 1), _NEAR),
        "ddf": Descent(DDFConfig(level=1), _SMOOTH | _WHOLE, 0.2, (2, 1), _NEAR),
        "dvf": Descent(DVFConfig(level=1), _SMOOTH, 0.2, (2, 1), _NEAR),
        "demons": demons,
        "convex": convex,
    }
)
IMAGE_LOSSES = ("ssd", "ncc", "lncc", "mi", "nmi", "mind")
_OWN_LOSS = MappingProxyType({"demons": "ssd", "convex": "mind"})
"""Methods that compare images in their own way, and never look at labels."""
_IN_VIEW = ("ssd", "ncc", "mi", "nmi")
"""Losses that are misled where the moving image's edge goes on outside it, which LNCC and MIND take for flat."""
# Stiffer than a method: what a network gives is nearly there. Simulated breathing: 4.4 mm to 2.2 (weight 1: 2.4).
_REFINEMENT = Descent(DVFConfig(level=1), {"gradient": {"weight": 4.0}}, 0.1, (1,), _NEAR)


def optimise(
    fixed: Image,
    moving: Image,
    start: Transform,
    methods: Sequence[str],
    *,
    loss: str = "lncc",
    iterations: int = 100,
    fixed_mask: Image | None = None,
    moving_mask: Image | None = None,
    labels: tuple[Image, Image] | None = None,
) -> tuple[Transform, list[dict]]:
    """Registers by one method after another.

    What is compiled for a grid of a new shape stays in TensorFlow's memory, about 100 MB a level: a process that is to
    register a hundred pairs of different shapes is better made to end now and then.

    Args:
        fixed: Fixed image.
        moving: Moving image.
        start: From fixed to moving space.
        methods: Names of `METHODS`; each starts where the one before ended.
        loss: Image loss, one of `IMAGE_LOSSES`; demons compare intensities and convex MIND whatever it is.
        iterations: Most steps on each level of the pyramid; a level ends early once its loss no longer falls.
        fixed_mask: Label map on the fixed image's grid; only what is not 0 counts. The windows of `lncc` see half their
            width beyond it.
        moving_mask: The same on the moving image's grid.
        labels: Labels of the fixed and of the moving image, one channel each, in [0, 1]; their Dice loss then counts
            as much as the images do.

    Returns:
        The transform from fixed to moving space, RAS mm, its grid the fixed image's; and for each method its `method`,
        the `loss` that it used, and `levels`: `voxels` of the grid, `iterations`, loss `before` and `after`, and for
        all but convex `converged`: whether the loss had become flat.

    Raises:
        InvalidError: If a name is unknown, there is none, `iterations` is below 1, or there are labels and no method
            looks at them.
    """
    if not methods:
        raise invalid("method", "at least one name", "none")
    for name in methods:
        if name not in METHODS:
            raise unknown("method", name, METHODS)
    if labels and set(methods) <= _OWN_LOSS.keys():
        raise invalid("guided", "a method that looks at labels", ",".join(methods), "demons and convex do not.")
    pair, objective = _problem(fixed, moving, loss, iterations, fixed_mask, moving_mask, labels)
    found, done = start, []
    for name in methods:
        found, levels = METHODS[name](pair, found, objective, iterations)
        done.append({"method": name, "loss": _OWN_LOSS.get(name, loss), "levels": levels})
    return Transform(found.steps, fixed.grid), done


def refine(
    fixed: Image,
    moving: Image,
    start: Transform,
    iterations: int,
    *,
    loss: str = "lncc",
    fixed_mask: Image | None = None,
    moving_mask: Image | None = None,
    labels: tuple[Image, Image] | None = None,
) -> tuple[Transform, dict]:
    """Improves a transform on its pair ("instance optimisation") by a velocity field before it.

    Args:
        fixed: Fixed image.
        moving: Moving image.
        start: From fixed to moving space.
        iterations: Most steps.
        loss: Image loss, one of `IMAGE_LOSSES`.
        fixed_mask: Label map on the fixed image's grid; only what is not 0 counts. The windows of `lncc` see half their
            width beyond it.
        moving_mask: The same on the moving image's grid.
        labels: See `optimise`.

    Returns:
        The transform, never of a higher loss than `start`; and `iterations`, loss `before` and `after`.

    Raises:
        InvalidError: If the loss is unknown or `iterations` is below 1.

    Source: Balakrishnan et al., VoxelMorph: a learning framework for deformable medical image registration, 2019.
    """
    pair, objective = _problem(fixed, moving, loss, iterations, fixed_mask, moving_mask, labels)
    # Through `start` even where it is linear: the loss before is then that of `start`, at the first step's zeros.
    found, (level,) = _REFINEMENT(pair.seen_through(start), Transform(), objective, iterations)
    return Transform(found.then(start).steps, fixed.grid), level


def _problem(
    fixed: Image,
    moving: Image,
    loss: str,
    iterations: int,
    fixed_mask: Image | None,
    moving_mask: Image | None,
    labels: tuple[Image, Image] | None,
) -> tuple[Pair, dict]:
    if loss not in IMAGE_LOSSES:
        raise unknown("image loss", loss, IMAGE_LOSSES)
    if iterations < 1:
        raise invalid("iterations", "at least 1", iterations)
    masks = {"fixed_mask": fixed_mask, "moving_mask": moving_mask}
    masks = {name: mask for name, mask in masks.items() if mask is not None}
    for name, mask in masks.items():
        if not np.any(mask.array):
            raise invalid(name, "a mask with something inside", "only 0")
    if loss in _IN_VIEW and moving_mask is None:
        masks["moving_mask"] = Image(np.ones(moving.shape, "uint8"), moving.affine)
    objective = {"image": {loss: {}}} | ({"label": {"dice": {}}} if labels else {})
    return Pair.of(fixed, moving, masks, labels), objective
