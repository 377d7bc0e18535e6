"""U-Net backbone: an encoder and a decoder that stops at the resolution level where the output is predicted."""

from collections.abc import Sequence

import keras
from keras import layers


def unet(dims: int, channels: Sequence[int], convolutions: int, level: int, dtype: object = None) -> keras.Model:
    """Builds a U-Net from an image pair to features at a resolution level.

    Args:
        dims: Spatial dimensions, 2 or 3.
        channels: Features at each resolution level, finest first.
        convolutions: Convolutions per level, 3 wide, each followed by a leaky ReLU.
        level: Level of the output; 0 is full resolution, each further one half of it.
        dtype: Keras dtype policy, such as `"mixed_bfloat16"`.

    Returns:
        A model from (B, *S, 2), fixed and moving, to (B, *S / 2**level, channels[level]). Every size of `S` must be
        divisible by `2**(len(channels) - 1)`.

    Source: Ronneberger et al., U-Net, 2015.
    """
    convolution = {2: layers.Conv2D, 3: layers.Conv3D}[dims]
    pool = {2: layers.AveragePooling2D, 3: layers.AveragePooling3D}[dims]
    enlarge = {2: layers.UpSampling2D, 3: layers.UpSampling3D}[dims]

    def block(x: object, filters: int, name: str) -> object:
        for i in range(convolutions):
            conv = convolution(
                filters, 3, padding="same", kernel_initializer="he_normal", name=f"{name}_conv{i}", dtype=dtype
            )
            x = layers.LeakyReLU(0.1, name=f"{name}_act{i}", dtype=dtype)(conv(x))
        return x

    inputs = keras.Input((*(None,) * dims, 2), name="pair")
    x, skips = inputs, []
    for depth, filters in enumerate(channels):
        if depth:
            x = pool(2, name=f"down{depth}", dtype=dtype)(x)
        x = block(x, filters, f"encoder{depth}")
        skips.append(x)
    for depth in range(len(channels) - 2, level - 1, -1):
        x = enlarge(2, name=f"up{depth}", dtype=dtype)(x)
        x = layers.Concatenate(name=f"skip{depth}", dtype=dtype)([x, skips[depth]])
        x = block(x, channels[depth], f"decoder{depth}")
    return keras.Model(inputs, x, name="unet")
