import json

import numpy as np
import pytest
import tiny_run

import regzoo
from regzoo import hub
from regzoo.errors import InvalidError, MissingError
from regzoo.hub import DamagedError, cards
from regzoo.models import build, weights
from regzoo.schema.inputs import InputConfig
from regzoo.schema.networks import ModelConfig

pytestmark = pytest.mark.backend


@pytest.fixture(scope="module")
def model():
    return build(tiny_run.recipe().model)


def make_entry(folder, values):
    """Writes a zoo entry of the tiny model with given weights."""
    recipe = tiny_run.recipe()
    folder.mkdir()
    (folder / "config.json").write_text(recipe.model.model_dump_json())
    weights.save(folder / "model.safetensors", values)
    card = cards.Card(name="tiny-ddf", version="1", input=recipe.input, files=cards.manifest(folder))
    cards.write(folder, card, "# tiny-ddf")
    return folder


def sevenths(model):
    """Weights that no initialiser gives."""
    return {name: np.full_like(value, 1 / 7) for name, value in weights.arrays(model.variables).items()}


def test_load_gives_the_model_with_its_weights_and_card(model, tmp_path, monkeypatch):
    folder = make_entry(tmp_path / "tiny-ddf", sevenths(model))
    monkeypatch.setenv("REGZOO_ZOO", str(tmp_path))
    for name in (folder, "tiny-ddf", "tiny-ddf@1"):
        loaded = regzoo.load(name)
        assert loaded.card == cards.read(folder)
        found = weights.arrays(loaded.variables)
        assert found.keys() == sevenths(model).keys()
        assert all((value == np.float32(1 / 7)).all() for value in found.values())


def test_half_precision_weights_are_widened(model, tmp_path):
    halves = {name: value.astype("float16") for name, value in sevenths(model).items()}
    loaded = regzoo.load(make_entry(tmp_path / "x", halves))
    for value in weights.arrays(loaded.variables).values():
        assert value.dtype == np.float32
        assert (value == np.float16(1 / 7)).all()


def test_the_bytes_that_were_verified_are_the_ones_that_are_loaded(model, tmp_path):
    folder = make_entry(tmp_path / "x", sevenths(model))
    taken, config = hub.take(folder), (folder / "config.json").read_text()
    weights.save(folder / "model.safetensors", {name: 2 * value for name, value in sevenths(model).items()})
    (folder / "config.json").write_text(config.replace("ddf", "dvf"))
    loaded = regzoo.load(taken)
    assert all((value == np.float32(1 / 7)).all() for value in weights.arrays(loaded.variables).values())
    with pytest.raises(DamagedError):
        regzoo.load(folder)


def test_a_wrong_byte_is_refused(model, tmp_path):
    folder = make_entry(tmp_path / "x", sevenths(model))
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(DamagedError, match=r"tiny-ddf is damaged: model\.safetensors has sha256"):
        regzoo.load(folder)


def drop(values):
    values.popitem()


def add(values):
    values["more"] = np.zeros(2, "float32")


def widen(values):
    name = next(iter(values))
    values[name] = np.zeros((*values[name].shape, 1), "float32")


def retype(values):
    name = next(iter(values))
    values[name] = values[name].astype("float64")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop, r"model\.safetensors do not fit the model: missing \['.+'\], not in the model \[\]"),
        (add, r"missing \[\], not in the model \['more'\]"),
        (widen, r"model\.safetensors: .*: expected shape \(.*\), received \(.*, 1\)"),
        (retype, "expected dtype float32 or float16, received float64"),
    ],
)
def test_weights_that_do_not_fit_the_config_are_refused(model, tmp_path, change, message):
    values = sevenths(model)
    change(values)
    with pytest.raises(InvalidError, match=message):
        regzoo.load(make_entry(tmp_path / "x", values))


def test_weights_that_are_no_safetensors_are_refused(model, tmp_path, monkeypatch):
    def save_text(path, values):
        path.write_text("a pickle, say")

    monkeypatch.setattr(weights, "save", save_text)
    with pytest.raises(InvalidError, match=r"model\.safetensors is not a readable safetensors file"):
        regzoo.load(make_entry(tmp_path / "x", {}))


@pytest.mark.parametrize(
    ("dtype", "facts", "data"),
    [
        ("F8_E4M3", "{}", 4),
        ("F4", "{}", 2),
        ("F32", "[" * 20_000, 16),
        ("F32", "{}", 2**26),  # far more than the model has, refused unparsed
    ],
)
def test_hostile_headers_are_refused(tmp_path, monkeypatch, dtype, facts, data):
    def save(path, values):
        size = data if dtype != "F32" or data < 99 else data - data % 4
        count = {"F8_E4M3": size, "F4": 2 * size, "F32": size // 4}[dtype]
        entry = {"dtype": dtype, "shape": [count], "data_offsets": [0, size]}
        header = json.dumps({"__metadata__": {"facts": facts}, "x": entry}).encode()
        with path.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            file.truncate(8 + len(header) + size)

    monkeypatch.setattr(weights, "save", save)
    folder = make_entry(tmp_path / "x", {})
    if data > 99:
        monkeypatch.setattr(weights, "parse", None)
    with pytest.raises(InvalidError, match=r"model\.safetensors"):
        regzoo.load(folder)


def test_a_grid_on_which_the_model_would_not_fit_into_memory_is_refused(model, tmp_path):
    wide = ModelConfig(backbone={"name": "unet", "channels": [16, 16]}, output={"name": "ddf", "level": 0})
    InputConfig(spacing=(1, 1, 1), shape=(256, 256, 256)).check(wide)
    points = ModelConfig(
        backbone={"name": "unet", "channels": [1, 1]}, output={"name": "keypoints", "points": 512, "level": 0}
    )
    with pytest.raises(InvalidError, match="expected at most 262144 voxels with 1024 channels"):
        InputConfig(spacing=(1, 1, 1), shape=(128, 128, 128)).check(points)
    coarse = points.model_copy(update={"shrink": 8})
    InputConfig(spacing=(1, 1, 1), shape=(128, 128, 128)).check(coarse)
    with pytest.raises(InvalidError, match="expected more than 24 voxels along each axis, since shrink is 8"):
        InputConfig(spacing=(1, 1, 1), shape=(128, 128, 24)).check(coarse)
    with pytest.raises(InvalidError, match=r"input\.shape: expected at most 16777216 voxels with 16 channels"):
        InputConfig(spacing=(1, 1, 1), shape=(512, 512, 512)).check(wide)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(MissingError, match="does not exist"):
        regzoo.load(tmp_path / "nothing")
