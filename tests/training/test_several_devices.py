"""Training on several devices by `keras.distribution`, in a process of its own, which has two."""

import os
import subprocess
import sys

import pytest
import tiny_run

from regzoo import backend

pytestmark = [pytest.mark.backend, pytest.mark.slow]

DISTRIBUTED = """
import sys, jax, keras, regzoo
if sys.argv[1] == "two":
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    assert len(jax.devices()) == 2
    assert len(keras.Variable(0.0).value.devices()) == 2
regzoo.finetune(*sys.argv[2:])
"""


@pytest.mark.skipif(backend.NAME != "jax", reason="host devices are JAX's")
def test_two_devices_train_as_one_does_on_the_same_batch(home, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    tiny_run.recipe(training={"batch_size": 2}).write(recipe)
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "KERAS_BACKEND": "jax"}
    logs = []
    for devices in ("one", "two"):
        command = [sys.executable, "-c", DISTRIBUTED, devices, str(recipe), str(tmp_path / devices), str(home)]
        subprocess.run(command, env=environment, check=True)
        logs.append(tiny_run.read_log(tmp_path / devices))
    for row, other in zip(*logs, strict=True):
        for name in ("loss", "label_dice", "valid_dice"):
            assert float(row[name]) == pytest.approx(float(other[name]), abs=1e-5)
