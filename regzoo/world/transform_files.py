"""How a transform is laid into a file: as a matrix, as a field, or as both, whichever its format holds."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from regzoo.errors import invalid
from regzoo.io import transforms
from regzoo.world.images import Grid
from regzoo.world.jacobians import folds

if TYPE_CHECKING:
    from regzoo.world.transforms import Transform


def write(transform: Transform, path: Path, grid: Grid | None, moving: Grid | None, form: str | None) -> None:
    """Writes a transform; see `Transform.save`."""
    written, matrix = transforms.writer(path, form), transform.matrix
    if written.write_matrix and matrix is not None:
        written.write_matrix(matrix, path)
        return
    if written.write_between and matrix is not None:
        written.write_between(matrix, path, _images(path, grid, moving))
        return
    if written.write_field is None and written.write_both is None:
        raise invalid("path", f"a name ending in {transforms.field_suffixes()}, to write a field", f"'{path}'")
    if grid is None:
        advice = "Pass grid, on the command line --reference."
        raise invalid("grid", "the fixed image's grid, to write a dense field", None, advice)
    if written.one_grid and moving is not None and not grid.same_as(moving):
        received = f"{moving.text()}, elsewhere or of other voxels than {grid.text()}"
        raise invalid("moving", "the fixed image's grid, for the format counts in voxels of both", received)
    if written.write_both and (transform.has_matrix or written.write_field is None):
        _write_both(transform, written, path, grid)
    else:
        written.write_field(transform.displacement(grid), grid.affine, path)


def _images(path: Path, grid: Grid | None, moving: Grid | None) -> transforms.Images:
    if grid is None or moving is None:
        advice = "Pass grid and moving, on the command line --reference and --moving."
        raise invalid(path.name, "the voxels of both images to be written", "those of one or none", advice)
    return transforms.Images(grid, moving)


def _write_both(transform: Transform, written: transforms.Format, path: Path, grid: Grid) -> None:
    vectors = transform.before_linear_part(grid)
    written.write_both(transform.linear_part, vectors, grid.affine, path)
    if written.write_inverse:
        written.write_inverse(_undone(vectors, grid, transform), grid.affine, path)


def _undone(vectors: np.ndarray, grid: Grid, transform: Transform) -> np.ndarray | None:
    """Returns the displacements on a grid that undo those on it; None where they fold."""
    folded = folds(vectors, grid)["folds"]
    if folded:
        warnings.warn(f"no inverse is written, for the field folds at {folded:.2%} of its voxels.", stacklevel=4)
        return None
    return type(transform).from_field(vectors, grid).inverse().displacement(grid)
