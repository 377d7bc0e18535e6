"""A pseudo terminal in the place of stderr, and what a program shows on it."""

import contextlib
import os
import re
import sys
import threading

import pytest


@contextlib.contextmanager
def terminal(monkeypatch, columns=80):
    """Makes sys.stderr a terminal; gives a list that has the text that was shown on it, once the block is done."""
    if sys.platform == "win32":
        pytest.skip("Windows has no pseudo terminals of this kind")
    import pty

    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    master, slave = pty.openpty()
    shown, data = [], []
    reader = threading.Thread(target=_read, args=(master, data))
    reader.start()
    try:
        with os.fdopen(slave, "w", encoding="utf-8") as stream, monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", stream)
            yield shown
    finally:
        reader.join()
        os.close(master)
        shown.append(b"".join(data).decode())


def _read(master, data):
    with contextlib.suppress(OSError):  # of the last reader, once nobody writes any more
        while piece := os.read(master, 65536):
            data.append(piece)


def lines(text):
    """Returns each line that was shown, also those that were overwritten, without what colours and moves the cursor."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    return [line for line in re.split(r"[\r\n]+", plain) if line.strip()]
