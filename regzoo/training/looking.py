"""When a run looks at what the device has done."""

import time
from collections.abc import Sequence

import keras

_SECONDS, _MOST_STEPS = 1.0, 50


class Callbacks(keras.callbacks.CallbackList):
    """Callbacks that are given a step's figures about once a second, and none in between.

    To look at them is to wait until the device has done the step, which Keras does in each one; what the device is told
    to do meanwhile is at most that second ahead of it.
    """

    def __init__(self, callbacks: Sequence[keras.callbacks.Callback], model: keras.Model) -> None:
        super().__init__(list(callbacks), add_history=True, model=model)
        self._steps, self._every, self._looked = 0, 1, time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Calls them all."""
        self._steps += 1
        figures = {}
        if self._steps >= self._every:
            figures = {name: float(value) for name, value in (logs or {}).items()}
            seconds, self._looked = time.monotonic() - self._looked, time.monotonic()
            self._every = min(max(int(_SECONDS * self._steps / max(seconds, 1e-9)), 1), _MOST_STEPS)
            self._steps = 0
        for callback in self.callbacks:
            callback.on_train_batch_end(batch, figures)
