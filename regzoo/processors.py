"""How many processors there are, and how each backend is told before its import to take so many."""

import os
from pathlib import Path


def processors() -> int:
    """Returns how many threads a process may take: OMP_NUM_THREADS where it is set, else the processors it may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    if given.isdecimal() and int(given):
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads(count: int) -> dict[str, str]:
    """Returns the variables of the environment by which a backend takes so many threads."""
    names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "NPROC")  # the last is JAX's
    return dict.fromkeys(names, str(count))


def has_bfloat16() -> bool | None:
    """Tells whether the processor computes in bfloat16 by itself (AMX or AVX-512); None where nothing tells."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    flags = next((line.split() for line in told.splitlines() if line.startswith("flags")), None)
    return None if flags is None else bool({"amx_bf16", "avx512_bf16"} & set(flags))
