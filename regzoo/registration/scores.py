"""What labels, landmarks and intensities say of a registration, and what makes it doubtful."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from regzoo.world import metrics
from regzoo.world.images import Grid, Image
from regzoo.world.jacobians import SQUEEZED, STRETCHED
from regzoo.world.labels import anywhere, mask, present, shared_labels
from regzoo.world.matrices import map_points
from regzoo.world.outlines import hd95_of_labels
from regzoo.world.resampling import sample_points
from regzoo.world.transforms import Transform


@dataclass(frozen=True)
class Side:
    """One side of a pair: image, labels and landmarks (N, 3) in RAS mm; and where it was padded, shape (I, J, K)."""

    image: Image
    labels: Image | None = None
    points: np.ndarray | None = None
    padding: np.ndarray | None = None

    @property
    def shown(self) -> Image:
        """1 where the image shows something, 0 where it was padded."""
        shown = np.ones(self.image.shape, np.float32) if self.padding is None else ~self.padding
        return Image(shown.astype(np.float32), self.image.affine)


def in_view(transform: Transform, moving: Side, grid: Grid) -> np.ndarray:
    """Tells which voxels of `grid` show a place inside the moving image, blended with nothing outside or padded."""
    return transform.apply_image(moving.shown, grid).array > 0.999


def score(
    fixed: Side, moving: Side, transform: Transform, moved: Image, seen: np.ndarray, moved_labels: Image | None = None
) -> dict:
    """Returns what labels and points of both sides allow to say, both ways, and the correlation where `seen`.

    Args:
        fixed: The fixed side.
        moving: The moving side.
        transform: From fixed to moving space.
        moved: The moving image on the fixed image's grid.
        seen: Where to correlate the images.
        moved_labels: The moving labels on the fixed image's grid, if they were moved already.
    """
    found: dict = {"ncc": _correlation(fixed.image.array[seen], moved.array[seen])}
    if fixed.labels is not None and moving.labels is not None:
        shared = shared_labels(fixed.labels, moving.labels)
        there = moved_labels or transform.apply_labels(moving.labels, fixed.image.grid)
        found |= overlap(fixed.labels, there, shared)
        if shared and _flat(fixed.image) == _flat(moving.image):  # a slice says nothing of a volume
            back, found["inverse_residual"] = carried_back(transform, fixed.labels, moving.labels)
            found |= both_ways(found, overlap(moving.labels, back, shared))
    if fixed.points is not None and moving.points is not None:
        found["tre"] = _errors(metrics.tre(fixed.points, moving.points, transform))
        found["tre_inverse"] = _errors(metrics.tre(inverted(transform, moving.points), fixed.points))
    return found


def _flat(image: Image) -> bool:
    return image.shape[2] == 1


def inverted(transform: Transform, points: np.ndarray) -> np.ndarray:
    """Maps points of moving space (N, 3) to fixed space by the inverse of the same map, whatever gave it.

    Linear steps are inverted exactly and fields numerically, at the points themselves, to 0.001 mm; never is a network
    asked for the exchanged pair, which would be another map. Where a field folds there is no inverse: the residual
    tells.
    """
    parts = np.array_split(points, len(points) // _AT_A_TIME + 1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "inverse: ")
        return np.concatenate([transform.invert_points(part) for part in parts])


_AT_A_TIME = 2**18  # points: 6 MB a copy


def carried_back(transform: Transform, labels: Image, onto: Image) -> tuple[Image, dict[str, float]]:
    """Moves fixed labels by the inverse map onto the moving labels' grid.

    Args:
        transform: From fixed to moving space.
        labels: Fixed labels.
        onto: Moving labels, of the same kind.

    Returns:
        The labels, and `|T(T^-1(y)) - y|` in mm over the voxels y that have a label of either image: mean and max.
    """
    held = anywhere(onto)
    chosen = np.nonzero(held | _led_to(transform, labels, onto))
    points = onto.grid.places(chosen)
    back = inverted(transform, points)
    values = sample_points(labels, back, 0 if labels.channels is None else 1)
    # Only where there is a label of either image does it matter whether the inverse is one.
    asked = held[chosen] | (values != 0).reshape(len(values), -1).any(axis=1)
    missed = np.zeros(len(points))
    missed[asked] = np.linalg.norm(transform.apply_points(back[asked]) - points[asked], axis=-1)
    # Where no place of the fixed image leads to, beyond its box or in a fold, nothing is carried.
    values[missed > 0.1 * onto.spacing.min()] = 0
    array = np.zeros((*onto.shape, *values.shape[1:]), values.dtype)
    array[chosen] = values
    moved = Image(array, onto.affine)
    inside = (held | anywhere(moved))[chosen]
    return moved, {"mean": float(missed[inside].mean()), "max": float(missed[inside].max())}


def _led_to(transform: Transform, labels: Image, onto: Image) -> np.ndarray:
    """Tells which voxels of a grid a transform may lead to from within a label: all that are near a voxel's centre."""
    places = labels.grid.places(np.nonzero(anywhere(labels)))
    reached = map_points(np.linalg.inv(onto.affine), transform.apply_points(places))
    near = np.zeros(onto.shape, np.uint8)
    near[tuple(np.clip(np.rint(reached), 0, np.array(onto.shape) - 1).astype(int).T)] = 1
    margin = 2 + np.ceil(np.linalg.norm(labels.spacing) / onto.spacing).astype(int)
    return ndimage.maximum_filter(near, tuple(2 * margin + 1), mode="constant") > 0


