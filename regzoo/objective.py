"""What a registration is trained on: a weighted sum of image, label and deformation losses, as data."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from regzoo.config import Strict


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
    symmetric: bool = False
    """Every term is also taken the other way round, by the inverse field; needs an output that has one."""

    @model_validator(mode="after")
    def _compares_something(self) -> "Loss":
        if not active(self.image) and not active(self.label):
            raise ValueError("expected an image or label loss with a weight above 0")
        return self


def active(terms: ImageLoss | LabelLoss | DeformationLoss) -> dict[str, Term]:
    """Returns the terms of a loss that have a weight above 0: name -> term."""
    return {name: term for name, term in terms if term is not None and term.weight > 0}
