"""What fine-tuning on few labelled subjects brings, and training from scratch beside it.

    python tests/benchmarks/finetuning.py --data FOLDER --output FOLDER [--subjects 5 10 20]

Runs recipes/hippocampus-mr-dvf-unsupervised/finetune.yaml on the first training subjects of hippocampus-mr, once
from its parent and once, with the parent's network, from random weights; prints a table of the best Dice on the 20
pairs of `valid` within five minutes of training, that of the whole run, and the command's minutes. Runs that are in
OUTPUT are not done again.
"""

import argparse
import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import yaml

from regzoo import hub
from regzoo.hub import cards

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "hippocampus-mr-dvf-unsupervised" / "finetune.yaml"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--subjects", type=int, nargs="+", default=[5, 10, 20])
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    print("| labelled subjects | start | Dice within 5 minutes | of the whole run | minutes |\n|---|---|---|---|---|")
    for count in arguments.subjects:
        for tuned in (True, False):
            early, late, minutes = run(arguments.data.resolve(), arguments.output.resolve(), count, tuned)
            start = "fine-tuned" if tuned else "from scratch"
            print(f"| {count} | {start} | {early:.3f} | {late:.3f} | {minutes:.1f} |", flush=True)


def run(data: Path, output: Path, count: int, tuned: bool) -> tuple[float, float, float]:
    """Returns the best Dice on `valid` within five minutes, that of the whole run, and the minutes of the command."""
    name = f"{'tuned' if tuned else 'scratch'}-{count}"
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    splits = json.loads((data / recipe["data"]["root"] / recipe["data"]["splits"]).read_text())
    few = {"train": splits["train"][:count], "valid": splits["valid"]}
    (output / f"{name}.json").write_text(json.dumps(few))
    recipe["data"]["splits"] = str(output / f"{name}.json")
    if not tuned:
        parent = hub.resolve(recipe.pop("parent"))
        recipe |= {key: yaml.safe_load((parent / cards.RECIPE).read_text())[key] for key in ("model", "input")}
    path = output / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    folder, minutes = output / name, output / f"{name}.minutes"
    if not minutes.exists():
        begin = time.perf_counter()
        command = [sys.executable, "-m", "regzoo.cli", "finetune", str(path), "--data", str(data), "-o", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        minutes.write_text(str((time.perf_counter() - begin) / 60))
    with (folder / "log.csv").open() as file:
        found = [(float(row["seconds"]), float(row["valid_dice"])) for row in csv.DictReader(file)]
    early, late = (max(dice for seconds, dice in found if seconds <= limit) for limit in (300, float("inf")))
    return early, late, float(minutes.read_text())


if __name__ == "__main__":
    main()
