"""FSL's matrices (FLIRT), four rows of text: from the moving to the fixed image, in mm along their voxels."""

from pathlib import Path

import numpy as np

from regzoo.io.files import atomic_file
from regzoo.io.numbers import number
from regzoo.io.transforms.step import Format, Images, Lattice, Step, check_matrix

_LIMIT = 2**14
"""Bytes of four rows of four numbers, at most."""


def is_fsl(path: Path) -> bool:
    """Tells whether a .mat file is FSL's, which is text; ITK's has bytes of no text in its first number."""
    if path.suffix.lower() != ".mat":
        return False
    with path.open("rb") as file:
        start = file.read(_LIMIT)
    return bool(start.strip()) and start.isascii() and b"\0" not in start


def _read(path: Path, images: Images) -> list[Step]:
    if path.stat().st_size > _LIMIT:
        raise ValueError(f"it has more than {_LIMIT} bytes")
    rows = [line.split() for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
    if [len(row) for row in rows] != [4, 4, 4, 4]:
        raise ValueError("expected four rows of four numbers")
    matrix = np.array([[number(each) for each in row] for row in rows])
    check_matrix(path.name, matrix)
    fixed, moving = (_scaled(each) for each in images)
    return [np.linalg.inv(moving) @ np.linalg.inv(matrix) @ fixed]


def _write(matrix: np.ndarray, path: Path, images: Images) -> None:
    fixed, moving = (_scaled(each) for each in images)
    rows = fixed @ np.linalg.inv(matrix) @ np.linalg.inv(moving)
    with atomic_file(path) as temporary:
        temporary.write_text("".join("  ".join(f"{v:.12g}" for v in row) + "\n" for row in rows), encoding="ascii")


def _scaled(image: Lattice) -> np.ndarray:
    """Returns the matrix from RAS mm to FSL's: voxels by their size, along i backwards if the determinant is positive.

    Source: FSL's newimage (`newimage_mm_coord`, FLIRT's manual): its images are stored as if L were on the right.
    """
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
    scaled = np.diag([*spacing, 1.0])
    if np.linalg.det(image.affine) > 0:
        scaled[0] = [-spacing[0], 0, 0, (image.shape[0] - 1) * spacing[0]]
    return scaled @ np.linalg.inv(image.affine)


FSL = Format(read_between=_read, write_between=_write)
