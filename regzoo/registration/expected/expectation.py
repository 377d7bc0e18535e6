"""Evidence in, millimetres out: an expected error of each voxel and of the pair, by the tables of a calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from regzoo.registration.expected.evidence import Evidence
from regzoo.schema.calibration import Amount, Calibration, Looks, Sum, Table
from regzoo.world.images import Grid, Image, resample

PAIR = "pair_log"
"""Among the evidence of a voxel: what is expected of the pair, the logarithm of mm."""


@dataclass(frozen=True, eq=False)
class Expected:
    """What is expected of a registration.

    Args:
        error: Of each voxel, mm, on the grid on which the images were compared.
        facts: `mean` and `p95` inside the anatomy, `bound` (9 of 10 pairs have a smaller mean error), all mm; `risk`.
        log_odds: That the pair is wrong.
        pair: The evidence of the pair.
        inside: Where the anatomy is, bool.
    """

    error: Image
    facts: dict[str, float | str]
    log_odds: float
    pair: dict[str, float]
    inside: np.ndarray

    def on(self, grid: Grid) -> Image:
        """Returns the error on another grid, float32."""
        found = resample(self.error, grid, outside="edge", antialias=False)
        return Image(found.array.astype("float32"), found.affine)


def expected(found: Evidence, calibration: Calibration) -> Expected:
    """Turns evidence into an expected error.

    Args:
        found: The evidence.
        calibration: Its tables, of the model or method that registered.
    """
    pair, inside = pair_evidence(found.pair, found.looks, calibration.looks), found.asked.inside
    log = total(calibration.pair.log, pair)
    mean, bound = (float(read(table, log)) for table in (calibration.pair.expected, calibration.pair.bound))
    voxels = voxel_mm(found.voxels | {PAIR: np.full(inside.shape, log, "float32")}, calibration.voxel)
    voxels = voxels * (mean / max(float(voxels[inside].mean()), 1e-6))  # map and figures tell one story
    odds = float(total(calibration.risk, pair))
    facts = {
        "mean": mean,
        "p95": float(np.percentile(voxels[inside], 95)),
        "bound": max(mean, bound),
        "risk": float(1 / (1 + np.exp(-odds))),
        "calibration": calibration.of,
    }
    return Expected(Image(voxels.astype("float32"), found.asked.fixed.affine), facts, odds, pair, inside)


def pair_evidence(pair: Mapping[str, float], looks: np.ndarray, known: Looks) -> dict[str, float]:
    """Returns the evidence of a pair with `strange`, how far its images look from the known ones, and `unlike`.

    Args:
        pair: Of `Evidence`.
        looks: Of `Evidence`, (2, N).
        known: What the images of the calibration look like.
    """
    apart = np.clip((looks - np.array(known.middle)) / np.array(known.spread), -10, 10)
    strange = np.sqrt(np.mean(apart**2, axis=1))
    unlike = np.sqrt(np.mean((apart[0] - apart[1]) ** 2))
    return {**pair, "strange": float(strange.max()), "unlike": float(unlike)}


def voxel_mm(voxels: Mapping[str, np.ndarray], amount: Amount, bound: bool = False) -> np.ndarray:
    """Returns the expected error of each voxel in mm, or what 9 of 10 voxels do not exceed."""
    return read(amount.bound if bound else amount.expected, total(amount.log, voxels))


def total(summed: Sum, values: Mapping[str, np.ndarray | float]) -> np.ndarray | float:
    """Adds what the tables of a sum say of the values."""
    return summed.offset + sum(read(table, values[name]) for name, table in summed.tables.items())


def read(table: Table, x: np.ndarray | float) -> np.ndarray | float:
    """Reads a table."""
    return np.interp(x, table.x, table.y)