def overlap(fixed: Image, moved: Image, labels: list[int]) -> dict:
    """Returns Dice, HD95 and the distance of the centroids (mm) of labels, and their means.

    A label of which nothing is left has Dice 0 and no distance, and is absent from the mean distances.

    Args:
        fixed: Label map; or one channel a label, which are numbered from 1 and inside from 0.5 on.
        moved: Labels of the same kind on the same grid.
        labels: Which ones.
    """
    found: dict[str, dict] = {"dice": {}, "hd95": {}, "centroid": {}}
    for chosen, *maps in _integer_maps(fixed, moved, labels):
        centres = [metrics.centroids(each, fixed.affine) for each in maps]
        dice, hd95 = metrics.dice(*maps, chosen.values()), hd95_of_labels(*maps, fixed.spacing)
        for label, value in chosen.items():
            found["dice"][label], found["hd95"][label] = dice[value], hd95.get(value, float("nan"))
            apart = float(np.linalg.norm(centres[1][value] - centres[0][value])) if value in hd95 else float("nan")
            found["centroid"][label] = apart
    known = {name: [value for value in values.values() if np.isfinite(value)] for name, values in found.items()}
    return found | {f"mean_{name}": _mean(values) for name, values in known.items()}


def mean_dice(fixed: Side, moving: Side, transform: Transform) -> float:
    """Returns the mean Dice of the labels that both sides have, of which there are some, moved by a transform."""
    labels = shared_labels(fixed.labels, moving.labels)
    moved = transform.apply_labels(moving.labels, fixed.image.grid)
    found = (metrics.dice(*maps, chosen.values()) for chosen, *maps in _integer_maps(fixed.labels, moved, labels))
    return _mean([value for dice in found for value in dice.values()])


def _integer_maps(fixed: Image, moved: Image, labels: list[int]) -> Iterator[tuple]:
    """Yields labels with their value in two maps of integers, and these: one pair of maps, or one a channel."""
    if fixed.channels is None:
        yield {label: label for label in labels}, fixed.array, moved.array
        return
    for label in labels:
        yield {label: 1}, *(mask(each, label).astype(np.uint8) for each in (fixed, moved))


def both_ways(forward: dict, inverse: dict) -> dict:
    """Returns the mean of `overlap` on the fixed image, by the map, and on the moving image, by its inverse; and both.

    A map that draws the moving labels together wins the first and loses the second.

    Args:
        forward: Of the moving labels, moved by the map, with the fixed ones.
        inverse: Of the fixed labels, moved by the inverse map, with the moving ones.

    Returns:
        `dice`, `dice_forward`, `dice_inverse` by label, `mean_dice` and so on, as for `hd95` and `centroid`. A label
        that is lost one way has no distance.
    """
    found = {}
    for name in inverse:
        pair = forward[name], inverse[name]
        whole = {each: _mean(side[each] for side in pair) for each in pair[0]} if isinstance(pair[0], dict) else None
        found[name] = _mean(pair) if whole is None else whole
        found |= {f"{name}_forward": pair[0], f"{name}_inverse": pair[1]}
    return found


