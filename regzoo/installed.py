"""Which backend is installed. It is chosen when regzoo is imported, before Keras is, which would take TensorFlow."""

import importlib.util
import json
import os
import sys
from pathlib import Path

from regzoo.errors import MissingError

BACKENDS = ("tensorflow", "torch", "jax")
ADVICE = "Run pip install 'regzoo[tensorflow]' (or [torch], [jax]), or set KERAS_BACKEND to one that is installed."


def choose() -> None:
    """Sets KERAS_BACKEND to a backend that is installed, where nobody chose one and Keras would take an absent one.

    And lets TensorFlow take oneDNN's convolutions. By itself it does so only on some processors; on others too they are
    twice as fast.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # which TensorFlow reads when it is imported
    if os.environ.get("KERAS_BACKEND") or "keras" in sys.modules or _is_installed(_default()):
        return
    found = next(filter(_is_installed, BACKENDS), None)
    if found:
        os.environ["KERAS_BACKEND"] = found


def _default() -> str:
    """Returns the backend that Keras takes by itself: the one of its settings file, else TensorFlow."""
    try:
        home = Path.home() if os.access(Path.home(), os.W_OK) else Path("/tmp")
        path = Path(os.environ.get("KERAS_HOME", home / ".keras"), "keras.json").expanduser()
        return json.loads(path.read_text(encoding="utf-8")).get("backend", BACKENDS[0])
    except (OSError, ValueError, AttributeError, RuntimeError):  # the last: of a user who is not there
        return BACKENDS[0]


def _is_installed(name: str) -> bool:
    spec = importlib.util.find_spec(name) if name in BACKENDS else None
    return spec is not None and spec.origin is not None  # a folder of that name has no origin


def missing(error: ModuleNotFoundError) -> Exception:
    """Returns the error for the user where a backend is what could not be imported, else the error itself."""
    return MissingError(f"{error.name} is not installed. {ADVICE}") if error.name in BACKENDS else error
