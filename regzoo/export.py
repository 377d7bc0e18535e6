"""export: a model as a file of Keras or a SavedModel, run once beside the original before it appears."""

import os
from pathlib import Path
from typing import Literal

import keras
import numpy as np
from keras import ops

from regzoo import backend, cards, hub, zoo
from regzoo.checks import InvalidError, RegzooError, invalid
from regzoo.config import ModelConfig
from regzoo.files import atomic_file, atomic_folder
from regzoo.models import build

TOLERANCE = 1e-4
"""The largest difference in voxels between the fields of a model and of its export."""


@keras.saving.register_keras_serializable("regzoo")
class Exported(keras.Model):
    """A registration model with a config that Keras can save; `import regzoo.export` lets Keras load it again.

    Args:
        config: The `config.json` of the model, as plain values.
        spacing: Millimetres a voxel of its grid, D values.
    """

    def __init__(self, config: dict, spacing: tuple[float, ...], **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.settings = {"config": config, "spacing": list(spacing)}
        self.network = build(ModelConfig.model_validate(config), spacing)
        self.built = True

    def call(self, inputs: dict, training: bool | None = None) -> dict:
        """Returns the network's prediction."""
        return self.network(inputs, training=training)

    def get_config(self) -> dict:
        """Returns the arguments that make this model again."""
        return super().get_config() | self.settings


def export(name: str | os.PathLike, output: str | os.PathLike, kind: Literal["keras", "saved-model"]) -> Path:
    """Writes a model for use without its zoo entry; inputs and outputs are those of `RegistrationModel`, in voxels.

    Args:
        name: A model, as `regzoo.load` takes it.
        output: `FILE.keras`, or a folder that does not exist.
        kind: `keras`, or `saved-model` under TensorFlow.

    Returns:
        `output`, whose field on a random pair was equal to the model's.

    Raises:
        RegzooError: If the backend or the name does not fit the kind, or the export gives another field.
    """
    output = Path(output)
    if output.exists():
        raise InvalidError(f"{output} exists. Choose another --output, or remove it.")
    if kind == "keras" and output.suffix != ".keras":
        raise invalid("output", "a name ending in .keras", f"'{output}'")
    if kind == "saved-model" and backend.NAME != "tensorflow":
        raise invalid("format saved-model", "the backend tensorflow", backend.NAME, "Set KERAS_BACKEND=tensorflow.")
    folder = hub.resolve(name)
    inputs, network = cards.read(folder).input, zoo.load(name)
    model = Exported(cards.read_config(folder).model_dump(mode="json"), inputs.spacing)
    model.network.set_weights(network.get_weights())
    batch = _pair(network, inputs.shape)
    expected = _outputs(network(batch))
    if kind == "keras":
        with atomic_file(output) as path:
            model.save(path)
            _compare(_outputs(keras.saving.load_model(path)(batch)), expected, output)
    else:
        with atomic_folder(output) as path:
            shapes = {
                key: keras.InputSpec(shape=(None, *value.shape[1:]), dtype="float32", name=key)
                for key, value in batch.items()
            }
            model.export(path, format="tf_saved_model", input_signature=[shapes], verbose=False)
            _compare(_outputs(keras.layers.TFSMLayer(path, call_endpoint="serve")(batch)), expected, output)
    return output


def _pair(network: keras.Model, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Returns a random pair on the network's grid, with labels if it moves those."""
    random = np.random.default_rng(1)
    names = ["fixed", "moving", *["moving_labels"] * ("deformation" not in network.kinds)]
    return {name: random.random((1, *shape, 1)).astype("float32") for name in names}


def _outputs(prediction: dict) -> dict[str, np.ndarray]:
    return {name: ops.convert_to_numpy(value) for name, value in prediction.items()}


def _compare(found: dict, expected: dict, output: Path) -> None:
    for name, value in expected.items():
        difference = float(np.abs(found[name] - value).max())
        if not difference <= TOLERANCE:
            raise RegzooError(f"{output}: its {name} differs by {difference:.2g} voxels. Nothing was kept.")
