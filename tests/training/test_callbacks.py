"""Checkpoints, logs and the bar, around a model that is hardly trained."""

import keras
import numpy as np
import pytest
import tiny_run

from regzoo.errors import InvalidError
from regzoo.models import build
from regzoo.training import callbacks

pytestmark = pytest.mark.backend


def test_epochs_within_one_second_keep_their_events(tmp_path, monkeypatch):
    """Event files are named by the second, and a second file of that name would empty the first."""
    checkpoint = callbacks.Checkpoint(tmp_path / "x.safetensors", dict)
    logs = callbacks.Logs(tmp_path, checkpoint)
    monkeypatch.setattr("time.time", lambda: 1e9)
    for epoch in (1, 2):
        checkpoint.history.append({"epoch": epoch, "loss": 0.5})
        logs.on_epoch_end(epoch - 1)
    assert {step for _, step in tiny_run.read_events(tmp_path / "tensorboard")} == {1, 2}


def test_weights_that_are_no_number_never_reach_the_checkpoint(tmp_path):
    model = build(tiny_run.recipe().model)
    model.compile(optimizer=keras.optimizers.Adam())
    model.optimizer.build(model.trainable_variables)
    checkpoint = callbacks.Checkpoint(tmp_path / "x.safetensors", lambda: {"valid_dice": 0.5})
    checkpoint.set_model(model)
    checkpoint.on_epoch_begin(0)
    checkpoint.on_epoch_end(0, {"loss": 1.0})
    kept = (tmp_path / "x.safetensors").read_bytes()
    model.variables[0].assign(np.full(model.variables[0].shape, np.nan, "float32"))
    with pytest.raises(InvalidError, match=r"diverged: model/.*kernel became nan"):
        checkpoint.on_epoch_end(1, {"loss": 1.0})
    assert (tmp_path / "x.safetensors").read_bytes() == kept
