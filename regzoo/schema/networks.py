"""What a model is, as data: backbones and outputs of the two dicts, with bounds on every number.

A config is JSON from a card or YAML from a recipe. It is checked here before anything is built, so a hostile or
mistaken config is refused before memory is touched.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from regzoo.schema.backbones import BACKBONES, BackboneConfig, Level, UNetConfig
from regzoo.schema.card import WEIGHTS_LIMIT
from regzoo.schema.outputs import OUTPUTS, DVFConfig, OutputConfig
from regzoo.schema.registry import OneOf, those
from regzoo.schema.strict import Strict

DESCRIPTORS = {2: 4, 3: 12}
"""Channels of a voxel's MIND descriptor: one for each pair of neighbours along two different axes."""


class _Network(Strict):
    passes: Annotated[int, Field(ge=1, le=16)] = 1
    """How often the network runs, with the same weights, each time on the moving image as moved so far."""
    starts: Annotated[tuple[Level, ...], Field(max_length=8)] = ()
    """Resolution levels at which a pyramid of dvf ends at first, one pass each: the affine matrix nearest to what is
    found moves the moving image, if it is turned, and the last pass, as fine as the output, bends what is left."""
    shrink: Literal[1, 2, 4, 8] = 1
    """So many voxels along each axis become one for this network; levels count from there."""
    descriptor: Literal["mind"] | None = None
    """What the network is shown instead of the images: `mind`, descriptors that hardly depend on the contrast."""
    flow: bool = False
    """Whether a network of ddf, dvf or fitted is also shown the pair's optical flow on each pass."""

    @model_validator(mode="after")
    def _goes_together(self) -> "_Network":
        backbone, output = self.backbone, self.output
        if backbone.gives not in output.reads:
            fitting = those(BACKBONES, lambda each: each.gives in output.reads)
            raise ValueError(f"backbone: expected {fitting} for the output {output.name}, received {backbone.name}")
        if self.passes > 1 and not output.repeats:
            raise ValueError(f"passes: expected 1, unless the output is {those(OUTPUTS, lambda each: each.repeats)}")
        for name in ("descriptor", "flow"):
            if getattr(self, name) and not output.sees_more:
                able = those(OUTPUTS, lambda each: each.sees_more)
                raise ValueError(f"{name}: expected none, unless the output is {able}")
        if self.shrink > 1 and not output.has_field:
            raise ValueError(f"shrink: expected 1, since a {output.name} output has no field")
        return self

    @model_validator(mode="after")
    def _levels_are_there(self) -> "_Network":
        level, deepest, extracted = self.output.finest, self.backbone.deepest, self.backbone.extracted
        if level >= deepest:
            raise ValueError(f"output.level must be below {deepest}, the backbone's deepest level")
        if extracted and not self.output.averages_levels:
            able = those(OUTPUTS, lambda each: each.averages_levels, "and")
            raise ValueError(f"backbone.extract_levels goes with the outputs {able}")
        wrong = [each for each in extracted if not level <= each <= deepest]
        if wrong:
            raise ValueError(f"backbone.extract_levels: expected output.level to {deepest}, received {wrong[0]}")
        return self

    @model_validator(mode="after")
    def _streams_are_alike(self) -> "_Network":
        backbone, output, streams = self.backbone, self.output, self.backbone.gives == "streams"
        able = those(BACKBONES, lambda each: each.gives == "streams")
        if output.level_steps and not streams:
            raise ValueError(f"output.steps: expected one number, unless the backbone is {able}")
        for name in () if streams else output.chosen(output.for_streams):
            raise ValueError(f"output.{name}: expected none, unless the backbone is {able}")
        if output.level_steps and len(output.level_steps) != backbone.deepest + 1:
            raise ValueError(f"output.steps: expected {backbone.deepest + 1} numbers, not {len(output.level_steps)}")
        if self.starts and not (streams and output.ends_coarser):
            ending = those(OUTPUTS, lambda each: each.ends_coarser)
            raise ValueError(f"starts: expected none, unless the backbone is {able} and the output {ending}")
        if any(not output.finest <= each < backbone.deepest for each in self.starts):
            raise ValueError(
                f"starts: expected levels from output.level, {output.finest}, to below {backbone.deepest}, the "
                f"backbone's deepest, received {self.starts}"
            )
        if streams and self.flow:
            raise ValueError(f"flow: expected false, since the backbone {backbone.name} sees each image by itself")
        for name in output.chosen(output.by_streams) if streams else ():
            raise ValueError(f"output.{name}: expected false, since the backbone {backbone.name} is so by itself")
        return self

    def inputs(self, dims: int) -> int:
        """Returns how many channels the network is shown."""
        each = DESCRIPTORS[dims] if self.descriptor else 1
        return self.output.images * each + (dims if self.flow else 0)

    def widest(self, dims: int) -> float:
        """Returns how many values the network has for each voxel of its grid, on its finest level."""
        return self.output.widest(max(self.backbone.widest, 2 * DESCRIPTORS[dims] if self.descriptor else 0), dims)


class StageConfig(_Network):
    """A network whose field another one continues."""

    backbone: Annotated[BackboneConfig, OneOf(BACKBONES)]
    output: Annotated[OutputConfig, OneOf(OUTPUTS, "has_field")]


class ModelConfig(_Network):
    """A registration network: its backbone, its output and the number of spatial dimensions."""

    dims: Literal[2, 3] = 3
    before: Annotated[tuple[StageConfig, ...], Field(max_length=3)] = ()
    """Networks that go first; each sees the moving image as the ones before have moved it."""
    backbone: Annotated[BackboneConfig, OneOf(BACKBONES)] = UNetConfig()
    output: Annotated[OutputConfig, OneOf(OUTPUTS)] = DVFConfig()

    @property
    def row(self) -> tuple[_Network, ...]:
        """The networks in the order in which they run."""
        return (*self.before, self)

    @model_validator(mode="after")
    def _is_no_larger_than_memory(self) -> "ModelConfig":
        count = sum(stage.backbone.weights(self.dims) for stage in self.row)
        if count > WEIGHTS_LIMIT:
            raise ValueError(f"channels: expected a network of at most {WEIGHTS_LIMIT} weights, received about {count}")
        return self

    @model_validator(mode="after")
    def _halves_every_axis(self) -> "ModelConfig":
        for made_for in (stage.backbone.made_for for stage in self.row):
            if made_for not in (None, self.dims):
                raise ValueError(f"backbone.halvings: expected {self.dims} numbers, received {made_for}")
        return self

    @model_validator(mode="after")
    def _goes_in_a_row(self) -> "ModelConfig":
        if any(stage.output.is_linear for stage in self.row[1:]):
            linear = those(OUTPUTS, lambda each: each.is_linear)
            raise ValueError(f"before: an output {linear} must be the first")
        if self.before and not self.output.has_field:
            raise ValueError(f"before: a {self.output.name} output has no field, so nothing goes before it")
        return self
