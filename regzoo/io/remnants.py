"""Temporary folders are named after the process that writes them: once it was killed, the next one removes them."""

import contextlib
import hashlib
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_NAME = re.compile(r"\.(?P<of>.+)-(?P<machine>[0-9a-f]{8})-(?P<pid>\d{1,10})-\w{8}")
_OLD = 3600.0
"""Seconds without a change after which a folder of a dead process goes; another machine may know better meanwhile."""


def prefix(of: str = "regzoo") -> str:
    """Returns how the name of a temporary folder begins: what it is of, this machine and this process."""
    return f".{of}-{machine()}-{os.getpid()}-"


def left(folder: Path, of: str | None = None) -> Iterator[Path]:
    """Yields the temporary folders in a folder whose process is dead, all of them or those of one name."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name) if entry.is_dir(follow_symlinks=False) else None
            if match and of in (None, match["of"]) and match["machine"] == machine() and not _lives(int(match["pid"])):
                yield Path(entry.path)


def sweep(folder: Path) -> None:
    """Removes old temporary folders of dead processes from a folder that is about to be written to."""
    for path in left(folder):
        with contextlib.suppress(OSError):
            if time.time() - max(each.stat().st_mtime for each in (path, *path.iterdir())) > _OLD:
                shutil.rmtree(path, ignore_errors=True)


def machine() -> str:
    """Returns what tells this machine from others that write to the same folder."""
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def _lives(pid: int) -> bool:
    if sys.platform == "win32":  # where os.kill would end it
        import ctypes

        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        handle = kernel.OpenProcess(0x1000, False, pid)  # to ask it for nothing
        if handle:
            kernel.CloseHandle(handle)
        return bool(handle) or ctypes.get_last_error() != 87  # no such process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
