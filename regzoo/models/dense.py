"""Models whose network predicts a dense field: a displacement (ddf) or a stationary velocity (dvf)."""

import keras
from keras import layers, ops

from regzoo import backend
from regzoo.fields import integrate, resize_field
from regzoo.models.base import RegistrationModel


class DenseModel(RegistrationModel):
    """Predicts a field at the resolution level of a backbone and brings it to full resolution.

    Args:
        backbone: Model from (B, *S, 2) to (B, *S / 2**level, F).
        dims: Spatial dimensions, 2 or 3.
        divisor: What every size must be divisible by; any other size is padded with 0 and the field cropped.
        steps: Squarings that integrate the prediction as a velocity; `None`: the prediction is a displacement.
    """

    def __init__(
        self, backbone: keras.Model, dims: int, divisor: int, steps: int | None = None, **kwargs: object
    ) -> None:
        super().__init__(**kwargs)
        self.backbone, self.divisor, self.steps = backbone, divisor, steps
        convolution = {2: layers.Conv2D, 3: layers.Conv3D}[dims]
        # A field close to zero at the start; a normal start makes training diverge. Fields stay in float32.
        small = keras.initializers.RandomNormal(stddev=1e-5)
        self.head = convolution(dims, 3, padding="same", kernel_initializer=small, name="field", dtype="float32")
        self.head.build((None, *(None,) * dims, backbone.output_shape[-1]))
        self.build()

    def field(self, fixed: object, moving: object) -> dict:
        """Returns `ddf` (B, *S, D) in voxels and, for a dvf, `velocity` at its own resolution and in its voxels."""
        shape = tuple(fixed.shape[1:-1])
        padded = tuple(-(-n // self.divisor) * self.divisor for n in shape)
        pair = ops.concatenate([fixed, moving], axis=-1)
        if padded != shape:
            pair = ops.pad(pair, [(0, 0), *((0, p - n) for p, n in zip(padded, shape, strict=True)), (0, 0)])
        prediction = self.head(self.backbone(pair))
        ddf = prediction if self.steps is None else integrate(prediction, self.steps)
        ddf = backend.compiled(resize_field, shape=padded)(ddf)
        ddf = ddf[(slice(None), *(slice(0, n) for n in shape))]
        return {"ddf": ddf} if self.steps is None else {"ddf": ddf, "velocity": prediction}
