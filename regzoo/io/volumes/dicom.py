"""DICOM images, CT or MR: a folder of slices, of which one series is one image, or one file; by SimpleITK, extra `itk`.

What has several frames in a file is read by highdicom, the extra `dicom`.
"""

import contextlib
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from regzoo.errors import InvalidError, MissingError, RegzooError, invalid
from regzoo.io.lps import LPS
from regzoo.io.streams import RATIO
from regzoo.io.volumes import itk
from regzoo.io.volumes.dicom_frames import frames
from regzoo.io.volumes.dicom_header import read_header
from regzoo.io.volumes.dicom_slice import ADVICE, AXES, PLACE, SPACING, THICKNESS, Slice, numbers, steps
from regzoo.io.volumes.volume import Format, Volume

_SERIES, _MODALITY, _FRAMES = "0020,000e", "0008,0060", "0028,0008"
_READER = "GDCMImageIO"
_UID = re.compile(r"[0-9]+(\.[0-9]+)+")
_APART = 0.05
"""Of the step between slices: how far a slice may lie from its place, by rounding in the header."""
_STORAGE = "1.2.840.10008.5.1.4.1.1."
_NO_IMAGES = re.compile(r"(4\.2|9\..*|11\..*|66|66\.[1235].*|67|88\..*|104\..*|481\.([3-9]|10).*)")
"""What follows `_STORAGE` for spectra, curves, ways to show an image, registrations, reports, contours and plans."""


def is_dicom(path: Path) -> bool:
    """Tells whether a path is a folder, one series within it, FOLDER/UID, or a DICOM file."""
    if path.is_file():
        with contextlib.suppress(OSError):
            return _has_magic(path)
        return False
    return path.is_dir() or (path.parent.is_dir() and not path.exists() and bool(_UID.fullmatch(path.name)))


def files(path: Path) -> list[Path]:
    """Returns the DICOM files of a folder, or of the folder of FOLDER/UID, in the order of their names; or the file."""
    if path.is_file():
        return [path]
    folder = path if path.is_dir() else path.parent
    return [file for file in sorted(folder.iterdir()) if file.is_file() and _has_magic(file) and _may_be_image(file)]


def series(path: Path) -> list[Path]:
    """Returns the files of the one series of a folder, or of the one that is named, or the file.

    Raises:
        MissingError: If there is none.
        InvalidError: If a folder has several, or a file is damaged.
    """
    return [file for file, _ in _chosen(path)]


def _has_magic(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM" and file.name != "DICOMDIR"


def _may_be_image(file: Path) -> bool:
    """Tells whether a file's class, (0002,0002), is not one of those that hold no image."""
    with file.open("rb") as stream:
        start = stream.read(2**12)
    found = re.search(rb"\x02\x00\x02\x00UI(..)", start[132:], re.DOTALL)
    if found is None:
        return True
    begin = 132 + found.end()
    (length,) = struct.unpack("<H", found[1])
    kind = start[begin : begin + length].decode("ascii", "replace").strip("\0 ")
    return not (kind.startswith(_STORAGE) and _NO_IMAGES.fullmatch(kind.removeprefix(_STORAGE)))


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Volume]:
    yield _volume(path.name, _ordered(path.name, [each for file in _chosen(path) for each in _slices(*file)]))


def _chosen(path: Path) -> list[tuple[Path, object]]:
    """Returns the files of a series, each with SimpleITK's reader of it."""
    found: dict[str, list[tuple[Path, object]]] = {}
    for file in files(path):
        reader = _reader(file)
        found.setdefault(_text(reader, _SERIES), []).append((file, reader))
    if not found and not path.is_dir():
        raise MissingError(f"{path} does not exist.")
    if not found:
        raise invalid(str(path), "an image file, or a folder with the slices of a DICOM series", "a folder without one")
    told = "; ".join(f"{uid} ({_described(each)})" for uid, each in found.items())
    if path.exists():
        if len(found) > 1:
            raise invalid(path.name, "one DICOM series", f"{len(found)}", f"Choose one as FOLDER/UID: {told}.")
        return next(iter(found.values()))
    if path.name not in found:
        raise MissingError(f"{path.parent}: no DICOM series {path.name}. There are: {told}.")
    return found[path.name]


def _described(chosen: list[tuple[Path, object]]) -> str:
    count = sum(_count(reader) for _, reader in chosen)
    return f"{_text(chosen[0][1], _MODALITY)}, {count} slices"


