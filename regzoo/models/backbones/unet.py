"""U-Net backbone: an encoder and a decoder that stops at the finest resolution level where something is predicted."""

from collections.abc import Sequence

import keras
from keras import layers

from regzoo.models.backbones.blocks import Blocks


def unet(
    dims: int,
    levels: Sequence[int],
    inputs: int,
    channels: Sequence[int],
    convolutions: int,
    pooling: bool,
    concat_skip: bool,
    dtype: object = None,
) -> keras.Model:
    """Builds a U-Net from images to features at resolution levels.

    Args:
        dims: Spatial dimensions, 2 or 3.
        levels: Levels of the outputs; 0 is full resolution, each further one half of it.
        inputs: Input channels.
        channels: Features at each resolution level, finest first.
        convolutions: Convolutions per level, 3 wide, each followed by a leaky ReLU.
        pooling: Whether averages of 2 voxels halve the resolution, or convolutions with stride 2.
        concat_skip: Whether encoder features are concatenated to the decoder's, or added.
        dtype: Keras dtype policy, such as `"mixed_bfloat16"`.

    Returns:
        A model from (B, *S, inputs) to a list of (B, *S / 2**level, channels[level]), one for each of `levels`. Every
        size of `S` must be divisible by `2**(len(channels) - 1)`.

    Source: Ronneberger et al., U-Net, 2015.
    """
    blocks = Blocks(dims, dtype)
    pair = x = blocks.inputs(inputs)
    features = []
    for level, filters in enumerate(channels):
        if level:
            x = blocks.halve(x, pooling, f"down{level}")
        x = blocks.convolutions(x, filters, convolutions, f"encoder{level}")
        features.append(x)
    for level in range(len(channels) - 2, min(levels) - 1, -1):
        x = blocks.repeat(x, 2, f"up{level}")
        if concat_skip:
            x = layers.Concatenate(name=f"skip{level}", dtype=dtype)([x, features[level]])
        else:
            x = blocks.convolution(x, channels[level], f"narrow{level}", width=1)
            x = layers.Add(name=f"skip{level}", dtype=dtype)([x, features[level]])
        x = blocks.convolutions(x, channels[level], convolutions, f"decoder{level}")
        features[level] = x
    return keras.Model(pair, [features[level] for level in levels], name="unet")
