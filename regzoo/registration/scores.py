"""What labels, landmarks and intensities say of a registration, and what makes it doubtful."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from regzoo.world import metrics
from regzoo.world.images import Grid, Image
from regzoo.world.labels import mask, present, shared_labels
from regzoo.world.transforms import Transform


@dataclass(frozen=True)
class Side:
    """One side of a pair: image, labels and landmarks (N, 3) in RAS mm."""

    image: Image
    labels: Image | None = None
    points: np.ndarray | None = None


def in_view(transform: Transform, moving: Image, grid: Grid) -> np.ndarray:
    """Tells which voxels of `grid` show a place inside the moving image, where nothing is blended with outside."""
    ones = Image(np.ones(moving.shape, np.float32), moving.affine)
    return transform.apply_image(ones, grid).array > 0.999


def score(fixed: Side, moving: Side, transform: Transform, moved: Image, seen: np.ndarray) -> dict:
    """Returns what the given labels and points allow to say, and the correlation of the images where `seen`."""
    found: dict = {"ncc": _correlation(fixed.image.array[seen], moved.array[seen])}
    if fixed.labels is not None and moving.labels is not None:
        labels = transform.apply_labels(moving.labels, fixed.image.grid)
        found |= overlap(fixed.labels, labels, shared_labels(fixed.labels, moving.labels))
    if fixed.points is not None and moving.points is not None:
        errors = metrics.tre(fixed.points, moving.points, transform)
        found["tre"] = {"mean": float(errors.mean()), "sd": float(errors.std()), "max": float(errors.max())}
    return found


def overlap(fixed: Image, moved: Image, labels: list[int]) -> dict:
    """Returns Dice, HD95 and the distance of the centroids (mm) of labels, and the means of the first and the last.

    A label of which nothing is left has Dice 0 and no distance, and is absent from the mean distance.

    Args:
        fixed: Label map; or one channel a label, which are numbered from 1 and inside from 0.5 on.
        moved: Labels of the same kind on the same grid.
        labels: Which ones.
    """
    if fixed.channels is None:
        dice = metrics.dice(fixed.array, moved.array, labels)
    else:
        masks = [(mask(fixed, each).astype("uint8"), mask(moved, each).astype("uint8")) for each in labels]
        dice = {each: metrics.dice(*pair, [1])[1] for each, pair in zip(labels, masks, strict=True)}
    hd95 = {each: metrics.hd95(mask(fixed, each), mask(moved, each), fixed.spacing) for each in labels}
    centroid = {each: metrics.centroid_distance(mask(fixed, each), mask(moved, each), fixed.affine) for each in labels}
    return {
        "dice": dice,
        "hd95": hd95,
        "centroid": centroid,
        "mean_dice": _mean(dice.values()),
        "mean_centroid": _mean(value for value in centroid.values() if np.isfinite(value)),
    }


def alike(before: dict, after: dict) -> dict[str, dict]:
    """Returns both scores as `before` and `after`, with the mean distance of the centroids over the same labels.

    Otherwise a registration that loses a label, and its distance with it, would look like a better one.
    """
    if "centroid" not in after:
        return {"before": before, "after": after}
    kept = [
        label
        for label, distance in after["centroid"].items()
        if np.isfinite([distance, before["centroid"][label]]).all()
    ]
    means = [_mean(side["centroid"][label] for label in kept) for side in (before, after)]
    both = zip(("before", "after"), (before, after), means, strict=True)
    return {when: side | {"mean_centroid": mean} for when, side, mean in both}


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
    if jacobian["sdlogj"] > _STRONG:
        found.append(
            f"The field compresses and stretches strongly (SDlogJ {jacobian['sdlogj']:.2f}); "
            "do not measure volumes by it."
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
