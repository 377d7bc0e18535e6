"""Damaged files of every format of images, labels, transforms, landmarks, surfaces, tables and weights, by both doors.

Each ends in one RegzooError, or is read; bytes of a compressed stream are changed inside and outside the compression.
`python tests/tools/fuzz_files.py [COUNT] [SEED]` prints how many there were, what became of them, every other error and
what libraries say on standard error (and ends with 1 if there is any), the slowest, and the peak of memory.
"""

import bz2
import gzip
import json
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import h5py
import nibabel
import numpy as np
import SimpleITK as sitk

sys.path.append(str(Path(__file__).resolve().parents[1] / "helpers"))
from dicom_series import frames_of, write
from fuzz import check_command, mutated

from regzoo.data.tables import read_pairs
from regzoo.errors import RegzooError
from regzoo.hushed import hushed
from regzoo.io.landmarks import read_landmarks, write_points
from regzoo.io.surfaces import read_surface
from regzoo.io.volumes import FORMATS as IMAGES
from regzoo.models import weights
from regzoo.world.dicom_results import DicomResult
from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform

SEED, COUNT, EVERY = 7, 10_000, 4
"""One of `EVERY` goes through the command line too."""
SQUEEZE = {".gz": (gzip.compress, gzip.decompress), ".bz2": (bz2.compress, bz2.decompress)}
SQUEEZE[".mgz"] = SQUEEZE[".gz"]
GRID = Grid((5, 4, 3), np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 3, 11], [0, 0, 0, 1]]))


