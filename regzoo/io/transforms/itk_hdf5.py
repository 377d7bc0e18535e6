"""ITK's transform files in HDF5: .h5, .hdf5."""

import math
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from regzoo.io.files import atomic_file
from regzoo.io.hdf5 import array, member, most, numbers, opened, text
from regzoo.io.reading import check_size, check_voxels
from regzoo.io.transforms import itk_field, itk_linear
from regzoo.io.transforms.itk_kinds import Record, is_composite, steps
from regzoo.io.transforms.step import Format, Step, check_count


def _read(path: Path) -> list[Step]:
    with opened(path, "transform", texts=True) as file:
        records = _records(file)
    return steps(records, path.name)


def _records(file: h5py.File) -> list[Record]:
    groups = member(file, "TransformGroup")
    check_count(len(groups))
    names = [str(place) for place in range(len(groups))]
    if set(groups) != set(names):
        raise ValueError(f"its transforms are numbered {', '.join(sorted(groups)[:9])}; expected 0 to {len(names) - 1}")
    records: list[Record] = []
    for name in names:
        taken = sum(each.parameters.nbytes for each in records)
        records.append(_record(member(groups, name), taken))
    return records


def _record(group: h5py.Group, taken: int) -> Record:
    # ITK before 4.14 wrote the key with a misspelling.
    keys = {key.replace("Tranform", "Transform"): key for key in group}
    kind, found = text(group, keys["TransformType"]), {name: array(group, key) for name, key in keys.items()}
    if is_composite(kind):
        return Record(kind, np.zeros(0), np.zeros(0))
    dtype = np.float32 if kind.startswith("DisplacementField") else np.float64  # in which they are kept
    parameters = _numbers(found, "TransformParameters", np.dtype(dtype), taken)
    return Record(kind, parameters, _numbers(found, "TransformFixedParameters", np.dtype(np.float64), taken))


def _numbers(found: dict[str, h5py.Dataset], key: str, dtype: np.dtype, taken: int) -> np.ndarray:
    if key not in found:
        raise ValueError(f"it has no {key}")
    values = found[key]
    if values.dtype.kind not in "iuf":
        raise ValueError(f"its {key} are no numbers")
    check_voxels(key, (-(-math.prod(values.shape) // 3),))
    check_size(key, values.shape, values.dtype, most(values), "transform")
    return numbers(key, values, dtype, taken)


def _write_matrix(matrix: np.ndarray, path: Path) -> None:
    _write(path, [itk_linear.numbers(matrix)])


def _write_field(vectors: np.ndarray, affine: np.ndarray, path: Path) -> None:
    _write(path, [itk_field.numbers(vectors, affine)])


def _write_both(matrix: np.ndarray, vectors: np.ndarray, affine: np.ndarray, path: Path) -> None:
    # ITK keeps a composite as a queue and applies the last one first.
    _write(path, [_COMPOSITE, itk_linear.numbers(matrix), itk_field.numbers(vectors, affine)])


_COMPOSITE = ("CompositeTransform_double_3_3", None, None)


def _write(path: Path, records: Sequence[tuple[str, np.ndarray | None, np.ndarray | None]]) -> None:
    """Writes kind, parameters and fixed parameters of each transform; those of a field compressed."""
    letters = h5py.string_dtype("ascii")  # ITK cannot read h5py's usual UTF-8 strings
    with atomic_file(path) as temporary, h5py.File(temporary, "w") as file:
        file.create_dataset("HDFVersion", data=[h5py.version.hdf5_version], dtype=letters)
        file.create_dataset("ITKVersion", data=["5.4.0"], dtype=letters)  # the layout that this follows
        for number, (kind, parameters, fixed) in enumerate(records):
            group = file.create_group(f"TransformGroup/{number}")
            group.create_dataset("TransformType", data=[kind], dtype=letters)
            if parameters is not None:
                small = {} if len(parameters) < 1000 else {"compression": 1, "shuffle": True}
                group.create_dataset("TransformFixedParameters", data=fixed)
                group.create_dataset("TransformParameters", data=parameters, **small)


HDF5 = Format(_read, write_matrix=_write_matrix, write_field=_write_field, write_both=_write_both)
