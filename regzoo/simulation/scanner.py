"""What the scanner shows of a chest that breathed: HU, lungs, and where a scan ends."""

from collections.abc import Sequence

from keras import ops

from regzoo.backend import Tensor
from regzoo.ops.random_numbers import normal
from regzoo.simulation.chests import FINE
from regzoo.simulation.motion import Draw
from regzoo.simulation.places import linear, mm_grid, row, smoothed, to_voxels

_AIR, _LUNG, _TISSUE = -1000.0, -500.0, -300.0  # HU: no density; below: density changes with volume; above: does not


def seen(states: Tensor, velocity: Tensor, drawn: Draw, spacing: Sequence[float], maps: Sequence[int]) -> Tensor:
    """Returns which voxels of the chest's image both scans show; late slabs show others.

    Args:
        states: What both scans show, fixed first, (2, *S, 7): displacement in voxels, the chest's shapes in mm, volume.
        velocity: How the chest moves, in voxels, (1, *S, 3).
        drawn: The draw.
        spacing: Millimetres a voxel.
        maps: Shape of the chest's maps.

    Returns:
        Shape (1, 2 X, Y, Z, 3).
    """
    shape = states.shape[1:4]
    late = drawn["slabs"][:, None, None, :, None] * velocity
    places = mm_grid(shape, spacing) + (states[..., :3] + late) * row(spacing)
    chest = linear(places, drawn["linear"]) + drawn["offset"] + states[..., 3:6]
    voxels = (to_voxels(chest, spacing, maps) + 0.5) * FINE - 0.5
    return ops.reshape(voxels, (1, 2 * shape[0], *shape[1:], 3))


def shown(drawn: Draw, spacing: Sequence[float], shape: Sequence[int]) -> Tensor:
    """Returns 1 where a scan shows anything, shape (2, *S, 1).

    It shows nothing beyond the ends of the CT, which turn with the patient, and where it is cropped beyond a slice.
    """
    grid, (low, high), crop = mm_grid(shape, spacing), (drawn["ends"][i] for i in range(2)), drawn["crop"]
    lying = linear(grid, drawn["lying"]) + drawn["travel"]
    ct = ops.concatenate([grid, lying], axis=0)[..., 2:]
    own = ops.concatenate([grid, grid + drawn["travel"]], axis=0)[..., 2:]
    inside = (ct > low) & (ct < high) & (own > low + _each(crop[0])) & (own < high - _each(crop[1]))
    return ops.cast(inside, "float32")


def look(seen: Tensor, states: Tensor, shown: Tensor, drawn: Draw) -> tuple:
    """Returns HU and lungs, each (2, *S, 1), fixed first.

    Args:
        seen: The chest's image and lungs at the voxels of `seen`, (1, 2 X, Y, Z, 2).
        states: As for `seen`.
        shown: From `shown`.
        drawn: The draw.
    """
    seen, seeds = ops.reshape(seen, (*states.shape[:4], 2)), ops.cast(drawn["seeds"], "int32")
    hu, lungs = seen[..., :1], seen[..., 1:]
    # Air comes and goes: its density follows the volume, while vessels keep theirs.
    airy = lungs * ops.clip((_TISSUE - hu) / (_TISSUE - _LUNG), 0.0, 1.0)
    gain = ops.clip(states[..., 6:], 0.3, 3.0) * _each(drawn["lung_gain"])
    hu = _AIR + (hu - _AIR) * (1 + airy * (gain - 1))
    hu = (
        hu
        + _each(drawn["offset_hu"]) * ops.clip((hu - _AIR) / 500, 0.0, 1.0)
        + drawn["noise"] * normal(seeds, 0, hu.shape[1:])
    )
    return _AIR + ops.maximum(smoothed(hu, drawn["blur"]) - _AIR, 0.0) * shown, lungs * shown


def _each(values: Tensor) -> Tensor:
    return ops.reshape(values, (-1, 1, 1, 1, 1))