def sound_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Writes a sound file of each format; returns what each is to be read as, by its name."""
    array = np.arange(60).reshape(5, 4, 3)
    image = nibabel.Nifti1Image(array.astype("float32"), GRID.affine)
    found = {}
    for suffix in (each for each in IMAGES if not each.endswith(".zst")):  # which needs a package that few have
        path = folder / f"image{suffix}"
        if suffix in (".h5", ".hdf5"):
            with h5py.File(path, "w") as file:
                file.create_dataset("a", data=array.astype("float32"), chunks=True, compression="gzip")
        elif suffix in (".mgh", ".mgz"):
            nibabel.save(nibabel.MGHImage(array.astype("float32"), GRID.affine), path)
        elif suffix in (".mha", ".mhd", ".nrrd"):
            sitk.WriteImage(sitk.GetImageFromArray(array.astype("float32")), path, useCompression=suffix != ".mhd")
        elif suffix in (".png", ".tif", ".tiff"):
            sitk.WriteImage(sitk.GetImageFromArray(array[..., 0].astype("uint8")), path)
        elif suffix == ".dcm":
            frames_of(range(5)).save_as(path, enforce_file_format=True)
        elif suffix.startswith((".img", ".hdr")):
            nibabel.save(nibabel.Nifti1Pair(array.astype("float32"), GRID.affine), path)
        else:
            nibabel.save(image, path)
        found[path.name] = path, "image"
    nibabel.save(nibabel.Nifti1Image(array.astype("int16"), GRID.affine), folder / "labels.nii.gz")
    found["labels.nii.gz"] = folder / "labels.nii.gz", "labels"
    field = np.random.default_rng(0).normal(size=(*GRID.shape, 3)).astype("float32")
    turn = Transform.linear(np.array([[0, -1.0, 0, 3], [1, 0, 0, 2], [0, 0, 1, -1], [0, 0, 0, 1]]))
    dense = Transform.from_voxel_ddf(field, GRID)
    for name, each in {
        "m.tfm": turn,
        "m.txt": turn,
        "f.nii": dense,
        "f.nii.gz": dense,
        "b.h5": dense.then(turn),
    }.items():
        written = folder / name.replace(".txt", ".tfm")
        Transform(each.steps, GRID).save(written)
        path = folder / name
        path.write_bytes(written.read_bytes())
        found[name] = path, "transform"
    curve = sitk.BSplineTransform(3, 3)
    curve.SetParameters(np.linspace(-1, 1, len(curve.GetParameters())).tolist())
    for name, each in {"m.mat": sitk.Euler3DTransform((1, 2, 3), 0.1, 0.2, 0.3), "s.tfm": curve, "s.h5": curve}.items():
        sitk.WriteTransform(each, folder / name)
        found[name] = folder / name, "transform"
    for name in ("v.mha", "v.nrrd"):
        sitk.WriteImage(sitk.GetImageFromArray(field, isVector=True), folder / name, True)
        found[name] = folder / name, "transform"
    rows = "".join(f"{x},{y},{z},p{x}\n" for x, y, z in ((1, 2.5, 3), (-4, 5e1, 6), (7, 8, -9)))
    (folder / "p.csv").write_text(f"x,y,z,name\n{rows}")
    head = "# Markups fiducial file version = 4.11\n# CoordinateSystem = LPS\n# columns = x,y,z,label\n"
    (folder / "p.fcsv").write_text(head + rows)
    found |= {name: (folder / name, "points") for name in ("p.csv", "p.fcsv")}
    write_points(folder / "p.mrk.json", np.array([[1, 2.5, 3], [-4, 50, 6]]))
    (folder / "pairs.csv").write_text(
        "fixed,moving,fixed_points\nsound.nii,sound.nii,sound.csv\nsound.nii,sound.nii,\n"
    )
    surface(folder / "s.surf.gii")
    for name in ("m.lta", "v.lta", "m.x5"):
        turn.save(folder / name, GRID, moving=GRID)
    text = (folder / "v.lta").read_text().replace("type      = 1", "type      = 0")
    (folder / "v.lta").write_text(text)
    turn.save(folder / "fsl.mat", GRID, moving=GRID, form="fsl")
    Transform(dense.then(turn).steps, GRID).save(folder / "b.x5")
    found |= {name: (folder / name, "points") for name in ("p.mrk.json",)}
    found |= {name: (folder / name, "transform") for name in ("m.lta", "v.lta", "m.x5", "b.x5", "fsl.mat")}
    moving = Image.read(write(folder / "ct"))
    for name, each in {"m.dcm": turn, "f.dcm": dense.then(turn)}.items():
        DicomResult(folder / "out" / name, None, GRID, moving).save(Image(array, GRID.affine), each)
        found[name] = (folder / "out" / name / "transform.dcm").rename(folder / name), "transform"
    found["slice.dcm"] = next((folder / "ct").iterdir()).rename(folder / "slice.dcm"), "image"
    head = "ply\nformat {} 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    head += "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    places, face = np.arange(9, dtype="<f4"), b"\3" + np.arange(3, dtype="<i4").tobytes()
    (folder / "s.ply").write_bytes(head.format("binary_little_endian").encode() + places.tobytes() + face)
    (folder / "a.ply").write_text(head.format("ascii") + "0 1 2\n3 4 5\n6 7 8\n3 0 1 2\n")
    found |= {name: (folder / name, "surface") for name in ("s.ply", "a.ply")}
    found |= {"pairs.csv": (folder / "pairs.csv", "table"), "s.surf.gii": (folder / "s.surf.gii", "surface")}
    nibabel.save(nibabel.Nifti2Image(array.astype("float64"), GRID.affine), folder / "two.nii")
    nibabel.save(
        nibabel.Nifti1Image(np.stack([array, array + 1], -1).astype("int16"), GRID.affine), folder / "four.nii.gz"
    )
    found |= {"two.nii": (folder / "two.nii", "labels"), "four.nii.gz": (folder / "four.nii.gz", "series")}
    weights.save(folder / "w.safetensors", {"a": field, "b": np.arange(3)}, {"epoch": 3})
    return found | {"w.safetensors": (folder / "w.safetensors", "weights")}


def surface(path: Path) -> None:
    points = np.random.default_rng(1).normal(size=(6, 3)).astype("float32")
    arrays = (
        nibabel.gifti.GiftiDataArray(points, intent="NIFTI_INTENT_POINTSET"),
        nibabel.gifti.GiftiDataArray(np.array([[0, 1, 2], [3, 4, 5]], "int32"), intent="NIFTI_INTENT_TRIANGLE"),
    )
    nibabel.save(nibabel.gifti.GiftiImage(darrays=list(arrays)), path)


def read(path: Path, kind: str) -> None:
    match kind:
        case "image" | "labels":
            inside = path / "a" if path.suffix in (".h5", ".hdf5") else path
            Image.read(inside, labels=kind == "labels")
            Grid.read(inside)
        case "series":
            Image.read(path, series=True)
            Image.read(path, volume=1)
        case "transform":
            Transform.load(path, fixed=GRID, moving=GRID).apply_points(np.zeros((2, 3)))
        case "table":
            read_pairs(path)
        case "surface":
            read_surface(path)
        case "points":
            read_landmarks(path)
        case "weights":
            weights.read(path)


def command(path: Path, kind: str, folder: Path) -> list[str]:
    still, points = ["--transform", str(folder / "still.tfm")], str(folder / "sound.csv")
    match kind:
        case "image" | "labels":
            inside = str(path / "a" if path.suffix in (".h5", ".hdf5") else path)
            more = ["--labels"] if kind == "labels" else []
            return ["warp", inside, *still, *more, "--reference", inside, "-o", str(folder / "moved.nii.gz")]
        case "series":
            return ["warp", str(path), *still, "--reference", str(path), "-o", str(folder / "moved.nii.gz")]
        case "surface":
            return ["warp", str(path), "--points", *still, "-o", str(folder / f"moved{path.suffix}")]
        case "transform":
            return ["warp", points, "--points", "--transform", str(path), "-o", str(folder / "moved.csv")]
        case "points":
            return ["warp", str(path), "--points", *still, "-o", str(folder / "moved.csv")]
    return []


def damaged(data: bytes, suffix: str, draw: random.Random) -> bytes:
    """Changes bytes of a file, of a compressed one half the times inside the compression; header or body."""
    squeeze = SQUEEZE.get(suffix)
    reach = draw.choice((352, 4096, len(data)))
    if draw.random() < 0.1:
        return data[: draw.randrange(len(data))]
    if squeeze and draw.random() < 0.5:
        return squeeze[0](mutated(squeeze[1](data), draw, reach))
    return mutated(data, draw, reach)


def main(count: int, seed: int) -> int:
    draw, ended = random.Random(seed), {"read": Counter(), "refused": Counter(), "foreign": Counter()}
    commands, slowest, started = 0, (0.0, ""), time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Transform.linear(np.eye(4)).save(folder / "still.tfm")
        (folder / "sound.csv").write_text("x,y,z\n1,2,3\n")
        Image(np.arange(60, dtype="float32").reshape(5, 4, 3), GRID.affine).save(folder / "sound.nii")
        kinds = sound_files(folder)
        sound = {name: path.read_bytes() for name, (path, _) in kinds.items()}
        for path, kind in kinds.values():
            read(path, kind)
        for i in range(count):
            name = list(kinds)[i % len(kinds)]
            path, kind = kinds[name]
            path.write_bytes(damaged(sound[name], path.suffix, draw))
            begun = time.perf_counter()
            with hushed() as said, warnings.catch_warnings():
                warnings.simplefilter("always")
                try:
                    ended[by_python(path, kind)][name] += 1
                    asked = command(path, kind, folder) if i // len(kinds) % EVERY == 0 else []
                    if asked:
                        commands += 1
                        check_command(asked, path.read_bytes())
                except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
                    cause = error.__cause__ or error
                    ended["foreign"][f"{name}: {type(cause).__name__}: {' '.join(str(cause).split())[:200]}"] += 1
                if said():
                    ended["foreign"][f"{name} on standard error: {' '.join(said().split())[:200]}"] += 1
            slowest = max(slowest, (time.perf_counter() - begun, name))
            path.write_bytes(sound[name])
    status = Path("/proc/self/status").read_text()  # Linux counts KiB
    report = {"inputs": count, "commands": commands, "seconds": time.perf_counter() - started, "slowest": slowest}
    print(json.dumps(report | ended | {"peak_gib": int(status.split("VmHWM:")[1].split()[0]) / 2**20}))
    return int(bool(ended["foreign"]))


def by_python(path: Path, kind: str) -> str:
    try:
        read(path, kind)
    except RegzooError:
        return "refused"
    return "read"


if __name__ == "__main__":
    sys.exit(main(*map(int, (*sys.argv[1:], *(COUNT, SEED)[len(sys.argv) - 1 :]))))
