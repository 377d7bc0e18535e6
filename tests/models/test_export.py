import subprocess
import sys

import keras
import numpy as np
import onnxruntime
import pytest
from constant_model import SHAPE, constant_model
from typer.testing import CliRunner

from regzoo import backend, cli
from regzoo.errors import InvalidError, RegzooError
from regzoo.hub import cards
from regzoo.models import Exported, build, export, weights, zoo
from regzoo.schema.inputs import InputConfig
from regzoo.schema.networks import ModelConfig

pytestmark = pytest.mark.backend

ORDERS = ["import keras, regzoo.models", "import regzoo.models, keras"]
LOAD = """
import sys
import numpy as np
pair = {name: np.zeros((2, *map(int, sys.argv[2:]), 1), "float32") for name in ("fixed", "moving")}
assert all(keras.saving.get_registered_object(f"regzoo>{name}") for name in ("Warp", "Loss"))
print(keras.ops.convert_to_numpy(keras.models.load_model(sys.argv[1])(pair)["ddf"])[1, 3, 3, 3])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return constant_model(tmp_path_factory.mktemp("zoo") / "constant-ddf", (4.0, 0.0, -1.5))


@pytest.mark.parametrize("imports", ORDERS)
@pytest.mark.slow_under("jax")
def test_keras_loads_it_in_another_process_after_one_import_on_either_side(folder, tmp_path, imports):
    path = export.export(folder, tmp_path / "x.keras", "keras")
    command = [sys.executable, "-c", f"{imports}{LOAD}", str(path), *map(str, SHAPE)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    found = np.array([float(each) for each in done.stdout.strip(" []\n").split()])
    np.testing.assert_allclose(found * (2.0, 2.5, 3.0), (4.0, 0.0, -1.5), atol=1e-4)


@pytest.mark.skipif(backend.NAME != "tensorflow", reason="only TensorFlow writes a SavedModel")
def test_saved_model(folder, tmp_path):
    path = export.export(folder, tmp_path / "x", "saved-model")
    assert (path / "saved_model.pb").is_file()


@pytest.mark.skipif(backend.NAME == "tensorflow", reason="TensorFlow writes a SavedModel")
def test_a_saved_model_needs_tensorflow(folder, tmp_path):
    with pytest.raises(InvalidError, match="format saved-model: expected the backend tensorflow"):
        export.export(folder, tmp_path / "x", "saved-model")


def test_an_export_with_another_field_is_not_kept(folder, tmp_path, monkeypatch):
    network = zoo.load(folder)
    monkeypatch.setattr(zoo, "load", lambda name: network)
    monkeypatch.setattr(
        network, "get_weights", lambda: [np.full_like(each, 0.1) for each in export.keras.Model.get_weights(network)]
    )
    with pytest.raises(RegzooError, match="its ddf differs by"):
        export.export(folder, tmp_path / "x.keras", "keras")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def row(tmp_path_factory):
    """An entry of networks in a row: points on a coarser grid, then velocities, the last in two passes."""
    keras.utils.set_random_seed(3)
    unet = {"name": "unet", "channels": [2, 3, 4], "convolutions": 1}
    points = {"backbone": unet, "output": {"name": "keypoints", "points": 8}, "shrink": 2}
    velocity = {"backbone": unet, "output": {"name": "dvf", "level": 1, "steps": 1}, "flow": True}
    config = ModelConfig(before=(points, velocity | {"descriptor": "mind"}), passes=2, **velocity)
    model, random = build(config), np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(variable + 0.05 * random.normal(size=variable.shape))
    folder = tmp_path_factory.mktemp("zoo") / "row"
    folder.mkdir()
    weights.save(folder / cards.WEIGHTS, weights.arrays(model.variables))
    (folder / cards.CONFIG).write_text(config.model_dump_json())
    inputs = InputConfig(shape=(12, 14, 10))
    cards.write(folder, cards.Card(name="row", version="1", input=inputs, files=cards.manifest(folder)), "A test.")
    return folder


@pytest.mark.parametrize("kind", ["keras", "saved-model", "onnx"])
@pytest.mark.slow
def test_networks_in_a_row_are_exported(row, tmp_path, kind):
    if export._NEEDS.get(kind, backend.NAME) != backend.NAME:
        pytest.skip(f"{kind} is not written under {backend.NAME}")
    suffix = "" if kind == "saved-model" else f".{kind}"
    assert export.export(row, tmp_path / f"x{suffix}", kind).exists()  # and gave the same field


def test_a_file_of_keras_keeps_the_spacing(tmp_path):
    rigid = {"name": "affine", "constraint": "rigid"}  # in mm, so that its matrix in voxels hangs on the spacing
    config = {"backbone": {"name": "global", "channels": [2, 3]}, "output": rigid}
    model, random = Exported(config, spacing=(1.0, 2.0, 3.0)), np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(0.3 * random.normal(size=variable.shape))
    pair = {name: random.random((1, 12, 8, 10, 1)).astype("float32") for name in ("fixed", "moving")}
    model.save(tmp_path / "x.keras")
    opened = keras.saving.load_model(tmp_path / "x.keras")
    matrices = [keras.ops.convert_to_numpy(each(pair)["matrix"]) for each in (model, opened)]
    assert np.abs(matrices[0] - np.eye(3, 4)).max() > 0.05
    np.testing.assert_allclose(*matrices, atol=1e-6)


def test_command(folder, tmp_path):
    path = tmp_path / "x.keras"
    result = CliRunner().invoke(cli.app, ["export", str(folder), "-o", str(path)], prog_name="regzoo")
    assert (result.exit_code, result.stdout) == (0, f"{path}\n")
    result = CliRunner().invoke(cli.app, ["export", str(folder), "-o", str(path)], prog_name="regzoo")
    assert result.stderr == f"error: {path} exists. Choose another --output, or remove it.\n"
    result = CliRunner().invoke(cli.app, ["export", str(folder), "-o", str(tmp_path / "x.h5")], prog_name="regzoo")
    assert "expected a name ending in .keras" in result.stderr


@pytest.mark.skipif(backend.NAME != "torch", reason="only PyTorch's exporter is used")
def test_onnx_runtime_runs_it(folder, tmp_path):
    path = export.export(folder, tmp_path / "x.onnx", "onnx")
    session = onnxruntime.InferenceSession(path)
    assert [each.name for each in session.get_inputs()] == ["fixed", "moving"]
    pair = {name: np.zeros((1, *SHAPE, 1), "float32") for name in ("fixed", "moving")}
    (ddf,) = session.run(["ddf"], pair)
    np.testing.assert_allclose(ddf[0, 3, 3, 3] * (2.0, 2.5, 3.0), (4.0, 0.0, -1.5), atol=1e-4)


@pytest.mark.skipif(backend.NAME == "torch", reason="PyTorch writes ONNX files")
def test_onnx_needs_torch(folder, tmp_path):
    with pytest.raises(InvalidError, match="format onnx: expected the backend torch"):
        export.export(folder, tmp_path / "x.onnx", "onnx")


@pytest.mark.skipif(backend.NAME != "torch", reason="only PyTorch's exporter is used")
def test_onnx_without_its_packages_says_what_to_install(folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(RegzooError, match=r"pip install 'regzoo\[onnx\]'"):
        export.export(folder, tmp_path / "x.onnx", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_unknown_format(folder, tmp_path):
    with pytest.raises(InvalidError, match="Unknown format 'tflite'"):
        export.export(folder, tmp_path / "x", "tflite")
