"""Mask: where something is in one image, such as the brain in a head; no registration."""

from collections.abc import Mapping

import keras
from keras import layers, ops

from regzoo.backend import Tensor
from regzoo.errors import InvalidError, invalid
from regzoo.models.base import RegistrationModel
from regzoo.models.heads import cropped, stacked
from regzoo.models.outputs.output import Backbone, Output
from regzoo.schema.networks import StageConfig


class Mask(Output):
    """Where something is in an image; there is no map."""

    def network(self, stage: StageConfig, backbone: Backbone) -> "MaskModel":
        """Returns a model of masks."""
        return MaskModel(backbone(self.levels(stage)), self.dims, 2**stage.backbone.deepest)


class MaskModel(RegistrationModel):
    """Tells of each voxel of an image how sure it is that it belongs to what the model was trained to find.

    Args:
        backbone: Model from (B, *S, 1) to a list of one (B, *S, F).
        dims: Spatial dimensions, 2 or 3.
        divisor: What every size must be divisible by; any other size is padded with 0 and the mask cropped.

    Call arguments:
        inputs: Dictionary with `image`, (B, *S, 1), in [0, 1].

    Returns:
        Dictionary with `mask`, (B, *S, 1): logarithms of odds, above 0 where the voxel more likely belongs to it.
    """

    kinds = ()
    takes = ("image",)
    has_field = False

    def __init__(self, backbone: keras.Model, dims: int, divisor: int) -> None:
        super().__init__(name="mask")
        self.backbone, self.divisor, self.dims = backbone, divisor, dims
        # Not a convolution: torch has no gradient for one with a single filter on a CPU (2.13).
        self.head = layers.Dense(1, name="mask", dtype="float32")
        self.head.build((None, *(None,) * dims, backbone.outputs[0].shape[-1]))
        self.build()

    def call(self, inputs: Mapping[str, Tensor], training: bool | None = None) -> dict:
        """Returns the mask of each image."""
        image = inputs["image"]
        features = self.backbone(stacked([image], self.divisor))
        features = features[0] if isinstance(features, list) else features  # Keras unpacks a list of one
        return {"mask": cropped(self.head(ops.cast(features, "float32")), image.shape[1:-1])}

    def _check(self, inputs: Mapping[str, Tensor]) -> None:
        if not isinstance(inputs, Mapping) or "image" not in inputs:
            raise invalid("inputs", "a dictionary with 'image'", type(inputs).__name__)
        shape = tuple(getattr(inputs["image"], "shape", ()))
        if len(shape) != self.dims + 2:
            raise invalid("image", f"shape (B, {', '.join('XYZ'[: self.dims])}, 1)", shape)

    def supervise(self, *args: object, **kwargs: object) -> None:
        """Refuses: no loss of a pair trains a mask; the entry's card names the script that does."""
        raise InvalidError("A mask is not trained by the losses of a registration. Its card names its own script.")
