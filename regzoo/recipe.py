"""Recipes: everything that a training run depends on, in one strict YAML file."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from regzoo.cards import About, Line, Name, Version
from regzoo.checks import invalid
from regzoo.config import InputConfig, ModelConfig, Strict, validate
from regzoo.documents import dump_yaml, parse_yaml, read_text
from regzoo.files import atomic_file

RECIPE_LIMIT = 64 * 1024

PathText = Annotated[Line, StringConstraints(min_length=1)]
LabelValue = Annotated[int, Field(ge=1, le=65535)]


class Term(Strict):
    """One term of the loss; a weight of 0 switches it off."""

    weight: Annotated[float, Field(ge=0, le=1e6)] = 1.0


class WindowTerm(Term):
    """A term that compares windows of `size` voxels along each axis."""

    size: Annotated[int, Field(ge=3, le=31)] = 7

    @field_validator("size")
    @classmethod
    def _odd(cls, size: int) -> int:
        if size % 2 == 0:
            raise ValueError(f"expected an odd number, received {size}")
        return size


class NormTerm(Term):
    """A term on first derivatives, by absolute value or by square."""

    norm: Literal["l1", "l2"] = "l2"


class ImageLoss(Strict):
    """Terms that compare the fixed and the moved image."""

    ssd: Term | None = None
    ncc: Term | None = None
    lncc: WindowTerm | None = None


class LabelLoss(Strict):
    """Terms that compare the fixed and the moved labels."""

    dice: Term | None = None


class DeformationLoss(Strict):
    """Terms that keep the field smooth."""

    gradient: NormTerm | None = None
    bending: Term | None = None


class Loss(Strict):
    """The loss of a registration: a weighted sum of terms of three kinds."""

    image: ImageLoss = ImageLoss()
    label: LabelLoss = LabelLoss()
    deformation: DeformationLoss = DeformationLoss()

    @model_validator(mode="after")
    def _compares_something(self) -> "Loss":
        if not active(self.image) and not active(self.label):
            raise ValueError("expected an image or label loss with a weight above 0")
        return self


class UnpairedData(Strict):
    """Single images from a folder; training pairs any two of them."""

    kind: Literal["unpaired"]
    root: PathText = "."
    images: PathText = "images"
    labels: PathText | None = None
    splits: PathText = "splits.json"
    """JSON: lists `train`, `valid` and, if given, `test` of names, and `test_pairs` of [moving, fixed] names; an image
    is `images/NAME.nii.gz`, its label map `labels/NAME.nii.gz`. Or CSV: `image,labels,split`, relative to the file."""
    label_values: Annotated[tuple[LabelValue, ...], Field(min_length=1, max_length=1024)] | None = None
    validation_pairs: Annotated[int, Field(ge=1, le=10_000)] = 20
    """How many fixed pairs of validation images the seed draws."""


class PairedData(Strict):
    """Given pairs, one CSV file per split (see `regzoo.pairs_csv`)."""

    kind: Literal["pairs"]
    root: PathText = "."
    train: PathText
    valid: PathText
    test: PathText | None = None
    label_values: Annotated[tuple[LabelValue, ...], Field(min_length=1, max_length=1024)] | None = None


class Augmentation(Strict):
    """Random changes to the training images; 0 or null is off."""

    affine: Annotated[float, Field(ge=0, le=0.33)] = 0.0
    """Scale of a random affine matrix about the image's centre."""

    @field_validator("affine", mode="before")
    @classmethod
    def _null_is_off(cls, value: object) -> object:
        return 0.0 if value is None else value


class Training(Strict):
    """Optimiser and schedule."""

    steps: Annotated[int, Field(ge=1, le=10_000_000)]
    batch_size: Annotated[int, Field(ge=1, le=256)] = 2
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 6e-4
    warmup: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    schedule: Literal["cosine", "constant"] = "cosine"
    clip_norm: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    steps_per_epoch: Annotated[int, Field(ge=1, le=1_000_000)] = 250
    """A checkpoint, a validation and a log line follow each epoch."""

    @model_validator(mode="after")
    def _warmup_ends(self) -> "Training":
        if self.warmup >= self.steps:
            raise ValueError(f"warmup ({self.warmup}) must be below steps ({self.steps})")
        return self


class Recipe(Strict):
    """One training run. `model` and `input` may be null where `parent` gives them."""

    name: Name
    version: Version = "1"
    parent: Annotated[Line, StringConstraints(min_length=1)] | None = None
    """Name or folder of a model to start from."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    model: ModelConfig | None = None
    input: InputConfig | None = None
    data: Annotated[UnpairedData | PairedData, Field(discriminator="kind")]
    loss: Loss
    augmentation: Augmentation = Augmentation()
    training: Training
    card: About = About()

    @model_validator(mode="after")
    def _has_a_model(self) -> "Recipe":
        absent = [name for name in ("model", "input") if getattr(self, name) is None]
        if self.parent is None and absent:
            raise ValueError(f"{' and '.join(absent)}: expected a value, since parent is null")
        return self

    @model_validator(mode="after")
    def _has_labels(self) -> "Recipe":
        if isinstance(self.data, UnpairedData) and active(self.loss.label) and self.data.labels is None:
            raise ValueError("data.labels: expected a folder, since loss.label has a weight above 0")
        return self

    @classmethod
    def read(cls, path: str | os.PathLike) -> "Recipe":
        """Reads a recipe.

        Args:
            path: The YAML file.

        Returns:
            The recipe.

        Raises:
            MissingError: If there is no such file.
            InvalidError: If it is not YAML or a value is wrong: file, dotted path, expected, received.
        """
        return validate(cls, parse_yaml(read_text(path, RECIPE_LIMIT), str(path)), str(path))

    def write(self, path: str | os.PathLike) -> None:
        """Writes the recipe, whole or not at all; `read` gives an equal one."""
        text = dump_yaml(self.model_dump(mode="json", exclude_none=True))
        with atomic_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")


def active(terms: ImageLoss | LabelLoss | DeformationLoss) -> dict[str, Term]:
    """Returns the terms of a loss that have a weight above 0: name -> term."""
    return {name: term for name, term in terms if term is not None and term.weight > 0}


def data_home(folder: str | os.PathLike | None = None) -> Path:
    """Returns the folder that `data.root` is relative to.

    Args:
        folder: The user's choice; None takes the environment variable `REGZOO_DATA`, or `data`.

    Raises:
        InvalidError: If there is no such folder.
    """
    home = Path(folder or os.environ.get("REGZOO_DATA") or "data").expanduser()
    if not home.is_dir():
        raise invalid("data home", "a folder", f"'{home}'", "Name it by --data or REGZOO_DATA.")
    return home