def over_same_labels(before: dict, after: dict) -> dict[str, dict]:
    """Returns both scores as `before` and `after`, with the mean distances over the same labels.

    Otherwise a registration that loses a label, and its distance with it, would look like a better one.
    """
    sides = {"before": before, "after": after}
    for name in ("hd95", "centroid"):
        if name not in after:
            continue
        kept = [label for label in after[name] if np.isfinite([side[name][label] for side in (before, after)]).all()]
        ways = [way for way in (name, f"{name}_forward", f"{name}_inverse") if way in after]
        sides = {
            when: side | {f"mean_{way}": _mean(side[way][label] for label in kept) for way in ways}
            for when, side in sides.items()
        }
    return sides


def _errors(errors: np.ndarray) -> dict[str, float]:
    return {"mean": float(errors.mean()), "sd": float(errors.std()), "max": float(errors.max())}


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return float(np.mean(values)) if values else float("nan")


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Returns Pearson's correlation, nan for no values or constant ones."""
    if not a.size or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def unscored(fixed: Side, moving: Side) -> list[str]:
    """Says which labels and landmarks were given but could not be scored. Moving ones alone are only moved."""
    found = []
    if fixed.labels is not None and moving.labels is None:
        found.append("fixed_labels were given without moving_labels: no overlap is scored.")
    if (fixed.points is None) != (moving.points is None):
        found.append("Landmarks were given for one image only: no landmark error is scored.")
    if fixed.labels is not None and moving.labels is not None:
        alone = sorted(set(present(fixed.labels)) ^ set(present(moving.labels)))
        if alone:
            found.append(f"Labels in one of the two maps only, not scored: {', '.join(map(str, alone))}.")
    return found


# SDlogJ of 0.35: a third of the voxels change their volume by more than a factor of 1.4.
_STRONG = 0.35
# A fiftieth and six times of its volume: no tissue is squeezed or stretched so, but a label that is drawn together is.
_LEAST, _MOST = 0.02, 6.0
# Share of the label voxels whose volume changes more than threefold: between subjects anatomy of one kind does so
# nowhere. The cavities of a heart that contracts do.
_MANY = 0.03


def doubts(scores: dict, jacobian: dict, one_contrast: bool = True) -> list[str]:
    """Says what makes a registration doubtful.

    Args:
        scores: Those `before` and `after`.
        jacobian: Statistics of the field.
        one_contrast: Whether a registration makes the images correlate more, in one sign or the other.
    """
    before, after = scores["before"], scores["after"]
    found = []
    if jacobian["folds"] > 0.001:
        found.append(f"The field folds at {100 * jacobian['folds']:.2f} % of the voxels.")
    low, high = (jacobian.get(key, 1.0) for key in ("min", "max"))
    if jacobian["sdlogj"] > _STRONG:
        found.append(
            f"The field compresses and stretches strongly (SDlogJ {jacobian['sdlogj']:.2f}); "
            "do not measure volumes by it."
        )
    elif low < _LEAST or high > _MOST:
        found.append(f"The Jacobian goes from {low:.2g} to {high:.2g}: where it is so far from 1, trust no volume.")
    squeezed, stretched = (jacobian.get(key, 0.0) for key in ("squeezed", "stretched"))
    if squeezed + stretched > _MANY:
        found.append(
            f"Of the label voxels {100 * squeezed:.0f} % are squeezed (Jacobian below {SQUEEZED:g}) and "
            f"{100 * stretched:.0f} % stretched (above {STRETCHED:g}): labels are drawn together, "
            "not registered, unless the organ itself changes its volume so, as the cavities of a heart do."
        )
    if np.isnan(after["ncc"]):
        found.append("The images cannot be compared: nothing of the moving image is in view, or it is constant there.")
    elif one_contrast and abs(after["ncc"]) < abs(before["ncc"]):
        found.append("The images correlate less after the registration than before; look at the picture.")
    if "tre" in after and after["tre"]["mean"] > before["tre"]["mean"]:
        found.append("The landmarks lie further apart after the registration than before.")
    return found + label_doubts(scores)


def label_doubts(scores: dict) -> list[str]:
    """Says what makes moved labels doubtful."""
    before, after = scores["before"], scores["after"]
    found = []
    if after.get("mean_dice", 0.0) < before.get("mean_dice", 0.0):
        found.append(
            f"The labels overlap less after the registration than before: mean Dice {before['mean_dice']:.3f} "
            f"to {after['mean_dice']:.3f}."
        )
    lost = [str(label) for label, dice in after.get("dice", {}).items() if dice == 0 < before["dice"][label]]
    if lost:
        found.append(f"Labels that overlapped before and do not any more: {', '.join(lost)}.")
    return found
