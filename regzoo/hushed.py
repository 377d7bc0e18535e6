"""What libraries say while a file is read, in C and C++ on standard error or as Python's warnings: kept, not shown."""

import contextlib
import os
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

_LOCK = threading.RLock()
"""Two threads that each put back what they found would leave what the second one set in place for good."""


@contextlib.contextmanager
def hushed() -> Iterator[Callable[[], str]]:
    """Keeps what is written on standard error meanwhile, by any thread and by Python too; yields what gives it.

    Only for calls of a library in C or C++.
    """
    with _LOCK, _place() as told:
        try:
            kept = os.dup(2)
        except OSError:  # a process without one
            yield str
            return
        try:
            os.dup2(told.fileno(), 2)
            yield lambda: _text(told)
        finally:
            os.dup2(kept, 2)
            os.close(kept)


@contextlib.contextmanager
def noted() -> Iterator[list[str]]:
    """Keeps Python's warnings meanwhile, of any thread; yields their texts, which are there at the end."""
    texts: list[str] = []
    with _LOCK, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield texts
        texts += [str(each.message) for each in caught]


def _place() -> BinaryIO:
    try:
        return tempfile.TemporaryFile()
    except OSError:  # nowhere to write
        return Path(os.devnull).open("r+b")


def _text(told: BinaryIO) -> str:
    told.seek(0)
    return told.read(2**20).decode(errors="replace")
