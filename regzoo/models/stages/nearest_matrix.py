"""The affine part of what the coarse levels of a pyramid find."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from keras import ops

from regzoo import backend
from regzoo.backend import Tensor
from regzoo.models.base import RegistrationModel
from regzoo.models.heads import stacked
from regzoo.models.outputs.fitted import nearest_matrix
from regzoo.models.outputs.matrices import as_prediction, matrix_product
from regzoo.models.outputs.pyramid import PyramidDVF
from regzoo.models.stages.coarse import enlarged_matrix
from regzoo.ops.matrices import inverse_matrix
from regzoo.ops.warping import warp

_LEAST_TURN = 12.0
"""Degrees. As they lie, brains differ by up to 11, which the network copes with: straightening cost 0.002 of Dice."""
_FIRST_TURN = 6.0
"""Degrees that the first pass sees at least of a turn that is worth the others."""


class NearestMatrix(RegistrationModel):
    """Gives the affine matrix that is nearest to the map of a pyramid's coarse levels, found in several passes.

    A network that compares neighbours sees all of a turn near the middle of the image, and less of it further out. The
    matrix that fits there leads on, and what is left is seen on the next pass. Images that are turned by less than
    twelve degrees are left alone: the network finds its way without, and sampling once more blurs the moving image.
    Where the first pass sees nothing of a turn, the others are left out.

    Args:
        network: The pyramid.
        levels: The resolution level at which it ends on each pass.
        spacing: Millimetres a voxel of the images, D values.
    """

    invertible = True

    def __init__(self, network: PyramidDVF, levels: Sequence[int], spacing: Sequence[float], **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.network, self.levels, self.spacing = network, tuple(levels), tuple(spacing)
        self.build()

    def field(self, fixed: Tensor, moving: Tensor) -> dict:
        """Returns `matrix` and its `ddf`."""
        shape, images = tuple(fixed.shape[1:-1]), self.network.features(fixed, moving)
        first = self._nearest(fixed, self.levels[0], images)
        turns = backend.compiled(_turns, spacing=self.spacing, degrees=_FIRST_TURN)(first)

        def further(matrix: Tensor) -> Tensor:
            for level in self.levels[1:]:
                moved = backend.compiled(warp)(moving, as_prediction(matrix, shape)["ddf"])
                pairs = [
                    (still, *other) for (still, _), other in zip(images, self.network.features(moved), strict=True)
                ]
                matrix = matrix_product(matrix, self._nearest(fixed, level, pairs))
            return matrix

        matrix = backend.only_if(ops.any(turns), further, first)
        return as_prediction(backend.compiled(_if_it_turns, spacing=self.spacing)(matrix, turns), shape)

    def _nearest(self, fixed: Tensor, level: int, features: Sequence[tuple]) -> Tensor:
        nearest = backend.compiled(_nearest, divisor=self.network.divisor)
        return nearest(fixed, self.network.ends_at(level, features))

    def inverse(self, prediction: Mapping[str, Tensor]) -> dict:
        """Returns the inverse matrix and its field."""
        return as_prediction(inverse_matrix(prediction["matrix"]), prediction["ddf"].shape[1:-1])


def _nearest(image: Tensor, ddf: Tensor, divisor: Sequence[int]) -> Tensor:
    """Returns the matrix nearest to a coarser field, where an image shows something, in the image's voxels."""
    shown, coarse = stacked([ops.abs(image)], divisor), ddf.shape[1:-1]
    factor = tuple(n // m for n, m in zip(shown.shape[1:-1], coarse, strict=True))
    shown = ops.average_pool(shown, factor, factor, "valid", "channels_last")
    return enlarged_matrix(nearest_matrix(shown, ddf, coarse, np.ones(len(coarse))), factor)


def _turns(matrix: Tensor, spacing: Sequence[float], degrees: float) -> Tensor:
    """Tells which matrices turn by at least so many degrees, (B,).

    A turn by an angle has sqrt(8) times its sine as the norm of A - A^T, in mm, and a trace of D - 2 and twice its
    cosine.
    """
    step = np.asarray(spacing, dtype="float32")
    linear = matrix[..., :-1] * ops.convert_to_tensor(step[:, None] / step)
    skew = ops.sum(ops.square(linear - ops.transpose(linear, (0, 2, 1))), axis=(1, 2))
    beyond_a_right_angle = ops.trace(linear, axis1=1, axis2=2) < len(step) - 2
    return ops.logical_or(skew > 8 * math.sin(math.radians(degrees)) ** 2, beyond_a_right_angle)


def _if_it_turns(matrix: Tensor, turned_at_first: Tensor, spacing: Sequence[float]) -> Tensor:
    """Returns matrices that turn by what is not left alone, at first sight and in the end, and else the identity."""
    turns = ops.logical_and(turned_at_first, _turns(matrix, spacing, _LEAST_TURN))
    return ops.where(turns[:, None, None], matrix, ops.eye(len(spacing), len(spacing) + 1, dtype="float32"))
