"""regzoo: pretrained medical image registration models under TensorFlow, PyTorch and JAX.

Public names are loaded on first use, so that `import regzoo` costs nothing.
"""

import importlib

__version__ = "0.1.0"

_HOME = {
    "Image": "world.images",
    "candidates": "registration.candidates",
    "Transform": "world.transforms",
    "Recipe": "schema.recipe",
    "evaluate": "registration.evaluation",
    "finetune": "training.finetune",
    "load": "models.zoo",
    "register": "registration.register",
    "register_points": "points.registration",
}
_WITHOUT_KERAS = ("world.images", "registration.candidates", "world.transforms", "schema.recipe", "points.registration")
__all__ = [
    "Image",
    "Recipe",
    "Transform",
    "__version__",
    "candidates",
    "evaluate",
    "finetune",
    "load",
    "register",
    "register_points",
]


def __getattr__(name: str) -> object:
    if name in _HOME:
        if _HOME[name] not in _WITHOUT_KERAS:
            importlib.import_module("regzoo.backend")  # first, since it keeps the backend's start-up chatter away
        return getattr(importlib.import_module(f"regzoo.{_HOME[name]}"), name)
    raise AttributeError(f"module 'regzoo' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
