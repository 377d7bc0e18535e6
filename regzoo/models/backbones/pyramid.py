"""The two-stream pyramid: an encoder for each image by itself, and a decoder for the pair on each resolution level."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import keras
from keras import layers, ops

from regzoo import backend
from regzoo.backend import Tensor
from regzoo.models.backbones.blocks import Blocks
from regzoo.ops.features import instance_normalised
from regzoo.schema.backbones import PyramidConfig


class Streams(NamedTuple):
    """The networks of a pyramid."""

    encoder: keras.Model
    """From (B, *S, C) to a list of features, one for each level."""
    decoders: list[keras.Model]
    """One for each level that predicts, finest first, the last for the deepest level."""
    divisor: tuple[int, ...]
    """What every size must be divisible by, along each axis."""
    correlated: int
    """The finest level whose decoder sees correlations."""


def pyramid(dims: int, levels: Sequence[int], inputs: int, dtype: object = None, **settings: object) -> Streams:
    """Builds the networks of a pyramid.

    Args:
        dims: Spatial dimensions, 2 or 3.
        levels: Levels with a decoder, finest first, the last the deepest.
        inputs: Channels of both images.
        dtype: Keras dtype policy, such as `"mixed_bfloat16"`.
        settings: Those of `PyramidConfig`.
    """
    config = PyramidConfig(**settings)
    strides = config.strides(dims)
    return Streams(
        encoder(dims, inputs // 2, config.channels, strides, config.norm, dtype),
        [decoder(dims, level, config, strides, dtype) for level in levels],
        tuple(math.prod(along) for along in zip(*strides, strict=True)),
        config.correlated,
    )


def encoder(
    dims: int,
    inputs: int,
    channels: Sequence[int],
    strides: Sequence[Sequence[int]],
    norm: str = "instance",
    dtype: object = None,
) -> keras.Model:
    """Builds a network from an image to its features on every resolution level.

    Args:
        dims: Spatial dimensions, 2 or 3.
        inputs: Channels of the image.
        channels: Features at each resolution level, finest first.
        strides: Voxels along each axis that become one on the next level, for each level but the deepest.
        norm: `"instance"`: after each convolution every channel of every image has mean 0 and variance 1; `"none"`.
        dtype: Keras dtype policy, such as `"mixed_bfloat16"`.

    Returns:
        A model from (B, *S, inputs) to a list of features, one for each of `channels`.
    """
    blocks = Blocks(dims, dtype)
    image = x = blocks.inputs(inputs)
    features = []
    for level, filters in enumerate(channels):
        if level:
            x = blocks.average(x, strides[level - 1], f"down{level}")
        for i in range(2):
            x = blocks.convolution(x, filters, f"encoder{level}_conv{i}")
            name = f"encoder{level}_act{i}"
            x = Standardised(name=name, dtype=dtype)(x) if norm == "instance" else blocks.activation(x, name)
        features.append(x)
    return keras.Model(image, features, name="encoder")


def decoder(
    dims: int, level: int, config: PyramidConfig, strides: Sequence[Sequence[int]], dtype: object = None
) -> keras.Model:
    """Builds the network that sees both images' features on a level, and what the level below made of its own.

    Args:
        dims: Spatial dimensions, 2 or 3.
        level: The level; level 0 has one convolution, every other two.
        config: Features of encoder and decoders, and from which level on correlations are seen.
        strides: As for `encoder`.
        dtype: Keras dtype policy.

    Returns:
        A model from (B, *S, 2 * channels[level]), with 3**dims correlations behind from `correlated` on, and
        (B, *S / strides[level], decoder[level + 1]) if there is a level below, to (B, *S, decoder[level]).
    """
    blocks = Blocks(dims, dtype)
    pair = x = blocks.inputs(2 * config.channels[level] + 3**dims * (level >= config.correlated))
    seen = [pair]
    if level < len(strides):
        below = keras.Input((*(None,) * dims, config.decoder[level + 1]), name="below", dtype="float32")
        narrow = blocks.convolution(below, config.channels[level], f"narrow{level}", width=1)
        up = blocks.repeat(narrow, strides[level], f"up{level}")
        x = layers.Concatenate(name=f"skip{level}", dtype=dtype)([pair, up])
        seen.append(below)
    x = blocks.convolutions(x, config.decoder[level], 2 if level else 1, f"decoder{level}")
    return keras.Model(seen, x, name=f"decoder{level}")


@keras.saving.register_keras_serializable("regzoo")
class Standardised(layers.Layer):
    """Gives every channel of every image mean 0 and variance 1, and applies a leaky ReLU."""

    def call(self, x: Tensor) -> Tensor:
        """Returns features of the same shape."""
        return backend.compiled(_normalised)(x)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        """Returns the shape of the features."""
        return input_shape


def _normalised(x: Tensor) -> Tensor:
    return ops.leaky_relu(instance_normalised(x), 0.1)
