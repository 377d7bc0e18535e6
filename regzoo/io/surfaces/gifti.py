"""GIFTI surfaces, by nibabel."""

from __future__ import annotations

import base64
import copy
import math
import zlib
from pathlib import Path
from typing import TYPE_CHECKING
from xml.parsers.expat import ParserCreate

import nibabel
import numpy as np
from nibabel.gifti.util import gifti_encoding_codes

from regzoo.errors import invalid
from regzoo.hushed import noted
from regzoo.io.files import atomic_file
from regzoo.io.numbers import whole
from regzoo.io.reading import check_bytes
from regzoo.io.surfaces.surface import Surface

if TYPE_CHECKING:
    from nibabel.gifti import GiftiDataArray, GiftiImage

_LARGEST_NUMBER = 8
"""Bytes, at most, of a number in an array."""
_OPEN = "the file does not say in which system its points are. regzoo takes RAS mm of the scanner."
_POINTS, _SCANNER = "NIFTI_INTENT_POINTSET", "NIFTI_XFORM_SCANNER_ANAT"


def read(path: Path, _lps: bool) -> Surface:
    """Reads a surface, whose points are in RAS."""
    data = path.read_bytes()
    _check_arrays(path.name, data)
    with noted() as warned:
        file = nibabel.gifti.GiftiImage.from_bytes(data)  # which cannot name other files
    if any("no data" in text for text in warned):
        raise ValueError("it has an array without numbers")
    found = file.get_arrays_from_intent(_POINTS)
    if len(found) != 1 or found[0].data.ndim != 2 or found[0].data.shape[1] != 3:
        raise invalid(path.name, "a surface with one set of points", f"{len(found)} of them")
    if found[0].data.dtype.kind not in "iuf":
        raise invalid(path.name, "points in real numbers", found[0].data.dtype)
    remark = _checked_world(path, found[0])
    return Surface(found[0].data.astype(np.float64), lambda other, points: _write(other, points, file), remark)


def _write(path: Path, points: np.ndarray, like: GiftiImage) -> None:
    file = copy.deepcopy(like)
    for array in file.get_arrays_from_intent("NIFTI_INTENT_VECTOR"):  # normals
        file.remove_gifti_data_array(file.darrays.index(array))
    (array,) = file.get_arrays_from_intent(_POINTS)
    array.data, array.datatype = points.astype(np.float32), nibabel.nifti1.data_type_codes["float32"]
    with atomic_file(path) as temporary:
        nibabel.save(file, temporary)


def _check_arrays(name: str, data: bytes) -> None:
    """Refuses arrays that unpack to more than they tell of, or to more than memory holds, before nibabel unpacks them.

    Raises:
        Exception: Whatever is wrong with the file.
    """
    arrays, parser = _Arrays(name), ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = arrays.start, arrays.end
    parser.CharacterDataHandler = arrays.add
    parser.Parse(data, True)


class _Arrays:
    """The arrays of a GIFTI file, one after the other as an XML parser finds them."""

    def __init__(self, name: str) -> None:
        self._name, self._texts, self._packed, self._size, self._sum = name, None, False, 0, 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "DataArray":
            dims = [whole(attributes[f"Dim{axis}"]) for axis in range(min(whole(attributes["Dimensionality"]), 7))]
            self._packed = gifti_encoding_codes.label[attributes["Encoding"]] == "B64GZ"
            self._size = _LARGEST_NUMBER * math.prod(dims)
            self._sum += self._size
            check_bytes(self._name, self._sum)
        self._texts = [] if tag == "Data" else None

    def add(self, text: str) -> None:
        if self._texts is not None and self._packed:
            self._texts.append(text)

    def end(self, tag: str) -> None:
        if tag == "Data" and self._packed:
            unpacked = zlib.decompressobj().decompress(base64.b64decode("".join(self._texts)), self._size + 1)
            if len(unpacked) > self._size:
                raise ValueError("an array unpacks to more than its header tells of")


def _checked_world(path: Path, array: GiftiDataArray) -> str:
    """Returns what a file leaves open of where its points lie.

    Raises:
        InvalidError: If that is elsewhere than in the scanner's coordinates, as with FreeSurfer's own surfaces.
    """
    system = array.coordsys
    name = nibabel.nifti1.xform_codes.niistring[system.dataspace]
    if name == _SCANNER:
        return ""
    centre = [float(array.meta.get(f"VolGeomC_{axis}", 0)) for axis in "RAS"]
    moved = system.xform is not None and not np.allclose(system.xform, np.eye(4))
    if moved or any(centre):
        received = f"points in a system of their own, of which the scanner's is {'xform' if moved else centre} away"
        raise invalid(path.name, "points in scanner coordinates", received, "Convert it: mris_convert --to-scanner.")
    return _OPEN if name == "NIFTI_XFORM_UNKNOWN" else ""
