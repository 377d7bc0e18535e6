"""The same points found in both images, each image by itself, and an affine matrix fitted to them."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

from regzoo import backend
from regzoo.backend import Tensor
from regzoo.models.heads import cropped, predictions
from regzoo.models.network import Network
from regzoo.models.outputs.matrices import Matrices
from regzoo.models.outputs.output import Backbone
from regzoo.ops.matrices import inverse_linear
from regzoo.schema.networks import StageConfig

_RIDGE = 0.005
"""How far from each other, as a share of the image's size, points must lie to say more than the identity."""


class Keypoints(Matrices):
    """The affine matrix that best maps the fixed image's points to the moving image's.

    Its values are the points of both images, (B, K, D) each, in mm about the image's centre. A point is the centre of
    mass of the softmax of its map. What is said of an image does not hang on the other one, and an image that is
    shifted has its points shifted: such a network needs fewer pairs than one that reads twelve numbers off both images.

    Source: Wang et al., A robust and interpretable deep learning framework for multi-modal registration via keypoints,
    2023.
    """

    def matrix(self, values: Sequence, shape: Sequence[int]) -> Tensor:
        """Returns the matrix that is fitted to the points."""
        return fitted_matrix(*values, shape, self.spacing)

    def network(self, stage: StageConfig, backbone: Backbone) -> "EachImage":
        """Returns a network that is shown one image at a time."""
        levels = self.levels(stage)
        return EachImage(self, backbone(levels), levels, 2**stage.backbone.deepest, name=self.config.name)

    def heads(self, features: Sequence[int], levels: Sequence[int]) -> list[keras.Layer]:
        """Returns the layer that makes one map a point."""
        # A usual start, not one near zero: points that all begin in the middle do not learn a linear part.
        layer = layers.Dense(self.config.points, name="points", dtype="float32")
        layer.build((None, *(None,) * self.dims, features[0]))
        return [layer]

    def read(self, heads: Sequence, features: Sequence, levels: Sequence[int], shape: Sequence[int]) -> list:
        """Returns the points of each image."""
        (maps,) = predictions(heads, features)
        maps = cropped(maps, [-(-n // 2 ** levels[0]) for n in shape])
        settings = {"shape": tuple(shape), "level": levels[0], "spacing": self.spacing}
        return [backend.compiled(centres_of_mass, **settings)(maps)]


class EachImage(Network):
    """Shows each image of a pair to the backbone by itself."""

    def values(self, fixed: Tensor, moving: Tensor) -> list:
        """Returns what the heads make of the fixed and of the moving images, seen at once."""
        images = ops.concatenate([fixed, moving], axis=0)
        found = self.meaning.read(self.heads, self.features([images]), self.levels, tuple(fixed.shape[1:-1]))
        return [half for each in found for half in ops.split(each, 2, axis=0)]


def centres_of_mass(maps: Tensor, shape: Sequence[int], level: int, spacing: Sequence[float]) -> Tensor:
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
    fixed: Tensor, moving: Tensor, shape: Sequence[int], spacing: Sequence[float], weights: Tensor | None = None
) -> Tensor:
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
