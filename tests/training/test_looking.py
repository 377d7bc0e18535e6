"""How often the figures of a step are looked at."""

import keras
import pytest

from regzoo.training import looking


class Figure:
    """A figure on the device, which notes that it was waited for."""

    def __init__(self):
        self.waited = 0

    def __float__(self):
        self.waited += 1
        return 0.5


@pytest.mark.parametrize(("seconds", "looks"), [(3.0, 101), (0.05, 6), (0.001, 3)])
def test_a_steps_figures_are_looked_at_once_a_second_or_after_fifty_steps(monkeypatch, seconds, looks):
    now, figure, told = [0.0], Figure(), []

    class Heard(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            told.append(logs)

    monkeypatch.setattr(looking.time, "monotonic", lambda: now[0])
    callbacks = looking.Callbacks([Heard()], keras.Sequential())
    for step in range(101):
        now[0] += seconds
        callbacks.on_train_batch_end(step, {"loss": figure})
    assert figure.waited == looks
    assert [logs for logs in told if logs] == [{"loss": 0.5}] * looks
    assert len(told) == 101
    assert told[0]
