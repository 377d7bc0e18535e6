"""A run that is given minutes: its clock, a learning rate that falls as time goes by, an end in time."""

import math
import time

import keras

from regzoo.schema.recipe import Training

_SPARE = 1.2
"""Times what the end of an epoch took is kept for the last one, which takes not always the same, and for publishing."""
_CHANGE = 0.01
"""Share by which the learning rate is changed: under JAX `self.model` has all weights handed to Keras and back."""


class Clock:
    """Seconds that a run has taken since it was first called; but for what a kill took back."""

    def __init__(self) -> None:
        self.before, self._start = 0.0, time.monotonic()

    @property
    def seconds(self) -> float:
        """Those of the calls before, as the checkpoint has them, and of this one."""
        return self.before + time.monotonic() - self._start


class Minutes(keras.callbacks.Callback):
    """Sets the learning rate by the time that has gone by, and ends the run so that all is written within its minutes.

    It must come last in the list of callbacks, so that it sees all that the end of an epoch takes.

    Args:
        training: The recipe's; the rate falls by its `schedule` over its `minutes`, after a rise of `warmup` steps.
        clock: Says how much time has gone by.
        reserve: Seconds that a validation takes, until the first one tells.
    """

    def __init__(self, training: Training, clock: Clock, reserve: float) -> None:
        super().__init__()
        self.training, self.clock, self.reserve = training, clock, reserve
        self.step_seconds, self._set, self._ended = 0.0, None, None

    def is_over(self, step: int) -> bool:
        """Tells whether one more step than these would take time that what follows it needs."""
        return self.clock.seconds + self.step_seconds + _SPARE * self.reserve >= 60 * self.training.minutes

    def rate(self, step: int) -> float:
        """Returns the learning rate of a step, counted from 0, that is taken now: in the end a hundredth, or all."""
        progress = min(self.clock.seconds / (60 * self.training.minutes), 1.0)
        least = 0.01 if self.training.schedule == "cosine" else 1.0
        share = least + (1 - least) * (1 + math.cos(math.pi * progress)) / 2
        warmup = self.training.warmup
        return self.training.learning_rate * share * (min(step / warmup, 1.0) if warmup else 1.0)

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Counts the steps of the calls before."""
        self._step = int(self.model.optimizer.iterations)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Measures no step from before the validation."""
        self._ended = None

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Sets the learning rate, if it is to change by more than a little."""
        rate = self.rate(self._step)
        if self._set is None or abs(rate - self._set) > _CHANGE * self._set:
            self.model.optimizer.learning_rate = self._set = rate

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Stops if it is time; the first step, which is compiled, says nothing about the others."""
        self._step += 1
        last, self._ended = self._ended, self.clock.seconds
        if last is not None:
            self.step_seconds = self._ended - last  # with the wait for its batch
        if self.is_over(self._step):
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Measures what the end of an epoch takes; stops if another one would come too late."""
        self.reserve = self.clock.seconds - self._ended
        if self.is_over(self._step):
            self.model.stop_training = True
