"""Measured breathing: keypoints of patients who were scanned twice, as smooth fields over the box of the lungs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.interpolate import RBFInterpolator
from scipy.spatial.transform import Rotation

from regzoo.errors import invalid

POINTS = 21
"""Points along each axis of a field."""
REACH = 1.3
"""Half the size of what a field spans, in half sizes of the lungs' box."""
_VOXEL = np.array([1.75, -1.25, 1.75])
"""mm along R or L, A and S: where the lungs are wide and move most, the last index is small; their lowest points, which
lie in the back, have a large second one. Whether the first index grows to the left or the right is not known; pairs are
mirrored."""
_SMOOTH = 1.0  # of the fit, which goes by the points by 1 to 2 mm in the median: they are found automatically
_ENOUGH = 800  # points; more take long, and lie as near to each other as the fit is smooth


def read_motions(folder: Path) -> np.ndarray:
    """Reads the measured breathing of all patients of a folder.

    Args:
        folder: Of CSV files without a header, one for each patient: a point of the first scan and the same of the
            second one in each row, six numbers in voxels, as the keypoints of Learn2Reg's LungCT.

    Returns:
        Velocities along R, A, S on `POINTS` points from -REACH to REACH of the lungs' half size along each axis, at
        most about 1, shape (N, POINTS, POINTS, POINTS, 3), float32.

    Raises:
        InvalidError: If there is no such file, or one has other columns.
    """
    files = sorted(folder.glob("*.csv"))
    if not files:
        raise invalid("data.motions", "a folder of CSV files", folder)
    return np.stack([_motion(path) for path in files]).astype(np.float32)


def _motion(path: Path) -> np.ndarray:
    try:
        table = np.loadtxt(path, delimiter=",", ndmin=2)
    except ValueError as error:
        raise invalid(str(path), "rows of six numbers", str(error)) from None
    if table.shape[1] != 6 or len(table) < 50:
        raise invalid(str(path), "50 rows of six numbers or more", f"shape {table.shape}")
    table = table[:: -(-len(table) // _ENOUGH)]
    here, there = table[:, :3] * _VOXEL, table[:, 3:] * _VOXEL
    low, high = np.percentile(here, (1, 99), axis=0)
    places = (here - (low + high) / 2) / ((high - low) / 2)
    motion = _at_rest(places, here, there) - here
    smooth = RBFInterpolator(places, motion, kernel="thin_plate_spline", smoothing=_SMOOTH)
    grid = np.stack(np.meshgrid(*[np.linspace(-REACH, REACH, POINTS)] * 3, indexing="ij"), axis=-1)
    field = smooth(grid.reshape(-1, 3)).reshape(grid.shape)
    inside = np.abs(grid).max(axis=-1) <= 1
    return field / np.percentile(np.linalg.norm(field[inside], axis=-1), 98)


def _at_rest(places: np.ndarray, here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Returns the second scan's points, turned and shifted so that those along the spine hardly move."""
    near = (places[:, 1] < 0) & (np.abs(places[:, 0]) < 0.6) & (places[:, 2] > -0.3)
    first, second = here[near].mean(axis=0), there[near].mean(axis=0)
    turn, _ = Rotation.align_vectors(here[near] - first, there[near] - second)
    return turn.apply(there - second) + first
