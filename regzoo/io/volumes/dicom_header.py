"""The header of a DICOM file by pydicom, the extra `dicom`; what it says of a person is told to nobody."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regzoo.errors import invalid
from regzoo.io.extras import needed

_DEFLATED = "1.2.840.10008.1.2.1.99"


def read_header(file: Path, *, pixels: bool = False) -> Any:
    """Returns pydicom's data set of a file.

    Args:
        file: The file.
        pixels: Whether its pixels are read too.

    Raises:
        InvalidError: If it is compressed as a whole, and may be of any size.
        MissingError: If pydicom is not installed.
    """
    pydicom = needed("pydicom", "dicom")
    with quiet():
        if pydicom.filereader.read_file_meta_info(file).get("TransferSyntaxUID") == _DEFLATED:
            raise invalid(file.name, "a header that is not compressed", "a deflated one", "Write it anew by dcmconv.")
        return pydicom.dcmread(file, stop_before_pixels=not pixels)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hides what pydicom warns of: it names values of the header, which may be those of a person."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
