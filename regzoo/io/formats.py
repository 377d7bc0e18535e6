"""File formats of images (NIfTI, HDF5) and transforms. Outside it is all RAS millimetres; ITK's LPS stays in here."""

from __future__ import annotations

import contextlib
import math
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, HeaderTypeError, SpatialImage

from regzoo.errors import InvalidError, MissingError, RegzooError, invalid
from regzoo.io.files import atomic_file

Step = np.ndarray | tuple[np.ndarray, np.ndarray]
"""A transform as data: a matrix (4, 4) or (vectors (*S, 3), affine (4, 4)), both in RAS millimetres."""

_UNREADABLE = (
    *(OSError, EOFError, ValueError, TypeError, LookupError, OverflowError, MemoryError, zlib.error, struct.error),
    *(ImageFileError, HeaderDataError, HeaderTypeError),
)
_INTEGERS = (np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64)
_MILLIMETRES = {"meter": 1e3, "micron": 1e-3}
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_FLIP = np.array([-1, -1, 1], dtype=np.float32)


def read_image(
    path: Path, *, labels: bool, volume: int | None, spacing: Sequence[float] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Reads an image or a label map; see `Image.read`.

    Returns:
        Array, shape (I, J, K) or (I, J, K, C), and affine in mm, shape (4, 4), unchecked.
    """
    file, affine = _open(path, spacing)
    values = _values(path, file, volume, channels=labels)
    to_array = _label_array if labels else _intensity_array
    return to_array(_name(path), values, file.shape), affine


def read_grid(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Reads the spatial shape and the affine in mm of an image file; see `Grid.read`."""
    file, affine = _open(path)
    return (*file.shape, 1)[:3], affine


def exists(path: Path) -> bool:
    """Tells whether there is such a file, or such a dataset FILE.h5/KEY."""
    if not _in_hdf5(path):
        return path.is_file()
    with _readable(path.parent, "HDF5 file"), h5py.File(path.parent) as file:
        return path.name in file


def hdf5_keys(path: Path) -> list[str]:
    """Returns the keys of an HDF5 file, each of which is one image: the path FILE.h5/KEY.

    Raises:
        InvalidError: If the file is damaged or holds anything but datasets at its top level.
    """
    with _readable(path, "HDF5 file"), h5py.File(path) as file:
        for key, value in file.items():
            if not isinstance(value, h5py.Dataset):
                raise invalid(f"{path}: {key}", "an array", f"a {type(value).__name__}")
        return list(file)


def write_image(array: np.ndarray, affine: np.ndarray, path: str | os.PathLike) -> None:
    """Writes NIfTI: integers in the smallest type that holds them, anything else as float32."""
    integers = array.dtype.kind in "biu"
    _write_nifti(_smallest(array) if integers else array.astype(np.float32), affine, path, "none")


def read_transform(path: Path) -> list[Step]:
    """Reads a NIfTI displacement field, or an ITK transform file (.h5, .hdf5, .tfm, .txt).

    Returns:
        Steps in the order in which they are applied to a point.

    Raises:
        MissingError: If there is no such file.
        InvalidError: If it is damaged, of another format or of a kind that regzoo does not apply.
    """
    if not path.is_file():
        raise MissingError(f"{path}: no such file.")
    if path.name.endswith((".nii", ".nii.gz")):
        return [_read_field(path)]
    if path.suffix in (".h5", ".hdf5"):
        with _readable(path, "transform"), h5py.File(path) as file:
            records = _h5_records(file)
    elif path.suffix in (".tfm", ".txt"):
        with _readable(path, "transform"):
            records = _text_records(path.read_text())
    else:
        raise invalid(path.name, "a transform in .nii, .nii.gz, .h5, .tfm or .txt", f"'{path.suffix}'")
    if not records:
        raise invalid(path.name, "a transform", "a file without any")
    with _readable(path, "transform"):
        # ITK keeps a composite as a queue and applies the last one first.
        return [_step(*record) for record in reversed(records) if not record[0].startswith("CompositeTransform")]


def write_field(vectors: np.ndarray, affine: np.ndarray, path: str | os.PathLike) -> None:
    """Writes a displacement field (*S, 3), RAS mm, as ITK and ANTs expect it in NIfTI.

    That is (X, Y, Z, 1, 3) with intent `vector` (1007) and LPS components. Under the intent `displacement vector`
    (1006) ITK 5.3 and later flip the components, under any other ITK sees a 5-D scalar image. One slice is written
    twice, for ITK would take it for a 2-D image of vectors that have three components.
    """
    if vectors.shape[2] == 1:
        vectors = np.repeat(vectors, 2, axis=2)
    _write_nifti((vectors * _FLIP)[:, :, :, None], affine, path, "vector")


def write_itk(step: Step, path: str | os.PathLike) -> None:
    """Writes one step as an ITK transform file: an affine as text (.tfm) or HDF5, a displacement field as HDF5."""
    kind, parameters, fixed = _itk_affine(step) if isinstance(step, np.ndarray) else _itk_field(*step)
    if Path(path).suffix == ".tfm":
        numbers = (" ".join(repr(float(value)) for value in values) for values in (parameters, fixed))
        lines = "#Insight Transform File V1.0\n#Transform 0\nTransform: {}\nParameters: {}\nFixedParameters: {}\n"
        with atomic_file(path) as temporary:
            temporary.write_text(lines.format(kind, *numbers), encoding="ascii")
        return
    text = h5py.string_dtype("ascii")  # ITK cannot read h5py's usual UTF-8 strings
    with atomic_file(path) as temporary, h5py.File(temporary, "w") as file:
        file.create_dataset("HDFVersion", data=[h5py.version.hdf5_version], dtype=text)
        file.create_dataset("ITKVersion", data=["5.4.0"], dtype=text)  # the layout that this follows
        group = file.create_group("TransformGroup/0")
        group.create_dataset("TransformType", data=[kind], dtype=text)
        group.create_dataset("TransformFixedParameters", data=fixed)
        group.create_dataset("TransformParameters", data=parameters)


@contextlib.contextmanager
def _readable(path: Path, kind: str = "image") -> Iterator[None]:
    try:
        yield
    except RegzooError:
        raise
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidError(
            f"{_name(path)} is not a readable {kind}, or it is damaged: {reason.rstrip('.')}."
        ) from error


@dataclass(frozen=True)
class _Dataset:
    """A dataset of an HDF5 file, with the face of the nibabel images that are read here."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype

    def get_data_dtype(self) -> np.dtype:
        return self.dtype

    @property
    def dataobj(self) -> np.ndarray:
        with h5py.File(self.path.parent) as file:
            return file[self.path.name][()]


def _in_hdf5(path: Path) -> bool:
    return path.parent.suffix in (".h5", ".hdf5") and path.parent.is_file()


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}" if _in_hdf5(path) else path.name


def _open_dataset(path: Path, spacing: Sequence[float] | None) -> tuple[_Dataset, np.ndarray]:
    with _readable(path), h5py.File(path.parent) as file:
        found = file.get(path.name)
        if not isinstance(found, h5py.Dataset):
            raise MissingError(f"{path.parent}: no dataset '{path.name}'.")
        return _Dataset(path, found.shape, found.dtype), np.diag([*(spacing or (1.0, 1.0, 1.0)), 1.0])


def _open(path: Path, spacing: Sequence[float] | None = None) -> tuple[SpatialImage | _Dataset, np.ndarray]:
    if _in_hdf5(path):
        return _open_dataset(path, spacing)
    if not path.is_file():
        raise MissingError(f"{path}: no such file.")
    with _readable(path):
        file = nibabel.load(path)
        if not isinstance(file, SpatialImage) or file.affine is None:
            raise ImageFileError(f"it is a {type(file).__name__}")
        unit = file.header.get_xyzt_units()[0] if hasattr(file.header, "get_xyzt_units") else "mm"
        with np.errstate(invalid="ignore", over="ignore"):  # a damaged affine is refused by Grid
            return file, np.diag([_MILLIMETRES.get(unit, 1.0)] * 3 + [1.0]) @ file.affine


def _values(path: Path, file: SpatialImage | _Dataset, volume: int | None, channels: bool) -> np.ndarray:
    """Returns the file's values as (I, J, K), or (I, J, K, C) where `channels` allows it."""
    shape = _checked_shape(_name(path), file, volume, channels)
    _check_size(path, file)
    with _readable(path):
        values = np.asanyarray(file.dataobj if volume is None else file.dataobj[..., volume]).reshape(shape)
    return values[..., None] if values.ndim == 2 else values


def _checked_shape(name: str, file: SpatialImage | _Dataset, volume: int | None, channels: bool) -> tuple[int, ...]:
    """Returns the shape of what is to be read, from the header alone."""
    shape, kind = file.shape, file.get_data_dtype()
    if kind.fields or kind.kind not in "biuf":
        raise invalid(name, "one number per voxel", "RGB" if kind.fields else f"type {kind}", "Convert it to grey.")
    if volume is not None:
        if len(shape) != 4 or not 0 <= volume < shape[3]:
            raise invalid(f"volume of {name}", "0 to the last volume of a 4-D file", f"{volume} for shape {shape}")
        return shape[:3]
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) not in (2, 3, 4 if channels else 3) or 0 in shape:
        options = "--volume (register: --fixed-volume, --moving-volume)"
        advice = f"; choose one volume with {options}" if len(shape) == 4 else ""
        raise InvalidError(f"{name} has {len(shape)} dimensions {shape}. Expected 3{advice}.")
    return shape


