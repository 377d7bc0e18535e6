"""Models that find the same points in both images, each image by itself, and fit an affine matrix to them."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

from regzoo import backend
from regzoo.models.heads import cropped, predictions, stacked
from regzoo.models.outputs.affine import MatrixModel
from regzoo.ops.matrices import inverse_linear

_RIDGE = 0.005
"""How far from each other, as a share of the image's size, points must lie to say more than the identity."""


class KeypointsModel(MatrixModel):
    """Gives the affine matrix that best maps the fixed image's points to the moving image's.

    The same backbone looks at each image alone and answers with one map a point; a point is the centre of mass of the
    softmax of its map. What it says of an image does not hang on the other one, and an image that is shifted has
    its points shifted: such a network needs fewer pairs than one that reads twelve numbers off both images.

    Args:
        backbone: Model from (B, *S, 1) to a list of one (B, *S / 2**level, F).
        dims: Spatial dimensions, 2 or 3.
        level: The backbone's level.
        divisor: What every size must be divisible by; any other size is padded with 0 and the maps cropped.
        points: How many points.
        spacing: Millimetres a voxel, D values; distances are fitted in mm.

    Source: Wang et al., A robust and interpretable deep learning framework for multi-modal registration via keypoints,
    2023.
    """

    def __init__(
        self,
        backbone: keras.Model,
        dims: int,
        level: int,
        divisor: int,
        points: int,
        spacing: Sequence[float],
        **kwargs: object,
    ) -> None:
        super().__init__(**kwargs)
        self.backbone, self.level, self.divisor, self.spacing = backbone, level, divisor, tuple(spacing)
        # A usual start, not one near zero: points that all begin in the middle do not learn a linear part.
        self.head = layers.Dense(points, name="points", dtype="float32")
        self.head.build((None, *(None,) * dims, backbone.outputs[0].shape[-1]))
        self.build()

    def matrix(self, fixed: object, moving: object) -> object:
        """Finds the points of both images and fits the matrix."""
        shape = tuple(fixed.shape[1:-1])
        images = ops.concatenate([fixed, moving], axis=0)
        (maps,) = predictions(self.backbone, [self.head], stacked([images], self.divisor))
        maps = cropped(maps, [-(-n // 2**self.level) for n in shape])
        settings = {"shape": shape, "level": self.level, "spacing": self.spacing}
        points = backend.compiled(centres_of_mass, **settings)(maps)
        return fitted_matrix(*ops.split(points, 2, axis=0), shape, self.spacing)


def centres_of_mass(maps: object, shape: Sequence[int], level: int, spacing: Sequence[float]) -> object:
    """Returns the centres of mass of the softmax of maps, in mm about the image's centre.

    Args:
        maps: Shape (B, *s, K), at a resolution level: each voxel covers 2**level voxels along each axis.
        shape: Spatial shape of the image, D values.
        level: Resolution level of the maps.
        spacing: Millimetres a voxel of the image.

    Returns:
        Shape (B, K, D).
    """
    sizes, count = maps.shape[1:-1], maps.shape[-1]
    shares = ops.reshape(ops.softmax(ops.reshape(maps, (-1, int(np.prod(sizes)), count)), axis=1), (-1, *sizes, count))
    centres = []
    for axis, (n, whole, step) in enumerate(zip(sizes, shape, spacing, strict=True), start=1):
        places = ((np.arange(n) + 0.5) * 2**level - whole / 2) * step
        along = ops.sum(shares, axis=[other for other in range(1, len(shape) + 1) if other != axis])
        centres.append(ops.sum(along * ops.convert_to_tensor(places[:, None].astype("float32")), axis=1))
    return ops.stack(centres, axis=-1)


def fitted_matrix(
    fixed: object, moving: object, shape: Sequence[int], spacing: Sequence[float], weights: object | None = None
) -> object:
    """Returns the affine matrices that map fixed points to moving points, by least squares.

    Args:
        fixed: Points in mm about the image's centre, shape (B, K, D).
        moving: The points that belong to them, shape (B, K, D).
        shape: Spatial shape of the image, D values.
        spacing: Millimetres a voxel.
        weights: How much each point counts, shape (B, K). None: all alike.

    Returns:
        Shape (B, D, D + 1), in voxels about voxel 0, for `affine_grid`.
    """
    shares = ops.ones_like(fixed[..., :1]) if weights is None else weights[..., None] + 1e-6
    shares = shares / ops.sum(shares, axis=1, keepdims=True)
    middles = [ops.sum(shares * each, axis=1, keepdims=True) for each in (fixed, moving)]
    fixed, moving = fixed - middles[0], moving - middles[1]
    ridge = (_RIDGE * float(np.mean(np.multiply(shape, spacing)))) ** 2 * ops.eye(len(shape), dtype="float32")
    across, own = (ops.matmul(ops.transpose(shares * each, (0, 2, 1)), fixed) for each in (moving, fixed))
    linear = ops.matmul(across + ridge, inverse_linear(own + ridge))
    offset = middles[1][:, 0] - ops.sum(linear * middles[0], axis=-1)
    spacing = np.asarray(spacing, dtype="float32")
    linear = linear * ops.convert_to_tensor(spacing[None, :] / spacing[:, None])
    centre = ops.convert_to_tensor((np.asarray(shape, dtype="float32") - 1) / 2)
    offset = offset / ops.convert_to_tensor(spacing) + centre - ops.sum(linear * centre, axis=-1)
    return ops.concatenate([linear, offset[..., None]], axis=-1)
