"""What a registration gives, as DICOM: the moved image as a derived series, and the transform as a registration."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from regzoo.errors import InvalidError, invalid
from regzoo.io import dicom
from regzoo.io.files import atomic_folder, check_writable
from regzoo.io.volumes.dicom import is_dicom
from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform

SERIES, REGISTRATION = "moved", "transform.dcm"


class DicomResult:
    """A folder for what is made of a moving DICOM image, of whose patient and study it is: with all that names them.

    It lies in the frame of reference of the fixed image, which must then be of the same patient; in a new one if the
    fixed image is no DICOM.

    Args:
        folder: Where to; a folder that does not exist, or is empty.
        fixed: The fixed image's file, if it has one.
        grid: The fixed image's grid.
        moving: The moving image, read from DICOM.

    Raises:
        InvalidError: If the folder holds something, the moving image is no CT or MR in DICOM, the images are of two
            patients, or the grid can be no series of slices.
        MissingError: If pydicom is not installed.
    """

    def __init__(self, folder: str | os.PathLike, fixed: Path | None, grid: Grid, moving: Image) -> None:
        self._folder, self._grid = Path(folder), grid
        check_writable(self._folder, folder=True)
        if self._folder.is_dir() and any(self._folder.iterdir()):
            raise invalid(f"--dicom: '{folder}'", "a folder that is new or empty", "one that holds something")
        if moving.file is None or not is_dicom(moving.file):
            advice = "From it come patient and study. Leave out --dicom."
            raise invalid("--dicom: the moving image", "DICOM", getattr(moving.file, "name", "none"), advice)
        self._moving = dicom.read_origin(moving.file, "moving")
        self._fixed = dicom.read_origin(fixed, "fixed") if fixed is not None and is_dicom(fixed) else None
        if self._fixed:
            dicom.check_one_patient(self._fixed, self._moving)
        dicom.check_planes(self._moving, grid.affine)
        self._whole = bool((moving.array == np.rint(moving.array)).all())

    def save(self, moved: Image | None, transform: Transform | None) -> Path:
        """Writes the series into the folder `moved`, and `transform.dcm` beside it; both appear together.

        A matrix becomes a Spatial Registration object, anything else a Deformable Spatial Registration object.

        Args:
            moved: The moving image on the fixed image's grid.
            transform: From fixed to moving space.

        Returns:
            The folder.

        Raises:
            InvalidError: If there is no transform, or its field is on a sheared grid.
        """
        if moved is None or transform is None:
            raise InvalidError("--dicom: a conditional model gives no transform. Choose a model that does.")
        frame, matrix, field = dicom.frame_of(self._fixed), transform.matrix, None
        if matrix is None:
            both = transform.has_matrix
            vectors = transform.before_linear_part(self._grid) if both else transform.displacement(self._grid)
            matrix, field = transform.linear_part if both else None, (vectors, self._grid.affine)
        found = dicom.registration(self._moving, self._fixed, frame, matrix, field)
        with atomic_folder(self._folder) as folder:
            (folder / SERIES).mkdir()
            dicom.write_series(folder / SERIES, moved.array, moved.affine, self._moving, frame, self._whole)
            dicom.save(found, folder / REGISTRATION)
        return self._folder
