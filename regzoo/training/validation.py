"""How good a model is while it trains: on labels or images of fixed pairs, or on simulated ones of known field."""

import math
import operator
from collections.abc import Mapping, Sequence

import numpy as np
from keras import ops

from regzoo import backend
from regzoo.data.draws import Files
from regzoo.data.reader import Reader
from regzoo.errors import invalid
from regzoo.losses import ncc
from regzoo.models import RegistrationModel
from regzoo.ops.fields import jacobian_determinant
from regzoo.ops.warping import warp
from regzoo.world.views import View, from_batch, to_batch


class KnownField:
    """Scores a model by the distance to the known field, where the fixed label is, on the network's grid.

    Args:
        model: The model.
        batches: Batches of one pair: `fixed`, `moving`, `fixed_labels` and `known` (see `RegistrationModel`).
        spacing: Millimetres a voxel.
    """

    better = staticmethod(operator.lt)

    def __init__(
        self, model: RegistrationModel, batches: Sequence[Mapping[str, np.ndarray]], spacing: Sequence[float]
    ) -> None:
        self.model, self.batches, self.spacing = model, batches, np.array(spacing)

    def __call__(self) -> dict[str, float]:
        """Returns the means over the pairs: `valid_tre` in mm, `valid_tre_p95`, and `valid_folds` inside the label."""
        rows = [self._score(batch) for batch in self.batches]
        return dict(zip(("valid_tre", "valid_tre_p95", "valid_folds"), np.mean(rows, axis=0).tolist(), strict=True))

    def _score(self, batch: Mapping[str, np.ndarray]) -> tuple[float, float, float]:
        inside = batch["fixed_labels"][0, ..., 0] > 0
        ddf = self.model.predict_on_batch({name: batch[name] for name in ("fixed", "moving")})["ddf"]
        gap = (ops.convert_to_numpy(ddf) - batch["known"])[0][inside] * self.spacing
        errors = np.linalg.norm(gap, axis=-1)
        folds = ops.convert_to_numpy(backend.compiled(jacobian_determinant)(ddf))[0][inside] <= 0
        return float(errors.mean()), float(np.percentile(errors, 95)), float(folds.mean())


class KnownLabels:
    """Scores a model by the overlap of labels of simulated pairs, on the network's grid.

    Args:
        model: The model.
        batches: Batches of one pair: `fixed`, `moving`, `fixed_labels` and `moving_labels` (see `RegistrationModel`).
    """

    better = staticmethod(operator.gt)

    def __init__(self, model: RegistrationModel, batches: Sequence[Mapping[str, np.ndarray]]) -> None:
        self.model, self.batches = model, batches

    def __call__(self) -> dict[str, float]:
        """Returns the means over the pairs: `valid_dice` and `valid_folds`."""
        rows = [self._score(batch) for batch in self.batches]
        return dict(zip(("valid_dice", "valid_folds"), np.mean(rows, axis=0).tolist(), strict=True))

    def _score(self, batch: Mapping[str, np.ndarray]) -> tuple[float, float]:
        ddf = self.model.predict_on_batch({name: batch[name] for name in ("fixed", "moving")})["ddf"]
        moved = ops.convert_to_numpy(warp(batch["moving_labels"], ddf, "zero"))
        pairs = [[side[..., k] >= 0.5 for side in (batch["fixed_labels"], moved)] for k in range(moved.shape[-1])]
        scores = [2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs if a.any()]
        folds = ops.convert_to_numpy(backend.compiled(jacobian_determinant)(ddf)) <= 0
        return _mean(scores), float(folds.mean())


class Validation:
    """Scores a model on fixed pairs, on the network's grid: hard Dice, or image similarity.

    Dice is over the labels that both images have: integers are moved by nearest neighbour, channels linearly and cut at
    0.5. Of pairs some of which have labels, the others count for the folds alone.

    Args:
        model: The model.
        reader: Reads a pair.
        pairs: (fixed, moving) files.
    """

    def __init__(self, model: RegistrationModel, reader: Reader, pairs: list[tuple[Files, Files]]) -> None:
        self.model, self.reader, self.pairs = model, reader, pairs
        self.labelled = any(fixed.labels and moving.labels for fixed, moving in pairs)

    better = staticmethod(operator.gt)

    def __call__(self) -> dict[str, float]:
        """Returns the means over the pairs: `valid_dice` (or `valid_ncc` without labels) and `valid_folds`.

        Raises:
            ValueError: If no validation pair has one of the labels.
        """
        rows = [self._score(*self.reader.pair(*pair)) for pair in self.pairs]
        figures = {key: _mean([row[key] for row in rows]) for key in rows[0]}
        if math.isnan(figures.get("valid_dice", 0.0)):
            raise invalid("validation data", f"one of the label values {self.reader.values}", "none in any pair")
        return figures

    def _score(self, fixed: View, moving: View) -> dict[str, float]:
        dims = len(self.reader.config.shape)
        batch = {"fixed": to_batch(fixed.image, dims), "moving": to_batch(moving.image, dims)}
        if "deformation" not in self.model.kinds:  # it has no field, and moves labels itself
            labels = to_batch(moving.channels(range(len(self.reader.values))), dims)
            moved = self.model.predict_labels(batch | {"moving_labels": labels})
            return {"valid_dice": _mean(_dice(fixed, moving, from_batch(moved, dims) >= 0.5))}
        ddf = self.model.predict_on_batch(batch)["ddf"]
        folds = float(np.mean(ops.convert_to_numpy(backend.compiled(jacobian_determinant)(ddf)) <= 0))
        if not self.labelled:
            moved = warp(batch["moving"], ddf)
            values = ops.convert_to_numpy(ncc(batch["fixed"], moved))
            return {"valid_ncc": 1 - float(values.mean()), "valid_folds": folds}
        return {"valid_dice": _mean(_dice(fixed, moving, _moved(moving, ddf, dims))), "valid_folds": folds}


def _moved(moving: View, ddf: object, dims: int) -> np.ndarray:
    """Returns which voxels the labels are moved to: (*S, L), or (*S, 1) with label numbers."""
    if moving.labels is None:
        return np.zeros(0)
    if moving.soft:
        return from_batch(ops.convert_to_numpy(warp(to_batch(moving.labels, dims), ddf, "zero")), dims) >= 0.5
    numbers = to_batch(moving.labels[..., None].astype("int32"), dims)
    return from_batch(ops.convert_to_numpy(warp(numbers, ddf, "zero", "nearest")), dims)


def _dice(fixed: View, moving: View, moved: np.ndarray) -> list[float]:
    """Returns the Dice overlap of every label that both images have."""
    scores = []
    for label in sorted(fixed.present & moving.present):
        there = fixed.channels([label])[..., 0] >= 0.5
        here = moved[..., label] if moved.dtype == bool else moved[..., 0] == label + 1
        total = int(here.sum()) + int(there.sum())
        scores.append(2 * int((here & there).sum()) / total if total else math.nan)
    return scores


def _mean(values: Sequence[float]) -> float:
    """Returns the mean of the values that are a number, or NaN if there is none."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
