"""How much memory reading takes, of what stays: each file is read in a process of its own.

`python tests/tools/peaks.py [SIZE]` writes images of SIZE x SIZE x SIZE voxels, nearly all of them 0, and fields of two
thirds of that, and prints for each the size of the file, the peak of memory above that of an idle process, what is kept
of it, and the seconds.
"""

import gzip
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import nibabel
import numpy as np

SIZE = 300
CHILD = """
import json, resource, sys, time
from pathlib import Path
import scipy.ndimage
from regzoo.errors import RegzooError
from regzoo.world.images import Image
from regzoo.world.transforms import Transform

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

path, role, before, started = Path(sys.argv[1]), sys.argv[2], peak(), time.perf_counter()
try:
    found = Transform.load(path) if role == "field" else Image.read(path, labels=role == "labels")
    kept = found.steps[0].steps[0].vectors.nbytes if role == "field" else found.array.nbytes
except RegzooError as error:
    kept = str(error)
print(json.dumps({"peak": peak() - before, "kept": kept, "seconds": round(time.perf_counter() - started, 1)}))
"""


def hdf5(path: Path, key: str, shape: tuple[int, ...], dtype: str, largest: float) -> None:
    """Adds an array of zeros and one other number, in chunks of eight megabytes."""
    rows = max(1, 2**23 // (math.prod(shape[1:]) * np.dtype(dtype).itemsize))
    with h5py.File(path, "a") as file:
        chunks = (min(rows, shape[0]), *shape[1:])
        array = file.create_dataset(key, shape, dtype, chunks=chunks, compression=1)
        for start in range(0, shape[0], chunks[0]):
            array[start : start + chunks[0]] = 0
        array[(len(shape) * (1,))] = largest


def nifti(path: Path, shape: tuple[int, ...], dtype: str, slope: float = 1, intent: str = "none") -> None:
    header = nibabel.Nifti1Header()
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    header.set_intent(intent)
    header.set_sform(np.eye(4), 1)
    header["magic"], header["vox_offset"], header["scl_slope"], header["scl_inter"] = b"n+1", 352, slope, 0
    first = np.zeros(8, dtype)
    first[3] = 1
    left = math.prod(shape) * first.itemsize - first.nbytes
    with gzip.open(path, "wb", 1) if path.suffix == ".gz" else path.open("wb") as file:
        file.write(header.binaryblock + bytes(4) + first.tobytes())
        while left:
            file.write(bytes(min(left, 2**24)))
            left -= min(left, 2**24)


def cases(home: Path, size: int) -> Iterator[tuple[str, Path, str]]:
    """Writes one file after the other; gives what it is, its path, and what it is to be read as."""
    cube, field = (size,) * 3, (2 * size // 3,) * 3
    for dtype, largest in (("f8", 1), ("f8", 300), ("f4", 1), ("i2", 1), ("u1", 1)):
        path = home / f"{dtype}-{largest}.h5"
        hdf5(path, "a", cube, dtype, largest)
        for role in ("image", "labels"):
            yield f"{dtype} up to {largest} in .h5", path / "a", role
    for name, dtype, slope in (
        ("f8.nii.gz", "f8", 1),
        ("i2.nii.gz", "i2", 2),
        ("u1.nii.gz", "u1", 1),
        ("f8.nii", "f8", 1),
    ):
        nifti(home / name, cube, dtype, slope)
        for role in ("image", "labels"):
            yield f"{name}, slope {slope}", home / name, role
    for dtype in ("f4", "f8"):
        nifti(home / f"field-{dtype}.nii.gz", (*field, 1, 3), dtype, intent="vector")
        yield f"{dtype} field in .nii.gz", home / f"field-{dtype}.nii.gz", "field"
    path = home / "field.h5"
    hdf5(path, "TransformGroup/0/TransformParameters", (3 * math.prod(field),), "f8", 1)
    with h5py.File(path, "a") as file:
        group = file["TransformGroup/0"]
        group["TransformType"] = np.array([b"DisplacementFieldTransform_double_3_3"])
        group["TransformFixedParameters"] = np.array([*field, 0, 0, 0, 1, 1, 1, *np.eye(3).ravel()], "f8")
    yield "f8 field in ITK's .h5", path, "field"


def main(size: int) -> None:
    with tempfile.TemporaryDirectory() as home:
        for what, path, role in cases(Path(home), size):
            told = subprocess.check_output([sys.executable, "-c", CHILD, str(path), role], text=True)
            file = path if path.is_file() else path.parent
            report = json.loads(told) | {"file": file.stat().st_size}
            if isinstance(report["kept"], int):
                report["ratio"] = round(report["peak"] / report["kept"], 2)
            print(json.dumps({"what": what, "as": role} | report), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else SIZE)
