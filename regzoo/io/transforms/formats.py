"""The formats of transforms by suffix. Another format is one file here and one entry of `FORMATS`."""

import os
from pathlib import Path

import numpy as np

from regzoo.errors import invalid, unknown
from regzoo.io.files import check_listed
from regzoo.io.reading import by_suffix, check_file, readable
from regzoo.io.transforms import (
    ants_pair,
    dicom_registration,
    fsl,
    itk_hdf5,
    itk_image_field,
    itk_mat,
    itk_text,
    learn2reg,
    lta,
    nifti_field,
    x5,
)
from regzoo.io.transforms.step import Format, Images, Step, check_steps
from regzoo.io.volumes.dicom import is_dicom

FORMATS: dict[str, Format] = {
    ".nii": nifti_field.NIFTI,
    ".nii.gz": nifti_field.NIFTI,
    ".h5": itk_hdf5.HDF5,
    ".tfm": itk_text.TEXT,
    ".txt": Format(itk_text.TEXT.read),
    ".hdf5": Format(itk_hdf5.HDF5.read),
    ".mat": itk_mat.MAT,
    ".lta": lta.LTA,
    ".x5": x5.X5,
    **dict.fromkeys((".mha", ".nrrd"), itk_image_field.FIELD),
    ".mhd": itk_image_field.READ_ONLY,
    ".dcm": dicom_registration.REGISTRATION,
}
"""Suffix -> format. DICOM is also told by what it is, whatever its name."""

FORMS: dict[str, Format] = {"ants": ants_pair.PAIR, "fsl": fsl.FSL, "learn2reg": learn2reg.LEARN2REG}
"""Name -> format that is asked for by name, for its files have other names, or the suffix of another format."""


def read_transform(path: Path, images: Images | None = None) -> list[Step]:
    """Reads a transform file.

    Args:
        path: The file.
        images: The voxels of both images, without which a matrix of FSL's has no meaning.

    Returns:
        Steps in the order in which they are applied to a point.

    Raises:
        MissingError: If there is no such file.
        InvalidError: If it is a folder, damaged, of another format or of a kind that regzoo does not apply.
    """
    check_file(path)
    with readable(path, "transform"):
        form = fsl.FSL if fsl.is_fsl(path) else by_suffix(path.name, FORMATS)
    if form is None and is_dicom(path):
        form = dicom_registration.REGISTRATION
    if form is None:
        raise invalid(path.name, f"a transform in {_listed(list(FORMATS))}", f"'{path.suffix}'")
    check_listed(path)
    with readable(path, "transform"), np.errstate(over="ignore", invalid="ignore"):
        steps = form.read(path) if form.read else form.read_between(path, _checked(images, path))
        check_steps(path.name, steps)
    return steps


def counts_in_voxels(path: Path) -> bool:
    """Tells whether a file has no meaning without the voxels of both images."""
    return path.is_file() and fsl.is_fsl(path)


def _checked(images: Images | None, path: Path) -> Images:
    if images is None:
        advice = "Convert it: regzoo transform FILE --reference FIXED --moving MOVING -o OUT.tfm."
        raise invalid(path.name, "both images beside it, in whose voxels FSL counts", None, advice)
    return images


def writer(path: str | os.PathLike, name: str | None = None) -> Format:
    """Returns the format of a name, or else the one to write a file of such a suffix in.

    Raises:
        InvalidError: If there is none.
    """
    if name is not None:
        if name not in FORMS:
            raise unknown("form", name, FORMS)
        return FORMS[name]
    form = by_suffix(Path(path).name, FORMATS)
    if form is None or not _writes(form):
        written = [suffix for suffix, each in FORMATS.items() if _writes(each)]
        advice = "--dicom of register and warp writes DICOM." if form is dicom_registration.REGISTRATION else ""
        raise invalid("path", f"a name ending in {_listed(written)}", f"'{path}'", advice)
    return form


def _writes(form: Format) -> bool:
    return bool(form.write_matrix or form.write_between or form.write_field)


def field_suffixes() -> str:
    """Returns the suffixes of files that hold a field, for a message."""
    return _listed([suffix for suffix, each in FORMATS.items() if each.write_field])


def _listed(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
