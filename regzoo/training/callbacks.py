"""What happens around Keras's `fit`: checkpoints that survive a kill, logs, a progress bar, a stop on NaN."""

import csv
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import keras
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from regzoo.errors import InvalidError
from regzoo.io.files import atomic_file
from regzoo.models import weights
from regzoo.schema.recipe import Training
from regzoo.training.batches import Batches
from regzoo.training.minutes import Clock


class Checkpoint(keras.callbacks.Callback):
    """After each epoch, scores the model, keeps the best weights and writes one file from which a run goes on.

    Args:
        path: The checkpoint, a safetensors file of model, optimiser and best weights.
        score: Gives the validation figures; the first is the one to choose by, as `score.better(new, old)` says.
        clock: Goes on from the seconds of the checkpoint.
    """

    def __init__(self, path: Path, score: Callable[[], dict[str, float]], clock: Clock) -> None:
        super().__init__()
        self.path, self.score, self.clock = path, score, clock
        self.epoch, self.seconds, self.history, self.best, self.best_epoch = 0, 0.0, [], {}, -1

    def restore(self) -> None:
        """Continues from the checkpoint, if there is one."""
        if not self.path.exists():
            return
        values, facts = weights.read(self.path)
        best = {name[5:]: value for name, value in values.items() if name.startswith("best/")}
        if not _is_whole(facts) or best.keys() != weights.arrays(self.model.variables).keys():
            raise InvalidError(f"{self.path} is damaged: its epochs or its best weights are not whole. Remove it.")
        self.epoch, self.seconds, self.history = facts["epoch"], facts["seconds"], facts["history"]
        self.best_epoch, self.clock.before = facts["best_epoch"], self.seconds
        weights.assign(self.model.variables, values, "model/", self.path.name)
        self.model.optimizer.build(self.model.trainable_variables)
        weights.assign(self.model.optimizer.variables, values, "optimizer/", self.path.name)
        self.best = best
        for row in self.history:  # those of regzoo 0.1 do not tell the step; their epochs were whole
            row.setdefault("step", int(self.model.optimizer.iterations) * row["epoch"] // self.epoch)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Scores, keeps the best, writes the checkpoint; what is no number is never written."""
        _refuse_divergence(logs)  # the last steps' loss may not have been looked at
        values = weights.arrays(self.model.variables, "model/")
        values |= weights.arrays(self.model.optimizer.variables, "optimizer/")
        for name, value in values.items():
            if not np.isfinite(value).all():  # the last step's loss was taken before its update
                raise _diverged(name)
        trained = weights.arrays(self.model.variables)
        # Puts the running average in the place of the weights, if the optimizer keeps one.
        self.model.optimizer.finalize_variable_values(self.model.trainable_variables)
        averaged = weights.arrays(self.model.variables)
        # Anew: the two now share their memory under JAX, where a prediction gives that of the weights away.
        weights.assign(self.model.variables, averaged, "", "the average")
        figures = self.score()
        weights.assign(self.model.variables, trained, "", "the last step")
        chosen = next(iter(figures))
        if not math.isfinite(figures[chosen]):
            raise _diverged(chosen)
        self.epoch, self.seconds = epoch + 1, self.clock.seconds
        row = {"epoch": self.epoch, "step": int(self.model.optimizer.iterations), "seconds": round(self.seconds, 1)}
        self.history.append({**row, **(logs or {}), **figures})
        if self.best_epoch < 0 or self.score.better(figures, self.history[self.best_epoch - 1]):
            self.best, self.best_epoch = averaged, self.epoch
        values |= {"best/" + name: value for name, value in self.best.items()}
        facts = {key: getattr(self, key) for key in ("epoch", "seconds", "history", "best_epoch")}
        weights.save(self.path, values, facts)


def _is_whole(facts: dict) -> bool:
    """Tells whether a checkpoint's facts agree with each other: a line of history for each epoch, one of them best."""
    epoch, seconds, history, best = (facts.get(key) for key in ("epoch", "seconds", "history", "best_epoch"))
    if not (type(epoch) is type(best) is int and isinstance(seconds, int | float) and isinstance(history, list)):
        return False
    rows = [row.get("epoch") if isinstance(row, dict) else None for row in history]
    return rows == list(range(1, epoch + 1)) and 1 <= best <= epoch


class StopOnNaN(keras.callbacks.Callback):
    """Ends a run whose loss is no number any more; the last checkpoint is from before."""

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Raises an error if the loss, a mean over the epoch so far, is NaN or infinite, where it is told."""
        _refuse_divergence(logs)


def _refuse_divergence(logs: dict | None) -> None:
    loss = float((logs or {}).get("loss", 0.0))
    if not math.isfinite(loss):
        raise _diverged("loss", loss)


def _diverged(what: str, value: float = math.nan) -> InvalidError:
    return InvalidError(
        f"Training diverged: {what} became {value}. The last checkpoint is kept; lower training.learning_rate or "
        "training.clip_norm, or raise the weight of a deformation loss, under a new name."
    )


class StopAt(keras.callbacks.Callback):
    """Ends a run after so many steps, also within an epoch.

    Args:
        steps: All steps of the run.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def is_over(self, step: int) -> bool:
        """Tells whether there is no step to come after these."""
        return step >= self.steps

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Counts the steps of the calls before."""
        self._step = int(self.model.optimizer.iterations)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Stops after the last step."""
        self._step += 1
        if self.is_over(self._step):  # under JAX, `self.model` has all weights handed to Keras and back
            self.model.stop_training = True


class Speed(keras.callbacks.Callback):
    """Adds to an epoch's figures how many pairs a second it trained on, and which share of the time it waited for them.

    Validation is not counted, compilation is. It must come first in the list of callbacks.

    Args:
        batches: What is trained on.
    """

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self.batches, self.figures = batches, {"pairs_per_second": 0.0, "waiting": 0.0}

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Goes to the draws of the epoch."""
        self._start = time.monotonic()
        self.batches.start(epoch)

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Notes when the step begins."""
        self.batches.begin(batch)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Measures the epoch so far."""
        self._pairs = (batch + 1) * self.batches.batch_size
        self._measure()

    def _measure(self) -> None:
        seconds = max(time.monotonic() - self._start, 1e-9)
        self.figures = {"pairs_per_second": self._pairs / seconds, "waiting": min(self.batches.waited / seconds, 1.0)}

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Hands the figures to the callbacks that follow, measured when the device has done the last step."""
        self._measure()
        logs.update(self.figures)

    def __str__(self) -> str:
        return f"{self.figures['pairs_per_second']:.3g} pairs/s  {self.figures['waiting']:.0%} wait"


class Logs(keras.callbacks.Callback):
    """Writes `log.csv` and TensorBoard events after each epoch.

    Args:
        folder: The run folder.
        checkpoint: Whose history is written; it must come first in the list of callbacks.
    """

    def __init__(self, folder: Path, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.folder, self.checkpoint = folder, checkpoint

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Writes the table, and the events in a file of their own: nothing is lost or written twice by a kill."""
        from tensorboardX import SummaryWriter

        self.table()
        row = self.checkpoint.history[-1]
        with SummaryWriter(str(self.folder / "tensorboard"), filename_suffix=f".{row['epoch']:05d}") as events:
            for name, value in row.items():
                events.add_scalar(name, value, row["epoch"])

    def table(self) -> None:
        """Writes `log.csv` anew, so that a resumed run repeats no line."""
        rows = self.checkpoint.history
        with atomic_file(self.folder / "log.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(rows[-1]))
            table.writeheader()
            table.writerows(rows)


class Bar(keras.callbacks.Callback):
    """A progress bar over all steps or minutes with loss, speed and time left, on a terminal alone; a line an epoch.

    The terms of the loss and all figures are in `log.csv`.

    Args:
        training: How long the run is.
        checkpoint: Whose figures the lines show.
        speed: How fast it goes.
        before: The figures of the model before training.
        quiet: Whether to say nothing but what is doubtful.
    """

    def __init__(
        self, training: Training, checkpoint: Checkpoint, speed: Speed, before: dict[str, float], quiet: bool
    ) -> None:
        super().__init__()
        self.training, self.checkpoint, self.speed, self.before, self.quiet = training, checkpoint, speed, before, quiet
        self._step = checkpoint.history[-1]["step"] if checkpoint.history else 0
        self._loss = math.nan
        columns = BarColumn(10), TextColumn("{task.fields[step]}"), TimeElapsedColumn(), TextColumn("left")
        self.console = Console(stderr=True, highlight=False)
        self.progress = Progress(
            *columns,
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.task = self.progress.add_task("", total=training.end or 60 * training.minutes, **self._place())

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Shows the bar, and how good the model is that the run starts from."""
        self.progress.start()
        self._say(f"before training  {_told(self.before)}")

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Moves the bar."""
        self._step += 1
        self._loss = (logs or {}).get("loss", self._loss)
        told = f"loss {self._loss:.4f}  {self.speed}"
        self.progress.update(self.task, description=told, **self._place())

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Prints the epoch's figures."""
        row = self.checkpoint.history[-1]
        figures = {name: row[name] for name in self.before}
        best = "  best" if self.checkpoint.best_epoch == row["epoch"] else ""
        self._say(f"step {row['step']}  loss {row['loss']:.4f}  {_told(figures)}{best}")

    def on_train_end(self, logs: dict | None = None) -> None:
        """Takes the bar away; to be called after an error too, since Keras does not, and the cursor is hidden."""
        self.progress.stop()

    def tell_kept(self) -> None:
        """Says which step was kept, and whether it is better than the model before training."""
        best = self.checkpoint.history[self.checkpoint.best_epoch - 1]
        figures = {name: best[name] for name in self.before}
        before = next(iter(self.before.values()))
        self._say(f"kept: step {best['step']}  {_told(figures)}  (before training {before:.4g})")
        if not self.checkpoint.score.better(figures, self.before):
            self.warn(["no step is better than the model before training"])

    def warn(self, doubts: Iterable[str]) -> None:
        """Prints what is doubtful, also where it is to be quiet."""
        for each in doubts:
            self._say(f"warning: {each}", whole=True)

    def _place(self) -> dict[str, object]:
        """Returns how far the run is, in the units of its total, and its step in words."""
        if self.training.minutes:
            return {"completed": self.checkpoint.clock.seconds, "step": f"step {self._step}"}
        return {"completed": self._step, "step": f"{self._step}/{self.training.end}"}

    def _say(self, line: str, *, whole: bool = False) -> None:
        """Prints a line, not broken in two: as long as it is, or on a terminal, unless all of it counts, cut to fit."""
        if whole or not self.quiet:
            cut = self.console.is_terminal and not whole
            form = {"no_wrap": True, "overflow": "ellipsis"} if cut else {"soft_wrap": True}
            self.console.print(line, markup=False, **form)


def _told(figures: dict[str, float]) -> str:
    """Returns the figure by which a model is chosen, and the folds."""
    chosen = next(iter(figures))
    return "  ".join(
        f"{name} {figures[name]:.4g}" for name in dict.fromkeys((chosen, "valid_folds")) if name in figures
    )
