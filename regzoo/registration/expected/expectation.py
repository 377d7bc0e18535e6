"""Evidence in, millimetres out: an expected error of each voxel and of the pair, by a calibration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from regzoo.registration.expected.evidence import Evidence
from regzoo.schema.calibration import Calibration, Forest, Looks, Sum, Table, Tree, VoxelAmount
from regzoo.world.images import Grid, Image
from regzoo.world.resampling import resample

PAIR = "pair_log"
"""Among the evidence of a voxel: what is expected of the pair, the logarithm of mm."""


@dataclass(frozen=True, eq=False)
class Expected:
    """What is expected of a registration.

    Args:
        error: Of each voxel, mm, on the grid on which the images were compared.
        facts: `mean` and `p95` inside the anatomy, `bound` (9 of 10 pairs have a smaller mean error), all mm; `risk`.
        pair: The evidence of the pair.
        inside: Where the anatomy is, bool.
    """

    error: Image
    facts: dict[str, float | str]
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
        calibration: Of the model or method that registered.
    """
    pair, inside = pair_evidence(found.pair, found.looks, calibration.looks), found.asked.inside
    log = forest_mean(calibration.pair.log, pair)
    mean, bound = (float(read(table, log)) for table in (calibration.pair.expected, calibration.pair.bound))
    voxels = voxel_mm(found.voxels | {PAIR: np.full(inside.shape, log, "float32")}, calibration.voxel)
    voxels = voxels * (mean / max(float(voxels[inside].mean()), 1e-6))  # map and figures tell one story
    facts = {
        "mean": mean,
        "p95": float(np.percentile(voxels[inside], 95)),
        "bound": max(mean, bound),
        "risk": forest_mean(calibration.risk, pair),
        "calibration": calibration.of,
    }
    return Expected(Image(voxels.astype("float32"), found.asked.fixed.affine), facts, pair, inside)


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


def voxel_mm(voxels: Mapping[str, np.ndarray], amount: VoxelAmount, bound: bool = False) -> np.ndarray:
    """Returns the expected error of each voxel in mm, or what 9 of 10 voxels do not exceed."""
    return read(amount.bound if bound else amount.expected, total(amount.log, voxels))


def forest_mean(forest: Forest, values: Mapping[str, float]) -> float:
    """Returns the mean of what the trees of a forest say of the values."""
    return float(np.mean([_end(tree, values) for tree in forest.trees]))


def _end(tree: Tree, values: Mapping[str, float]) -> float:
    node = 0
    while (name := tree.asks[node]) is not None:
        node = tree.below[node] if values[name] <= tree.at[node] else tree.above[node]
    return tree.at[node]


def total(summed: Sum, values: Mapping[str, np.ndarray | float]) -> np.ndarray | float:
    """Adds what the tables of a sum say of the values."""
    return summed.offset + sum(read(table, values[name]) for name, table in summed.tables.items())


def read(table: Table, x: np.ndarray | float) -> np.ndarray | float:
    """Reads a table."""
    return np.interp(x, table.x, table.y)
