"""export: a model as a file of Keras, a SavedModel or an ONNX file, run once beside the original before it appears."""

import os
from pathlib import Path
from typing import Literal, get_args

import keras
import numpy as np
from keras import ops

from regzoo import backend, hub
from regzoo.errors import InvalidError, MissingError, RegzooError, invalid, unknown
from regzoo.io.files import atomic_file, atomic_folder
from regzoo.models import zoo
from regzoo.models.base import own_tensors
from regzoo.models.exported import Exported

Kind = Literal["keras", "saved-model", "onnx"]
TOLERANCE = 1e-4
"""The largest difference in voxels between the fields of a model and of its export."""


_NEEDS = {"saved-model": "tensorflow", "onnx": "torch"}


def export(name: str | os.PathLike | hub.Entry, output: str | os.PathLike, kind: Kind) -> Path:
    """Writes a model for use without its zoo entry; inputs and outputs are those of `RegistrationModel`, in voxels.

    Args:
        name: A model, as `regzoo.load` takes it.
        output: `FILE.keras`, `FILE.onnx`, or for a SavedModel a folder; none of which exists.
        kind: `keras`; `saved-model` under TensorFlow; or `onnx`, for one pair at a time, under PyTorch with the extra
            `onnx` installed.

    Returns:
        `output`, whose field on a random pair was equal to the model's.

    Raises:
        RegzooError: If the backend or the name does not fit the kind, a package that it needs is not installed, or the
            export gives another field.
    """
    if kind not in get_args(Kind):
        raise unknown("format", kind, get_args(Kind))
    output = Path(output)
    if output.exists():
        raise InvalidError(f"{output} exists. Choose another --output, or remove it.")
    if kind in ("keras", "onnx") and output.suffix != f".{kind}":
        raise invalid("output", f"a name ending in .{kind}", f"'{output}'")
    needed = _NEEDS.get(kind, backend.NAME)
    if needed != backend.NAME:
        raise invalid(f"format {kind}", f"the backend {needed}", backend.NAME, f"Set KERAS_BACKEND={needed}.")
    entry = hub.take(name)
    inputs, network = entry.card.input, zoo.load(entry)
    model = Exported(entry.config().model_dump(mode="json"), inputs.spacing)
    model.network.set_weights(network.get_weights())
    batch = _inputs(network, inputs.shape)
    expected = _outputs(own_tensors(network(batch)))
    if kind == "keras":
        with atomic_file(output) as path:
            model.save(path)
            _compare(_outputs(keras.saving.load_model(path)(batch)), expected, output)
    elif kind == "onnx":
        with atomic_file(output) as path:
            _compare(_onnx(model.network, batch, list(expected), path), expected, output)
    else:
        with atomic_folder(output) as path:
            shapes = {
                key: keras.InputSpec(shape=(None, *value.shape[1:]), dtype="float32", name=key)
                for key, value in batch.items()
            }
            model.export(path, format="tf_saved_model", input_signature=[shapes], verbose=False)
            _compare(_outputs(keras.layers.TFSMLayer(path, call_endpoint="serve")(batch)), expected, output)
    return output


def _onnx(network: keras.Model, batch: dict, names: list[str], path: Path) -> dict[str, np.ndarray]:
    """Writes an ONNX file and returns what ONNX Runtime makes of the batch by it."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter imports it
    except ImportError as error:
        raise MissingError(f"Format onnx needs the package {error.name}: pip install 'regzoo[onnx]'.") from None
    backend.write_onnx(network, batch, names, path)
    found = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(names, batch)
    return dict(zip(names, found, strict=True))


def _inputs(network: keras.Model, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Returns what the network takes, at random, on its grid."""
    random = np.random.default_rng(1)
    return {name: random.random((1, *shape, 1)).astype("float32") for name in network.takes}


def _outputs(prediction: dict) -> dict[str, np.ndarray]:
    return {name: ops.convert_to_numpy(value) for name, value in prediction.items()}


def _compare(found: dict, expected: dict, output: Path) -> None:
    for name, value in expected.items():
        difference = float(np.abs(found[name] - value).max())
        if not difference <= TOLERANCE:
            raise RegzooError(f"{output}: its {name} differs by {difference:.2g} voxels. Nothing was kept.")
