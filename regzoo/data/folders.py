"""DeepReg's layout of data in folders: which image belongs to which, by name.

A folder holds `images`, or `moving_images` and `fixed_images`, and labels likewise: folders of NIfTI files, also in
folders of their own, or HDF5 files of that name (`images.h5`) with one dataset an image. Groups are the folders within
`images`, or X in the HDF5 keys `group-X-Y`. Images are in the order of their names, numbers in them by value.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from regzoo.data.draws import Files
from regzoo.data.tables import PairFiles, Spacing
from regzoo.errors import InvalidError, MissingError, invalid
from regzoo.io import hdf5


@dataclass(frozen=True)
class Layout:
    """The names of what a folder holds, and the millimetres a voxel of its HDF5 files."""

    images: str = "images"
    labels: str | None = "labels"
    spacing: Spacing | None = None


def paired(folder: Path, layout: Layout) -> dict[str, PairFiles]:
    """Returns the pairs of a folder by name.

    Raises:
        RegzooError: If there are no images, an image has no partner, or labels have no image.
    """
    sides = {}
    for side in ("fixed", "moving"):
        sides[side] = _images(folder, f"{side}_{layout.images}", layout)
        sides[f"{side}_labels"] = _labels(folder, f"{side}_", layout, sides[side])
    fixed, moving = sides["fixed"], sides["moving"]
    for one, other, side in ((moving, fixed, "fixed"), (fixed, moving, "moving")):
        for name in one.keys() - other.keys():
            raise InvalidError(f"{one[name]} has no partner of the same name in {folder / side}_{layout.images}.")
    return {
        name: PairFiles(**{side: files.get(name) for side, files in sides.items()}, spacing=layout.spacing)
        for name in fixed
    }


def single(folder: Path, layout: Layout) -> dict[str, Files]:
    """Returns the images of a folder by name.

    Raises:
        RegzooError: If there are no images, or labels have no image.
    """
    images = _images(folder, layout.images, layout)
    labels = _labels(folder, "", layout, images)
    return {name: Files(path, labels.get(name), layout.spacing) for name, path in images.items()}


def grouped(folder: Path, layout: Layout) -> dict[str, list[Files]]:
    """Returns the images of a folder by group, each group in order.

    Raises:
        RegzooError: If there are no images, labels have no image, or an image has no group.
    """
    groups: dict[str, list[Files]] = {}
    for name, files in single(folder, layout).items():
        groups.setdefault(_group(name, files.image), []).append(files)
    return groups


def _group(name: str, path: Path) -> str:
    if path.parent.suffix == ".h5":
        match = re.fullmatch(r"group-([^-]+)-([^-]+)", name)
        if not match:
            raise invalid(f"{path.parent}: key", "group-X-Y", name)
        return match[1]
    group, _, _ = name.rpartition("/")
    if not group:
        raise invalid(str(path), "an image in a folder of its group", "none")
    return group


def _by_number(names: Iterable[str]) -> list[str]:
    """Sorts names with the numbers in them by value: `visit-2` comes before `visit-10`."""
    return sorted(names, key=lambda name: ([_part(text) for text in re.split(r"(\d+)", name)], name))


def _part(text: str) -> tuple[int, str]:
    return (int(text), "") if text.isdecimal() else (-1, text)


def _images(folder: Path, name: str, layout: Layout) -> dict[str, Path]:
    found = _files(folder, name)
    if not found:
        raise MissingError(f"{folder}: no images in a folder '{name}' or a file '{name}.h5'.")
    if layout.spacing is not None and not (folder / f"{name}.h5").is_file():
        raise invalid("data.spacing", f"null, since the NIfTI files in {folder / name} have their own", layout.spacing)
    return found


def _labels(folder: Path, prefix: str, layout: Layout, images: dict[str, Path]) -> dict[str, Path]:
    found = _files(folder, prefix + layout.labels) if layout.labels else {}
    for name in found.keys() - images.keys():
        raise InvalidError(f"{found[name]}: no image of the same name in {folder / prefix}{layout.images}.")
    return found


def _files(folder: Path, name: str) -> dict[str, Path]:
    """Returns the NIfTI files or HDF5 datasets by name, in order; none if there is no such folder or file."""
    directory, file = folder / name, folder / f"{name}.h5"
    if file.is_file() and directory.is_dir():
        raise InvalidError(f"{folder}: expected the folder '{name}' or the file '{name}.h5', received both.")
    if file.is_file():
        return {key: file / key for key in _by_number(hdf5.keys(file))}
    found: dict[str, Path] = {}
    for path in sorted(directory.rglob("*.nii*")):
        relative = path.relative_to(directory)
        if not path.name.endswith((".nii", ".nii.gz")) or any(part.startswith(".") for part in relative.parts):
            continue
        key = relative.as_posix().removesuffix(".gz").removesuffix(".nii")
        if key in found:
            raise InvalidError(f"{path} and {found[key].name} have the same name. Remove one.")
        found[key] = path
    return {key: found[key] for key in _by_number(found)}
