"""What `import regzoo` shows, when it imports Keras, and on which backend Keras then runs."""

import importlib.util
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

import regzoo
from regzoo import installed
from regzoo.errors import MissingError

WITHOUT_KERAS = """
import sys, regzoo
assert len(regzoo.list()) > 10 and regzoo.list()[0].card.name
assert regzoo.metrics.dice([[1, 1]], [[1, 0]]) == {1: 2 / 3}
assert regzoo.hub.pull and regzoo.Image and regzoo.Transform and regzoo.Recipe and regzoo.register_points
print(sorted({"keras", "tensorflow", "torch", "jax", "regzoo.backend"} & set(sys.modules)))
"""


def test_names_are_shown_and_found():
    assert set(regzoo.__all__) == set(dir(regzoo))
    for name in dir(regzoo):
        assert getattr(regzoo, name) is not None
    assert regzoo.losses.lncc.__module__ == "regzoo.losses.image"
    assert regzoo.ops.warp.__module__ == "regzoo.ops.warping"
    assert regzoo.layers.Warp.__name__ == "Warp"
    assert regzoo.models.build.__name__ == "build"
    with pytest.raises(AttributeError, match="module 'regzoo' has no attribute 'lncc'"):
        regzoo.lncc  # noqa: B018


@pytest.mark.parametrize("room", ["ops", "losses", "layers", "models", "hub", "metrics"])
def test_a_room_shows_what_it_exports(room):
    room = getattr(regzoo, room)
    for name in getattr(room, "__all__", ()):
        assert getattr(room, name) is not None


def test_what_needs_no_tensors_imports_no_keras():
    done = subprocess.run([sys.executable, "-c", WITHOUT_KERAS], capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.stderr) == ("[]\n", "")


LISTED = """
import sys
from regzoo import cli
try:
    cli.app(["list"])
except SystemExit as stop:
    assert stop.code in (0, None), stop.code
heavy = {"keras", "tensorflow", "torch", "jax", "scipy", "matplotlib", "nibabel", "h5py", "huggingface_hub", "httpx"}
print(sorted((heavy | {"numpy", "regzoo.world", "regzoo.schema.networks"}) & set(sys.modules)))
"""


def test_list_imports_nothing_that_it_does_not_need():
    done = subprocess.run([sys.executable, "-c", LISTED], capture_output=True, encoding="utf-8", timeout=300)
    assert (done.stdout.splitlines()[-1:], done.stderr) == (["[]"], "")
    assert "hippocampus-mr-dvf" in done.stdout


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Pretends that Keras was not imported and that these backends are installed."""

    def pretend(*names, keras_json=None):
        monkeypatch.delenv("KERAS_BACKEND", raising=False)
        monkeypatch.delitem(sys.modules, "keras", raising=False)
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
        if keras_json is not None:
            (tmp_path / "keras.json").write_text(keras_json)
        specs = {name: SimpleNamespace(origin="here") for name in names}
        monkeypatch.setattr(importlib.util, "find_spec", specs.get)

    yield pretend
    monkeypatch.delenv("KERAS_BACKEND", raising=False)


@pytest.mark.parametrize(
    ("names", "keras_json", "chosen"),
    [
        (["torch"], None, "torch"),
        (["jax"], None, "jax"),
        (["torch", "jax"], None, "torch"),
        (["tensorflow", "torch"], None, None),
        (["torch", "tensorflow"], json.dumps({"backend": "jax"}), "tensorflow"),
        (["torch", "jax"], json.dumps({"backend": "jax"}), None),
        (["jax"], json.dumps({"backend": "numpy"}), "jax"),
        (["jax"], json.dumps({"backend": "tensorflow"}), "jax"),
        (["jax"], "no json", "jax"),
        ([], None, None),
    ],
)
def test_the_installed_backend_is_chosen(machine, names, keras_json, chosen):
    machine(*names, keras_json=keras_json)
    installed.choose()
    assert installed.os.environ.get("KERAS_BACKEND") == chosen


def test_a_folder_named_like_a_backend_is_not_installed(machine, monkeypatch):
    machine("jax")
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        {"tensorflow": SimpleNamespace(origin=None), "jax": SimpleNamespace(origin="x")}.get,
    )
    installed.choose()
    assert installed.os.environ.get("KERAS_BACKEND") == "jax"


def test_a_choice_is_kept(machine, monkeypatch):
    machine("torch")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    installed.choose()
    assert installed.os.environ["KERAS_BACKEND"] == "jax"


@pytest.mark.parametrize("code", ["regzoo.load", "regzoo.ops", "regzoo.losses.lncc", "regzoo.models.build"])
def test_from_python_a_missing_backend_is_told_as_on_the_command_line(code, tmp_path):
    program = f"""
import sys

class Absent:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("tensorflow", "torch", "jax"):
            raise ModuleNotFoundError(f"No module named '{{name}}'", name=name.partition(".")[0])

sys.meta_path.insert(0, Absent())
import regzoo
for _ in range(2):
    try:
        {code}
    except regzoo.installed.MissingError as error:
        print(error)
"""
    environment = {"KERAS_BACKEND": "torch", "KERAS_HOME": str(tmp_path), "PATH": ""}
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment | path, timeout=300
    )
    assert (done.stdout, done.returncode) == (2 * f"torch is not installed. {installed.ADVICE}\n", 0), done.stderr


def test_other_missing_modules_keep_their_error():
    error = ModuleNotFoundError("No module named 'h5py'", name="h5py")
    assert installed.missing(error) is error
    assert isinstance(installed.missing(ModuleNotFoundError("...", name="jax")), MissingError)
