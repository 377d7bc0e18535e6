"""The kinds of transforms in ITK's files, whether text or HDF5. Another kind is one file and one entry of `KINDS`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from regzoo.errors import invalid
from regzoo.io.transforms import itk_field, itk_linear, itk_rotations, itk_spline
from regzoo.io.transforms.step import Step


@dataclass(frozen=True)
class Record:
    """One transform of a file: its kind, such as `AffineTransform_double_3_3`, and its numbers, in LPS."""

    kind: str
    parameters: np.ndarray
    fixed: np.ndarray


KINDS: dict[str, Callable[[np.ndarray, np.ndarray], Step]] = {
    "AffineTransform": itk_linear.affine,
    "MatrixOffsetTransformBase": itk_linear.affine,
    "TranslationTransform": itk_linear.translation,
    "IdentityTransform": itk_linear.identity,
    "ScaleTransform": itk_linear.scale,
    "Euler3DTransform": itk_rotations.euler,
    "VersorTransform": itk_rotations.versor,
    "VersorRigid3DTransform": itk_rotations.rigid,
    "Similarity3DTransform": itk_rotations.similarity,
    "ScaleVersor3DTransform": itk_rotations.scaled,
    "ScaleSkewVersor3DTransform": itk_rotations.skewed,
    "ComposeScaleSkewVersor3DTransform": itk_rotations.composed,
    "BSplineTransform": itk_spline.read,
    "DisplacementFieldTransform": itk_field.read,
}
"""Kind -> what turns parameters and fixed parameters, both float64 in LPS, into a step."""


def steps(records: Sequence[Record], name: str) -> list[Step]:
    """Returns the steps of a file's records in the order in which they are applied to a point.

    Raises:
        InvalidError: If there are none, or one is of a kind that regzoo does not apply.
    """
    members = [record for record in records if not is_composite(record.kind)]
    if not members:
        raise invalid(name, "a transform", "a composite of none" if records else "a file without any")
    # ITK keeps a composite as a queue and applies the last one first.
    return [_step(record) for record in reversed(members)]


def is_composite(kind: str) -> bool:
    """Tells whether a transform is a row of those that follow it in the file."""
    return kind.startswith("CompositeTransform")


def _step(record: Record) -> Step:
    name = record.kind.split("_")[0]
    if not record.kind.endswith("_3_3") or name not in KINDS:
        expected = f"one of {', '.join(KINDS)} in 3-D"
        raise invalid("transform", expected, record.kind, "Convert it to a displacement field.")
    return KINDS[name](record.parameters, record.fixed)
