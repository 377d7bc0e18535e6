"""Descriptors of a voxel's neighbourhood that hardly depend on the contrast."""

import itertools

from keras import ops

from regzoo.backend import Tensor
from regzoo.ops.filters import shift, smooth
from regzoo.ops.statistics import standardised


def self_similarity(image: Tensor, radius: int, dilation: int, floor: float) -> tuple:
    """Returns the descriptor, shape (B, *S, pairs, C), and 1 where the image is not flat, shape (B, *S, C).

    Example:
        >>> import numpy as np
        >>> image = np.random.default_rng(0).random((1, 8, 6, 7, 1)).astype("float32")
        >>> descriptor, content = self_similarity(image, radius=1, dilation=2, floor=1e-3)
        >>> tuple(descriptor.shape), tuple(content.shape)
        ((1, 8, 6, 7, 12, 1), (1, 8, 6, 7, 1))
    """
    image = standardised(image)
    *spatial, channels = image.shape[1:]
    beside = [[shift(image, axis, step) for step in (-dilation, dilation)] for axis in range(len(spatial))]
    pairs = [pair for a, b in itertools.combinations(beside, 2) for pair in itertools.product(a, b)]
    squares = ops.concatenate([ops.square(one - other) for one, other in pairs], axis=-1)
    patches = smooth(squares, 2 * radius + 1)
    distance = ops.reshape(patches, (ops.shape(image)[0], *spatial, len(pairs), channels))
    distance = distance - ops.min(distance, axis=-2, keepdims=True)
    scale = ops.mean(distance, axis=-2, keepdims=True)
    least = floor * ops.stop_gradient(ops.mean(scale, axis=tuple(range(1, len(scale.shape))), keepdims=True)) + 1e-8
    content = ops.stop_gradient(ops.cast(scale > least, image.dtype))
    return ops.exp(-distance / ops.maximum(scale, least)), content[..., 0, :]
