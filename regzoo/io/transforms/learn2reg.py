"""Learn2Reg's displacement fields: NIfTI of shape (X, Y, Z, 3), in voxels along the axes of the array; only written.

A reader could not tell them from fields in millimetres, which other programs keep in the same shape.
"""

from pathlib import Path

import numpy as np

from regzoo.errors import invalid
from regzoo.io.transforms.step import Format
from regzoo.io.volumes import nifti


def _write(vectors: np.ndarray, affine: np.ndarray, path: Path) -> None:
    """Writes a displacement field (*S, 3), RAS mm.

    Source: Learn2Reg's evaluation (MDL-UzL/L2R, evaluation/evaluation.py) samples the moving labels at
        `identity + displacement`, both in voxels, and opens .nii.gz alone.
    """
    if not path.name.endswith(".nii.gz"):
        raise invalid("path", "a name ending in .nii.gz, as Learn2Reg's disp_0001_0002.nii.gz", f"'{path}'")
    voxels = vectors @ np.linalg.inv(affine[:3, :3]).T
    nifti.save(voxels.astype(np.float32), affine, path)


LEARN2REG = Format(write_field=_write, one_grid=True)
