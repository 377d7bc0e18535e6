"""The header of a DICOM file by pydicom, the extra `itk`; what it says of a person is told to nobody."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regzoo.errors import RegzooError, invalid
from regzoo.hushed import noted
from regzoo.io.extras import needed

_DEFLATED = "1.2.840.10008.1.2.1.99"
_OPEN_ENDED = 0xFFFFFFFF
_DAMAGED = "a header that is damaged or cut"
_LATER = 2**12
"""Bytes of a value above which it is read when it is asked for."""


def read_header(file: Path) -> Any:
    """Returns pydicom's data set of a file, without its pixels.

    Raises:
        InvalidError: If it is compressed as a whole, and may be of any size.
        ValueError: If it is damaged.
        MissingError: If pydicom is not installed.
    """
    pydicom = needed("pydicom", "itk")
    size = file.stat().st_size
    try:
        with quiet():
            if pydicom.filereader.read_file_meta_info(file).get("TransferSyntaxUID") == _DEFLATED:
                advice = "Write it anew by dcmconv."
                raise invalid(file.name, "a header that is not compressed", "a deflated one", advice)
            data = pydicom.dcmread(file, defer_size=_LATER)
            whole = len(data) > 0 and all(_is_whole(each, size) for each in (data.file_meta, data))
    except (RegzooError, OSError):
        raise
    except Exception:  # noqa: BLE001 - pydicom has no error of its own for what is damaged
        raise ValueError(_DAMAGED) from None  # whose texts may name values, which may be those of a person
    if not whole:
        raise ValueError(_DAMAGED)
    data.pop("PixelData", None)
    return data


def _is_whole(data: Any, size: int) -> bool:
    """Tells whether all elements are of kinds that exist, and none says that it is longer than what is there of it.

    GDCM, which reads the pixels, asks for that much memory first, and that may be gigabytes.
    """
    kinds = {None, *needed("pydicom", "itk").valuerep.VR}
    for tag, element in [*data.items()]:
        length = getattr(element, "length", _OPEN_ENDED)  # what was read already has none
        if element.VR not in kinds:
            return False
        if length != _OPEN_ENDED:
            there = size - element.value_tell if element.value is None else len(element.value)
            if there < length:
                return False
        if element.VR == "SQ" and not all(_is_whole(item, size) for item in data[tag].value):
            return False
    return True


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides what pydicom warns of: it names values of the header, which may be those of a person."""
    with noted():
        yield
