"""Runs that are given minutes, by a clock on which a step takes a second and a validation three."""

import math

import pytest
import tiny_run

from regzoo import backend
from regzoo.hub import cards
from regzoo.models import RegistrationModel
from regzoo.training import callbacks, minutes
from regzoo.training.finetune import finetune
from regzoo.training.validation import Validation

pytestmark = pytest.mark.backend


class Steps:
    """In the place of `time`; notes of each step when it began, its rate, and how much was compiled by then."""

    def __init__(self):
        self.now, self.began, self.rates, self.traced, self.kill_at, self.compiling = 0.0, [], [], [], None, 0

    def monotonic(self):
        return self.now

    def step(self, model):
        if backend.NAME == "jax":  # which trains with values of its own, until they are handed back
            values = model._jax_state["optimizer_variables"]
        else:
            values = [each.value for each in model.optimizer.variables]
        paths = [each.path for each in model.optimizer.variables]
        self.rates.append(float(values[paths.index("adam/learning_rate")]))
        self.began.append(self.now)
        self.traced.append(self.traces)
        self.now += 1 + self.compiling
        self.compiling = 0
        if len(self.began) == self.kill_at:
            raise KeyboardInterrupt

    def note_event(self, name):
        self.traces += "compile" in name

    def validate(self):
        self.now += 3
        return {"valid_dice": self.now}


@pytest.fixture
def steps(monkeypatch):
    found, compute_loss = Steps(), RegistrationModel.compute_loss
    found.traces = 0
    if backend.NAME == "jax":
        import jax

        jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: found.note_event(name))

    def traced(self, *args, **kwargs):
        found.traces += 1
        return compute_loss(self, *args, **kwargs)

    monkeypatch.setattr(minutes, "time", found)
    monkeypatch.setattr(RegistrationModel, "compute_loss", traced)
    monkeypatch.setattr(
        callbacks.StopOnNaN, "on_train_batch_end", lambda self, batch, logs=None: found.step(self._model)
    )
    monkeypatch.setattr(Validation, "__call__", lambda _: found.validate())
    return found


def recipe(length=0.5, **changes):
    return tiny_run.recipe(training={"steps": None, "minutes": length, "steps_per_epoch": 4} | changes)


def test_a_run_ends_within_its_minutes_and_its_rate_falls_with_them(home, tmp_path, steps):
    folder = finetune(recipe(), tmp_path / "run", home)
    # Epochs end at 7, 14 and 21 seconds, their validations at 10, 17 and 24; two steps and a validation are left.
    assert steps.began == [3, 4, 5, 6, 10, 11, 12, 13, 17, 18, 19, 20, 24, 25]
    assert steps.now == 29
    shares = [0.01 + 0.99 * (1 + math.cos(math.pi * began / 30)) / 2 for began in steps.began]
    shares[:2] = 0, shares[1] / 2
    assert steps.rates == pytest.approx([1e-2 * share for share in shares], rel=0.011)
    facts = cards.read(folder).training
    assert (facts["steps"], facts["chosen_at_step"], facts["minutes"]) == (14, 14, 0.48)
    assert [row["step"] for row in tiny_run.read_log(folder)] == ["4", "8", "12", "14"]
    if backend.NAME != "torch":
        assert steps.traced[4] == steps.traced[-1]  # no rate is compiled in


@pytest.mark.slow_under("jax", "tensorflow")
def test_a_killed_run_goes_on_with_the_time_of_its_checkpoint(home, tmp_path, steps):
    steps.kill_at = 7
    with pytest.raises(KeyboardInterrupt):
        finetune(recipe(), tmp_path / "run", home)
    steps.now, steps.kill_at = 1000, None
    folder = finetune(recipe(), tmp_path / "run", home)
    # The checkpoint is of second 10; the validation before training takes three of this call.
    assert steps.began[7:] == [1003, 1004, 1005, 1006, 1010, 1011, 1012, 1013]
    assert steps.rates[7] == pytest.approx(1e-2 * (0.01 + 0.99 * (1 + math.cos(math.pi * 13 / 30)) / 2), rel=1e-4)
    assert cards.read(folder).training["minutes"] == 0.45
    (folder / cards.README).unlink()
    finetune(recipe(), folder, home)
    assert len(steps.began) == 15  # killed before the card was written, it has no time for another step
    assert cards.read(folder).training["steps"] == 12


@pytest.mark.slow_under("jax", "tensorflow")
def test_a_constant_rate_stays_and_a_run_without_time_takes_one_step(home, tmp_path, steps):
    folder = finetune(recipe(0.01, schedule="constant", warmup=0), tmp_path / "run", home)
    assert steps.rates == pytest.approx([1e-2])
    assert cards.read(folder).training["steps"] == 1


@pytest.mark.slow_under("jax", "tensorflow")
def test_the_step_that_is_compiled_is_not_taken_for_the_time_of_each(home, tmp_path, steps):
    steps.compiling = 11
    finetune(recipe(), tmp_path / "run", home)
    assert steps.began == [3, 15, 16, 17, 21, 22, 23, 24]
    assert steps.now == 28
