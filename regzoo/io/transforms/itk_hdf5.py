"""ITK's transform files in HDF5: .h5, .hdf5."""

from pathlib import Path

import h5py
import numpy as np

from regzoo.io.files import atomic_file
from regzoo.io.hdf5 import opened
from regzoo.io.transforms import itk_field, itk_linear
from regzoo.io.transforms.itk_kinds import Record, steps
from regzoo.io.transforms.step import Format, Step


def _read(path: Path) -> list[Step]:
    with opened(path, "transform") as file:
        records = _records(file)
    return steps(records, path.name)


def _records(file: h5py.File) -> list[Record]:
    groups = file["TransformGroup"]
    records = []
    for name in sorted(groups, key=int):
        # ITK before 4.14 wrote the key with a misspelling.
        group = {key.replace("Tranform", "Transform"): value[()] for key, value in groups[name].items()}
        kind = np.atleast_1d(group["TransformType"])[0].decode()
        records.append(Record(kind, group.get("TransformParameters"), group.get("TransformFixedParameters")))
    return records


def _write_matrix(matrix: np.ndarray, path: Path) -> None:
    _write(path, *itk_linear.numbers(matrix))


def _write_field(vectors: np.ndarray, affine: np.ndarray, path: Path) -> None:
    _write(path, *itk_field.numbers(vectors, affine))


def _write(path: Path, kind: str, parameters: np.ndarray, fixed: np.ndarray) -> None:
    text = h5py.string_dtype("ascii")  # ITK cannot read h5py's usual UTF-8 strings
    with atomic_file(path) as temporary, h5py.File(temporary, "w") as file:
        file.create_dataset("HDFVersion", data=[h5py.version.hdf5_version], dtype=text)
        file.create_dataset("ITKVersion", data=["5.4.0"], dtype=text)  # the layout that this follows
        group = file.create_group("TransformGroup/0")
        group.create_dataset("TransformType", data=[kind], dtype=text)
        group.create_dataset("TransformFixedParameters", data=fixed)
        group.create_dataset("TransformParameters", data=parameters)


HDF5 = Format(_read, _write_matrix, _write_field)
