"""Writes what this recipe trains and is scored on. `python prepare.py headneck-ct.h5 FOLDER`, then `--data FOLDER`.

`headneck-ct.h5` is the head-and-neck CT of the DeepReg tutorial (github.com/yipenghu/example-data, `hnct/demo.h5`; from
TCIA's Head-Neck-PET-CT, CC BY), which holds `image` and `label` without voxel sizes and axes: 4 x 4 x 5 mm are assumed,
and indices that grow to the left, the back and the head. Back and head are seen in the image, left is DICOM's custom.

FOLDER/headneck-ct gets the CT and its two labels, which training pairs with itself, and one list of pairs a split; the
pairs of `valid` and `test` are the CT and a copy moved by a drawn affine, with the eight corners of the CT as points.
"""

import csv
import sys
from pathlib import Path

import h5py
import numpy as np

from regzoo.io.landmarks import write_points
from regzoo.ops.matrices import random_affine
from regzoo.world.images import Grid, Image
from regzoo.world.resampling import sample_matrix

SPACING = np.array([4.0, 4.0, 5.0])
TO_RAS = np.array([-1, -1, 1])
AIR = -1024.0
SCALE = 0.2
DRAWS = {"valid": (20, 1), "test": (50, 2)}
"""How many pairs of each split, and their seed."""


def main(source: Path, folder: Path) -> None:
    """Writes the files of every split."""
    with h5py.File(source) as file:
        ct, labels = file["image"][()], file["label"][()]
    grid = Grid(ct.shape, np.diag([*(SPACING * TO_RAS), 1.0]))
    folder.mkdir(parents=True, exist_ok=True)
    Image(ct, grid.affine).save(folder / "ct.nii.gz")
    Image(labels.astype("float32"), grid.affine).save(folder / "ct-labels.nii.gz")
    corners = np.stack(np.meshgrid(*((0, n - 1) for n in ct.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    write_points(folder / "ct-corners.csv", world(grid, corners))
    fixed = {"fixed": "ct.nii.gz", "fixed_labels": "ct-labels.nii.gz"}
    write_pairs(folder / "train.csv", [fixed | {"moving": "ct.nii.gz", "moving_labels": "ct-labels.nii.gz"}])
    for split, (count, seed) in DRAWS.items():
        rows = []
        for number, matrix in enumerate(random_affine(seed, ct.shape, SCALE, count), start=1):
            full = np.vstack([matrix, [0, 0, 0, 1]])  # from moving to fixed voxels: where the copy reads the CT
            name = f"{split}-{number:02d}"
            moved = sample_matrix(ct.astype("float32"), full, ct.shape, 1, AIR)
            Image(np.rint(moved).astype("int16"), grid.affine).save(folder / f"{name}.nii.gz")
            moved = sample_matrix(labels.astype("float32"), full, ct.shape, 1, 0.0)
            Image(moved, grid.affine).save(folder / f"{name}-labels.nii.gz")
            back = corners @ np.linalg.inv(full)[:3, :3].T + np.linalg.inv(full)[:3, 3]
            write_points(folder / f"{name}-corners.csv", world(grid, back))
            moving = {"moving": f"{name}.nii.gz", "moving_labels": f"{name}-labels.nii.gz"}
            rows.append(fixed | moving | {"fixed_points": "ct-corners.csv", "moving_points": f"{name}-corners.csv"})
        write_pairs(folder / f"{split}.csv", rows)


def world(grid: Grid, voxels: np.ndarray) -> np.ndarray:
    """Returns voxels (N, 3) in RAS mm."""
    return voxels @ grid.affine[:3, :3].T + grid.affine[:3, 3]


def write_pairs(path: Path, rows: list[dict[str, str]]) -> None:
    """Writes a list of pairs."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]) / "headneck-ct")
