"""The frames of one DICOM file, as enhanced and legacy converted CT and MR have them; by highdicom, the extra `dicom`.

Each is placed by its functional groups, or by those that all of them share.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from regzoo.errors import invalid
from regzoo.io.extras import needed
from regzoo.io.volumes.dicom_header import quiet, read_header
from regzoo.io.volumes.dicom_slice import ADVICE, AXES, PLACE, SPACING, THICKNESS, Slice, numbers, steps

_PLACES, _TURNS, _MEASURES = "PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence"


def frames(file: Path) -> list[Slice]:
    """Returns the frames of a file in its own order.

    Raises:
        InvalidError: If it does not say where each of them is.
        MissingError: If highdicom is not installed.
    """
    needed("highdicom", "dicom")
    with quiet():
        data = read_header(file)
        count, groups = int(data.get("NumberOfFrames") or 1), data.get("PerFrameFunctionalGroupsSequence") or ()
        if len(groups) != count:
            expected = f"the place of each of its {count} frames, as enhanced CT and MR tell them"
            raise invalid(file.name, expected, f"the places of {len(groups)}", ADVICE)
        shared = [*(data.get("SharedFunctionalGroupsSequence") or ())]
        read = functools.cache(lambda: needed("highdicom", "dicom").imread(file))
        return [_frame(file, data, number, [each, *shared], read) for number, each in enumerate(groups, 1)]


def _frame(file: Path, data: object, number: int, groups: list, read: Callable[[], object]) -> Slice:
    name = f"{file.name} frame {number}"
    place, turn, spacing, thickness = (
        _values(groups, *each)
        for each in (
            (_PLACES, "ImagePositionPatient"),
            (_TURNS, "ImageOrientationPatient"),
            (_MEASURES, "PixelSpacing"),
            (_MEASURES, "SliceThickness"),
        )
    )

    def pixels() -> np.ndarray:
        with quiet():
            settings = {"apply_real_world_transform": False, "apply_presentation_lut": False}
            return read().get_frame(number, dtype=np.float64, **settings).T

    kind, samples = np.float32 if data.BitsAllocated <= 16 else np.float64, int(data.SamplesPerPixel)
    return Slice(
        name,
        file,
        (int(data.Columns), int(data.Rows)),
        np.dtype(kind if samples == 1 else (kind, (samples,))),
        numbers(name, PLACE, place),
        steps(name, numbers(name, AXES, turn), numbers(name, SPACING, spacing)),
        numbers(name, THICKNESS, thickness)[0] if thickness else None,
        pixels,
    )


def _values(groups: list, sequence: str, keyword: str) -> list:
    """Returns the values that a frame's own groups have, or else the shared ones; none if neither has them."""
    for group in groups:
        items = group.get(sequence)
        found = items[0].get(keyword) if items else None
        if found is not None:
            return [*np.atleast_1d(found)]
    return []
