"""What a network predicts, as data, and what can be done with each; their dict, which has one entry for each."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from regzoo.schema.backbones import Level
from regzoo.schema.registry import Entries, Entry
from regzoo.schema.strict import Strict

Squarings = Annotated[int, Field(ge=1, le=12)]


class OutputConfig(Strict):
    """What a network's values mean. A subclass has a `name: Literal[...]`, its settings, and says what it can do."""

    reads: ClassVar[tuple[str, ...]] = ("levels",)
    """What it can be made of, of `BackboneConfig.gives`."""
    images: ClassVar[int] = 2
    """Images that its network is shown together: a pair, 1 where each is seen by itself, 3 with the moving label."""
    has_field: ClassVar[bool] = True
    """Whether it gives a field, or labels without one."""
    registers: ClassVar[bool] = True
    """Whether it is of a pair of images; else its card has another `pipeline_tag`."""
    has_inverse: ClassVar[bool] = False
    is_linear: ClassVar[bool] = False
    """Whether its map is a matrix; in a row, such a network goes first."""
    averages_levels: ClassVar[bool] = False
    """Whether several levels may predict it (`backbone.extract_levels`)."""
    repeats: ClassVar[bool] = False
    """Whether its network may run in several passes."""
    sees_more: ClassVar[bool] = False
    """Whether its network may be shown descriptors in place of the images, and optical flow beside them."""
    ends_coarser: ClassVar[bool] = False
    """Whether passes over streams may end at a coarser level first (`starts`)."""
    for_streams: ClassVar[tuple[str, ...]] = ()
    """Settings that a backbone of streams alone can serve."""
    by_streams: ClassVar[tuple[str, ...]] = ()
    """Settings whose work a backbone of streams does by itself."""

    def chosen(self, names: tuple[str, ...]) -> list[str]:
        """Returns those of the settings that are not what they are when nothing is said."""
        return [each for each in names if getattr(self, each) != type(self).model_fields[each].default]

    @property
    def level_steps(self) -> tuple[int, ...]:
        """Steps of integration on each level of streams, finest first; empty where one number serves."""
        return ()

    @property
    def finest(self) -> int:
        """The resolution level at which it is predicted."""
        return getattr(self, "level", 0)

    @property
    def starts_from(self) -> tuple[str, ...]:
        """Outputs whose networks' weights mean the same here."""
        return (self.name,)

    def widest(self, features: int, dims: int) -> float:
        """Returns how many values a voxel its network has, if it has so many features on the finest level."""
        return features


class DDFConfig(OutputConfig):
    """Output: a dense displacement field, predicted at resolution level `level` and resized."""

    reads: ClassVar[tuple[str, ...]] = ("levels", "streams")
    averages_levels: ClassVar[bool] = True
    repeats: ClassVar[bool] = True
    sees_more: ClassVar[bool] = True
    name: Literal["ddf"] = "ddf"
    level: Level = 0


class DVFConfig(OutputConfig):
    """Output: a stationary velocity field at level `level`, integrated by `steps` scaling-and-squaring steps."""

    has_inverse: ClassVar[bool] = True
    reads: ClassVar[tuple[str, ...]] = ("levels", "streams")
    averages_levels: ClassVar[bool] = True
    repeats: ClassVar[bool] = True
    sees_more: ClassVar[bool] = True
    ends_coarser: ClassVar[bool] = True
    for_streams: ClassVar[tuple[str, ...]] = ("mirrored", "rounds", "smoothing", "steepest")
    by_streams: ClassVar[tuple[str, ...]] = ("symmetric",)
    name: Literal["dvf"] = "dvf"
    level: Level = 1
    steps: Squarings | Annotated[tuple[Squarings, ...], Field(min_length=2, max_length=7)] = 7
    """One number for each level, finest first, only for the backbone `pyramid`."""
    symmetric: bool = False
    """Whether the network sees the pair both ways, at twice the time, and the velocity is half of one less half of the
    other. Exchanging the two images that it sees then inverts its map: exactly for one pass with nothing before it."""
    mirrored: bool = False
    """Only for the backbone `pyramid`: whether it also sees the pair mirrored along the first axis, at twice the time,
    and each velocity is the mean of both. A mirrored pair then has the mirrored map, and chance differences halve."""
    smoothing: Annotated[float, Field(ge=0, le=3)] = 0
    """Only for the backbone `pyramid`: standard deviation, in voxels of level `level`, of the Gaussian that blurs its
    velocity, which otherwise folds here and there."""
    rounds: Annotated[int, Field(ge=1, le=4)] = 1
    """Only for the backbone `pyramid`: how often its finest level looks, each time at the features as moved so far."""
    steepest: Annotated[float, Field(ge=0, le=10)] = 0
    """Only for the backbone `pyramid`: voxels of level `level` by which its velocity may change from one to the next
    before it is blurred there, once more by 1; 0: any."""

    @property
    def level_steps(self) -> tuple[int, ...]:
        """Steps of integration on each level of streams, finest first; empty where one number serves."""
        return self.steps if isinstance(self.steps, tuple) else ()


