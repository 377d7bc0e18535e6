"""Kills trainings and registrations at random moments, and counts what is not whole afterwards.

`KERAS_BACKEND=jax python tests/tools/kills.py [COUNT]` prints, of so many trainings that were killed and started again,
how many ended with other weights than one that was not; and of so many registrations into a folder with an older
result, how many left a result.json of files that are not those.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "helpers"))
import tiny_run

from regzoo.errors import RegzooError
from regzoo.io.files import LISTING, check_listed
from regzoo.models import weights

SEED, COUNT = 11, 20


def run(*arguments: str, seconds: float | None = None) -> float:
    """Runs a command, killed after so many seconds; returns how long it took. One that ends by itself must succeed."""
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "regzoo", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            _, errors = process.communicate(timeout=seconds)
            assert process.returncode == 0, errors.decode()
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
    return time.perf_counter() - started


def trainings(home: Path, count: int, draw: random.Random) -> dict:
    recipe = home / "recipe.yaml"
    tiny_run.recipe(training={"steps": 12}).write(recipe)

    def train(name: str, seconds: float | None = None) -> float:
        return run("finetune", str(recipe), "--data", str(home), "-o", str(home / name), seconds=seconds)

    def values(name: str) -> dict:  # not the file's bytes: safetensors writes the facts in any order
        return weights.read(home / name / "model.safetensors")[0]

    whole = train("whole")
    expected = values("whole")
    others, begun = 0, 0
    for i in range(count):
        train(f"killed{i}", draw.uniform(0.3, 1.0) * whole)
        begun += (home / f"killed{i}" / "checkpoint.safetensors").exists()
        train(f"killed{i}")
        found = values(f"killed{i}")
        others += found.keys() != expected.keys() or any((found[key] != expected[key]).any() for key in expected)
    return {"trainings": count, "killed_with_a_checkpoint": begun, "other_weights": others, "seconds_of_one": whole}


def registrations(home: Path, count: int, draw: random.Random) -> dict:
    images, out = [str(home / "blobs" / "images" / f"{each}.nii.gz") for each in "ab"], home / "out"

    def register(steps: int, seconds: float | None = None) -> float:
        method = ["--method", "rigid", "--iterations", str(steps)]
        return run("register", *images, *method, "-o", str(out), "--quiet", seconds=seconds)

    whole = register(1)
    mixed, without = 0, 0
    for i in range(count):
        register(2 + i, draw.uniform(0.8, 1.02) * whole)
        without += not (out / LISTING).exists()
        for path in (each for each in out.iterdir() if each.is_file()):
            try:
                check_listed(path)
            except RegzooError:
                mixed += 1
                break
        register(1)
    left = [path.name for folder in (home, out) for path in folder.iterdir() if path.name.startswith(".")]
    report = {"registrations": count, "mixed": mixed, "without_a_listing": without}
    return report | {"left_behind": left, "seconds_of_one_registration": whole}


def main(count: int) -> None:
    draw = random.Random(SEED)
    with tempfile.TemporaryDirectory() as name:
        home = tiny_run.write_data(Path(name))
        report = {"backend": os.environ.get("KERAS_BACKEND")}
        print(json.dumps(report | trainings(home, count, draw) | registrations(home, count, draw)))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else COUNT)
