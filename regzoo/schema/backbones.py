"""Networks from images to features, as data; their dict, which has one entry for each."""

import itertools
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from regzoo.schema.registry import Entries, Entry
from regzoo.schema.strict import Strict

Channels = Annotated[int, Field(ge=1, le=512)]
Level = Annotated[int, Field(ge=0, le=5)]
Levels = Annotated[tuple[Level, ...], Field(min_length=1, max_length=6)]
Widths = Annotated[tuple[Channels, ...], Field(min_length=2, max_length=7)]


class BackboneConfig(Strict):
    """A network from images to features at resolution levels; level 0 is the images' own, each further one half of it.

    A subclass has a `name: Literal[...]`, its settings, and `channels`, features at each level, finest first; or says
    in another way how deep, wide and large it is.
    """

    gives: ClassVar[str] = "levels"
    """What an output finds: `levels`, features at any level; `whole`, the deepest ones alone, to be read as a whole;
    `streams`, an encoder of each image by itself and decoders of both."""

    @property
    def deepest(self) -> int:
        """The deepest level: sizes are padded to multiples of 2**deepest."""
        return len(self.channels) - 1

    @property
    def made_for(self) -> int | None:
        """Dimensions of the images that it is made for; None for any."""
        return None

    @property
    def widest(self) -> int:
        """Values for each voxel on the finest level."""
        return self.channels[0]

    def weights(self, dims: int) -> int:
        """Returns roughly how many weights it has, rather more than less."""
        return convolved(self.channels, 2, dims)

    @property
    def extracted(self) -> tuple[int, ...]:
        """Levels that predict besides the output's own."""
        return getattr(self, "extract_levels", None) or ()


def convolved(widths: Sequence[int], count: int, dims: int) -> int:
    """Returns roughly how many weights `count` convolutions at each level have: down, up, and up's skips."""
    return 3 * count * 3**dims * sum(wide * (wide + narrow) for narrow, wide in itertools.pairwise(widths))


class UNetConfig(BackboneConfig):
    """A U-Net: `channels[l]` at resolution level l (level 0 is the input's), down to level `len(channels) - 1`."""

    name: Literal["unet"] = "unet"
    channels: Widths = (16, 32, 48, 64)
    convolutions: Annotated[int, Field(ge=1, le=4)] = 2
    """Convolutions per level."""
    pooling: bool = True
    """Whether averages of 2 voxels halve the resolution, or convolutions with stride 2."""
    concat_skip: bool = True
    """Whether encoder features are concatenated to the decoder's, or added."""
    extract_levels: Levels | None = None
    """Levels that predict a field besides the output's own; the predictions are averaged."""

    def weights(self, dims: int) -> int:
        """Returns roughly how many weights it has."""
        return convolved(self.channels, self.convolutions, dims)


class LocalNetConfig(BackboneConfig):
    """LocalNet (Hu et al. 2018): residual blocks on every level, features added and not concatenated."""

    name: Literal["local"] = "local"
    channels: Widths = (16, 32, 64, 128)
    pooling: bool = True
    use_additive_upsampling: bool = True
    """Whether the decoder's upsampling is a transposed convolution plus its input, resized, or the first alone."""
    extract_levels: Levels | None = None

    @model_validator(mode="after")
    def _folds(self) -> "LocalNetConfig":
        pairs = itertools.pairwise(self.channels)
        if self.use_additive_upsampling and any(coarse % fine for fine, coarse in pairs):
            raise ValueError("channels: expected each a multiple of the one before, for additive upsampling")
        return self


class GlobalNetConfig(BackboneConfig):
    """GlobalNet (Hu et al. 2018): LocalNet's encoder, whose deepest features are read as a whole."""

    gives: ClassVar[str] = "whole"
    name: Literal["global"] = "global"
    channels: Widths = (16, 32, 64, 128)
    pooling: bool = True


