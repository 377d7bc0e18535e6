"""What a file of a stranger can do wrong while it is read, in one place."""

import contextlib
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, HeaderTypeError

from regzoo.errors import InvalidError, RegzooError

_UNREADABLE = (
    *(OSError, EOFError, ValueError, TypeError, LookupError, OverflowError, MemoryError, zlib.error, struct.error),
    *(ImageFileError, HeaderDataError, HeaderTypeError),
)


def shown(path: Path) -> str:
    """Returns what a file is called in an error: its name, or FILE.h5/KEY of what lies within a file."""
    return f"{path.parent.name}/{path.name}" if path.parent.is_file() else path.name


@contextlib.contextmanager
def readable(path: Path, kind: str = "image") -> Iterator[None]:
    """Turns whatever a reader raises into the error for a file that is no such `kind`, or damaged."""
    try:
        yield
    except RegzooError:
        raise
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InvalidError(
            f"{shown(path)} is not a readable {kind}, or it is damaged: {reason.rstrip('.')}."
        ) from error


def by_suffix(name: str, known: dict[str, object]) -> object | None:
    """Returns what a dict has for the longest of its suffixes that a file's name ends in; None without one."""
    return next((known[each] for each in sorted(known, key=len, reverse=True) if name.lower().endswith(each)), None)
