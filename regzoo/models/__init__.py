"""Registration models, built from a config."""

from regzoo.models.base import RegistrationModel
from regzoo.models.building import build, output_of

__all__ = ["RegistrationModel", "build", "output_of"]
