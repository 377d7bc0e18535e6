"""Measures training beside another checkout: `python tests/benchmarks/batches.py OTHER RECIPE... --data FOLDER`.

OTHER is a folder with another state of the project, such as one of `git worktree add`. Both train each recipe in turn,
each time in a process of its own, which prints the steps a second, the processor seconds (of all threads) of a step and
of one batch that is made by itself, and the share of the time in which no batch was ready; compilation is not counted.
`--steps`: so many, twice; `--batch-size`: not the recipe's; `--alone`: batches are made and nothing is trained.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

CHILD = """
import os, sys, tempfile, time
import regzoo
from regzoo import backend  # first: it sets what TensorFlow reads at import
from keras import ops
from regzoo.schema.recipe import Recipe
from regzoo.training import callbacks, finetune
from regzoo.training.recipe_data import data_of

path, data, steps, size, alone = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
recipe = Recipe.read(path)
training = {"steps": 2 * steps, "stop_after": None, "steps_per_epoch": steps, "warmup": 0}
training |= {"batch_size": size or recipe.training.batch_size}
recipe = recipe.model_copy(update={
    "training": recipe.training.model_copy(update=training),
    "data": recipe.data.model_copy(update={"validation_pairs": 1}),
})
batches = finetune._batches(recipe, data_of(recipe, data).examples(recipe.input), recipe.input)

def make(step):
    return {name: ops.convert_to_numpy(each) for name, each in batches.make(0, step).items()}

make(0)
start = time.process_time()
for step in range(1, 5):
    make(step)
print(f"{(time.process_time() - start) / 4:8.3f} processor s a batch", flush=True)
if alone:
    sys.exit()
begin, end, started = callbacks.Speed.on_epoch_begin, callbacks.Speed.on_epoch_end, []

def begun(self, epoch, logs=None):
    begin(self, epoch, logs)
    started[:] = time.monotonic(), time.process_time()

def ended(self, epoch, logs=None):
    seconds, busy = time.monotonic() - started[0], time.process_time() - started[1]
    if epoch:
        wait = self.figures["waiting"]
        print(f"{steps / seconds:8.3f} steps/s, {busy / steps:.3f} processor s a step, {wait:.0%} wait", flush=True)
    end(self, epoch, logs)

callbacks.Speed.on_epoch_begin, callbacks.Speed.on_epoch_end = begun, ended
with tempfile.TemporaryDirectory() as folder:
    regzoo.finetune(recipe, folder + "/run", data, quiet=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path)
    parser.add_argument("recipes", type=Path, nargs="+")
    parser.add_argument("--data", required=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=0)
    parser.add_argument("--alone", action="store_true")
    args = parser.parse_args()
    numbers = [str(each) for each in (args.steps, args.batch_size, int(args.alone))]
    for recipe in args.recipes:
        for name, root in (("other", args.other), ("this", Path(__file__).parents[2])):
            print(f"{name}: {recipe}", flush=True)
            environment = os.environ | {"PYTHONPATH": str(root.resolve())}
            command = [sys.executable, "-c", CHILD, str(recipe.resolve()), args.data, *numbers]
            subprocess.run(command, env=environment, cwd=root, check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
