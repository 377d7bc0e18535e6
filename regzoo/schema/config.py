"""What a model is, as data: the allow-list of architectures with bounds on every number, and a network's input.

A config is JSON from a card or YAML from a recipe. It is checked here before anything is built, so a hostile or
mistaken config is refused before memory is touched.
"""

import difflib
import itertools
import math
import re
import reprlib
from typing import Annotated, Literal, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from regzoo.errors import InvalidError, invalid

Channels = Annotated[int, Field(ge=1, le=512)]
Spacing = Annotated[float, Field(gt=0.01, le=100)]
Size = Annotated[int, Field(ge=4, le=512)]
Level = Annotated[int, Field(ge=0, le=5)]
Levels = Annotated[tuple[Level, ...], Field(min_length=1, max_length=6)]
WEIGHTS_LIMIT = 2**27
"""The most weights, roughly counted, that a config may ask for: half a gigabyte."""
FEATURES_LIMIT = 2**28
"""The most values on a network's finest level: a gigabyte, of which it needs several."""
Widths = Annotated[tuple[Channels, ...], Field(min_length=2, max_length=7)]


def _three_directions(axes: str) -> str:
    if sorted(min(pair) for axis in axes for pair in ("RL", "AP", "SI") if axis in pair) != ["A", "I", "L"]:
        raise ValueError(f"expected one of R and L, one of A and P, one of S and I, received '{axes}'")
    return axes


Axes = Annotated[str, Field(pattern="^[RLAPSI]{3}$"), AfterValidator(_three_directions)]


class Strict(BaseModel):
    """A frozen record that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


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


class PercentileIntensity(Strict):
    """Intensities clipped to two percentiles of the image and scaled to [0, 1]."""

    name: Literal["percentiles"] = "percentiles"
    low: Annotated[float, Field(ge=0, lt=50)] = 1.0
    high: Annotated[float, Field(gt=50, le=100)] = 99.0


class WindowIntensity(Strict):
    """Intensities clipped to a window of the image's own unit (HU for CT) and scaled to [0, 1]."""

    name: Literal["window"] = "window"
    low: float
    high: float


