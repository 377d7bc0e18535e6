"""Registration of one pair by optimisation, without a network: method after method, fields from coarse to fine."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from regzoo import backend, progress
from regzoo.classical.convex import convex
from regzoo.classical.demons import demons
from regzoo.classical.descent import Descent
from regzoo.classical.guidance import Guidance
from regzoo.errors import invalid, unknown
from regzoo.schema.outputs import AffineConfig, DDFConfig, DVFConfig, FFDConfig
from regzoo.world.images import Image
from regzoo.world.transforms import Transform


@dataclass(frozen=True)
class Method:
    """One way to register a pair.

    Args:
        run: See `Descent.__call__` for arguments and result.
        loss: The image loss that it stands for, if it compares images in its own way and never looks at labels. None:
            it takes those it is told.
    """

    run: Callable
    loss: str | None = None


_SMOOTH = {"gradient": {"weight": 1.0}}
# Wide windows find a matrix from afar; small ones say more of a field: on simulated breathing, 2.1 mm instead of 2.5.
_NEAR = 5
# What nothing else keeps from folding: two prostates, 3.7 % of the voxels without it and 0.002 % with it.
_WHOLE = {"folding": {"weight": 10.0, "margin": 0.1}}
METHODS: dict[str, Method] = {
    "rigid": Method(Descent(AffineConfig(constraint="rigid"))),
    "similarity": Method(Descent(AffineConfig(constraint="similarity"))),
    "affine": Method(Descent(AffineConfig())),
    "ffd": Method(Descent(FFDConfig(spacing=(20.0, 10.0)), {"bending": {"weight": 1.0}}, 0.3, (2, 1), _NEAR)),
    "ddf": Method(Descent(DDFConfig(level=1), _SMOOTH | _WHOLE, 0.2, (2, 1), _NEAR)),
    "dvf": Method(Descent(DVFConfig(level=1), _SMOOTH, 0.2, (2, 1), _NEAR)),
    "demons": Method(demons, loss="ssd"),
    "convex": Method(convex, loss="mind"),
}
_COARSE = Descent(AffineConfig(), factors=(4,))
# Stiffer than a method: what a network gives is nearly there. Simulated breathing: 4.4 mm to 2.2 (weight 1: 2.4).
_REFINEMENT = Descent(DVFConfig(level=1), {"gradient": {"weight": 4.0}}, 0.1, (1,), _NEAR)


@backend.float32()
def optimise(
    fixed: Image, moving: Image, start: Transform, methods: Sequence[str], guidance: Guidance | None = None
) -> tuple[Transform, list[dict]]:
    """Registers by one method after another.

    What is compiled for a grid of a new shape stays in TensorFlow's memory, about 100 MB a level: a process that is to
    register a hundred pairs of different shapes is better made to end now and then.

    Args:
        fixed: Fixed image.
        moving: Moving image.
        start: From fixed to moving space.
        methods: Names of `METHODS`; each starts where the one before ended.
        guidance: What is compared, where, and for how long; demons compare intensities and convex MIND whatever its
            loss is. None: `Guidance()`.

    Returns:
        The transform from fixed to moving space, RAS mm, its grid the fixed image's; and for each method its `method`,
        the `loss` that it used, and `levels`: `voxels` of the grid, `iterations`, loss `before` and `after`, and for
        all but convex `converged`: whether the loss had become flat.

    Raises:
        InvalidError: If a name is unknown, there is none, or there are labels and no method looks at them.
    """
    guidance = guidance or Guidance()
    if not methods:
        raise invalid("method", "at least one name", "none")
    for name in methods:
        if name not in METHODS:
            raise unknown("method", name, METHODS)
    if guidance.labels and all(METHODS[name].loss for name in methods):
        raise invalid("guided", "a method that looks at labels", ",".join(methods), "demons and convex do not.")
    pair, found, done = guidance.pair(fixed, moving, start), start, []
    for i, name in enumerate(methods):
        with progress.part(i, len(methods)):
            found, levels = METHODS[name].run(pair, found, guidance.objective, guidance.iterations)
        done.append({"method": name, "loss": METHODS[name].loss or guidance.loss, "levels": levels})
    return Transform(found.steps, fixed.grid), done


@backend.float32()
def coarse_affine(fixed: Image, moving: Image, start: Transform, guidance: Guidance) -> Transform:
    """Registers by an affine transform whose images are four times as coarse as the finest level of a method.

    Args:
        fixed: Fixed image.
        moving: Moving image.
        start: From fixed to moving space.
        guidance: What is compared, where, and for how long.

    Returns:
        The transform from fixed to moving space.
    """
    return _COARSE(guidance.pair(fixed, moving, start), start, guidance.objective, guidance.iterations)[0]


@backend.float32()
def refine(fixed: Image, moving: Image, start: Transform, guidance: Guidance | None = None) -> tuple[Transform, dict]:
    """Improves a transform on its pair ("instance optimisation") by a velocity field before it.

    Args:
        fixed: Fixed image.
        moving: Moving image.
        start: From fixed to moving space.
        guidance: What is compared, where, and for how long. None: `Guidance()`.

    Returns:
        The transform, never of a higher loss than `start`; and `iterations`, loss `before` and `after`.

    Source: Balakrishnan et al., VoxelMorph: a learning framework for deformable medical image registration, 2019.
    """
    guidance = guidance or Guidance()
    pair = guidance.pair(fixed, moving, start)
    found, (level,) = _REFINEMENT(pair, start, guidance.objective, guidance.iterations)
    return Transform(found.steps, fixed.grid), level
