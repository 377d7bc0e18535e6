"""Trains head-mr-strip, which finds the brain in a head of any contrast, on heads made of label maps as it goes.

    python recipes/head-mr-strip/train.py DATA OUTPUT --minutes 20 [--precision mixed_bfloat16] [--batch 4] [--seed 1]

On two CPU cores, under TensorFlow, a step of a batch of 2 takes 2.4 s and of a batch of 1 1.3 s;
`mixed_bfloat16`, only on a GPU, halves the memory, of which batches of 4 take a few gigabytes. The same command goes on
where a run was stopped, from its last epoch; `--minutes` are those of all its parts.

DATA holds head-labelmaps, 5 MB. OUTPUT becomes a zoo entry, for `regzoo register` and `python
tests/benchmarks/heads.py masks DATA --finder OUTPUT`: config.json, model.safetensors (the best by the mean Dice of the
validation maps so far, written as it improves), the card, and log.csv. The learning rate falls by the time that has
gone by. A model of brains is shown what it finds once its card and recipe name it: `input.strip`.
"""

import argparse
import csv
import json
import math
import sys
import time
from pathlib import Path

import regzoo  # noqa: F401  # isort: skip  # before Keras: it lets TensorFlow take the faster convolutions
import keras
import numpy as np
from keras import ops
from synthesis import Heads, read_maps, split

from regzoo import backend
from regzoo.hub import cards
from regzoo.models import build, weights
from regzoo.schema.card import Card

SHAPE, SPACING = (48, 64, 80), (4.0, 4.0, 4.0)
CONFIG = {"backbone": {"name": "unet", "channels": [8, 24, 48, 64, 64]}, "output": {"name": "mask"}}
LEAST = 0.01  # of the learning rate, in the end


class Draws(keras.utils.PyDataset):
    """Seeds and subjects, drawn anew in each epoch."""

    def __init__(self, subjects: int, batch: int, steps: int, seed: tuple[int, int]) -> None:
        super().__init__()
        self.random = np.random.default_rng(seed)
        self.subjects, self.batch, self.steps = subjects, batch, steps

    def __len__(self) -> int:
        """Returns the steps of an epoch."""
        return self.steps

    def __getitem__(self, index: int) -> tuple:
        """Returns the next batch, whatever its number."""
        seeds = self.random.integers(0, 2**31 - 1, self.batch).astype("int32")
        return ({"seeds": seeds, "subjects": self.random.integers(0, self.subjects, self.batch).astype("int32")},)


class Trained(keras.Model):
    """The network behind the making of its images, so that only seeds go to the device."""

    def __init__(self, network: keras.Model, heads: Heads) -> None:
        super().__init__()
        self.network, self.heads = network, backend.compiled(heads)

    def build(self, input_shape: object = None) -> None:
        """Marks the model built: its network is."""
        self.built = True

    def call(self, inputs: dict) -> tuple:
        """Returns logarithms of odds and the share of brain, both (B, *S, 1)."""
        image, brain = backend.inference(self.heads, inputs["seeds"], inputs["subjects"])
        return self.network({"image": image})["mask"], brain

    def compute_loss(self, x: object = None, y: object = None, y_pred: tuple = (), *_: object, **__: object) -> object:
        """Returns soft Dice and cross entropy."""
        found, brain = y_pred
        share, axes = ops.sigmoid(found), (1, 2, 3, 4)
        both = ops.sum(share * brain, axis=axes)
        overlap = (2 * both + 1) / (ops.sum(share, axis=axes) + ops.sum(brain, axis=axes) + 1)
        entropy = ops.maximum(found, 0) - found * brain + ops.log1p(ops.exp(-ops.abs(found)))
        return ops.mean(1 - overlap) + 2 * ops.mean(entropy)


