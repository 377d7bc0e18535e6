"""The grid and the intensities that a network was trained on."""

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from regzoo.errors import invalid
from regzoo.schema.strict import Strict

if TYPE_CHECKING:  # slow to import, and a card is read without it
    from regzoo.schema.networks import ModelConfig

Spacing = Annotated[float, Field(gt=0.01, le=100)]
Size = Annotated[int, Field(ge=4, le=512)]
FEATURES_LIMIT = 2**28
"""The most values on a network's finest level: a gigabyte, of which it needs several."""


_PREDICTS, _TRAINED = 6, 30
"""Arrays as large as a network's finest level that are held at once, about; gradients keep those of all levels."""


def _three_directions(axes: str) -> str:
    if sorted(min(pair) for axis in axes for pair in ("RL", "AP", "SI") if axis in pair) != ["A", "I", "L"]:
        raise ValueError(f"expected one of R and L, one of A and P, one of S and I, received '{axes}'")
    return axes


Axes = Annotated[str, Field(pattern="^[RLAPSI]{3}$"), AfterValidator(_three_directions)]


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
    strip: Annotated[str, Field(max_length=64, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")] | None = None
    """For a network that was trained on brains without skull: the name of the model of masks by which `register` finds
    the brain in a whole head, so that the network sees nothing else. None: it sees each image whole."""

    @model_validator(mode="after")
    def _same_dimensions(self) -> "InputConfig":
        if len(self.spacing) != len(self.shape):
            raise ValueError(f"spacing and shape: expected as many values, received {self.spacing} and {self.shape}")
        if len(self.shape) == 2 and self.axes != "RAS":
            raise ValueError("axes: a 2-D grid has the image's own axes; leave the key out")
        if self.around == "lungs" and (len(self.shape) == 2 or self.axes != "RAS"):
            raise ValueError("around: a grid around the lungs has three axes along RAS")
        if self.strip and (len(self.shape) == 2 or self.around != "image"):
            raise ValueError("strip: expected none, unless a grid of three axes lies around the image")
        if self.around == "extent" and len(self.shape) == 2:
            raise ValueError("around: a grid that fits an image has three axes")
        return self

    def memory(self, model: "ModelConfig", pairs: int, trained: bool = False) -> int:
        """Returns about how many bytes a network takes for so many pairs at once, to predict or to be trained."""
        stages = [
            (math.prod(-(-n // stage.shrink) for n in self.shape), stage.widest(model.dims)) for stage in model.row
        ]
        values = (sum if trained else max)(voxels * widest for voxels, widest in stages)
        return int(4 * values * pairs * (_TRAINED if trained else _PREDICTS))

    def check(self, model: "ModelConfig") -> None:
        """Refuses a grid of another number of dimensions than the model's, or on which it would not fit into memory.

        Raises:
            InvalidError: If it is one.
        """
        if len(self.shape) != model.dims:
            raise invalid("input.shape", f"{model.dims} values, as model.dims says", list(self.shape))
        if self.strip and not model.output.has_field:
            raise invalid("input.strip", f"none, since the output {model.output.name} has no field", self.strip)
        for stage in model.row:
            seen = [-(-n // stage.shrink) for n in self.shape]
            if min(seen) < 4:
                expected = f"more than {3 * stage.shrink} voxels along each axis, since shrink is {stage.shrink}"
                raise invalid("input.shape", expected, list(self.shape))
            widest = stage.widest(model.dims)
            if math.prod(seen) * widest > FEATURES_LIMIT:
                expected = f"at most {int(FEATURES_LIMIT / widest)} voxels with {widest:g} channels on the finest level"
                raise invalid("input.shape", expected, list(self.shape))
