"""Exported: what a `.keras` file of a model holds, without its zoo entry."""

import keras

from regzoo.models.base import own_tensors
from regzoo.models.building import build
from regzoo.schema.networks import ModelConfig


@keras.saving.register_keras_serializable("regzoo")
class Exported(keras.Model):
    """A registration model with a config that Keras can save; after `import regzoo.models` Keras loads it again.

    Args:
        config: The `config.json` of the model, as plain values.
        spacing: Millimetres a voxel of its grid, D values.

    Example:
        >>> config = {"backbone": {"name": "unet", "channels": [2, 4]}, "output": {"name": "ddf"}}
        >>> Exported(config, spacing=(1.0, 1.0, 2.0)).save("model.keras")  # `regzoo export` writes one with its weights
        >>> image = keras.ops.ones((1, 16, 12, 8, 1))
        >>> tuple(keras.saving.load_model("model.keras")({"fixed": image, "moving": image})["ddf"].shape)
        (1, 16, 12, 8, 3)
    """

    def __init__(self, config: dict, spacing: tuple[float, ...], **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.settings = {"config": config, "spacing": list(spacing)}
        self.network = build(ModelConfig.model_validate(config), spacing)
        self.built = True

    def call(self, inputs: dict, training: bool | None = None) -> dict:
        """Returns the network's prediction."""
        return own_tensors(self.network(inputs, training=training))

    def get_config(self) -> dict:
        """Returns the arguments that make this model again."""
        return super().get_config() | self.settings
