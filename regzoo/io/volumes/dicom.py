"""A folder of DICOM slices, CT or MR: one series of them is one image; by SimpleITK, the extra `itk`."""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regzoo.errors import InvalidError, MissingError, invalid
from regzoo.io.lps import LPS
from regzoo.io.streams import RATIO
from regzoo.io.volumes import itk
from regzoo.io.volumes.volume import Format, Volume

_SERIES, _MODALITY, _PLACE, _AXES, _SPACING, _THICKNESS = (
    "0020|000e",
    "0008|0060",
    "0020|0032",
    "0020|0037",
    "0028|0030",
    "0018|0050",
)
_READER = "GDCMImageIO"
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_APART = 0.05
"""Of the step between slices: how far a slice may lie from its place, by rounding in the header."""
_ADVICE = "Make one NIfTI file of it, by dcm2niix for example."


@dataclass(frozen=True)
class Slice:
    """One file of a series.

    Args:
        file: The file.
        series: The UID of its series.
        modality: Such as `CT`.
        size: Pixels along i and j.
        dtype: The type of a pixel once it is scaled.
        place: Where the first pixel's centre is, in LPS mm, shape (3,).
        axes: A step of one pixel along i and j, in LPS mm, shape (3, 2).
        thickness: mm; None if it is not known.
    """

    file: Path
    series: str
    modality: str
    size: tuple[int, ...]
    dtype: np.dtype
    place: np.ndarray
    axes: np.ndarray
    thickness: float | None


def is_series(path: Path) -> bool:
    """Tells whether a path is a folder, or one series within it, FOLDER/UID."""
    return path.is_dir() or (path.parent.is_dir() and not path.exists() and bool(_UID.fullmatch(path.name)))


def files(path: Path) -> list[Path]:
    """Returns the DICOM files of a folder, or of the folder of FOLDER/UID, in the order of their names."""
    folder = path if path.is_dir() else path.parent
    return [file for file in sorted(folder.iterdir()) if file.is_file() and _is_dicom(file)]


def _is_dicom(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM" and file.name != "DICOMDIR"


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Volume]:
    with itk.told():
        yield _volume(path.name, _ordered(path.name, _chosen(path)))


def _chosen(path: Path) -> list[Slice]:
    """Returns the slices of the one series of a folder, or of the one that is named."""
    found: dict[str, list[Slice]] = {}
    for file in files(path):
        each = _slice(file)
        found.setdefault(each.series, []).append(each)
    if not found and not path.is_dir():
        raise MissingError(f"{path} does not exist.")
    if not found:
        raise invalid(str(path), "an image file, or a folder with the slices of a DICOM series", "a folder without")
    told = "; ".join(f"{uid} ({each[0].modality}, {len(each)} slices)" for uid, each in found.items())
    if path.is_dir():
        if len(found) > 1:
            raise invalid(path.name, "one DICOM series", f"{len(found)}", f"Choose one as FOLDER/UID: {told}.")
        return next(iter(found.values()))
    if path.name not in found:
        raise MissingError(f"{path.parent}: no DICOM series {path.name}. There are: {told}.")
    return found[path.name]


def _slice(file: Path) -> Slice:
    try:
        reader = itk.opened_by(_READER, file)
    except RuntimeError:
        raise InvalidError(f"{file.name} is no readable slice. Mend it, or take it out of the folder.") from None
    place, turn, spacing = (
        _numbers(file, reader, tag, count) for tag, count in ((_PLACE, 3), (_AXES, 6), (_SPACING, 2))
    )
    size = reader.GetSize()
    if len(size) > 2 and size[2] > 1:
        raise invalid(file.name, "one slice a file", f"{size[2]} frames", _ADVICE)
    along = turn.reshape(2, 3)
    if np.abs(along @ along.T - np.eye(2)).max() > 1e-3 or not (spacing > 0).all():
        raise InvalidError(f"{file.name}: its axes or its spacing are damaged. {_ADVICE}")
    axes = along.T * spacing[::-1]  # the header has the step from row to row first
    thickness = _numbers(file, reader, _THICKNESS, 1)[0] if _text(reader, _THICKNESS) else None
    series, modality = _text(reader, _SERIES), _text(reader, _MODALITY)
    return Slice(file, series, modality, size[:2], itk.dtype_of(reader), place, axes, thickness)


