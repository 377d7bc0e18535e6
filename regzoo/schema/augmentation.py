"""Random changes to training images, as data."""

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from regzoo.schema.strict import Strict

LabelValue = Annotated[int, Field(ge=1, le=65535)]


class FieldAugmentation(Strict):
    """A random smooth deformation: a cubic B-spline through random displacements, on average none anywhere."""

    strength: Annotated[float, Field(gt=0, le=100)]
    """Largest displacement of a control point along each axis, mm; that of a voxel is a fifth of it (rms, 3-D)."""
    smoothness: Annotated[float, Field(ge=4, le=1000)]
    """Distance between control points, mm."""
    octaves: Annotated[int, Field(ge=1, le=4)] = 1
    """How many such deformations follow each other, each with half the strength and smoothness of the one before."""

    @model_validator(mode="after")
    def _does_not_fold(self) -> "FieldAugmentation":
        # A cubic B-spline deformation is one to one if no control point moves by smoothness / 2.48 or more (3-D).
        # Source: Choi and Lee, Injectivity conditions of 2D and 3D uniform cubic B-spline functions, 2000.
        if self.strength > 0.4 * self.smoothness:
            raise ValueError(f"strength: expected at most 0.4 x smoothness, or it may fold, received {self.strength}")
        return self


class BiasAugmentation(Strict):
    """A random smooth factor, as coils leave it in MR images: the exponential of a cubic B-spline."""

    strength: Annotated[float, Field(gt=0, le=3)]
    """Largest logarithm of the factor, to either side."""
    smoothness: Annotated[float, Field(ge=4, le=1000)]
    """Distance between control points, mm."""


class FlipAugmentation(Strict):
    """Exchange of left and right, in both images of a pair."""

    probability: Annotated[float, Field(gt=0, le=1)] = 0.5
    swap: Annotated[tuple[tuple[LabelValue, LabelValue], ...], Field(max_length=512)] = ()
    """Pairs of labels that are each other's mirror image."""

    @model_validator(mode="after")
    def _labels_swap_once(self) -> "FlipAugmentation":
        values = [value for pair in self.swap for value in pair]
        if len(set(values)) < len(values):
            raise ValueError("swap: a label is listed twice")
        return self


class TogetherAugmentation(Strict):
    """One random linear map about the image's centre, the same for both images of a pair, which so lie as they lay.

    For stacks of slices, since turns are in the plane of the first two axes.
    """

    turn: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest angle, in degrees, to either side."""
    scale: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Largest logarithm of the factor by which both axes of the plane are scaled, to either side."""
    stretch: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Largest logarithm of the factor by which half of the pairs are stretched along the third axis, as if there were
    more slices; not of 2-D images."""

    @model_validator(mode="after")
    def _moves(self) -> "TogetherAugmentation":
        if not (self.turn or self.scale or self.stretch):
            raise ValueError("expected turn, scale or stretch above 0")
        return self


Share = Annotated[float, Field(ge=0, le=1)]


class Augmentation(Strict):
    """Random changes to the training images; 0 or null is off.

    Fixed and moving image are changed independently of each other, but for `flip` and `together`; labels move with
    their image.
    """

    affine: Annotated[float, Field(ge=0, le=0.33)] = 0.0
    """Scale of a random affine matrix about the image's centre."""
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest angle of a random rotation about the image's centre, in degrees, to either side about any axis."""
    shift: Annotated[float, Field(ge=0, le=500)] = 0.0
    """Largest random translation along each axis, mm."""
    field: FieldAugmentation | None = None
    together: TogetherAugmentation | None = None
    flip: FlipAugmentation | None = None
    invert: Share = 0.0
    """Probability that an image is shown as its negative."""
    gamma: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Largest logarithm of the exponent that intensities in [0, 1] are raised to, to either side."""
    contrast: Annotated[float, Field(ge=0, le=2)] = 0.0
    """Largest logarithm of the factor that stretches intensities about their mean, to either side."""
    bias: BiasAugmentation | None = None
    noise: Share = 0.0
    """Largest standard deviation of Gaussian noise; an image in [0, 1] stays in it."""
    crop: Annotated[float, Field(ge=0, le=500)] = 0.0
    """Largest width that an image shows nothing in, at one end of an axis, mm; half of the axes are whole. Labels stay:
    what is not seen is to be moved too."""

    @property
    def moves(self) -> bool:
        """Whether images are deformed, and not only mirrored."""
        return bool(self.moves_apart or self.together)

    @property
    def moves_apart(self) -> bool:
        """Whether each image of a pair is deformed by itself."""
        return bool(self.affine or self.rotation or self.shift or self.field)

    @property
    def recolours(self) -> bool:
        """Whether intensities are changed, or left out."""
        return bool(self.invert or self.gamma or self.contrast or self.bias or self.noise or self.crop)

    @field_validator("affine", "rotation", "shift", "invert", "gamma", "contrast", "noise", "crop", mode="before")
    @classmethod
    def _null_is_off(cls, value: object) -> object:
        return 0.0 if value is None else value
