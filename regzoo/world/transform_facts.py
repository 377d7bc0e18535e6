"""What a transform is, in figures: its steps, where it acts, how far it moves, where it folds."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from regzoo.world.images import Grid
from regzoo.world.jacobians import folds
from regzoo.world.steps import Linear, Spline, Step, Within
from regzoo.world.transforms import Transform


def transform_facts(transform: Transform, grid: Grid | None = None) -> dict:
    """Returns what a transform is, as JSON can hold it.

    Args:
        transform: Any transform.
        grid: Where displacements are measured; the transform's own by default. Without either, nothing is measured.

    Returns:
        `steps`: a dict for each, the first applied first, with its `kind`. A matrix has `matrix`, from fixed to moving
        RAS mm, `rotation_degrees` about R, A and S (its axis by its angle), `scales` (singular values, the largest
        first), `volume` (determinant; negative: a mirror) and `shift_mm` of the world's origin. A field and a spline
        have `grid` in words, `shape` and `spacing_mm`. On the grid: `grid`, `extent_mm` (the box of its voxels, lowest
        and highest R, A, S), `displacement_mm` (`max` and `mean`) and, of what is no matrix alone, `folds` and
        `folded_volume` as in `jacobians.folds`. `inverse`: `exact`, `by iteration` (`, not
        where it folds`), or `none` where a matrix has none.
    """
    grid = grid or transform.grid
    facts = {"steps": [_step(each) for each in _flat(transform.steps)]}
    if grid is not None:
        facts |= _measured(transform, grid)
    return facts | {"inverse": _inverse(transform, facts.get("folds", 0.0))}


def _flat(steps: tuple[Step, ...]) -> list[Step]:
    return [each for step in steps for each in (_flat(step.steps) if isinstance(step, Within) else [step])]


def _step(step: Step) -> dict:
    if isinstance(step, Linear):
        return {"kind": "matrix"} | matrix_facts(step.matrix)
    kind = "spline" if isinstance(step, Spline) else "field"
    return {
        "kind": kind,
        "grid": step.grid.text(),
        "shape": [*step.grid.shape],
        "spacing_mm": step.grid.spacing.tolist(),
    }


def matrix_facts(matrix: np.ndarray) -> dict:
    """Returns what a matrix (4, 4) does, by its polar decomposition; see `transform_facts`."""
    left, scales, right = np.linalg.svd(matrix[:3, :3])
    turn = left @ right
    turn *= np.sign(np.linalg.det(turn))  # of a mirror, the turn beside a reflection of all three axes
    return {
        "matrix": matrix.tolist(),
        "rotation_degrees": np.degrees(Rotation.from_matrix(turn).as_rotvec()).tolist(),
        "scales": scales.tolist(),
        "volume": float(np.linalg.det(matrix[:3, :3])),
        "shift_mm": matrix[:3, 3].tolist(),
    }


def _measured(transform: Transform, grid: Grid) -> dict:
    vectors, box = transform.displacement(grid), grid.box()
    lengths = np.linalg.norm(vectors, axis=-1)
    facts = {
        "grid": grid.text(),
        "extent_mm": [box.min(0).tolist(), box.max(0).tolist()],
        "displacement_mm": {"max": float(lengths.max()), "mean": float(lengths.mean(dtype=np.float64))},
    }
    return facts if transform.matrix is not None else facts | folds(vectors, grid, transform.linear_part)


def _inverse(transform: Transform, folded: float) -> str:
    matrices = (step.matrix for step in _flat(transform.steps) if isinstance(step, Linear))
    if any(abs(np.linalg.det(matrix)) < 1e-12 for matrix in matrices):
        return "none"
    return "exact" if transform.matrix is not None else "by iteration" + ", not where it folds" * (folded > 0)