_GZIP_RATIO = 1032
"""The most that deflate compresses."""


_VOXELS_LIMIT = 2**28
"""A CT of a whole body, 512 x 512 x 1024; as float32 they take one gigabyte, and a field on them three."""


def _check_size(path: Path, file: SpatialImage | _Dataset) -> None:
    """Refuses a file that is too small for the voxels its header tells of, before memory is taken for them."""
    if isinstance(file, _Dataset) or not isinstance(file.dataobj, nibabel.arrayproxy.ArrayProxy):
        return
    count = math.prod(map(int, file.shape))
    if count > _VOXELS_LIMIT:
        raise invalid(_name(path), f"at most {_VOXELS_LIMIT} voxels", count, "Crop it, or make its voxels larger.")
    holder = Path(file.file_map["image"].filename)
    held = holder.stat().st_size * (_GZIP_RATIO if holder.suffix in (".gz", ".mgz") else 1)
    needed = count * file.get_data_dtype().itemsize
    if needed > held and holder.suffix not in (".bz2", ".zst"):
        message = f"its header tells of {needed} bytes of voxels, but the file has {holder.stat().st_size}"
        raise InvalidError(f"{_name(path)} is not a readable image, or it is damaged: {message}.")


def _intensity_array(name: str, values: np.ndarray, _shape: tuple[int, ...]) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        array = values.astype(np.float32)
    bad = array.size - int(np.isfinite(array).sum())
    if bad:
        raise invalid(name, "finite values", f"{bad} NaN or infinite voxels", "Replace them first.")
    if array.min() == array.max():
        raise invalid(name, "an image", f"the same value, {array.flat[0]:g}, everywhere")
    return array


