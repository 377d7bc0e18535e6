"""What a model is, as data: the allow-list of architectures with bounds on every number.

A config is JSON from a card or YAML from a recipe. It is checked here before anything is built, so a hostile or
mistaken config is refused before memory is touched.
"""

import itertools
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from regzoo.schema.strict import Strict

Channels = Annotated[int, Field(ge=1, le=512)]
Level = Annotated[int, Field(ge=0, le=5)]
Levels = Annotated[tuple[Level, ...], Field(min_length=1, max_length=6)]
WEIGHTS_LIMIT = 2**27
"""The most weights, roughly counted, that a config may ask for: half a gigabyte."""
Widths = Annotated[tuple[Channels, ...], Field(min_length=2, max_length=7)]


class UNetConfig(Strict):
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


class LocalNetConfig(Strict):
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


class GlobalNetConfig(Strict):
    """GlobalNet (Hu et al. 2018): LocalNet's encoder, whose deepest features are read as a whole."""

    name: Literal["global"] = "global"
    channels: Widths = (16, 32, 64, 128)
    pooling: bool = True


class VoxelMorphConfig(Strict):
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


class DDFConfig(Strict):
    """Output: a dense displacement field, predicted at resolution level `level` and resized."""

    name: Literal["ddf"] = "ddf"
    level: Level = 0


class DVFConfig(Strict):
    """Output: a stationary velocity field at level `level`, integrated by `steps` scaling-and-squaring steps."""

    name: Literal["dvf"] = "dvf"
    level: Level = 1
    steps: Annotated[int, Field(ge=1, le=12)] = 7
    symmetric: bool = False
    """Whether the network sees the pair both ways, at twice the time, and the velocity is half of one less half of the
    other. Exchanging the two images that it sees then inverts its map: exactly for one pass with nothing before it."""


class FFDConfig(Strict):
    """Output: a free-form deformation, the sum of cubic B-splines with control points every `spacing` mm."""

    name: Literal["ffd"] = "ffd"
    spacing: Annotated[tuple[Annotated[float, Field(ge=1, le=200)], ...], Field(min_length=1, max_length=4)] = (8.0,)
    """One value in mm for each level of control points, or a single number for one level."""

    @field_validator("spacing", mode="before")
    @classmethod
    def _one_level(cls, spacing: object) -> object:
        return (spacing,) if isinstance(spacing, int | float) else spacing


class AffineConfig(Strict):
    """Output: a matrix about the image's centre, in mm."""

    name: Literal["affine"] = "affine"
    constraint: Literal["rigid", "similarity", "affine"] = "affine"
    """6, 7 or 12 degrees of freedom in 3-D; 3, 4 or 6 in 2-D."""


class KeypointsConfig(Strict):
    """Output: an affine matrix, fitted to as many `points` that are found in each image by itself at level `level`."""

    name: Literal["keypoints"] = "keypoints"
    points: Annotated[int, Field(ge=4, le=512)] = 64
    level: Level = 1


class FittedConfig(Strict):
    """Output: an affine matrix, fitted on each of the network's passes to displacements predicted at level `level`."""

    name: Literal["fitted"] = "fitted"
    level: Level = 0


class ConditionalConfig(Strict):
    """Output: the label on the fixed image, predicted from both images and the moving label, without a transform."""

    name: Literal["conditional"] = "conditional"
    level: Literal[0] = 0


Backbone = Annotated[UNetConfig | LocalNetConfig | GlobalNetConfig | VoxelMorphConfig, Field(discriminator="name")]
FieldOutput = DDFConfig | DVFConfig | FFDConfig | AffineConfig | KeypointsConfig | FittedConfig


class _Network(Strict):
    passes: Annotated[int, Field(ge=1, le=16)] = 1
    """How often the network runs, with the same weights, each time on the moving image as moved so far."""
    shrink: Literal[1, 2, 4, 8] = 1
    """So many voxels along each axis become one for this network; levels count from there."""
    descriptor: Literal["mind"] | None = None
    """What the network is shown instead of the images: `mind`, descriptors that hardly depend on the contrast."""
    flow: bool = False
    """Whether a network of ddf, dvf or fitted is also shown the pair's optical flow on each pass."""

    @model_validator(mode="after")
    def _fits(self) -> "_Network":
        backbone, output = self.backbone, self.output
        if (backbone.name == "global") != (output.name == "affine"):
            raise ValueError("the backbone 'global' goes with the output 'affine', and only with it")
        deepest = len(backbone.channels) - 1
        level = getattr(output, "level", 0)
        if level >= deepest:
            raise ValueError(f"output.level must be below {deepest}, the backbone's deepest level")
        if self.passes > 1 and output.name not in ("ddf", "dvf", "ffd", "fitted"):
            raise ValueError("passes: expected 1, unless the output is ddf, dvf, ffd or fitted")
        for name in ("descriptor", "flow"):
            if getattr(self, name) and output.name not in ("ddf", "dvf", "fitted"):
                raise ValueError(f"{name}: expected none, unless the output is ddf, dvf or fitted")
        extracted = getattr(backbone, "extract_levels", None) or ()
        if extracted and output.name not in ("ddf", "dvf"):
            raise ValueError("backbone.extract_levels goes with the outputs ddf and dvf")
        wrong = [each for each in extracted if not level <= each <= deepest]
        if wrong:
            raise ValueError(f"backbone.extract_levels: expected output.level to {deepest}, received {wrong[0]}")
        return self


def _weights(backbone: Backbone, dims: int) -> int:
    """Returns roughly how many weights a backbone has, rather more than less."""
    widths = backbone.channels if backbone.name != "voxelmorph" else (*backbone.encoder, *backbone.decoder)
    layers = 3 * getattr(backbone, "convolutions", 2)  # down, up, and up's skips
    return layers * 3**dims * sum(wide * (wide + narrow) for narrow, wide in itertools.pairwise(widths))


class StageConfig(_Network):
    """A network whose field another one continues."""

    backbone: Backbone
    output: Annotated[FieldOutput, Field(discriminator="name")]


class ModelConfig(_Network):
    """A registration network: its backbone, its output and the number of spatial dimensions."""

    dims: Literal[2, 3] = 3
    before: Annotated[tuple[StageConfig, ...], Field(max_length=3)] = ()
    """Networks that go first; each sees the moving image as the ones before have moved it."""
    backbone: Backbone = UNetConfig()
    output: Annotated[FieldOutput | ConditionalConfig, Field(discriminator="name")] = DVFConfig()

    @model_validator(mode="after")
    def _is_no_larger_than_memory(self) -> "ModelConfig":
        count = sum(_weights(stage.backbone, self.dims) for stage in (*self.before, self))
        if count > WEIGHTS_LIMIT:
            raise ValueError(f"channels: expected a network of at most {WEIGHTS_LIMIT} weights, received about {count}")
        return self

    @model_validator(mode="after")
    def _affine_goes_first(self) -> "ModelConfig":
        outputs = [stage.output.name for stage in (*self.before, self)]
        if {"affine", "keypoints", "fitted"} & {*outputs[1:]}:
            raise ValueError("before: an output affine, keypoints or fitted must be the first")
        if self.before and self.output.name == "conditional":
            raise ValueError("before: a conditional output has no field, so nothing goes before it")
        if self.shrink > 1 and self.output.name == "conditional":
            raise ValueError("shrink: expected 1, since a conditional output has no field")
        return self
