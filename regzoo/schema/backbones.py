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
    """What an output finds: `levels`, features at any level; `whole`, the deepest ones alone, to be read as a whole."""

    @property
    def deepest(self) -> int:
        """The deepest level: sizes are padded to multiples of 2**deepest."""
        return len(self.channels) - 1

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


BACKBONES: Entries = {
    "unet": Entry(UNetConfig, "regzoo.models.backbones.unet:unet"),
    "local": Entry(LocalNetConfig, "regzoo.models.backbones.localnet:localnet"),
    "global": Entry(GlobalNetConfig, "regzoo.models.backbones.localnet:globalnet"),
    "voxelmorph": Entry(VoxelMorphConfig, "regzoo.models.backbones.voxelmorph:voxelmorph"),
}
"""Name -> config, and the function `(dims, levels, inputs, dtype, **settings) -> keras.Model` from images to a list of
features at `levels`."""
