"""The same weights give the same field under every backend."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from regzoo.hub import cards

SCRIPT = """
import json, sys
from pathlib import Path
from unittest import mock
import numpy as np
import phantom, regzoo
from regzoo.registration import demo, network
from regzoo.simulation import synthetic
folder, data, *names = sys.argv[1:]
told = {}
for name in names:
    model = regzoo.load(name)
    if model.card.input.around == "lungs":
        grid = phantom.grid_at()
        (fixed, fixed_labels), (moving, moving_labels) = (phantom.chest_ct(grid, (0, 0, z)) for z in (0, 8))
    elif model.card.anatomy == "brain":  # the pyramid finds no stable way between images that are no brains
        fixed, moving = (demo.IMAGES / f"{each}.nii.gz" for each in ("mni152", "colin27"))
        fixed_labels = moving_labels = None
    elif data:
        fixed, moving, fixed_labels, moving_labels = demo.real_files(Path(data))
    else:
        fixed, moving, fixed_labels, moving_labels, _ = synthetic.synthetic_pair()
    labels = {"fixed_labels": fixed_labels, "moving_labels": moving_labels}
    with mock.patch.object(network, "mirrored", return_value=[]):  # a question of its own, the network's time again
        result = regzoo.register(fixed, moving, model, **labels, error=False)
    found = result.transform  # a conditional model has labels only
    array = result.moved_labels.array if found is None else found.displacement(result.fixed.grid)
    np.save(Path(folder) / f"{name}.npy", array)
    after = result.facts["scores"]["after"]
    told[name] = after["mean_dice"] if "mean_dice" in after else after["ncc"]
print(json.dumps([regzoo.backend.NAME, told]))
"""
BACKENDS = [name for name in ("tensorflow", "torch", "jax") if importlib.util.find_spec(name)]
NAMES = sorted(name for name, folder in cards.bundled().items() if cards.read(folder).registers)


def _register(backend, folder, names, data=""):
    """Runs the models in a process of its own; returns the field and the mean Dice of each."""
    folder.mkdir()
    command = [sys.executable, "-c", SCRIPT, str(folder), str(data), *names]
    path = os.pathsep.join([str(Path(__file__).parents[1] / "helpers"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": path}
    if backend == "jax":  # what runs once is compiled longer than it runs
        environment["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    used, dice = json.loads(done.stdout.splitlines()[-1])
    assert used == backend
    return {name: (np.load(folder / f"{name}.npy"), dice[name]) for name in names}


def _compare(found, name):
    config = cards.read_config(cards.bundled()[name])
    # A network that runs on its own result many times in a row repeats, and so enlarges, the backends' rounding; so do
    # the levels of a pyramid.
    many = sum(each.passes for each in (*config.before, config)) >= 10 or config.backbone.name == "pyramid"
    tolerance = 0.1 if many else 2e-3
    (field, dice), *others = found
    assert np.abs(field).max() > 0.5, name  # something was registered
    for other, other_dice in others:
        assert np.abs(field - other).max() < tolerance, name  # mm
        assert round(dice, 3) == round(other_dice, 3), name


@pytest.mark.slow
@pytest.mark.skipif(len(BACKENDS) < 2, reason=f"only {BACKENDS} is installed; two backends are compared")
def test_backends_agree_on_a_synthetic_pair(tmp_path):
    # One test for all models: what starts a process for each backend is not started by each worker.
    fields = [_register(backend, tmp_path / backend, NAMES) for backend in BACKENDS]
    for name in NAMES:
        _compare([each[name] for each in fields], name)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.skipif(len(BACKENDS) < 2, reason=f"only {BACKENDS} is installed; two backends are compared")
def test_backends_agree_on_a_real_pair(tmp_path, data_home):
    names = ["hippocampus-mr-dvf", "hippocampus-mr-dvf-weakly"]
    fields = [_register(backend, tmp_path / backend, names, data_home) for backend in BACKENDS]
    for name in names:
        _compare([each[name] for each in fields], name)
