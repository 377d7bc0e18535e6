"""X5, the transforms in HDF5 of NiTransforms, in RAS: a matrix, a field, or a chain of them."""

from pathlib import Path

import h5py
import numpy as np

from regzoo.errors import invalid
from regzoo.io.files import atomic_file
from regzoo.io.hdf5 import array, member, most, numbers, opened, text
from regzoo.io.reading import check_size, check_voxels
from regzoo.io.transforms.step import Format, Step, check_count

_KINDS = "a matrix (linear) or a field (nonlinear, densefield, displacements)"


def _read(path: Path) -> list[Step]:
    with opened(path, "transform", texts=True) as file:
        if file.attrs.get("Format") != "X5":
            raise ValueError("its Format is not X5")
        groups, found = member(file, "TransformGroup"), {}
        chain = _chain(file, groups, path)
        check_count(len(chain))
        for name in chain:  # in which one may stand twice
            taken = sum(step[0].nbytes for step in found.values() if isinstance(step, tuple))
            found[name] = found[name] if name in found else _step(member(groups, name), path, taken)
        return [found[name] for name in chain]


def _chain(file: h5py.File, groups: h5py.Group, path: Path) -> list[str]:
    """Returns the names of the transforms in the order in which they are applied to a point."""
    chains = member(file, "TransformChain") if "TransformChain" in file else {}
    if len(chains) > 1 or (len(groups) != 1 and not chains):
        received = f"{len(groups)} transforms and {len(chains)} chains"
        raise invalid(path.name, "one transform, or one chain of them", received)
    if not chains:
        return [*groups]
    return text(chains, next(iter(chains))).split("/")


def _step(group: h5py.Group, path: Path, taken: int) -> Step:
    kind = [group.attrs.get(key) for key in ("Type", "SubType", "Representation")]
    values = array(group, "Transform")
    if values.dtype.kind not in "iuf":
        raise ValueError("its Transform is no array of numbers")
    if kind[0] == "linear" and values.shape in ((4, 4), (1, 4, 4)):
        return values[()].reshape(4, 4).astype(np.float64)
    if kind != ["nonlinear", "densefield", "displacements"] or "Domain" not in group:
        raise invalid(path.name, _KINDS, f"{' '.join(map(str, kind))} of shape {values.shape}")
    size, affine = (array(member(group, "Domain"), key) for key in ("Size", "Mapping"))
    if any(each.dtype.kind not in "iuf" for each in (size, affine)):
        raise ValueError("its domain is not said in numbers")
    if size.shape != (3,) or affine.shape != (4, 4) or values.shape != (*size[()].tolist(), 3):
        raise ValueError(f"its domain is not that of displacements of shape {values.shape}")
    check_voxels(path.name, values.shape[:3])
    check_size(path.name, values.shape, values.dtype, most(values), "transform")
    return numbers(path.name, values, np.dtype(np.float32), taken), affine[()].astype(np.float64)


def _write(path: Path, steps: list[Step]) -> None:
    with atomic_file(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["Format"], file.attrs["Version"] = "X5", np.uint16(1)
        for number, step in enumerate(steps):
            _add(file.create_group(f"TransformGroup/{number}"), step)
        if len(steps) > 1:
            file["TransformChain/0"] = "/".join(str(number) for number in range(len(steps)))


def _add(group: h5py.Group, step: Step) -> None:
    matrix = isinstance(step, np.ndarray)
    kind = ("linear", "affine", "matrix") if matrix else ("nonlinear", "densefield", "displacements")
    group.attrs.update(dict(zip(("Type", "SubType", "Representation"), kind, strict=True)))
    group.attrs["ArrayLength"] = 1
    group["DimensionKinds"] = np.array(["space", "space", "space", "vector"], dtype="S")
    if matrix:
        group["Transform"] = step
        return
    vectors, affine = step
    group.create_dataset("Transform", data=vectors, compression=1, shuffle=True)
    group["Domain/Grid"], group["Domain/Size"], group["Domain/Mapping"] = np.uint8(1), vectors.shape[:3], affine
    group["Domain"].attrs["Coordinates"] = "cartesian"


X5 = Format(
    _read,
    write_matrix=lambda matrix, path: _write(path, [matrix]),
    write_field=lambda vectors, affine, path: _write(path, [(vectors, affine)]),
    write_both=lambda matrix, vectors, affine, path: _write(path, [(vectors, affine), matrix]),
)
