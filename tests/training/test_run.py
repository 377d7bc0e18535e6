"""A run's folder: what it holds in the end, and how a run goes on in it."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tiny_run
from filelock import FileLock

import regzoo
from regzoo import backend, hub
from regzoo.errors import InvalidError
from regzoo.hub import cards
from regzoo.models import weights
from regzoo.training import callbacks
from regzoo.training import finetune as training
from regzoo.training.finetune import finetune

pytestmark = pytest.mark.backend


def interrupt(monkeypatch, batch, error):
    """Raises an error after so many batches of the next run."""
    count = iter(range(1000))

    def stop(self, number, logs=None):
        if next(count) == batch:
            raise error

    monkeypatch.setattr(callbacks.StopOnNaN, "on_train_batch_end", stop)


def check_same_run(folder, whole):
    """Compares weights, optimiser, best weights and history of two runs."""
    (values, facts), (expected, wanted) = (weights.read(run / "checkpoint.safetensors") for run in (folder, whole))
    assert values.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(values[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
    assert int(values["optimizer/adam/iteration"]) == 6
    for row, other in zip(facts["history"], wanted["history"], strict=True):
        for name in ("seconds", "pairs_per_second", "waiting"):
            del row[name], other[name]
        assert row == pytest.approx(other, abs=1e-5)
    best, other = (weights.read(run / "model.safetensors")[0] for run in (folder, whole))
    assert all(np.allclose(best[name], other[name], atol=1e-5) for name in other)


def test_a_run_folder_is_a_zoo_entry(whole):
    card = cards.read(whole)
    hub.verify(whole, card)
    assert [file.path for file in card.files] == ["config.json", "model.safetensors", "recipe.yaml", "scores.json"]
    assert (card.name, card.version, card.summary, card.license) == ("tiny-run", "1", "Blobs.", "CC0-1.0")
    facts = card.training
    assert (facts["steps"], facts["seed"], facts["backend"]) == (6, 3, backend.NAME)
    assert facts["hours"] >= 0
    assert set(facts["versions"]) == {"regzoo", "keras", "numpy", backend.NAME}
    scores = json.loads((whole / "scores.json").read_text())["valid"]
    assert scores["epoch"] * 2 == facts["chosen_at_step"]
    model = regzoo.load(whole)
    assert model.card == card
    image = tiny_run.blob((0, 0, 0))[0][None, ..., None] / 300
    ddf = model.predict_on_batch({"fixed": image, "moving": image})["ddf"]
    assert ddf.shape == (1, 16, 16, 16, 3)


def test_a_finished_run_is_left_alone(whole, home, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    monkeypatch.setattr(training, "build", None)
    assert finetune(tiny_run.recipe(), whole, home) == whole
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_another_recipe_in_the_same_folder_is_refused(whole, home):
    with pytest.raises(InvalidError, match=r"another recipe: its seed is 3, not 4\. Choose another --output"):
        finetune(tiny_run.recipe(seed=4), whole, home)
    changes = (
        ({"training": {"steps": 8}}, r"its training\.steps is 6, not 8"),
        ({"data": {"label_values": [1]}}, r"its data\.label_values is None, not \(1,\)"),
        ({"model": None, "input": None, "parent": str(whole)}, "its parent is None, not "),
    )
    for change, message in changes:
        with pytest.raises(InvalidError, match=message):
            finetune(tiny_run.recipe(**change), whole, home)


@pytest.mark.slow_under("tensorflow")
def test_an_interrupted_run_goes_on_as_if_nothing_had_been(whole, home, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt(patch, 2, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            finetune(tiny_run.recipe(), tmp_path / "run", home)
    assert weights.read(tmp_path / "run" / "checkpoint.safetensors")[1]["epoch"] == 1
    assert not (tmp_path / "run" / "README.md").exists()
    finetune(tiny_run.recipe(), tmp_path / "run", home)
    check_same_run(tmp_path / "run", whole)
    assert len(tiny_run.read_log(tmp_path / "run")) == 3
    assert len({step for _, step in tiny_run.read_events(tmp_path / "run" / "tensorboard")}) == 3


# The second checkpoint is half written when the process dies.
KILLED = """
import os, signal, sys
from regzoo import finetune
from regzoo.models import weights
save, calls = weights.save_file, iter(range(9))
def die(values, path, metadata):
    if next(calls) == 1:
        path.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    save(values, path, metadata=metadata)
weights.save_file = die
finetune(*sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.slow
def test_a_run_killed_while_it_writes_a_checkpoint_goes_on_from_the_one_before(whole, home, tmp_path):
    recipe, run = tmp_path / "recipe.yaml", tmp_path / "run"
    tiny_run.recipe().write(recipe)
    command = [sys.executable, "-c", KILLED, str(recipe), str(run), str(home)]
    done = subprocess.run(command, env={**os.environ, "KERAS_BACKEND": backend.NAME}, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert weights.read(run / "checkpoint.safetensors")[1]["epoch"] == 1
    assert list(run.glob(".regzoo-*"))
    finetune(recipe, run, home)
    check_same_run(run, whole)
    assert not list(run.glob(".regzoo-*"))


def test_a_folder_that_another_process_trains_in_is_refused(home, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "Validation", lambda *_: dict)
    (tmp_path / "run").mkdir()
    with (
        FileLock(tmp_path / "run" / ".lock"),
        pytest.raises(InvalidError, match="Another process is training in"),
    ):
        finetune(tiny_run.recipe(), tmp_path / "run", home)


@pytest.mark.slow
def test_a_resumed_average_is_that_of_the_whole_run(home, tmp_path, monkeypatch):
    recipe = tiny_run.recipe(training={"average": 0.7})
    whole = finetune(recipe, tmp_path / "whole", home)
    with monkeypatch.context() as patch:
        interrupt(patch, 3, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            finetune(recipe, tmp_path / "run", home)
    check_same_run(finetune(recipe, tmp_path / "run", home), whole)
