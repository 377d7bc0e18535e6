"""What C and C++ libraries say on standard error, kept from the user."""

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

_LOCK = threading.RLock()
"""Two threads that each put back what they found would leave the stream of the second in place for good."""


@contextlib.contextmanager
def hushed() -> Iterator[Callable[[], str]]:
    """Keeps what is written on standard error meanwhile, by any thread; yields what gives it.

    Only for calls of such a library: a warning of Python's would be lost.
    """
    with _LOCK, _place() as told:
        try:
            kept = os.dup(2)
        except OSError:  # a process without one
            yield str
            return
        os.dup2(told.fileno(), 2)
        try:
            yield lambda: _text(told)
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _place() -> BinaryIO:
    try:
        return tempfile.TemporaryFile()
    except OSError:  # nowhere to write
        return Path(os.devnull).open("r+b")


def _text(told: BinaryIO) -> str:
    told.seek(0)
    return told.read(2**20).decode(errors="replace")
