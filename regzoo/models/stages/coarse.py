"""A network that works on a coarser grid, as the coarse levels of a registration by optimisation do."""

from collections.abc import Mapping, Sequence

import numpy as np
from keras import ops

from regzoo import backend
from regzoo.backend import Tensor
from regzoo.models.base import RegistrationModel
from regzoo.models.heads import cropped
from regzoo.models.outputs.matrices import as_prediction, is_linear
from regzoo.ops.fields import resize_field


class Shrunk(RegistrationModel):
    """Shows both images to a network at a lower resolution, and brings what it predicts to the images' own.

    Args:
        network: Model with a field.
        factor: Voxels along each axis that become one; a size that it does not divide is continued with its edge.
    """

    def __init__(self, network: RegistrationModel, factor: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.network, self.factor, self.invertible = network, factor, network.invertible
        self.build()

    def field(self, fixed: Tensor, moving: Tensor) -> dict:
        """Returns `ddf` (B, *S, D), `small`, the network's own prediction, and `matrix` if it has one."""
        shrink = backend.compiled(averaged, factor=self.factor)
        small = self.network.field(shrink(fixed), shrink(moving))
        return self._enlarged(small, tuple(fixed.shape[1:-1])) | {"small": small}

    def inverse(self, prediction: Mapping[str, Tensor]) -> dict:
        """Returns the network's inverse, at the images' resolution."""
        return self._enlarged(self.network.inverse(prediction["small"]), tuple(prediction["ddf"].shape[1:-1]))

    def _enlarged(self, small: Mapping[str, Tensor], shape: Sequence[int]) -> dict:
        if is_linear(small):
            return as_prediction(enlarged_matrix(small["matrix"], self.factor), shape)
        padded = tuple(self.factor * n for n in small["ddf"].shape[1:-1])
        return {"ddf": cropped(backend.compiled(resize_field, shape=padded)(small["ddf"]), shape)}


def averaged(image: Tensor, factor: int) -> Tensor:
    """Returns averages of `factor` voxels along each axis, shape (B, *ceil(S / factor), C)."""
    for axis in range(1, len(image.shape) - 1):
        length = image.shape[axis]
        if length % factor:
            last = ops.take(image, [length - 1] * (-length % factor), axis=axis)
            image = ops.concatenate([image, last], axis=axis)
        parts = (image.shape[axis] // factor, factor)
        image = ops.mean(ops.reshape(image, (-1, *image.shape[1:axis], *parts, *image.shape[axis + 1 :])), axis + 1)
    return image


def enlarged_matrix(matrix: Tensor, factor: int | Sequence[int]) -> Tensor:
    """Returns matrices (B, D, D + 1) about voxel 0 of an image for one of `factor` times its voxels along each axis.

    Edges of voxels coincide, so the middle of voxel `x` lies at `factor * (x + 0.5) - 0.5`.
    """
    linear, offset = matrix[..., :-1], matrix[..., -1:]
    each = np.broadcast_to(np.asarray(factor, "float32"), linear.shape[-1:])[:, None]
    larger = linear * ops.convert_to_tensor(each / each.T)
    half = ops.convert_to_tensor((each - 1) / 2)
    offset = offset * ops.convert_to_tensor(each) + half - ops.sum(larger * half[:, 0], axis=-1, keepdims=True)
    return ops.concatenate([larger, offset], axis=-1)
