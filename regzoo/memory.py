"""How much memory there is, and whether what is about to be done fits into it: a forecast, before the work is done."""

import os
import sys
from pathlib import Path

_KB = 1024
_GROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)
"""What a container or a batch job may take, what it has taken, and of what: of cgroups 2 and 1."""


def free() -> int | None:
    """Returns the bytes of memory that a process may still take; where that is not told, all that there are, or None.

    Linux tells what is free, also of a container's or a job's share; macOS and Windows what there is.
    """
    told = [_of_machine(), *(_of_group(*files) for files in _GROUPS)]
    return min((each for each in told if each is not None), default=None)


def doubt(needed: float, advice: str) -> list[str]:
    """Says that something will probably not fit.

    Args:
        needed: Bytes that it takes, about.
        advice: What to do then, a sentence.

    Returns:
        One sentence and the advice; nothing where it fits, or where nothing is known of the memory.
    """
    have = free()
    if have is None or needed <= have:
        return []
    return [f"This takes about {needed / 1e9:.1f} GB of memory, and {have / 1e9:.1f} GB are free. {advice}"]


def _of_machine() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            name, _, amount = line.partition(":")
            if name == "MemAvailable":
                return int(amount.split()[0]) * _KB
    except (OSError, ValueError):
        pass
    return _of_windows() if sys.platform == "win32" else _installed()


def _installed() -> int | None:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _of_windows() -> int | None:
    import ctypes

    class Status(ctypes.Structure):
        """MEMORYSTATUSEX."""

        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "free", "pages", "pages_free", "space", "space_free")),
            ("extended", ctypes.c_ulonglong),
        )

    status = Status(length=ctypes.sizeof(Status))
    known = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
    return int(status.free) if known else None


def _of_group(limit: str, used: str, kinds: str) -> int | None:
    try:
        values = [int(Path(each).read_text(encoding="ascii")) for each in (limit, used)]
        rows = (line.split() for line in Path(kinds).read_text(encoding="ascii").splitlines())
        files = sum(int(row[1]) for row in rows if row[0] == "inactive_file")  # read before, given up when asked for
    except (OSError, ValueError, IndexError):  # no such group, or "max"
        return None
    return max(values[0] - values[1] + files, 0)
