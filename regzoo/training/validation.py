"""How good a model is while it trains: by the known field, by labels or by images of pairs that stay the same."""

import math
from collections.abc import Sequence

import numpy as np
from keras import ops

from regzoo.data.kinds import Batch
from regzoo.errors import invalid
from regzoo.losses import ncc
from regzoo.models import RegistrationModel
from regzoo.ops.fields import invert
from regzoo.ops.warping import warp
from regzoo.world.images import Grid
from regzoo.world.jacobians import folds

_FIGURES = ("valid_tre", "valid_tre_p95", "valid_dice", "valid_ncc", "valid_folds")
"""A model is chosen by the first that there is."""
_LOWER = ("valid_tre",)
"""What is better the lower it is."""


class Validation:
    """Scores a model on pairs, on the network's grid.

    Of pairs whose field is known, `valid_tre` is the mean distance to it in mm, where the fixed label is, and
    `valid_tre_p95` its 95th percentile. Else `valid_dice` is the overlap of the labels that both images have, the mean
    of both ways: moving labels moved by the field, and fixed labels by its inverse (`ops.invert`), since a field that
    draws labels together wins the first and loses the second. Numbers are moved by nearest neighbour, channels linearly
    and cut at 0.5. Of pairs without any labels, `valid_ncc` compares images; of pairs some of which have labels, the
    others count for the folds alone. `valid_folds` is the share of voxels that fold by the strict count
    (`world.jacobians.folds`).

    Args:
        model: The model.
        pairs: Batches of one pair; see `regzoo.data.kinds.Examples`.
        spacing: Millimetres a voxel.
    """

    def __init__(self, model: RegistrationModel, pairs: Sequence[Batch], spacing: Sequence[float]) -> None:
        self.model, self.pairs, self.spacing = model, pairs, np.array(spacing)

    def __call__(self) -> dict[str, float]:
        """Returns the means over the pairs; the first figure is the one to choose by.

        Raises:
            ValueError: If pairs have labels, but none has one on both images.
        """
        rows = [self._score(pair) for pair in self.pairs]
        labelled = any("valid_dice" in row for row in rows)
        means = {}
        for name in _FIGURES:
            values = [row[name] for row in rows if name in row]
            if values and not (labelled and name == "valid_ncc"):
                means[name] = _mean(values) if name == "valid_dice" else float(np.mean(values))
        if math.isnan(means.get("valid_dice", 0.0)):
            raise invalid("validation data", "a label that both images of a pair have", "none in any pair")
        return means

    def better(self, new: dict[str, float], old: dict[str, float]) -> bool:
        """Tells whether new figures are better than old ones."""
        chosen = next(iter(new))
        return new[chosen] < old[chosen] if chosen in _LOWER else new[chosen] > old[chosen]

    def _score(self, pair: Batch) -> dict[str, float]:
        shared = _shared(pair) if "moving_labels" in pair and "known" not in pair else []
        batch = {name: pair[name] for name in ("fixed", "moving")}
        if not self.model.has_field:  # it has no field, and moves labels itself
            if not shared:
                return {"valid_dice": math.nan}
            moved = self.model.predict_labels(batch | {"moving_labels": _channels(pair["moving_labels"], shared)})
            return {"valid_dice": _mean(_dice(_channels(pair["fixed_labels"], shared) >= 0.5, moved >= 0.5))}
        ddf = self.model.predict_on_batch(batch)["ddf"]
        if "known" in pair:
            scores = self._distances(pair, ops.convert_to_numpy(ddf))
        elif "moving_labels" in pair:
            scores = {"valid_dice": _both_ways(pair["fixed_labels"], pair["moving_labels"], ddf, shared)}
        else:
            values = ops.convert_to_numpy(ncc(batch["fixed"], warp(batch["moving"], ddf)))
            scores = {"valid_ncc": 1 - float(values.mean())}
        return {**scores, "valid_folds": float(np.mean([_folds(each) for each in ops.convert_to_numpy(ddf)]))}

    def _distances(self, pair: Batch, ddf: np.ndarray) -> dict[str, float]:
        """Returns the distance to the known field in mm, in the fixed label, if there is one."""
        inside = np.ones(ddf.shape[:-1], bool)
        if "fixed_labels" in pair:
            inside = pair["fixed_labels"][..., 0] > 0
        errors = np.linalg.norm((ddf - pair["known"])[inside] * self.spacing, axis=-1)
        return {"valid_tre": float(errors.mean()), "valid_tre_p95": float(np.percentile(errors, 95))}


def _shared(pair: Batch) -> list[int]:
    """Returns the labels, counted from 0, that both images have (half a voxel of, where they are soft)."""
    return sorted(set.intersection(*(_present(pair[name]) for name in ("fixed_labels", "moving_labels"))))


def _present(labels: np.ndarray) -> set[int]:
    if np.issubdtype(labels.dtype, np.integer):
        return {number - 1 for number in np.unique(labels).tolist() if number}
    return set(np.flatnonzero(labels.sum(axis=tuple(range(labels.ndim - 1))) >= 0.5).tolist())


def _channels(labels: np.ndarray, which: Sequence[int]) -> np.ndarray:
    """Returns soft labels or numbers of labels as one channel for each that is wanted, float32."""
    if np.issubdtype(labels.dtype, np.integer):
        return (labels == np.asarray(which, int) + 1).astype("float32")
    return labels[..., list(which)]


def _moved(labels: np.ndarray, ddf: object, which: Sequence[int]) -> np.ndarray:
    """Returns which voxels the labels are moved to, (B, *S, len(which))."""
    if np.issubdtype(labels.dtype, np.integer):
        numbers = ops.convert_to_numpy(warp(labels, ddf, "zero", "nearest"))
        return numbers == np.asarray(which, int) + 1
    return ops.convert_to_numpy(warp(labels, ddf, "zero"))[..., list(which)] >= 0.5


def _both_ways(fixed: np.ndarray, moving: np.ndarray, ddf: object, which: Sequence[int]) -> float:
    """Returns the mean overlap of labels moved by a field, and of those moved back by its inverse."""
    ways = (fixed, _moved(moving, ddf, which)), (moving, _moved(fixed, invert(ddf)[0], which))
    return _mean([_mean(_dice(_channels(here, which) >= 0.5, there)) for here, there in ways])


def _folds(ddf: np.ndarray) -> float:
    """Returns the share of voxels at which a field (*S, D), in voxels, folds."""
    shape = (*ddf.shape[:-1], 1)[:3]
    vectors = np.zeros((*shape, 3), ddf.dtype)
    vectors[..., : ddf.shape[-1]] = ddf.reshape(*shape, -1)
    return folds(vectors, Grid(shape, np.eye(4)))["folds"]


def _dice(fixed: np.ndarray, moved: np.ndarray) -> list[float]:
    """Returns the Dice overlap of each channel."""
    scores = []
    for channel in range(fixed.shape[-1]):
        there, here = fixed[..., channel], moved[..., channel]
        total = int(here.sum()) + int(there.sum())
        scores.append(2 * int((here & there).sum()) / total if total else math.nan)
    return scores


def _mean(values: Sequence[float]) -> float:
    """Returns the mean of the values that are a number, or NaN if there is none."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
