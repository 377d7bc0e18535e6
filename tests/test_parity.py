"""The same weights give the same field under every backend."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from regzoo import cards

SCRIPT = """
import json, sys
import numpy as np
import regzoo
from regzoo import demo
model = regzoo.load(sys.argv[1])
if model.card.input.around == "lungs":
    import phantom
    grid = phantom.grid_at()
    (fixed, fixed_labels), (moving, moving_labels) = (phantom.chest_ct(grid, (0, 0, z)) for z in (0, 8))
else:
    fixed, moving, fixed_labels, moving_labels, _ = demo.synthetic_pair()
if len(sys.argv) > 3:
    from pathlib import Path
    fixed, moving, fixed_labels, moving_labels = demo.real_files(Path(sys.argv[3]))
result = regzoo.register(fixed, moving, model, fixed_labels=fixed_labels, moving_labels=moving_labels)
np.save(sys.argv[2], result.transform.displacement(result.fixed.grid))
print(json.dumps([result.facts["model"]["backend"], result.facts["scores"]["after"]["mean_dice"]]))
"""


def _register(backend, folder, name, *data):
    file = folder / f"{backend}.npy"
    command = [sys.executable, "-c", SCRIPT, name, str(file), *map(str, data)]
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])  # the phantom
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    used, dice = json.loads(done.stdout.splitlines()[-1])
    assert used == backend
    return np.load(file), dice


def _compare(folder, name, *data):
    backends = [name for name in ("tensorflow", "torch", "jax") if importlib.util.find_spec(name)]
    if len(backends) < 2:
        pytest.skip(f"only {backends} is installed; two backends are compared")
    (field, dice), *others = (_register(backend, folder, name, *data) for backend in backends)
    assert np.abs(field).max() > 0.5  # something was registered
    for other, other_dice in others:
        assert np.abs(field - other).max() < 2e-3  # mm
        assert round(dice, 3) == round(other_dice, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(cards.bundled()))
def test_backends_agree_on_a_synthetic_pair(name, tmp_path):
    _compare(tmp_path, name)


@pytest.mark.slow
@pytest.mark.data
def test_backends_agree_on_a_real_pair(tmp_path, data_home):
    _compare(tmp_path, "hippocampus-mr-dvf", data_home)