class FFDConfig(OutputConfig):
    """Output: a free-form deformation, the sum of cubic B-splines with control points every `spacing` mm."""

    repeats: ClassVar[bool] = True
    name: Literal["ffd"] = "ffd"
    spacing: Annotated[tuple[Annotated[float, Field(ge=1, le=200)], ...], Field(min_length=1, max_length=4)] = (8.0,)
    """One value in mm for each level of control points, or a single number for one level."""

    @field_validator("spacing", mode="before")
    @classmethod
    def _one_level(cls, spacing: object) -> object:
        return (spacing,) if isinstance(spacing, int | float) else spacing


class AffineConfig(OutputConfig):
    """Output: a matrix about the image's centre, in mm."""

    reads: ClassVar[tuple[str, ...]] = ("whole",)
    has_inverse: ClassVar[bool] = True
    is_linear: ClassVar[bool] = True
    name: Literal["affine"] = "affine"
    constraint: Literal["rigid", "similarity", "affine"] = "affine"
    """6, 7 or 12 degrees of freedom in 3-D; 3, 4 or 6 in 2-D."""


class KeypointsConfig(OutputConfig):
    """Output: an affine matrix, fitted to as many `points` that are found in each image by itself at level `level`."""

    images: ClassVar[int] = 1
    has_inverse: ClassVar[bool] = True
    is_linear: ClassVar[bool] = True
    name: Literal["keypoints"] = "keypoints"
    points: Annotated[int, Field(ge=4, le=512)] = 64
    level: Level = 1

    def widest(self, features: int, dims: int) -> float:
        """Returns the larger of the features and the maps of points, twice, since both images are seen at once."""
        return 2 * max(features, self.points / 2 ** (dims * self.level))


class FittedConfig(OutputConfig):
    """Output: an affine matrix, fitted on each of the network's passes to displacements predicted at level `level`."""

    has_inverse: ClassVar[bool] = True
    is_linear: ClassVar[bool] = True
    repeats: ClassVar[bool] = True
    sees_more: ClassVar[bool] = True
    name: Literal["fitted"] = "fitted"
    level: Level = 0

    @property
    def starts_from(self) -> tuple[str, ...]:
        """Also a network that was trained to bend: its velocities point the same way."""
        return ("fitted", "dvf")


class ConditionalConfig(OutputConfig):
    """Output: the label on the fixed image, predicted from both images and the moving label, without a transform."""

    images: ClassVar[int] = 3
    has_field: ClassVar[bool] = False
    name: Literal["conditional"] = "conditional"
    level: Literal[0] = 0


class MaskConfig(OutputConfig):
    """Output: where something, such as the brain, is in one image; no registration."""

    images: ClassVar[int] = 1
    has_field: ClassVar[bool] = False
    registers: ClassVar[bool] = False
    name: Literal["mask"] = "mask"
    level: Literal[0] = 0


OUTPUTS: Entries = {
    "ddf": Entry(DDFConfig, "regzoo.models.outputs.dense:Displacement"),
    "dvf": Entry(DVFConfig, "regzoo.models.outputs.dense:Velocity"),
    "ffd": Entry(FFDConfig, "regzoo.models.outputs.ffd:FreeForm"),
    "affine": Entry(AffineConfig, "regzoo.models.outputs.affine:Linear"),
    "keypoints": Entry(KeypointsConfig, "regzoo.models.outputs.keypoints:Keypoints"),
    "fitted": Entry(FittedConfig, "regzoo.models.outputs.fitted:Fitted"),
    "conditional": Entry(ConditionalConfig, "regzoo.models.outputs.conditional:Conditional"),
    "mask": Entry(MaskConfig, "regzoo.models.outputs.mask:Mask"),
}
"""Name -> config, and its `regzoo.models.outputs.output.Output`, made from the config, dimensions and spacing."""
