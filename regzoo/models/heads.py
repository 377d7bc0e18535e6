"""Padding and cropping around a backbone, and the layers on it that predict close to zero."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import layers, ops

from regzoo.backend import Tensor


def stacked(images: Sequence[Tensor], divisor: int | Sequence[int]) -> Tensor:
    """Stacks images as channels and pads them with 0 behind the last voxel, to sizes divisible by `divisor`."""
    shape = images[0].shape[1:-1]
    stack = ops.concatenate(images, axis=-1)
    padding = [(0, -n % each) for n, each in zip(shape, np.broadcast_to(divisor, len(shape)), strict=True)]
    return ops.pad(stack, [(0, 0), *padding, (0, 0)]) if any(after for _, after in padding) else stack


def cropped(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Crops (B, *S, C) to a spatial shape, from the first voxel."""
    return x[(slice(None), *(slice(0, n) for n in shape))]


def head(dims: int, features: int, channels: int, name: str, bias: bool = True) -> keras.Layer:
    """Makes the convolution that predicts, built, in float32.

    Its predictions are close to zero at the start; a normal start makes the training of fields diverge.
    """
    convolution = {2: layers.Conv2D, 3: layers.Conv3D}[dims]
    small = keras.initializers.RandomNormal(stddev=1e-5)
    own = {"data_format": "channels_last", "dtype": "float32", "use_bias": bias}
    layer = convolution(channels, 3, padding="same", kernel_initializer=small, name=name, **own)
    layer.build((None, *(None,) * dims, features))
    return layer


def predictions(heads: Sequence[keras.Layer], features: Sequence) -> list:
    """Returns what each head makes of the features of its level."""
    return [layer(each) for layer, each in zip(heads, features, strict=True)]