def _reader(file: Path) -> object:
    try:
        read_header(file)
        return itk.opened_by(_READER, file)
    except RegzooError:
        raise
    except ValueError:
        raise InvalidError(f"{file.name} is no readable slice. Mend it, or take it out of the folder.") from None


def _count(reader: object) -> int:
    """Returns how many frames a file has; 1 if it does not say so."""
    text = _text(reader, _FRAMES)
    return int(text) if text.isascii() and text.isdigit() else 1


def _slices(file: Path, reader: object) -> list[Slice]:
    size = reader.GetSize()
    if _count(reader) > 1 or (len(size) > 2 and size[2] > 1) or (_text(reader, _FRAMES) and not _text(reader, PLACE)):
        return frames(file)
    place, turn, spacing = (numbers(file.name, tag, _words(reader, tag)) for tag in (PLACE, AXES, SPACING))
    thickness = numbers(file.name, THICKNESS, _words(reader, THICKNESS))[0] if _text(reader, THICKNESS) else None

    def pixels() -> np.ndarray:  # by a reader of its own, for one that has read keeps what it read
        return itk.simpleitk().GetArrayFromImage(itk.pixels(itk.opened_by(_READER, file))).T.reshape(size[:2])

    axes = steps(file.name, turn, spacing)
    return [Slice(file.name, file, size[:2], itk.dtype_of(reader), place, axes, thickness, pixels)]


def _text(reader: object, tag: str) -> str:
    key = tag.replace(",", "|")
    return reader.GetMetaData(key).strip(" \0") if reader.HasMetaDataKey(key) else ""


def _words(reader: object, tag: str) -> list[str]:
    return [each for each in _text(reader, tag).split("\\") if each]


def _ordered(name: str, slices: list[Slice]) -> list[Slice]:
    """Returns slices in the order of their places, equally far from each other and alike in all else.

    Raises:
        InvalidError: If they are not.
    """
    first = slices[0]
    for each in slices:
        alike = (each.size, each.dtype.shape) == (first.size, first.dtype.shape)
        if not alike or np.abs(each.axes - first.axes).max() > 1e-4 * np.abs(first.axes).max():
            what = f"{first.name} and {each.name}, which differ"
            raise invalid(name, "slices of one size, orientation and spacing", what, "Take others out of the folder.")
    heights = np.array([each.place for each in slices]) @ _normal(first)
    order = np.argsort(heights, kind="stable")
    slices, heights = [slices[place] for place in order], heights[order]
    _check_steps(name, slices, heights)
    return slices


def _check_steps(name: str, slices: list[Slice], heights: np.ndarray) -> None:
    if len(slices) < 2:
        return
    gaps = np.diff(heights)
    usual = np.median(gaps)
    low = int(np.argmin(gaps))
    if gaps[low] <= max(_APART * usual, 1e-4):
        what = f"two at one place ({slices[low].name}, {slices[low + 1].name})"
        one = slices[low].file == slices[low + 1].file
        advice = "It holds several volumes, such as times or echoes. " + ADVICE
        advice = advice if one else "Take repeated ones and other phases out of the folder."
        raise invalid(name, "one slice at each place", what, advice)
    far = int(np.argmax(np.abs(gaps - usual)))
    between = f"between {slices[far].name} and {slices[far + 1].name}"
    missing = round(gaps[far] / usual) - 1
    if abs(gaps[far] - usual) > _APART * usual and missing > 0 and abs(gaps[far] / usual - missing - 1) < 0.1:
        raise invalid(
            name,
            "a whole series",
            f"{missing} missing slice{'s' * (missing > 1)} {between}",
            "Export the series again.",
        )
    places = np.array([each.place for each in slices])
    even = places[0] + np.linspace(0, 1, len(places))[:, None] * (places[-1] - places[0])
    if np.linalg.norm(places - even, axis=1).max() > _APART * usual:
        what = f"steps of {gaps.min():.4g} to {gaps.max():.4g} mm, the most unusual one {between}"
        raise invalid(name, "slices in equal steps on one line", what, ADVICE)


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
            array[..., place] = each.pixels()
        return array

    most = RATIO * sum(file.stat().st_size for file in {each.file for each in slices})
    return Volume((*first.size, count), kind, LPS @ affine, values, most, remark)


SERIES = Format(_open)
