"""Where training data is and how it is drawn and augmented, as data."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from regzoo.cards import Line
from regzoo.config import Strict

PathText = Annotated[Line, StringConstraints(min_length=1)]
LabelValue = Annotated[int, Field(ge=1, le=65535)]


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
