"""Registration models, built from a config: plain dictionaries map its names to builders."""

from regzoo.config import ModelConfig
from regzoo.models.base import RegistrationModel
from regzoo.models.dense import DenseModel
from regzoo.models.unet import unet

__all__ = ["BACKBONES", "DenseModel", "RegistrationModel", "build"]

BACKBONES = {"unet": unet}


def build(config: ModelConfig, precision: str = "float32") -> RegistrationModel:
    """Builds a registration model with new weights.

    Args:
        config: Backbone, output and dimensions.
        precision: Keras dtype policy of the convolutions; fields and losses stay in float32.

    Returns:
        The model, ready for `supervise`, `compile` and `fit`, or for `load_weights`.
    """
    settings = config.backbone.model_dump(exclude={"name"})
    level = config.output.level
    backbone = BACKBONES[config.backbone.name](dims=config.dims, level=level, dtype=precision, **settings)
    divisor = 2 ** (len(config.backbone.channels) - 1)
    steps = getattr(config.output, "steps", None)
    return DenseModel(backbone, config.dims, divisor, steps, name=config.output.name)
