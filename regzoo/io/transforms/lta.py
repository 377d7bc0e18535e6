"""FreeSurfer's linear transforms, .lta: from the moving image (src) to the fixed one (dst), in RAS mm or in voxels."""

from pathlib import Path

import numpy as np

from regzoo.errors import invalid
from regzoo.io.files import atomic_file
from regzoo.io.numbers import number, numbers, whole
from regzoo.io.transforms.step import Format, Images, Lattice, Step, check_matrix
from regzoo.io.yaml_json import read_text

_LIMIT = 2**20
_VOXELS, _RAS = 0, 1
_KINDS = {_VOXELS: "LINEAR_VOX_TO_VOX", _RAS: "LINEAR_RAS_TO_RAS"}
_HEADS = ("src volume info", "dst volume info")


def _read(path: Path) -> list[Step]:
    text = read_text(path, _LIMIT)
    if not text.endswith("\n"):
        raise ValueError("its last line has no end, as if it were cut")
    told, rows = _parsed(text)
    kind = whole(_value(told, "type"))
    if kind not in _KINDS or whole(_value(told, "nxforms")) != 1:
        expected = "one transform of type 1 (LINEAR_RAS_TO_RAS) or 0 (LINEAR_VOX_TO_VOX)"
        raise invalid(path.name, expected, f"{told['nxforms']} of type {kind}", "Convert it: lta_convert --outlta.")
    if [len(row) for row in rows] != [4, 4, 4, 4]:
        raise ValueError("expected four rows of four numbers")
    matrix = np.array([[number(each) for each in row] for row in rows])
    check_matrix(path.name, matrix)
    heads = [head for head in _HEADS if head in told]
    affines = [_affine(told, head, path) for head in heads if kind == _VOXELS or _value(told, f"{head} valid") == "1"]
    if len(heads) == 1 or (kind == _VOXELS and not heads):
        raise ValueError(f"it tells of the voxels of {len(heads)} images, expected 2")
    if kind == _VOXELS:
        source, target = affines
        matrix = target @ matrix @ np.linalg.inv(source)
    return [np.linalg.inv(matrix)]


def _parsed(text: str) -> tuple[dict[str, str], list[list[str]]]:
    """Returns what is written as `key = value`, that of an image with its heading in front, and the matrix."""
    told, rows, head, wanted = {}, [], "", 0
    for line in filter(None, (line.partition("#")[0].strip() for line in text.splitlines())):
        key, equals, value = (part.strip() for part in line.partition("="))
        if wanted:
            rows, wanted = [*rows, line.split()], wanted - 1
        elif line in _HEADS:
            head, told[line] = f"{line} ", ""
        elif equals and head + key not in told:
            told[head + key] = value
        elif line == "1 4 4" and not rows:
            wanted = 4
        elif line.split()[0] not in ("subject", "fscale"):
            raise ValueError(f"the line '{line[:40]}' is out of place")
    return told, rows


def _value(told: dict[str, str], key: str) -> str:
    if key not in told:
        raise ValueError(f"it has no '{key}'")
    return told[key]


def _affine(told: dict[str, str], head: str, path: Path) -> np.ndarray:
    """Returns the affine of an image as its geometry says: the middle of the voxels lies at cras."""
    if told.get(f"{head} valid") != "1":
        raise invalid(path.name, f"a valid '{head}', for it counts in voxels", told.get(f"{head} valid", "none"))
    names = ("volume", "voxelsize", "xras", "yras", "zras", "cras")
    told_of = {name: numbers(_value(told, f"{head} {name}")) for name in names}
    size, spacing, *axes, centre = told_of.values()
    counts = (size >= 1).all() and (size == np.rint(size)).all()
    if any(len(each) != 3 for each in told_of.values()) or not counts:
        raise ValueError(f"its {head} has other numbers than three for each of {', '.join(names)}")
    affine = np.eye(4)
    affine[:3, :3] = np.stack(axes, axis=1) * spacing
    affine[:3, 3] = centre - affine[:3, :3] @ size / 2
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-12:
        raise invalid(path.name, f"a '{head}' that can be inverted", affine.tolist())
    return affine


def _write(matrix: np.ndarray, path: Path, images: Images) -> None:
    rows = [" ".join(f"{value:.15e}" for value in row) for row in np.linalg.inv(matrix)]
    lines = [f"type      = {_RAS} # {_KINDS[_RAS]}", "nxforms   = 1", "mean      = 0.0 0.0 0.0", "sigma     = 1.0"]
    lines += ["1 4 4", *rows, _HEADS[0], *_geometry(images.moving, "moving")]
    lines += [_HEADS[1], *_geometry(images.fixed, "fixed"), "subject unknown", "fscale 0.100000", ""]
    with atomic_file(path) as temporary:
        temporary.write_text("\n".join(lines), encoding="ascii", newline="\n")


def _geometry(image: Lattice, name: str) -> list[str]:
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
    centre = image.affine[:3, :3] @ np.array(image.shape) / 2 + image.affine[:3, 3]
    vectors = {
        "voxelsize": spacing,
        **dict(zip(("xras", "yras", "zras"), (image.affine[:3, :3] / spacing).T, strict=True)),
    }
    numbers = {
        key: " ".join(f"{value:.15e}" for value in values) for key, values in {**vectors, "cras": centre}.items()
    }
    head = ["valid = 1  # volume info valid", f"filename = {name}", "volume = {} {} {}".format(*image.shape)]
    return head + [f"{key:<6} = {value}" for key, value in numbers.items()]


LTA = Format(_read, write_between=_write)