class InputConfig(Strict):
    """The grid and the intensities that a network was trained on.

    The grid has the given axes, spacing (mm) and shape (voxels), and lies on the fixed image's centre or its lungs'.
    Two numbers are for a 2-D model: its grid lies in the image's own slices, and every slice k is a pair of its own.
    """

    spacing: Annotated[tuple[Spacing, ...], Field(min_length=2, max_length=3)] = (1.0, 1.0, 1.0)
    shape: Annotated[tuple[Size, ...], Field(min_length=2, max_length=3)]
    axes: Axes = "RAS"
    """Where the index of each of three axes grows to: R or L (right, left), A or P (front, back), S or I (up, down)."""
    intensity: Annotated[PercentileIntensity | WindowIntensity, Field(discriminator="name")] = PercentileIntensity()
    around: Literal["image", "lungs", "extent"] = "image"
    """What the grid lies around: the image's centre, or the middle of the lungs, which are found in a chest CT.

    `extent`: the image's centre, and the grid is stretched or shrunk evenly until the whole fixed image just fits into
    it, so that `spacing` only tells proportions. The moving image is seen at the fixed one's scale."""
    alignment: Literal["center", "world"] = "center"
    """`center`: the moving image's centre is put on the fixed image's; `world`: scanner coordinates are trusted."""

    @model_validator(mode="after")
    def _same_dimensions(self) -> "InputConfig":
        if len(self.spacing) != len(self.shape):
            raise ValueError(f"spacing and shape: expected as many values, received {self.spacing} and {self.shape}")
        if len(self.shape) == 2 and self.axes != "RAS":
            raise ValueError("axes: a 2-D grid has the image's own axes; leave the key out")
        if self.around == "lungs" and (len(self.shape) == 2 or self.axes != "RAS"):
            raise ValueError("around: a grid around the lungs has three axes along RAS")
        if self.around == "extent" and len(self.shape) == 2:
            raise ValueError("around: a grid that fits an image has three axes")
        return self

    def check(self, model: ModelConfig) -> None:
        """Refuses a grid of another number of dimensions than the model's, or on which it would not fit into memory.

        Raises:
            InvalidError: If it is one.
        """
        if len(self.shape) != model.dims:
            raise invalid("input.shape", f"{model.dims} values, as model.dims says", list(self.shape))
        for stage in (*model.before, model):
            seen = [-(-n // stage.shrink) for n in self.shape]
            if min(seen) < 4:
                expected = f"more than {3 * stage.shrink} voxels along each axis, since shrink is {stage.shrink}"
                raise invalid("input.shape", expected, list(self.shape))
            widest = _widest(stage, model.dims)
            if math.prod(seen) * widest > FEATURES_LIMIT:
                expected = f"at most {int(FEATURES_LIMIT / widest)} voxels with {widest:g} channels on the finest level"
                raise invalid("input.shape", expected, list(self.shape))


def _widest(stage: StageConfig | ModelConfig, dims: int) -> float:
    """Returns how many values a network has for each voxel of its grid, on its finest level or as maps of points."""
    widest, output = max(stage.backbone.channels[0], 24 if stage.descriptor else 0), stage.output
    if output.name != "keypoints":
        return widest
    return 2 * max(widest, output.points / 2 ** (dims * output.level))  # both images are seen at once


Record = TypeVar("Record", bound=BaseModel)


def validate(record: type[Record], value: dict, source: str) -> Record:
    """Builds a record from plain values, with errors in the project's form.

    Args:
        record: The kind of record.
        value: A dict, as read from YAML or JSON.
        source: The file that holds it, for the message.

    Returns:
        The record.

    Raises:
        InvalidError: One line: file, dotted path, expected, received; for an unknown key the nearest known one.
    """
    try:
        return record.model_validate(value)
    except ValidationError as error:
        raise InvalidError(f"{source}: {_explain(error, record)}") from None


_KIND = re.compile(r"(function-\w+|tuple|nullable)\[")
"""How pydantic, in the place of an error, names one of the kinds that a value may be."""


def _explain(error: ValidationError, record: type[BaseModel]) -> str:
    """Returns the first problem as one line; an unknown key goes first, since a missing one is often its twin."""
    problems = error.errors(include_url=False)
    first = min(problems, key=lambda problem: problem["type"] != "extra_forbidden")
    if any(
        _KIND.match(str(part)) for part in first["loc"]
    ):  # of kinds that a value may be, the one that it follows furthest
        first = max(problems, key=lambda problem: (problem["loc"][0] == first["loc"][0], len(problem["loc"])))
    more = f" ({len(problems) - 1} more.)" if len(problems) > 1 else ""
    return _line(first, record) + more


def _line(problem: dict, record: type[BaseModel]) -> str:
    """Returns `path: expected ..., received ....` for one of pydantic's problems."""
    kind, received = problem["type"], problem["input"]
    path, _ = _walk(record, problem["loc"])
    if kind == "extra_forbidden":
        _, owners = _walk(record, problem["loc"][:-1])
        return f"{path}: unknown key.{_nearest(str(problem['loc'][-1]), owners)}"
    if kind.startswith("union_tag"):
        path += f".{problem['ctx']['discriminator']}".replace("'", "")
    if kind in ("missing", "union_tag_not_found"):
        return f"{path}: the key is missing."
    if kind == "value_error":
        return f"{path}{': ' if path else ''}{problem['msg'].removeprefix('Value error, ').rstrip('.')}."
    expected = (
        problem["msg"]
        .partition(" or instance of")[0]
        .replace("Input should be", "expected")
        .replace("String should", "expected text to")
    )
    if kind == "union_tag_invalid":
        expected, received = f"expected {problem['ctx']['expected_tags']}", problem["ctx"]["tag"]
    advice = " Put it in quotes." if kind == "string_type" and isinstance(received, int | float) else ""
    return f"{path or 'the file'}: {expected}, received {_short(received)}.{advice}"


def _nearest(key: str, owners: list[type[BaseModel]]) -> str:
    known = sorted({name for owner in owners for name in owner.model_fields})
    near = difflib.get_close_matches(key, known, n=1)
    return f" Did you mean '{near[0]}'?" if near else f" Known: {', '.join(known)}."


def _short(value: object) -> str:
    try:
        return reprlib.repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return "a very large number"


def _walk(record: type[BaseModel], location: tuple[str | int, ...]) -> tuple[str, list[type[BaseModel]]]:
    """Follows pydantic's location: the path as the user wrote it, and the records that may stand there."""
    path, records = "", [record]
    for key in location:
        if isinstance(key, str) and _KIND.match(key):  # pydantic's description of one of the kinds that a value may be
            continue
        owners = [owner for owner in records if key in owner.model_fields]
        tagged = [owner for owner in records if _tag(owner) == key]
        if isinstance(key, int):
            path += f"[{key}]"
        elif not owners and tagged:  # pydantic puts the chosen kind of a union into the location
            records = tagged
        else:
            path += f".{key[:80]}" if path else key[:80]
            records = [held for owner in owners for held in _records(owner.model_fields[key].annotation)]
    return path, records


def _records(annotation: object) -> list[type[BaseModel]]:
    """Returns the records inside an annotation such as `tuple[X, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [held for part in get_args(annotation) for held in _records(part)]


def _tag(record: type[BaseModel]) -> object:
    """Returns the word that names this record among others in a union, or None."""
    field = record.model_fields.get("name") or record.model_fields.get("kind")
    return next(iter(get_args(field.annotation)), None) if field else None