class VoxelMorphConfig(BackboneConfig):
    """VoxelMorph's U-Net of 2018 (Balakrishnan et al.): strided convolutions down, repetition up, one skip a level."""

    name: Literal["voxelmorph"] = "voxelmorph"
    encoder: Annotated[tuple[Channels, ...], Field(min_length=1, max_length=6)] = (16, 32, 32, 32)
    """Features of the convolutions down to levels 1, 2, ..."""
    decoder: Annotated[tuple[Channels, ...], Field(min_length=3, max_length=12)] = (32, 32, 32, 32, 32, 16, 16)
    """Features of one convolution at each level from the deepest up to 1, of one more at level 1, and of level 0's."""
    extract_levels: Levels | None = None

    @model_validator(mode="after")
    def _reaches_full_resolution(self) -> "VoxelMorphConfig":
        needed = len(self.encoder) + 2
        if len(self.decoder) < needed:
            raise ValueError(f"decoder: expected at least {needed} values, received {len(self.decoder)}")
        return self

    @property
    def channels(self) -> tuple[int, ...]:
        """Features at each level, finest first, as the other backbones give them."""
        return (self.decoder[-1], *self.encoder)

    def weights(self, dims: int) -> int:
        """Returns roughly how many weights it has."""
        return convolved((*self.encoder, *self.decoder), 2, dims)


class PyramidConfig(BackboneConfig):
    """Two streams, coarse to fine: an encoder for each image, and on every level a decoder that bends both further.

    The output's `level` is the finest with a decoder. Of a dvf, a velocity is antisymmetric in the pair on each level,
    so that exchanging the images inverts the map.
    """

    gives: ClassVar[str] = "streams"
    name: Literal["pyramid"] = "pyramid"
    channels: Widths = (8, 16, 32, 64, 64)
    """The encoder's features at each level, finest first."""
    decoder: Widths = (8, 32, 48, 64, 64)
    """The decoders' features at each level, finest first."""
    correlated: Level = 1
    """The finest level whose decoder also sees how each voxel's features correlate with the other image's around it."""
    norm: Literal["instance", "none"] = "instance"
    """Whether the encoder gives each channel of each image mean 0 and variance 1 after every convolution."""
    halvings: Annotated[tuple[Level, ...], Field(min_length=2, max_length=3)] | None = None
    """How often each axis is halved on the way to the deepest level, an axis with fewer times last; for stacks of few
    slices. None: every axis on each level."""

    @model_validator(mode="after")
    def _levels_agree(self) -> "PyramidConfig":
        depth = len(self.channels)
        if len(self.decoder) != depth:
            raise ValueError(f"decoder: expected {depth} values, as channels has, received {len(self.decoder)}")
        if self.halvings and max(self.halvings) != depth - 1:
            raise ValueError(f"halvings: expected {depth - 1} for one axis at least, received {self.halvings}")
        return self

    @property
    def made_for(self) -> int | None:
        """Dimensions of the images that it is made for; None for any."""
        return len(self.halvings) if self.halvings else None

    @property
    def widest(self) -> int:
        """Values for each voxel on the finest level: both images', of what a decoder sees."""
        return 2 * (3 * self.channels[0] + 27 * (self.correlated == 0))

    def weights(self, dims: int) -> int:
        """Returns roughly how many weights it has, rather more than less."""
        encoder = sum(wide * (wide + narrow) for narrow, wide in itertools.pairwise((self.channels[0], *self.channels)))
        pairs = zip(self.channels, self.decoder, strict=True)
        return 3**dims * (encoder + sum(wide * (3 * seen + 3**dims + wide + dims) for seen, wide in pairs))

    def strides(self, dims: int) -> tuple[tuple[int, ...], ...]:
        """Returns how many voxels along each axis become one on the next level, for each level but the deepest."""
        last = self.deepest
        return tuple(tuple(1 + (n >= last - step) for n in self.halvings or (last,) * dims) for step in range(last))


BACKBONES: Entries = {
    "unet": Entry(UNetConfig, "regzoo.models.backbones.unet:unet"),
    "local": Entry(LocalNetConfig, "regzoo.models.backbones.localnet:localnet"),
    "global": Entry(GlobalNetConfig, "regzoo.models.backbones.localnet:globalnet"),
    "voxelmorph": Entry(VoxelMorphConfig, "regzoo.models.backbones.voxelmorph:voxelmorph"),
    "pyramid": Entry(PyramidConfig, "regzoo.models.backbones.pyramid:pyramid"),
}
"""Name -> config, and the function `(dims, levels, inputs, dtype, **settings) -> keras.Model` from images to a list of
features at `levels`."""
