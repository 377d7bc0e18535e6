"""Registration models, built from a config, or around a network of one's own."""

from regzoo import (
    backend,  # noqa: F401 - first, since it keeps start-up chatter away
    layers,  # noqa: F401 - Keras then opens a file that holds one
)
from regzoo.models.base import RegistrationModel
from regzoo.models.building import build, output_of
from regzoo.models.exported import Exported
from regzoo.models.own import NETWORKS, OwnModel

__all__ = ["NETWORKS", "Exported", "OwnModel", "RegistrationModel", "build", "output_of"]
