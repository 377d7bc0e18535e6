"""Registration objects: a Spatial Registration of a matrix, a Deformable Spatial Registration of a field.

Source: DICOM PS3.3 C.20.2 and C.20.3. A matrix of the first leads from the moving to the fixed frame of reference; the
    second leads the other way, from a point of the fixed one over the grid's offset and the matrix after it.
"""

from typing import Any

import numpy as np

from regzoo.errors import invalid
from regzoo.io.dicom.origin import Frame, Origin, code, item, new_object, numbers, refer, references
from regzoo.io.lps import FLIP, LPS

_MATRIX, _FIELD = "1.2.840.10008.5.1.4.1.1.66.1", "1.2.840.10008.5.1.4.1.1.66.3"
_ASKEW = 1e-4
_MOST = 2**32 - 2
"""Bytes of a value."""


def registration(
    moving: Origin,
    fixed: Origin | None,
    frame: Frame,
    matrix: np.ndarray | None,
    field: tuple[np.ndarray, np.ndarray] | None = None,
) -> Any:
    """Returns the object of a transform, of the moving image's patient and study.

    Args:
        moving: The moving image.
        fixed: The fixed image; None if it is no DICOM.
        frame: The fixed image's frame of reference.
        matrix: From fixed to moving RAS mm, shape (4, 4), after the field if there is one; None: none.
        field: Displacements in RAS mm, shape (*S, 3), and the affine of their grid, shape (4, 4).

    Raises:
        InvalidError: If the grid is sheared, or the field too large.
    """
    kind = _MATRIX if field is None else _FIELD
    told = f"Registration by regzoo: {moving.header.get('SeriesDescription') or moving.header.Modality}"
    data = new_object(moving, kind, "REG", frame, told, 1001)
    data.ContentLabel, data.ContentDescription, data.ContentCreatorName = "REGISTRATION", told[:64], ""
    refer(data, [each for each in (fixed, moving) if each])
    if field is None:
        turned = [(fixed, frame.uid, np.eye(4)), (moving, moving.frame, np.linalg.inv(matrix))]
        data.RegistrationSequence = [_registered(*each) for each in turned]
    else:
        data.DeformableRegistrationSequence = [_deformed(moving, matrix, *field)]
    return data


def _registered(image: Origin | None, frame: str, matrix: np.ndarray) -> Any:
    found = item(
        FrameOfReferenceUID=frame,
        MatrixRegistrationSequence=[
            item(RegistrationTypeCodeSequence=_method(), MatrixSequence=[item(**_matrix(matrix))])
        ],
    )
    if image:
        found.ReferencedImageSequence = references(image)
    return found


def _deformed(moving: Origin, matrix: np.ndarray | None, vectors: np.ndarray, affine: np.ndarray) -> Any:
    found = item(
        SourceFrameOfReferenceUID=moving.frame,
        ReferencedImageSequence=references(moving),
        RegistrationTypeCodeSequence=_method(),
        DeformableRegistrationGridSequence=[_grid(vectors, affine)],
    )
    if matrix is not None:
        found.PostDeformationMatrixRegistrationSequence = [item(**_matrix(matrix))]
    return found


def _method() -> list:
    return code("125024", "Image Content-based Alignment")


def _matrix(matrix: np.ndarray) -> dict:
    """Returns a matrix in RAS mm and its type, as DICOM has them in LPS."""
    lps = LPS @ matrix @ LPS
    product = lps[:3, :3].T @ lps[:3, :3]
    straight = np.abs(product - np.diag(np.diag(product))).max() < 1e-6 and np.linalg.det(lps) > 0
    kind = "RIGID" if np.abs(np.diag(product) - 1).max() < 1e-6 else "RIGID_SCALE"
    return {
        "FrameOfReferenceTransformationMatrix": numbers(lps.ravel()),
        "FrameOfReferenceTransformationMatrixType": kind if straight else "AFFINE",
    }


def _grid(vectors: np.ndarray, affine: np.ndarray) -> Any:
    """Returns displacements (*S, 3) in RAS mm as a grid, whose third axis DICOM wants to be that of a right hand."""
    if np.linalg.det(affine[:3, :3]) < 0:
        vectors, last = vectors[:, :, ::-1], vectors.shape[2] - 1
        affine = affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, last], [0, 0, 0, 1]])
    lps = LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    along = lps[:3, :3] / spacing
    if np.abs(along.T @ along - np.eye(3)).max() > _ASKEW:
        advice = "Resample the fixed image first, or register by a matrix alone."
        raise invalid("--dicom: the grid of a field", "axes at right angles", "a sheared one (gantry tilt)", advice)
    if 12 * vectors[..., 0].size > _MOST:
        raise invalid("--dicom: the grid of a field", f"at most {_MOST // 12} voxels", vectors[..., 0].size)
    return item(
        ImageOrientationPatient=numbers(along[:, :2].T.ravel()),
        ImagePositionPatient=numbers(lps[:3, 3]),
        GridDimensions=[int(size) for size in vectors.shape[:3]],
        GridResolution=[float(each) for each in spacing],
        VectorGridData=(vectors * FLIP).astype("<f4").transpose(2, 1, 0, 3).tobytes(),
    )
