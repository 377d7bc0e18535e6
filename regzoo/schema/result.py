"""What `result.json` says: the record of a registration of images, of one of points, and of a template.

`python -c "from regzoo.schema.result import ImageResult as R; import json; print(json.dumps(R.model_json_schema()))"`
prints it as a JSON schema.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, JsonValue, StringConstraints

from regzoo.io.provenance import VERSION
from regzoo.schema.strict import Strict

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Figures = dict[str, JsonValue]
Millimetres = Annotated[float, Field(ge=0)]


class InputFile(Strict):
    """A file that was read."""

    file: str
    """Its name, without its folder; FILE.h5/KEY of a dataset."""
    sha256: Digest


class Scores(Strict):
    """Figures on the same places before (at the start, nothing moved but by it) and after the registration.

    `ncc`, and as far as labels and landmarks were given `dice`, `hd95` (mm), `centroid` (mm) by label, `mean_dice` and
    so on, each also with `_forward` and `_inverse`; `tre`, `tre_inverse`, `inverse_residual` (mm) with mean, sd, max.
    Null where there is no number.
    """

    before: Figures
    after: Figures


class _Origin(Strict):
    schema_version: Literal[VERSION]
    """Changes when a key changes its meaning or goes."""
    date: datetime
    """When it was made, UTC."""
    command: str | None
    """The command line as typed; null for a call from Python."""
    inputs: dict[str, InputFile]
    """By argument; what came from memory is not in it."""
    versions: dict[str, str]
    """Of regzoo and what computed it."""
    device: str
    """`cpu`, `gpu`, or what the backend calls it."""
    warnings: tuple[str, ...]
    seconds: dict[str, Annotated[float, Field(ge=0)]]
    """By step."""
    files: dict[str, Digest]
    """The sha256 of each file that was written beside it."""


class _Record(_Origin):
    scores: Scores
    jacobian: Annotated[Figures, Field(default_factory=dict)]
    """What the transform does to volume, on the fixed image's grid; see `regzoo.world.jacobians.statistics`."""


class ModelFacts(Strict):
    """Which model it was."""

    name: str
    version: str
    sha256: Digest
    """Of its weights."""
    backend: str
    source: str | None = None
    """The name by which these very bytes are found again."""


class StrippedFacts(Strict):
    """Which model found the brain in the images that were whole heads, and litres of brain of each; null: no head."""

    name: str
    version: str
    sha256: Digest
    """Of its weights."""
    fixed: Annotated[float, Field(gt=0)] | None = None
    moving: Annotated[float, Field(gt=0)] | None = None


class ExpectedError(Strict):
    """How far off the map is expected to be, from what is seen without labels; `error.nii.gz` is the map of it.

    What is expected is learned from pairs whose truth is known, most of them simulated: see the model's card.
    """

    mean: Millimetres
    """Inside the anatomy."""
    p95: Millimetres
    """95 of 100 places in the anatomy are expected to be off by less."""
    bound: Millimetres
    """Of ten registrations that look like this one, the mean error of nine is below."""
    risk: Annotated[float, Field(ge=0, le=1)]
    """How probably it is wrong (mean error above 5 mm, or Dice below half of the usual), were half of all wrong."""
    calibration: str
    """Of which model, `name@version`, or of `methods`."""


class ImageResult(_Record):
    """`result.json` of `regzoo register`: by a `model`, or by `method`."""

    verdict: Literal["good", "look", "failed"] | None = None
    """Null where none was asked for. `look` also where nothing is known of the error."""
    reasons: tuple[str, ...] = ()
    """Why, in sentences."""
    look_at: tuple[str, ...] = ()
    """What a reader should look at, in sentences."""
    not_for: tuple[str, ...] = ()
    """What the result is not to be used for, in sentences."""
    done: str | None = None
    """What was done, in a sentence."""
    error: ExpectedError | None = None

    model: ModelFacts | None = None
    stripped: StrippedFacts | None = None
    """What the model was shown of whole heads: the brain alone."""
    method: str | None = None
    backend: str | None = None
    """Of `method`."""
    loss: str | None = None
    """Of `method` and of the refinement."""
    start: Literal["center", "world", "mass", "moments", "rigid", "affine"]
    """What the registration started from: what was asked for, or found."""
    start_told: str | None = None
    """How a start that was found turns and shifts, in words."""
    options: Annotated[Figures, Field(default_factory=dict)]
    """What was asked for beside the model or method: arguments of `register`; null where it was left to regzoo."""
    optimisation: tuple[Figures, ...] = ()
    """What each of the methods did, on each level: voxels, iterations, loss before and after."""
    refinement: Figures | None = None
    transform: str | None = None
    """Said where there is none."""


class PointResult(_Record):
    """`result.json` of `regzoo register-points`."""

    method: str
    settings: Figures
    points: dict[str, Annotated[int, Field(ge=1)]]
    """How many there are, `fixed` and `moving`."""
    iterations: int
    rmse: float | None
    fitness: float | None


class TemplateRound(Strict):
    """What a round of a template came to."""

    displacement: dict[Literal["voxels", "mm", "max_mm"], Annotated[float, Field(ge=0)]]
    """Of the mean of the maps from the template to the images, before it was undone: its mean over the anatomy in
    voxels (cubes of their volume) and mm, and its largest."""
    change: Annotated[float, Field(ge=0)] | None
    """Of the maps since the round before, mean over anatomy and images, in voxels; null in the first."""
    seconds: Annotated[float, Field(ge=0)]


class TemplateSubject(Strict):
    """How an image lies on a template, over the template's anatomy."""

    displacement: dict[Literal["mean", "max"], Annotated[float, Field(ge=0)]]
    """How far its map goes beyond the start, mm."""
    correlation: float | None
    """Of its intensities with the template's."""


class TemplateResult(_Origin):
    """`result.json` of `regzoo template`: by a `model`, or by `method`. `inputs` are by the images' names."""

    model: ModelFacts | None = None
    method: str | None = None
    backend: str | None = None
    """Of `method`."""
    alignment: Literal["center", "world", "mass", "moments"]
    """How the images lay at the start."""
    start: InputFile | Literal["mean", "memory"]
    """What the first round registered to."""
    symmetric: bool
    intensities: Literal["matched", "kept"]
    options: Annotated[Figures, Field(default_factory=dict)]
    rounds: tuple[TemplateRound, ...]
    settled: bool
    """Whether the last round changed little."""
    subjects: dict[str, TemplateSubject]
    """By name."""