class Timed(keras.callbacks.Callback):
    """Sets the learning rate by the time, validates after each epoch, keeps the best, and ends in time."""

    def __init__(
        self, seconds: float, rate: float, heads: Heads, subjects: int, output: Path, fours: int, done: list[dict]
    ) -> None:
        super().__init__()
        self.fours, self.heads, self.subjects, self.output = fours, heads, subjects, output
        self.seconds, self.rate, self.validation = seconds, rate, 5.0
        last = done[-1] if done else {"seconds": 0, "step": 0}
        self.start, self.step = time.monotonic() - float(last["seconds"]), int(last["step"])
        self.best = max((float(row["valid_dice"]) for row in done), default=-1.0)

    @property
    def gone(self) -> float:
        """Seconds since the start, without those between the parts of a run."""
        return time.monotonic() - self.start

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Sets the learning rate."""
        if self.step % 10 == 0:
            share = LEAST + (1 - LEAST) * (1 + math.cos(math.pi * min(1.0, self.gone / self.seconds))) / 2
            self.model.optimizer.learning_rate = self.rate * share * min(1.0, (self.step + 10) / 200)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Stops if it is time."""
        self.step += 1
        if self.gone + 1.5 * self.validation > self.seconds:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Validates, and keeps the best."""
        start, network = time.monotonic(), self.model.network
        found = [dice(network, self.heads, 4 * i, self.subjects) for i in range(self.fours)]
        mean = float(np.mean(found))
        row = {"seconds": round(self.gone, 1), "step": self.step, "loss": logs["loss"], "valid_dice": mean}
        row["valid_worst"] = float(np.min(found))
        sys.stdout.write(f"{row}\n")
        sys.stdout.flush()
        if mean > self.best:
            self.best = mean
            weights.save(self.output / "model.safetensors", weights.arrays(network.variables), row)
        with (self.output / "log.csv").open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, row)
            if not file.tell():
                writer.writeheader()
            writer.writerow(row)
        self.validation = time.monotonic() - start


ABOUT = {
    "name": "head-mr-strip",
    "version": "1",
    "pipeline_tag": "image-segmentation",
    "tags": ("regzoo", "medical-imaging"),
    "summary": "Finds the brain in a whole head, in MR of any contrast.",
    "anatomy": "head",
    "modality": "MR",
    "license": "apache-2.0",
    "limits": ("It saw no real image in training.", "Not for diagnosis."),
    "citation": (
        "Hoopes et al., SynthStrip, NeuroImage 260, 2022",
        "Billot et al., SynthSeg, Medical Image Analysis 2023",
    ),
}


def write_card(folder: Path, names: dict[str, list[str]], training: dict) -> None:
    """Writes the entry's card, without scores."""
    uses = {use: f"{len(found)} {use}" for use, found in names.items()}
    data = {
        "name": "label maps of SynthSeg at 1.5 mm, from which heads of any contrast are made",
        "url": "https://github.com/BBillot/SynthSeg",
        "license": "Apache-2.0",
        "subjects": sum(map(len, names.values())),
        "use": ", ".join(uses.values()),
    }
    inputs = {"shape": SHAPE, "spacing": SPACING}
    facts = {"input": inputs, "files": cards.manifest(folder), "data": (data,), "training": training}
    card = Card.model_validate(ABOUT | facts)
    cards.write(folder, card, f"# {card.name}\n\n{card.summary}\n")


def dice(network: keras.Model, heads: Heads, first: int, subjects: int) -> list[float]:
    """Returns the Dice of the masks of four heads, made with the seeds from `first` on, on the network's grid."""
    seeds = np.arange(first, first + 4, dtype="int32")
    image, brain = backend.inference(heads, seeds, seeds % subjects)
    found = backend.inference(network, {"image": image})["mask"]
    found, brain = (ops.convert_to_numpy(each) for each in (found, brain))
    found, brain = found > 0, brain > 0.5
    return [float(2 * (a & b).sum() / max(1, a.sum() + b.sum())) for a, b in zip(found, brain, strict=True)]


def main() -> None:
    """Trains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--minutes", type=float, default=8.5)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=200, help="of an epoch")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--fours", type=int, default=6, help="fours of heads that are validated on")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    start = time.monotonic()
    args.output.mkdir(parents=True, exist_ok=True)
    log, last = args.output / "log.csv", args.output / "last"
    if log.exists() and not last.exists():
        parser.error(
            f"OUTPUT: expected an empty folder or a run that was stopped, received {args.output}, which ended."
        )
    backend.seed(args.seed)
    folder = args.data / "head-labelmaps"
    names = {name: split(folder, name) for name in ("train", "valid")}
    train, valid = (Heads(*read_maps(folder, names[name]), SHAPE, SPACING[0]) for name in ("train", "valid"))
    network = build(CONFIG, SPACING, args.precision)
    config = json.dumps(network.config.model_dump(mode="json"), indent=2) + "\n"
    (args.output / "config.json").write_text(config, encoding="utf-8")
    model = Trained(network, train)
    model.build()
    model.compile(keras.optimizers.Adam(args.rate, clipnorm=1.0), jit_compile=False)
    seconds = 60 * args.minutes - (time.monotonic() - start)
    done = list(csv.DictReader(log.read_text(encoding="utf-8").splitlines())) if log.exists() else []
    timed = Timed(seconds, args.rate, valid, len(names["valid"]), args.output, args.fours, done)
    draws = Draws(len(names["train"]), args.batch, args.steps, (args.seed, timed.step))
    kept = keras.callbacks.BackupAndRestore(last, double_checkpoint=True)
    model.fit(draws, epochs=10**4, shuffle=False, verbose=0, callbacks=[kept, timed])
    training = {"seed": args.seed, "steps": timed.step, "batch_size": args.batch, "minutes": args.minutes}
    write_card(args.output, names, training | {"backend": backend.NAME, "keras": keras.__version__})


if __name__ == "__main__":
    main()
