"""Tensors in voxels, by keras.ops: grids, matrices, warps, fields, filters; 2-D and 3-D, any batch and channel count.

Images are (B, *S, C), fields (B, *S, D) with component d along axis d, matrices (B, D, D + 1).

In the examples, `ops` is `keras.ops`, `np` is NumPy, and other names are those of this room.
"""

from regzoo.backend import Tensor
from regzoo.ops.descriptors import self_similarity
from regzoo.ops.fields import (
    bspline_field,
    compose,
    control_positions,
    cubic_bspline,
    determinant,
    integrate,
    invert,
    jacobian_determinant,
    resize_field,
)
from regzoo.ops.filters import (
    along_axes,
    blur,
    blur_matrix,
    difference,
    forward_difference,
    interpolation_matrix,
    shift,
    smooth,
    window_matrix,
)
from regzoo.ops.grids import affine_grid, identity_grid, map_places, millimetres
from regzoo.ops.matrices import about_centre, inverse_linear, inverse_matrix, linear_matrix, random_affine
from regzoo.ops.statistics import mean, standardised
from regzoo.ops.warping import sample, warp

__all__ = [
    "Tensor",
    "about_centre",
    "affine_grid",
    "along_axes",
    "blur",
    "blur_matrix",
    "bspline_field",
    "compose",
    "control_positions",
    "cubic_bspline",
    "determinant",
    "difference",
    "forward_difference",
    "identity_grid",
    "integrate",
    "interpolation_matrix",
    "inverse_linear",
    "inverse_matrix",
    "invert",
    "jacobian_determinant",
    "linear_matrix",
    "map_places",
    "mean",
    "millimetres",
    "random_affine",
    "resize_field",
    "sample",
    "self_similarity",
    "shift",
    "smooth",
    "standardised",
    "warp",
    "window_matrix",
]
