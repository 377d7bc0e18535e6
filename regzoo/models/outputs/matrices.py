"""Outputs whose map is a matrix, and its field."""

from collections.abc import Mapping, Sequence

from keras import ops

from regzoo import backend
from regzoo.backend import Tensor
from regzoo.models.outputs.output import Output
from regzoo.ops.grids import affine_grid, voxel_places
from regzoo.ops.matrices import inverse_matrix


class Matrices(Output):
    """A matrix (B, D, D + 1), in voxels about voxel 0; a subclass says how it comes from its values."""

    def matrix(self, values: Sequence, shape: Sequence[int]) -> Tensor:
        """Returns the matrix that values stand for, between images of a shape."""
        raise NotImplementedError

    def prediction(self, values: Sequence, shape: Sequence[int], covered: Sequence[int] | None = None) -> dict:
        """Returns `matrix` and its `ddf`."""
        return as_prediction(self.matrix(values, shape), shape)

    def inverse(self, prediction: Mapping[str, Tensor], covered: Sequence[int] | None = None) -> dict:
        """Returns the inverse matrix and its field."""
        return as_prediction(inverse_matrix(prediction["matrix"]), prediction["ddf"].shape[1:-1])


def as_prediction(matrix: Tensor, shape: Sequence[int]) -> dict:
    """Returns a matrix as a prediction: `ddf`, its field, and `matrix`."""
    return {"ddf": backend.compiled(matrix_field, shape=tuple(shape))(matrix), "matrix": matrix}


def is_linear(prediction: Mapping[str, Tensor]) -> bool:
    """Whether a map is that of its matrix alone."""
    return "matrix" in prediction and "dense" not in prediction


def matrix_field(matrix: Tensor, shape: Sequence[int]) -> Tensor:
    """Returns the displacement field (B, *S, D) of matrices (B, D, D + 1)."""
    return affine_grid(matrix, shape) - voxel_places(shape)


def matrix_product(outer: Tensor, inner: Tensor) -> Tensor:
    """Returns the matrices of `x -> outer(inner(x))`."""
    linear = ops.matmul(outer[..., :-1], inner[..., :-1])
    offset = ops.matmul(outer[..., :-1], inner[..., -1:]) + outer[..., -1:]
    return ops.concatenate([linear, offset], axis=-1)


def field_after(matrix: Tensor, dense: Tensor) -> Tensor:
    """Returns the field of `x -> A (x + dense(x)) + b`."""
    rows = (matrix[(slice(None), *(None,) * (len(dense.shape) - 2), slice(None), d)] for d in range(dense.shape[-1]))
    turned = sum(dense[..., d : d + 1] * row for d, row in enumerate(rows))
    return matrix_field(matrix, dense.shape[1:-1]) + turned
