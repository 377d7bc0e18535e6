"""VoxelMorph's U-Net of 2018: its networks keep their weights, so its wiring is kept to the letter."""

from collections.abc import Sequence

import keras
from keras import layers

from regzoo.backend import Tensor
from regzoo.models.backbones.blocks import Blocks


def voxelmorph(
    dims: int, levels: Sequence[int], inputs: int, encoder: Sequence[int], decoder: Sequence[int], dtype: object = None
) -> keras.Model:
    """Builds VoxelMorph's U-Net from images to features at resolution levels.

    Args:
        dims: Spatial dimensions, 2 or 3.
        levels: Levels of the outputs; 0 is full resolution, each further one half of it.
        inputs: Input channels.
        encoder: Features of the convolutions with stride 2 that lead to levels 1, 2, ...
        decoder: Features of one convolution at each level from the deepest up to 1, of one more at level 1, and of
            those at level 0, where the images themselves are concatenated.
        dtype: Keras dtype policy, such as `"mixed_bfloat16"`.

    Returns:
        A model from (B, *S, inputs) to a list of (B, *S / 2**level, F), one for each of `levels`. Every size of `S`
        must be divisible by `2**len(encoder)`.

    Source: Balakrishnan et al., An unsupervised learning model for deformable medical image registration, 2018; the
    slope of the leaky ReLUs is 0.2. Checked against its published weights.
    """
    blocks = Blocks(dims, dtype)

    def step(x: Tensor, filters: int, name: str, stride: int = 1) -> Tensor:
        x = blocks.convolution(x, filters, f"{name}_conv", stride=stride)
        return layers.LeakyReLU(0.2, name=f"{name}_act", dtype=dtype)(x)

    pair = x = blocks.inputs(inputs)
    features = [pair]
    for level, filters in enumerate(encoder, start=1):
        x = step(x, filters, f"encoder{level}", stride=2)
        features.append(x)
    deepest = len(encoder)
    for level in range(deepest, -1, -1):
        if level < deepest:
            up = blocks.repeat(x, 2, f"up{level}")
            x = layers.Concatenate(name=f"skip{level}", dtype=dtype)([up, features[level]])
        for i in _convolutions(level, deepest, len(decoder)):
            x = step(x, decoder[i], f"decoder{i}")
        features[level] = x
    return keras.Model(pair, [features[level] for level in levels], name="voxelmorph")


def _convolutions(level: int, deepest: int, count: int) -> range:
    """Returns which of the decoder's convolutions are at a level."""
    if level == 0:
        return range(deepest + 1, count)
    return range(deepest - level, deepest - level + (2 if level == 1 else 1))