def _text(reader: object, tag: str) -> str:
    return reader.GetMetaData(tag).strip(" \0") if reader.HasMetaDataKey(tag) else ""


def _numbers(file: Path, reader: object, tag: str, count: int) -> np.ndarray:
    """Returns the numbers of a tag."""
    words = {_PLACE: "place", _AXES: "axes", _SPACING: "pixel spacing", _THICKNESS: "thickness"}
    text = _text(reader, tag)
    try:
        values = np.array([float(each) for each in text.split("\\")])
    except ValueError:
        values = np.zeros(0)
    if len(values) != count or not np.isfinite(values).all():
        raise invalid(
            f"{words[tag]} of {file.name}", f"{count} numbers ({tag.replace('|', ',')})", f"'{text}'", _ADVICE
        )
    return values


def _ordered(name: str, slices: list[Slice]) -> list[Slice]:
    """Returns slices in the order of their places, equally far from each other and alike in all else.

    Raises:
        InvalidError: If they are not.
    """
    first = slices[0]
    for each in slices:
        alike = (each.size, each.dtype.shape) == (first.size, first.dtype.shape)
        if not alike or np.abs(each.axes - first.axes).max() > 1e-4 * np.abs(first.axes).max():
            what = f"{first.file.name} and {each.file.name}, which differ"
            raise invalid(name, "slices of one size, orientation and spacing", what, "Take others out of the folder.")
    heights = np.array([each.place for each in slices]) @ _normal(first)
    order = np.argsort(heights, kind="stable")
    slices, heights = [slices[place] for place in order], heights[order]
    _check_steps(name, slices, heights)
    return slices


def _check_steps(name: str, slices: list[Slice], heights: np.ndarray) -> None:
    if len(slices) < 2:
        return
    steps = np.diff(heights)
    usual = np.median(steps)
    low = int(np.argmin(steps))
    if steps[low] <= max(_APART * usual, 1e-4):
        what = f"two at one place ({slices[low].file.name}, {slices[low + 1].file.name})"
        raise invalid(name, "one slice at each place", what, "Take repeated ones and other phases out of the folder.")
    far = int(np.argmax(np.abs(steps - usual)))
    between = f"between {slices[far].file.name} and {slices[far + 1].file.name}"
    missing = round(steps[far] / usual) - 1
    if abs(steps[far] - usual) > _APART * usual and missing > 0 and abs(steps[far] / usual - missing - 1) < 0.1:
        raise invalid(name, "a whole series", f"{missing} missing slices {between}", "Export the series again.")
    places = np.array([each.place for each in slices])
    even = places[0] + np.linspace(0, 1, len(places))[:, None] * (places[-1] - places[0])
    if np.linalg.norm(places - even, axis=1).max() > _APART * usual:
        what = f"steps of {steps.min():.4g} to {steps.max():.4g} mm, the most unusual one {between}"
        raise invalid(name, "slices in equal steps on one line", what, _ADVICE)


def _normal(each: Slice) -> np.ndarray:
    normal = np.cross(*each.axes.T)
    return normal / np.linalg.norm(normal)


def _volume(name: str, slices: list[Slice]) -> Volume:
    first, last, count = slices[0], slices[-1], len(slices)
    remark, step = "", (last.place - first.place) / max(count - 1, 1)
    if count == 1:
        step = _normal(first) * (first.thickness or 1.0)
        remark = (
            "" if first.thickness else "the header of the one slice does not say how thick it is. regzoo takes 1 mm."
        )
    affine = np.eye(4)
    affine[:3] = np.column_stack([first.axes, step, first.place])
    kind = np.result_type(*(each.dtype for each in slices)) if not first.dtype.shape else first.dtype

    def values(_volume: int | None) -> np.ndarray:
        array = np.empty((*first.size, count), kind)
        for place, each in enumerate(slices):
            pixels = itk.simpleitk().GetArrayFromImage(itk.opened_by(_READER, each.file).Execute())
            array[..., place] = pixels.T.reshape(first.size)
        return array

    most = RATIO * sum(each.file.stat().st_size for each in slices)
    return Volume((*first.size, count), kind, LPS @ affine, values, most, remark)


SERIES = Format(_open)
