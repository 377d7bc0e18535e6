"""Where regzoo keeps what it can get or make again."""

import hashlib
import os
import platform
import sys
from pathlib import Path

from regzoo.errors import MissingError


def cache_folder() -> Path:
    """Returns the folder of pulled models: `REGZOO_CACHE`, or the user's cache folder of the system."""
    if os.environ.get("REGZOO_CACHE"):
        return expanded(os.environ["REGZOO_CACHE"])
    if sys.platform == "darwin":
        return _home() / "Library" / "Caches" / "regzoo"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or _home() / "AppData" / "Local") / "regzoo" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache") / "regzoo"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # no HOME, and a user whom the system does not know, as in a container
        raise MissingError("There is no home folder to keep models in. Set REGZOO_CACHE.") from None


def compiled_folder() -> Path | None:
    """Returns where JAX keeps what it compiled, for later processes; None where the user chose otherwise.

    `JAX_COMPILATION_CACHE_DIR` names another folder, and `JAX_ENABLE_COMPILATION_CACHE=false` keeps nothing.
    """
    off = os.environ.get("JAX_ENABLE_COMPILATION_CACHE", "true").lower() in ("0", "false", "f", "no", "n", "off")
    return None if off or os.environ.get("JAX_COMPILATION_CACHE_DIR") else cache_folder() / "compiled"


_KEEP = "--tf_xla_persistent_cache_directory="


def tensorflow_flags(version: str) -> dict[str, str]:
    """Returns `TF_XLA_FLAGS` by which TensorFlow keeps what XLA compiled for a processor, for later processes.

    Nothing where the user says there something of such a folder himself (with none behind the `=`, nothing is kept), or
    where it cannot be written, which TensorFlow would take for an error. What was compiled runs on processors of one
    kind: each kind has a folder, and each version of TensorFlow.

    Args:
        version: TensorFlow's, of a build without GPUs: those are of many kinds, which the folder's name does not tell.
    """
    given = os.environ.get("TF_XLA_FLAGS", "")
    try:
        folder = cache_folder() / "compiled" / f"tensorflow-{version}-{_processor()}"
        folder.mkdir(parents=True, exist_ok=True)
    except (MissingError, OSError):
        return {}
    # Between flags there is a space, and nothing quotes one.
    if _KEEP in given or any(char.isspace() for char in str(folder)) or not os.access(folder, os.W_OK):
        return {}
    return {"TF_XLA_FLAGS": f"{given} {_KEEP}{folder}".strip()}


def _processor() -> str:
    """Returns a name for the kind of processor: of all that it is able to do, where that is told."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = [platform.processor(), platform.node()]
    told = [line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))] or lines
    return hashlib.sha256("\n".join(sorted({*told})).encode()).hexdigest()[:12]


def expanded(path: str | os.PathLike) -> Path:
    """Returns a path with a leading `~` or `~user` replaced, where there is such a user; never raises."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no such user
        return Path(path)
