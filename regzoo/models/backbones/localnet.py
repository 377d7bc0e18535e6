"""LocalNet and GlobalNet: residual blocks on every resolution level, with a decoder that adds, or without a decoder."""

from collections.abc import Sequence

import keras
from keras import layers, ops

from regzoo.backend import Tensor
from regzoo.models.backbones.blocks import Blocks


def localnet(
    dims: int,
    levels: Sequence[int],
    inputs: int,
    channels: Sequence[int],
    pooling: bool,
    use_additive_upsampling: bool,
    dtype: object = None,
) -> keras.Model:
    """Builds a LocalNet from images to features at resolution levels.

    Args:
        dims: Spatial dimensions, 2 or 3.
        levels: Levels of the outputs; 0 is full resolution, each further one half of it.
        inputs: Input channels.
        channels: Features at each resolution level, finest first; for additive upsampling each a multiple of the one
            before.
        pooling: Whether averages of 2 voxels halve the resolution, or convolutions with stride 2.
        use_additive_upsampling: Whether the transposed convolutions are added to their resized input.
        dtype: Keras dtype policy, such as `"mixed_bfloat16"`.

    Returns:
        A model from (B, *S, inputs) to a list of (B, *S / 2**level, channels[level]), one for each of `levels`. Every
        size of `S` must be divisible by `2**(len(channels) - 1)`.

    Source: Hu et al., Weakly-supervised convolutional neural networks for multimodal image registration, 2018. Unlike
    there, nothing is normalised over the batch, so that a pair's field does not depend on the pairs beside it.
    """
    blocks = Blocks(dims, dtype)
    pair = blocks.inputs(inputs)
    features = _encoder(blocks, pair, channels, pooling)
    x = features[-1]
    for level in range(len(channels) - 2, min(levels) - 1, -1):
        up = blocks.deconvolution(x, channels[level], f"up{level}")
        parts = [up, features[level]]
        if use_additive_upsampling:
            parts.append(
                _Folded(channels[level], name=f"fold{level}", dtype=dtype)(blocks.repeat(x, 2, f"resize{level}"))
            )
        x = layers.Add(name=f"skip{level}", dtype=dtype)(parts)
        x = blocks.residual(blocks.convolutions(x, channels[level], 1, f"decoder{level}"), f"decoder{level}_residual")
        features[level] = x
    return keras.Model(pair, [features[level] for level in levels], name="local")


def globalnet(
    dims: int, levels: Sequence[int], inputs: int, channels: Sequence[int], pooling: bool, dtype: object = None
) -> keras.Model:
    """Builds a GlobalNet from images to features of its encoder.

    Args:
        dims: Spatial dimensions, 2 or 3.
        levels: Levels of the outputs; the deepest is what a GlobalNet is for.
        inputs: Input channels.
        channels: Features at each resolution level, finest first.
        pooling: As in `localnet`.
        dtype: Keras dtype policy.

    Returns:
        A model from (B, *S, inputs) to a list of (B, *S / 2**level, channels[level]), one for each of `levels`.

    Source: Hu et al., Label-driven weakly-supervised learning for multimodal deformable image registration, 2018.
    """
    blocks = Blocks(dims, dtype)
    pair = blocks.inputs(inputs)
    features = _encoder(blocks, pair, channels, pooling)
    return keras.Model(pair, [features[level] for level in levels], name="global")


def _encoder(blocks: Blocks, x: Tensor, channels: Sequence[int], pooling: bool) -> list:
    """Returns the features of every level; the first convolution is 7 wide."""
    features = []
    for level, filters in enumerate(channels):
        if level:
            x = blocks.halve(x, pooling, f"down{level}")
        x = blocks.convolution(x, filters, f"encoder{level}_conv0", width=3 if level else 7)
        x = blocks.residual(blocks.activation(x, f"encoder{level}_act0"), f"encoder{level}_residual")
        features.append(x)
    return features


@keras.saving.register_keras_serializable("regzoo")
class _Folded(layers.Layer):
    """Sums groups of channels: (B, *S, n * filters) to (B, *S, filters)."""

    def __init__(self, filters: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.filters = filters

    def call(self, x: Tensor) -> Tensor:
        return sum(ops.split(x, x.shape[-1] // self.filters, axis=-1))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:-1], self.filters)

    def get_config(self) -> dict:
        return {**super().get_config(), "filters": self.filters}
