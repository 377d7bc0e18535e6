"""What a registration is trained on: a weighted sum of image, label and deformation losses, as data.

The settings of a term are those of the function of the same name in `regzoo.losses`.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from regzoo.schema.registry import AnyOf, Entries, Entry
from regzoo.schema.strict import Strict

Share = Annotated[float, Field(gt=0, le=0.1)]
Scale = Annotated[float, Field(ge=0, le=16)]


class Term(Strict):
    """One term of the loss; a weight of 0 switches it off. A subclass has the settings of its function."""

    any_contrast: ClassVar[bool] = False
    """Whether it also compares images in which other things are bright."""
    skips_flat: ClassVar[bool] = False
    """Whether what is flat does not count, as the moving image's edge, which goes on outside it, then does not."""
    weight: Annotated[float, Field(ge=0, le=1e6)] = 1.0


class WindowTerm(Term):
    """A term that compares windows of `size` voxels along each axis."""

    skips_flat: ClassVar[bool] = True
    size: Annotated[int, Field(ge=3, le=31)] = 9
    window: Literal["box", "triangular", "gaussian"] = "box"
    floor: Share = 1e-4
    """Share of the image's variance below which a window is flat, and left out if both are."""

    @field_validator("size")
    @classmethod
    def _odd(cls, size: int) -> int:
        if size % 2 == 0:
            raise ValueError(f"expected an odd number, received {size}")
        return size


class HistogramTerm(Term):
    """A term on the joint histogram of the intensities."""

    any_contrast: ClassVar[bool] = True
    num_bins: Annotated[int, Field(ge=4, le=256)] = 23
    sigma_ratio: Annotated[float, Field(ge=0.1, le=4)] = 0.5
    """Standard deviation in bins of the Gaussian by which a voxel falls into them."""


class SimilarityTerm(Term):
    """A term on self-similarity: patches of `2 * radius + 1` voxels, compared `dilation` voxels away."""

    any_contrast: ClassVar[bool] = True
    skips_flat: ClassVar[bool] = True
    radius: Annotated[int, Field(ge=1, le=8)] = 2
    dilation: Annotated[int, Field(ge=1, le=8)] = 2
    floor: Share = 1e-3
    """Share of the image's mean self-difference below which a voxel is flat, and left out if both are."""


class ScalesTerm(Term):
    """A term on labels, averaged over widths in voxels by which both maps are blurred; 0 is not at all."""

    scales: Annotated[tuple[Scale, ...], Field(min_length=1, max_length=8)] = (0.0,)
    kernel: Literal["gaussian", "cauchy"] = "gaussian"


class EntropyTerm(ScalesTerm):
    """Cross-entropy, of the background by `background_weight` and of the label by the rest to 1."""

    background_weight: Annotated[float, Field(ge=0, le=1)] = 0.5


class NormTerm(Term):
    """A term on first derivatives, by absolute value or by square."""

    norm: Literal["l1", "l2"] = "l2"


class ElasticTerm(Term):
    """A term on strain: `mu`, the cost of any strain, and `lam`, that of a change of volume besides."""

    mu: Annotated[float, Field(ge=0, le=1e6)] = 1.0
    lam: Annotated[float, Field(ge=0, le=1e6)] = 1.0

    @model_validator(mode="after")
    def _costs_something(self) -> "ElasticTerm":
        if self.mu == self.lam == 0:
            raise ValueError("expected mu or lam above 0")
        return self


class MarginTerm(Term):
    """A term on Jacobian determinants below `margin`; 0 counts folds alone."""

    margin: Annotated[float, Field(ge=0, lt=1)] = 0.0


class DistanceTerm(Term):
    """A distance in millimetres; a voxel outside the mask counts `outside` beside one inside."""

    outside: Annotated[float, Field(ge=0, le=1)] = 0.02


LOSSES: dict[str, Entries] = {
    "image": {
        "ssd": Entry(Term, "regzoo.losses.image:ssd"),
        "ncc": Entry(Term, "regzoo.losses.image:ncc"),
        "lncc": Entry(WindowTerm, "regzoo.losses.image:lncc"),
        "mi": Entry(HistogramTerm, "regzoo.losses.multimodal:mi"),
        "nmi": Entry(HistogramTerm, "regzoo.losses.multimodal:nmi"),
        "mind": Entry(SimilarityTerm, "regzoo.losses.multimodal:mind"),
    },
    "label": {
        "dice": Entry(ScalesTerm, "regzoo.losses.label:dice"),
        "jaccard": Entry(ScalesTerm, "regzoo.losses.label:jaccard"),
        "cross_entropy": Entry(EntropyTerm, "regzoo.losses.label:cross_entropy"),
        "ssd": Entry(ScalesTerm, "regzoo.losses.label:label_ssd"),
        "centroid": Entry(Term, "regzoo.losses.label:centroid"),  # in mm: it wants a smaller weight than an overlap
    },
    "deformation": {
        "gradient": Entry(NormTerm, "regzoo.losses.deformation:gradient"),
        "bending": Entry(Term, "regzoo.losses.deformation:bending"),
        "elastic": Entry(ElasticTerm, "regzoo.losses.deformation:elastic"),
        "folding": Entry(MarginTerm, "regzoo.losses.deformation:folding"),
    },
    "known": {"distance": Entry(DistanceTerm, "regzoo.losses.known:distance")},
}
"""Kind -> name -> the term, and the function of the same settings. Image losses compare the fixed and the moved image,
label losses their labels; deformation losses keep the field smooth and free of folds, in mm; known losses compare it
with the known one of simulated pairs."""


def _terms(kind: str) -> AnyOf:
    return AnyOf(LOSSES[kind], f"{kind.capitalize()}Loss", f"Terms of a loss: {kind} losses.")


class Terms(Strict):
    """Terms of four kinds, whose weighted sum is minimised."""

    image: Annotated[Strict, _terms("image")] = Field(default={}, validate_default=True)
    label: Annotated[Strict, _terms("label")] = Field(default={}, validate_default=True)
    deformation: Annotated[Strict, _terms("deformation")] = Field(default={}, validate_default=True)
    known: Annotated[Strict, _terms("known")] = Field(default={}, validate_default=True)


class Loss(Terms):
    """The loss of a registration: a weighted sum of terms of four kinds."""

    symmetric: bool = False
    """Whether every term is also taken the other way round, by the inverse field; needs an output that has one."""

    @model_validator(mode="after")
    def _compares_something(self) -> "Loss":
        if not active(self.image) and not active(self.label) and not active(self.known):
            raise ValueError("expected an image or label loss with a weight above 0")
        if self.symmetric and active(self.known):
            raise ValueError("symmetric: expected false, since the inverse of a known field is not known")
        return self


def active(terms: Strict) -> dict[str, Term]:
    """Returns the terms of a loss that have a weight above 0: name -> term."""
    return {name: term for name, term in terms if term is not None and term.weight > 0}


def any_contrast(loss: str | None) -> bool:
    """Whether an image loss of this name also compares images in which other things are bright."""
    return loss in LOSSES["image"] and LOSSES["image"][loss].config.any_contrast