def _label_array(name: str, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if not np.isfinite(values).all():
        raise invalid(name, "finite labels", "NaN or infinite voxels", "Replace them first.")
    if values.ndim == 4:
        return values.astype(np.float32)
    if values.dtype.kind in "biu":
        return values.astype(values.dtype.newbyteorder("="))
    fractional = values[values != np.rint(values)]
    if not fractional.size:
        return _smallest(values)
    if len(shape) == 4 and shape[3] == 1:
        return values.astype(np.float32)[..., None]
    raise invalid(name, "integer labels", f"values between integers such as {fractional[0]:g}")


def _smallest(values: np.ndarray) -> np.ndarray:
    low, high = int(values.min()), int(values.max())
    kind = next((k for k in _INTEGERS if np.iinfo(k).min <= low and high <= np.iinfo(k).max), None)
    if kind is None:
        raise invalid("labels", "64-bit integers", f"{low} to {high}")
    return values.astype(kind)


def _write_nifti(array: np.ndarray, affine: np.ndarray, path: str | os.PathLike, intent: str) -> None:
    if not Path(path).name.endswith((".nii", ".nii.gz")):
        raise invalid("path", "a name ending in .nii or .nii.gz", f"'{path}'")
    file = nibabel.Nifti1Image(array, affine, dtype=array.dtype)
    file.set_sform(affine, code=1)
    try:
        file.set_qform(affine, code=1, strip_shears=False)
    except HeaderDataError:  # shear, which a qform cannot hold
        file.header["qform_code"] = 0
    file.header.set_xyzt_units("mm")
    file.header.set_intent(intent)
    with atomic_file(path) as temporary:
        nibabel.save(file, temporary)


def _read_field(path: Path) -> Step:
    file, affine = _open(path)
    intent = file.header.get_intent()[0]
    if len(file.shape) != 5 or file.shape[3:] != (1, 3) or intent not in ("vector", "displacement vector"):
        expected = "a displacement field, shape (X, Y, Z, 1, 3) with intent 1007"
        raise invalid(path.name, expected, f"shape {file.shape} with intent '{intent}'")
    if file.header.get_intent()[2].startswith("NREG"):
        raise invalid(path.name, "displacements as ITK writes them", "a NiftyReg transformation")
    with _readable(path, "transform"):
        vectors = np.asanyarray(file.dataobj)[:, :, :, 0].astype(np.float32)
    if not np.isfinite(vectors).all():
        raise invalid(path.name, "finite displacements", "NaN or infinite values")
    if vectors.shape[2] == 2 and (vectors[:, :, 0] == vectors[:, :, 1]).all():  # one slice; see write_field
        vectors = vectors[:, :, :1]
    # ITK 5.3 and later take intent 1006 as RAS.
    return vectors * (_FLIP if intent == "vector" else np.float32(1)), affine


def _h5_records(file: h5py.File) -> list[tuple[str, np.ndarray, np.ndarray]]:
    groups = file["TransformGroup"]
    records = []
    for name in sorted(groups, key=int):
        # ITK before 4.14 wrote the key with a misspelling.
        group = {key.replace("Tranform", "Transform"): value[()] for key, value in groups[name].items()}
        kind = np.atleast_1d(group["TransformType"])[0].decode()
        records.append((kind, group.get("TransformParameters"), group.get("TransformFixedParameters")))
    return records


def _text_records(text: str) -> list[tuple[str, np.ndarray, np.ndarray]]:
    if not text.startswith("#Insight Transform File"):
        raise ValueError("its first line is not '#Insight Transform File V1.0'")
    records, entry = [], {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        entry[key] = value.strip()
        if key == "FixedParameters":
            numbers = (np.array(entry[name].split(), dtype=np.float64) for name in ("Parameters", "FixedParameters"))
            records.append((entry["Transform"], *numbers))
    return records


def _step(kind: str, parameters: np.ndarray, fixed: np.ndarray) -> Step:
    name = kind.split("_")[0]
    if not kind.endswith("_3_3") or name not in _READERS:
        raise invalid("transform", f"one of {', '.join(_READERS)} in 3-D", kind, "Convert it to a displacement field.")
    step = _READERS[name](parameters, fixed)
    if not all(np.isfinite(part).all() for part in (step if isinstance(step, tuple) else (step,))):
        raise ValueError("it holds NaN or infinite values")
    return step


def _affine_step(parameters: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """`y = M (x - c) + c + t` in LPS; parameters M row by row, then t; fixed parameters c."""
    linear = parameters[:9].reshape(3, 3)
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = parameters[9:].reshape(3) + fixed - linear @ fixed
    return _LPS @ matrix @ _LPS


def _translation_step(parameters: np.ndarray, _fixed: np.ndarray) -> np.ndarray:
    return _affine_step(np.concatenate([np.eye(3).ravel(), parameters]), np.zeros(3))


def _field_step(parameters: np.ndarray, fixed: np.ndarray) -> Step:
    """Fixed parameters: size, origin, spacing, direction row by row; parameters: components, then x, y, z."""
    size, origin, spacing, direction = fixed[:3].astype(int), fixed[3:6], fixed[6:9], fixed[9:].reshape(3, 3)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = direction * spacing, origin
    vectors = parameters.reshape(*size[::-1], 3).transpose(2, 1, 0, 3).astype(np.float32)
    return np.ascontiguousarray(vectors * _FLIP), _LPS @ affine


_READERS = {
    "AffineTransform": _affine_step,
    "MatrixOffsetTransformBase": _affine_step,
    "TranslationTransform": _translation_step,
    "IdentityTransform": lambda _parameters, _fixed: np.eye(4),
    "DisplacementFieldTransform": _field_step,
}


def _itk_affine(matrix: np.ndarray) -> tuple[str, np.ndarray, np.ndarray]:
    lps = _LPS @ matrix @ _LPS
    return "AffineTransform_double_3_3", np.concatenate([lps[:3, :3].ravel(), lps[:3, 3]]), np.zeros(3)


def _itk_field(vectors: np.ndarray, affine: np.ndarray) -> tuple[str, np.ndarray, np.ndarray]:
    lps = _LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    direction = lps[:3, :3] / spacing
    fixed = np.concatenate([vectors.shape[:3], lps[:3, 3], spacing, direction.ravel()])
    parameters = (vectors * _FLIP).transpose(2, 1, 0, 3).astype(np.float64).ravel()
    return "DisplacementFieldTransform_double_3_3", parameters, fixed
