"""How long a run will take, said while it can still be given fewer steps."""

import time
from collections.abc import Callable, Sequence

import keras

from regzoo import backend, processors
from regzoo.schema.recipe import Training

_STEPS = 5
"""Steps that are measured, after the first one, which is compiled."""
_HOURS = 6.0
"""More than these are spoken of."""


class Forecast(keras.callbacks.Callback):
    """Says after a few steps if a run of so many steps will take many hours, and what to do.

    Args:
        training: How long the run is.
        warn: Prints sentences.
    """

    def __init__(self, training: Training, warn: Callable[[Sequence[str]], None]) -> None:
        super().__init__()
        self.training, self.warn = training, warn

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Counts the steps of the calls before."""
        self._seen, self._before, self._start = 0, int(self.model.optimizer.iterations), 0.0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Measures the first steps."""
        self._seen += 1
        if self._seen == 1:
            self._start = time.monotonic()
        elif self._seen == 1 + _STEPS and self.training.end:
            seconds = (time.monotonic() - self._start) / _STEPS
            hours = seconds * (self.training.end - self._before - self._seen) / 3600
            if hours > _HOURS:
                way_out = "Give it training.minutes or fewer steps, or train on a GPU"
                self.warn([f"at {seconds:.2g} s a step this run will take about {hours:.0f} hours. {way_out}."])


def slow_precision(training: Training) -> list[str]:
    """Says that half precision is asked of a processor that has to imitate it."""
    if training.precision == "float32" or backend.device() != "cpu" or processors.has_bfloat16() is not False:
        return []
    return ["this processor has no bfloat16 arithmetic: training.precision float32 is the faster one here"]
