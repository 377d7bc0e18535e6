"""Models that fit an affine matrix to the displacements that a network sees, again and again."""

from collections.abc import Sequence

import numpy as np
from keras import ops

from regzoo import backend
from regzoo.models.outputs.affine import MatrixModel, matrix_field
from regzoo.models.outputs.dense import DenseModel
from regzoo.models.outputs.keypoints import fitted_matrix
from regzoo.ops.grids import identity_grid
from regzoo.ops.warping import warp


class FittedModel(MatrixModel):
    """Gives the affine matrix that explains a network's displacements best, by least squares.

    Where a network sees a little of the way at each place, the matrix knows it of the image as a whole; what is left is
    seen on the next pass.

    Args:
        dense: Model with a displacement field.
        passes: How often the network looks, each time at the moving image as moved so far.
        spacing: Millimetres a voxel, D values; distances are fitted in mm.
    """

    def __init__(self, dense: DenseModel, passes: int, spacing: Sequence[float], **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.dense, self.passes, self.spacing = dense, passes, tuple(spacing)
        self.build()

    def matrix(self, fixed: object, moving: object) -> object:
        """Fits a matrix on each pass and returns that of all, the last first."""
        shape = tuple(fixed.shape[1:-1])
        matrix, moved = None, moving
        for _ in range(self.passes):
            ddf = self.dense.field(fixed, moved)["ddf"]
            found = backend.compiled(_fitted, shape=shape, spacing=self.spacing)(fixed, ddf)
            matrix = found if matrix is None else _product(matrix, found)
            moved = backend.compiled(warp)(moving, backend.compiled(matrix_field, shape=shape)(matrix))
        return matrix


def _fitted(fixed: object, ddf: object, shape: Sequence[int], spacing: Sequence[float]) -> object:
    """Returns the matrices (B, D, D + 1) nearest to fields, where the fixed images show something."""
    dims = len(shape)
    shown = ops.cast(ops.max(ops.abs(fixed), axis=-1) > 0, "float32")
    step = np.asarray(spacing, dtype="float32")
    places = ((identity_grid(shape) - (np.asarray(shape, dtype="float32") - 1) / 2) * step).reshape(1, -1, dims)
    ways = ops.reshape(ddf, (-1, places.shape[1], dims)) * ops.convert_to_tensor(step)
    places = ops.broadcast_to(ops.convert_to_tensor(places), ops.shape(ways))
    ends = places + ways
    return fitted_matrix(places, ends, shape, spacing, ops.reshape(shown, (-1, places.shape[1])))


def _product(first: object, then: object) -> object:
    """Returns the matrices of `x -> first(then(x))`."""
    linear = ops.matmul(first[..., :-1], then[..., :-1])
    offset = ops.matmul(first[..., :-1], then[..., -1:]) + first[..., -1:]
    return ops.concatenate([linear, offset], axis=-1)
