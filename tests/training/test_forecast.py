"""What a run says of its hours, and of a precision that its processor has not."""

from types import SimpleNamespace

import pytest
import tiny_run

from regzoo import backend, processors
from regzoo.training import forecast


def told(monkeypatch, seconds, steps, before=0):
    """Returns what is said in a run of so many steps, each of so many seconds, the first of a thousand."""
    clock, said = [0.0], []
    monkeypatch.setattr(forecast.time, "monotonic", lambda: clock[0])
    training = tiny_run.recipe(training={"steps": steps, "steps_per_epoch": 2}).training
    callback = forecast.Forecast(training, said.extend)
    callback.set_model(SimpleNamespace(optimizer=SimpleNamespace(iterations=before)))
    callback.on_train_begin()
    for step in range(20):
        clock[0] += seconds if step else 1000
        callback.on_train_batch_end(step)
    return said


def test_many_hours_are_spoken_of_once(monkeypatch):
    (line,) = told(monkeypatch, seconds=11.0, steps=9006)
    assert line.startswith("at 11 s a step this run will take about 28 hours. ")  # 11 x 9000 / 3600
    assert "training.minutes" in line
    (line,) = told(monkeypatch, seconds=11.0, steps=9006, before=4500)
    assert "about 14 hours" in line


def test_few_hours_are_not(monkeypatch):
    assert told(monkeypatch, seconds=2.0, steps=9000) == []
    assert told(monkeypatch, seconds=11.0, steps=9006, before=8000) == []


@pytest.mark.parametrize(
    ("flags", "found"), [("fpu avx2 fma", False), ("fpu avx512_bf16 avx2", True), ("amx_bf16 avx2", True), (None, None)]
)
def test_a_processor_that_imitates_half_precision(monkeypatch, flags, found):
    text = "processor : 0\n" + (f"flags\t\t: {flags}\n" if flags else "Features : asimd\n")
    monkeypatch.setattr(processors.Path, "read_text", lambda *_, **__: text)
    assert processors.has_bfloat16() is found
    monkeypatch.setattr(backend, "device", lambda: "cpu")
    half, full = (tiny_run.recipe(training={"precision": each}).training for each in ("mixed_bfloat16", "float32"))
    assert len(forecast.slow_precision(half)) == (found is False)
    assert forecast.slow_precision(full) == []
    monkeypatch.setattr(backend, "device", lambda: "gpu")
    assert forecast.slow_precision(half) == []
