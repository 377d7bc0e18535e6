"""Batches of training pairs, made ahead while the model trains: drawn by their kind of data, made on the device."""

import math
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import keras
import numpy as np

from regzoo.data.kinds import Batch, Examples
from regzoo.training.developing import developed

_AHEAD = 2


class Batches(keras.utils.PyDataset):
    """Batches that a thread has made ahead, those of the next epoch too, while the model trains.

    What may be drawn lies on the device, if it fits; the thread then sends rows and seeds there (see `developed`).
    Batches that are drawn whole, as of simulated pairs, are made by the thread.

    They are the same for the same seed, epoch and step, whenever they are made. Whoever trains calls `start` before
    each epoch: Keras calls `on_epoch_end` once more where it builds an optimizer, so that counting there would give a
    resumed run other batches. Called before each step, `begin` lets `waited` tell for how many seconds of the epoch
    the training had nothing to do, since a batch was not ready.

    Args:
        examples: Draws batches.
        spacing: Millimetres a voxel of the network's grid.
        steps: Batches an epoch.
        batch_size: Pairs a batch.
        seed: Seed of all draws.
    """

    def __init__(self, examples: Examples, spacing: Sequence[float], *, steps: int, batch_size: int, seed: int) -> None:
        # Keras's own queue, for more than one worker, hands what is left of one epoch to the next.
        super().__init__(workers=1, use_multiprocessing=False)
        self.examples, self.spacing = examples, spacing
        held = examples.held
        self._held = held and {name: keras.ops.convert_to_tensor(each) for name, each in held.items()}
        self.steps, self.batch_size, self.seed, self.epoch = steps, batch_size, seed, 0
        self._thread = ThreadPoolExecutor(1, "batches")
        self._made: dict[int, Future] = {}
        self._lock = threading.Lock()
        self.waited, self._begun = 0.0, (-1, 0.0)

    def __len__(self) -> int:
        return self.steps

    def start(self, epoch: int, logs: dict | None = None) -> None:
        """Goes to the draws of an epoch."""
        self.epoch, self.waited = epoch, 0.0

    def begin(self, step: int, logs: dict | None = None) -> None:
        """Notes when a step begins, for whose batch nobody waits before."""
        self._begun = step, time.monotonic()

    def __getitem__(self, step: int) -> tuple[Batch]:
        now = self.epoch * self.steps + step
        wanted = range(now, now + 1 + _AHEAD)
        with self._lock:
            for other in self._made.keys() - set(wanted):
                self._made.pop(other).cancel()
            for number in wanted:
                if number not in self._made:
                    self._made[number] = self._thread.submit(self.make, *divmod(number, self.steps))
            batch = self._made[now]
        asked = time.monotonic()
        result = batch.result()
        if threading.current_thread() is not threading.main_thread():  # TensorFlow asks ahead, and waits in the step
            begun, at = self._begun
            asked = max(asked, at) if begun == step else math.inf
        self.waited += max(time.monotonic() - asked, 0.0)
        return (result,)

    def make(self, epoch: int, step: int) -> Batch:
        """Returns a batch as a model is trained on it, a `regzoo.data.kinds.Batch`; its tensors are on the device."""
        drawn = self.examples.draw(np.random.default_rng([self.seed, epoch, step]), self.batch_size)
        if self._held is None:
            return drawn
        return developed(drawn, self._held, self.examples.augmentation, self.spacing)
