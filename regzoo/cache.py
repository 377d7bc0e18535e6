"""Where regzoo keeps what it can get or make again."""

import os
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


def expanded(path: str | os.PathLike) -> Path:
    """Returns a path with a leading `~` or `~user` replaced, where there is such a user; never raises."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no such user
        return Path(path)
