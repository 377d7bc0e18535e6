"""What the backbones are built of; convolutions in a given precision, 2-D and 3-D."""

from collections.abc import Sequence

import keras
from keras import layers

from regzoo.backend import Tensor


class Blocks:
    """Makes the layers of a backbone.

    Args:
        dims: Spatial dimensions, 2 or 3.
        dtype: Keras dtype policy, such as `"mixed_bfloat16"`; never that of the user's Keras settings.
    """

    def __init__(self, dims: int, dtype: object = None) -> None:
        self.dims, self.dtype = dims, dtype or "float32"
        self._convolution = {2: layers.Conv2D, 3: layers.Conv3D}[dims]
        self._transposed = {2: layers.Conv2DTranspose, 3: layers.Conv3DTranspose}[dims]
        self._pool = {2: layers.AveragePooling2D, 3: layers.AveragePooling3D}[dims]
        self._repeat = {2: layers.UpSampling2D, 3: layers.UpSampling3D}[dims]

    def activation(self, x: Tensor, name: str) -> Tensor:
        """Applies a leaky ReLU."""
        return layers.LeakyReLU(0.1, name=name, dtype=self.dtype)(x)

    def convolution(self, x: Tensor, filters: int, name: str, width: int = 3, stride: int = 1) -> Tensor:
        """Convolves without an activation."""
        return self._convolution(filters, width, strides=stride, **self._settings(name))(x)

    def convolutions(self, x: Tensor, filters: int, count: int, name: str) -> Tensor:
        """Convolves `count` times, each followed by a leaky ReLU."""
        for i in range(count):
            x = self.activation(self.convolution(x, filters, f"{name}_conv{i}"), f"{name}_act{i}")
        return x

    def residual(self, x: Tensor, name: str) -> Tensor:
        """Adds two convolutions of `x` to `x`."""
        y = self.activation(self.convolution(x, x.shape[-1], f"{name}_conv0"), f"{name}_act0")
        y = self.convolution(y, x.shape[-1], f"{name}_conv1")
        return self.activation(layers.Add(name=f"{name}_sum", dtype=self.dtype)([x, y]), f"{name}_act1")

    def halve(self, x: Tensor, pooling: bool, name: str) -> Tensor:
        """Halves the resolution by averages of 2 voxels, or by a convolution with stride 2."""
        if pooling:
            return self.average(x, 2, name)
        return self.activation(self.convolution(x, x.shape[-1], name, stride=2), f"{name}_act")

    def average(self, x: Tensor, factor: int | Sequence[int], name: str) -> Tensor:
        """Makes one voxel of `factor` along each axis, by their average."""
        return self._pool(factor, name=name, dtype=self.dtype, data_format="channels_last")(x)

    def repeat(self, x: Tensor, factor: int | Sequence[int], name: str) -> Tensor:
        """Repeats each voxel `factor` times along each axis."""
        return self._repeat(factor, name=name, dtype=self.dtype, data_format="channels_last")(x)

    def deconvolution(self, x: Tensor, filters: int, name: str) -> Tensor:
        """Doubles the resolution by a transposed convolution."""
        return self.activation(self._transposed(filters, 3, strides=2, **self._settings(name))(x), f"{name}_act")

    def inputs(self, channels: int) -> Tensor:
        """Returns the input of a backbone: (B, *S, channels)."""
        return keras.Input((*(None,) * self.dims, channels), name="pair", dtype="float32")

    def _settings(self, name: str) -> dict:
        how = {"padding": "same", "kernel_initializer": "he_normal", "data_format": "channels_last"}
        return how | {"dtype": self.dtype, "name": name}
