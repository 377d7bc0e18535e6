"""The formats of transforms by suffix. Another format is one file here and one entry of `FORMATS`."""

import os
from pathlib import Path

from regzoo.errors import invalid, unknown
from regzoo.io.files import check_listed
from regzoo.io.reading import by_suffix, check_file, readable
from regzoo.io.transforms import ants_pair, itk_hdf5, itk_image_field, itk_mat, itk_text, nifti_field
from regzoo.io.transforms.step import Format, Step

FORMATS: dict[str, Format] = {
    ".nii": nifti_field.NIFTI,
    ".nii.gz": nifti_field.NIFTI,
    ".h5": itk_hdf5.HDF5,
    ".tfm": itk_text.TEXT,
    ".txt": Format(itk_text.TEXT.read),
    ".hdf5": Format(itk_hdf5.HDF5.read),
    ".mat": itk_mat.MAT,
    **dict.fromkeys((".mha", ".mhd", ".nrrd"), itk_image_field.FIELD),
}
"""Suffix -> format."""

FORMS: dict[str, Format] = {"ants": ants_pair.PAIR}
"""Name -> format that is asked for by name, for its files have other names, or the suffix of another format."""


def read_transform(path: Path) -> list[Step]:
    """Reads a transform file.

    Returns:
        Steps in the order in which they are applied to a point.

    Raises:
        MissingError: If there is no such file.
        InvalidError: If it is a folder, damaged, of another format or of a kind that regzoo does not apply.
    """
    check_file(path)
    form = by_suffix(path.name, FORMATS)
    if form is None:
        raise invalid(path.name, f"a transform in {_listed(list(FORMATS))}", f"'{path.suffix}'")
    check_listed(path)
    with readable(path, "transform"):
        return form.read(path)


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
    if form is None or not (form.write_matrix or form.write_field):
        written = [suffix for suffix, each in FORMATS.items() if each.write_matrix or each.write_field]
        raise invalid("path", f"a name ending in {_listed(written)}", f"'{path}'")
    return form


def field_suffixes() -> str:
    """Returns the suffixes of files that hold a field, for a message."""
    return _listed([suffix for suffix, each in FORMATS.items() if each.write_field])


def _listed(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
