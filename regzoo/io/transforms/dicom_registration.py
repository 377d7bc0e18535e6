"""DICOM's Spatial Registration and Deformable Spatial Registration objects, read by pydicom, the extra `dicom`.

Source: DICOM PS3.3 C.20.2.1.1: a matrix leads from the source (moving) to the registered (fixed) frame of reference.
    C.20.3.1.1: a point x of the registered one lies at `Post (Pre x + offset(x))` in the source.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from regzoo.errors import invalid
from regzoo.io.lps import FLIP, LPS
from regzoo.io.reading import check_voxels
from regzoo.io.transforms.dicom_whole import check_whole
from regzoo.io.transforms.step import Format, Step
from regzoo.io.volumes.dicom_header import quiet, read_header

_MATRIX, _FIELD = "1.2.840.10008.5.1.4.1.1.66.1", "1.2.840.10008.5.1.4.1.1.66.3"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
_IDENTICAL = 1e-9


@quiet()
def _read(path: Path) -> list[Step]:
    data = read_header(path)
    kind = data.get("SOPClassUID")
    if kind not in (_MATRIX, _FIELD):
        expected = "a Spatial Registration or a Deformable Spatial Registration object"
        raise invalid(path.name, expected, getattr(kind, "name", kind) or "no class")
    if data.file_meta.TransferSyntaxUID == _BIG_ENDIAN:
        raise invalid(path.name, "little endian numbers", "big endian ones", "Write it anew by dcmconv.")
    check_whole(path)
    find = _by_matrix if kind == _MATRIX else _deformed
    found = [steps for each in _sequence(data, _SEQUENCES[kind]) if (steps := find(path.name, each))]
    if len(found) > 1:
        received = f"{len(found)} that move something"
        raise invalid(path.name, "one registration", received, "Write each as a file of its own.")
    return found[0] if found else [np.eye(4)]


_SEQUENCES = {_MATRIX: "RegistrationSequence", _FIELD: "DeformableRegistrationSequence"}


def _sequence(data: Any, keyword: str) -> list:
    return [*(data.get(keyword) or ())]


def _by_matrix(name: str, registered: Any) -> list[Step]:
    """Returns the step of an item, from fixed to moving RAS mm; none if it moves nothing."""
    matrices = [
        _matrix(name, each)
        for one in _sequence(registered, "MatrixRegistrationSequence")
        for each in _sequence(one, "MatrixSequence")
    ]
    moving = [each for each in matrices if not _is_identity(each)]
    if len(moving) > 1:  # in which order, programs do not agree
        raise invalid(name, "one matrix", f"{len(moving)} to be multiplied", "Write their product.")
    inverse = [np.linalg.inv(each) for each in moving]
    for each in inverse:
        each[3] = 0, 0, 0, 1  # to the last bit
    return inverse


def _deformed(name: str, registered: Any) -> list[Step]:
    before, after = (
        _lone_matrix(name, registered, f"{when}DeformationMatrixRegistrationSequence") for when in ("Pre", "Post")
    )
    steps: list[Step] = [each for each in (before, after) if not _is_identity(each)]
    for grid in _sequence(registered, "DeformableRegistrationGridSequence"):
        vectors, affine = _grid(name, grid)
        # Pre x + offset(x) = Pre (x + Pre^-1 offset(x)), without the shift of Pre
        turned = vectors @ np.linalg.inv(before[:3, :3]).T if not _is_identity(before) else vectors
        steps.insert(0, (np.ascontiguousarray(turned, dtype=np.float32), affine))
    return steps


def _lone_matrix(name: str, registered: Any, keyword: str) -> np.ndarray:
    found = _sequence(registered, keyword)
    return _matrix(name, found[0]) if found else np.eye(4)


def _matrix(name: str, holder: Any) -> np.ndarray:
    """Returns a matrix in RAS mm."""
    values = np.array([float(each) for each in holder.FrameOfReferenceTransformationMatrix])
    if values.shape != (16,) or not np.isfinite(values).all() or np.abs(values[12:] - (0, 0, 0, 1)).max() > 1e-9:
        raise invalid(name, "a matrix of four rows, the last one 0 0 0 1", values.tolist())
    matrix = LPS @ values.reshape(4, 4) @ LPS
    if abs(np.linalg.det(matrix)) < 1e-12:
        raise invalid(name, "a matrix that can be inverted", values.tolist())
    return matrix


def _is_identity(matrix: np.ndarray) -> bool:
    return bool(np.abs(matrix - np.eye(4)).max() < _IDENTICAL)


def _grid(name: str, grid: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns displacements (*S, 3) and the affine of their grid, RAS mm."""
    size = tuple(int(each) for each in grid.GridDimensions)
    spacing, place = (np.array([float(v) for v in each]) for each in (grid.GridResolution, grid.ImagePositionPatient))
    turn = np.array([float(each) for each in grid.ImageOrientationPatient]).reshape(2, 3)
    if len(size) != 3 or min(size) < 1 or spacing.shape != (3,) or place.shape != (3,) or not (spacing > 0).all():
        raise ValueError("expected three sizes, resolutions and coordinates of its grid")
    if np.abs(turn @ turn.T - np.eye(2)).max() > 1e-3:
        raise ValueError("the axes of its grid are damaged")
    check_voxels(name, size)
    data = grid.VectorGridData
    if len(data) != 12 * math.prod(size):
        raise ValueError(f"expected {12 * math.prod(size)} bytes of vectors, received {len(data)}")
    vectors = np.frombuffer(data, "<f4").reshape(*size[::-1], 3).transpose(2, 1, 0, 3) * FLIP
    if not np.isfinite(vectors).all():
        raise invalid(name, "finite displacements", "NaN or infinite values")
    affine = np.eye(4)
    affine[:3] = np.column_stack([np.column_stack([*turn, np.cross(*turn)]) * spacing, place])
    return vectors, LPS @ affine


REGISTRATION = Format(_read)
