"""regzoo: pretrained medical image registration models under TensorFlow, PyTorch and JAX.

Public names and rooms are loaded on first use, so that `import regzoo` costs nothing.
"""

import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from regzoo import installed

if TYPE_CHECKING:
    from regzoo import hub, layers, losses, models, ops
    from regzoo.hub import models as list
    from regzoo.models.saving import save
    from regzoo.models.zoo import load
    from regzoo.points.registration import register_points
    from regzoo.registration.candidates import candidates
    from regzoo.registration.cohort import cohort
    from regzoo.registration.evaluation import evaluate
    from regzoo.registration.network_input import network_input
    from regzoo.registration.register import register
    from regzoo.registration.template import template
    from regzoo.schema.recipe import Recipe
    from regzoo.training.finetune import finetune
    from regzoo.world import metrics
    from regzoo.world.images import Image
    from regzoo.world.transforms import Transform

__version__ = "0.1.0"
__all__ = [
    "Image",
    "Recipe",
    "Transform",
    "__version__",
    "candidates",
    "cohort",
    "evaluate",
    "finetune",
    "hub",
    "layers",
    "list",
    "load",
    "losses",
    "metrics",
    "models",
    "network_input",
    "ops",
    "register",
    "register_points",
    "save",
    "template",
]

_LIGHT = {
    "Image": "world.images:Image",
    "Recipe": "schema.recipe:Recipe",
    "Transform": "world.transforms:Transform",
    "candidates": "registration.candidates:candidates",
    "hub": "hub",
    "list": "hub:models",
    "metrics": "world.metrics",
    "network_input": "registration.network_input:network_input",
    "register_points": "points.registration:register_points",
}
_WITH_KERAS = {
    "cohort": "registration.cohort:cohort",
    "evaluate": "registration.evaluation:evaluate",
    "finetune": "training.finetune:finetune",
    "layers": "layers",
    "load": "models.zoo:load",
    "losses": "losses",
    "models": "models",
    "ops": "ops",
    "register": "registration.register:register",
    "save": "models.saving:save",
    "template": "registration.template:template",
}

installed.choose()


if not TYPE_CHECKING:  # to a type checker, a name that is not above would be found here

    def __getattr__(name: str) -> object:
        home = _LIGHT.get(name) or _WITH_KERAS.get(name)
        if home is None:
            raise AttributeError(f"module 'regzoo' has no attribute '{name}'")
        if name in _WITH_KERAS:
            importlib.import_module("regzoo.backend")  # first, since it keeps the backend's start-up chatter away
        module, _, held = home.partition(":")
        found = importlib.import_module(f"regzoo.{module}")
        return getattr(found, held) if held else found


def __dir__() -> Iterable[str]:
    return sorted(__all__)
