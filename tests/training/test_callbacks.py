"""Checkpoints, logs and the bar, around a model that is hardly trained."""

import keras
import numpy as np
import pytest
import tiny_run
from terminal import lines, terminal

from regzoo.errors import InvalidError
from regzoo.models import build
from regzoo.training import callbacks
from regzoo.training.minutes import Clock

pytestmark = pytest.mark.backend


def test_epochs_within_one_second_keep_their_events(tmp_path, monkeypatch):
    """Event files are named by the second, and a second file of that name would empty the first."""
    checkpoint = callbacks.Checkpoint(tmp_path / "x.safetensors", dict, Clock())
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
    checkpoint = callbacks.Checkpoint(tmp_path / "x.safetensors", lambda: {"valid_dice": 0.5}, Clock())
    checkpoint.set_model(model)
    checkpoint.on_epoch_end(0, {"loss": 1.0})
    kept = (tmp_path / "x.safetensors").read_bytes()
    with pytest.raises(InvalidError, match=r"diverged: loss became nan"):
        checkpoint.on_epoch_end(1, {"loss": np.nan})  # of a step that was not looked at
    model.variables[0].assign(np.full(model.variables[0].shape, np.nan, "float32"))
    with pytest.raises(InvalidError, match=r"diverged: model/.*kernel became nan"):
        checkpoint.on_epoch_end(1, {"loss": 1.0})
    assert (tmp_path / "x.safetensors").read_bytes() == kept


class Higher:
    """Scores of which the higher is better."""

    def better(self, new, old):
        return new["valid_dice"] > old["valid_dice"]


BEFORE = {"valid_dice": 0.57, "valid_folds": 0.0}
TERMS = {"loss": 1.23456789, "image_lncc": 0.5, "label_dice_scales": 0.5, "deformation_gradient": 0.25}


def trained(tmp_path, dice, quiet=False):
    """Goes through the callbacks of a run whose last epoch is a step short, with a Dice for each epoch."""
    training = tiny_run.recipe(training={"steps": 2 * len(dice) - 1, "steps_per_epoch": 2}).training
    checkpoint = callbacks.Checkpoint(tmp_path / "x.safetensors", Higher(), Clock())
    speed = callbacks.Speed(None)
    speed.figures = {"pairs_per_second": 123.456, "waiting": 1.0}
    bar = callbacks.Bar(training, checkpoint, speed, BEFORE, quiet)
    bar.on_train_begin()
    for epoch, value in enumerate(dice, start=1):
        for batch in range(2):
            bar.on_train_batch_end(batch, TERMS)
        row = {"epoch": epoch, "step": min(2 * epoch, training.end), "seconds": 1.0}
        checkpoint.history.append({**row, **TERMS, "valid_dice": value, "valid_folds": 1e-4})
        if value == max(dice[:epoch]):
            checkpoint.best_epoch = epoch
        bar.on_epoch_end(epoch - 1)
    bar.on_train_end()
    bar.tell_kept()


LINES = [
    "before training  valid_dice 0.57  valid_folds 0",
    "step 2  loss 1.2346  valid_dice 0.6  valid_folds 0.0001  best",
    "step 4  loss 1.2346  valid_dice 0.7123  valid_folds 0.0001  best",
    "step 5  loss 1.2346  valid_dice 0.7  valid_folds 0.0001",
    "kept: step 4  valid_dice 0.7123  valid_folds 0.0001  (before training 0.57)",
]


def test_a_pipe_gets_whole_lines_and_no_bar(tmp_path, capsys):
    trained(tmp_path, [0.6, 0.71234567, 0.7])
    assert capsys.readouterr() == ("", "".join(f"{line}\n" for line in LINES))


def test_a_terminal_gets_a_bar_and_lines_that_fit_it(tmp_path, monkeypatch):
    with terminal(monkeypatch, columns=80) as screen:
        trained(tmp_path, [0.6, 0.71234567, 0.7])
    found = lines(screen[0])
    assert [line.strip() for line in found if line.strip() in LINES] == LINES
    told = "loss 1.2346  123 pairs/s  100% wait"
    assert any(line.rstrip().endswith(told) and "/5 " in line and " left " in line for line in found)
    assert max(map(len, found)) <= 80
    with terminal(monkeypatch, columns=40) as screen:
        trained(tmp_path, [0.6, 0.71234567, 0.7])
    assert "step 2  loss 1.2346  valid_dice 0.6  va…" in lines(screen[0])


def test_a_run_that_did_not_get_better_is_told_of_even_quietly(tmp_path, capsys):
    trained(tmp_path, [0.56, 0.57], quiet=True)
    assert capsys.readouterr().err == "warning: no step is better than the model before training\n"


def test_what_is_doubtful_is_never_cut_or_broken_in_a_pipe(tmp_path, capsys):
    checkpoint = callbacks.Checkpoint(tmp_path / "x.safetensors", Higher(), Clock())
    callbacks.Bar(tiny_run.recipe().training, checkpoint, callbacks.Speed(None), BEFORE, quiet=True).warn(
        ["a long word " * 20]
    )
    assert capsys.readouterr().err == f"warning: {'a long word ' * 20}\n"
