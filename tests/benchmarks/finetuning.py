"""What fine-tuning on few labelled subjects brings, and training from scratch beside it.

    python tests/benchmarks/finetuning.py --data FOLDER --output FOLDER [--recipe FILE] [--subjects 5 10 20] [--test]

Runs a recipe, by default recipes/hippocampus-mr-dvf-unsupervised/finetune.yaml, on the first training subjects of its
data, once from its parent and once, with the parent's network, from random weights; prints a table of the best Dice on
the pairs of `valid` within five minutes of training, that of the whole run, and the command's minutes. With `--test`
also the Dice on the test pairs by the map and by its inverse, of the parent too, on the recipe's grid. Runs that are
in OUTPUT are not done again. Five minutes are of a machine that does nothing else.
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

import regzoo
from regzoo import hub
from regzoo.hub import cards
from regzoo.schema.recipe import Recipe
from regzoo.training import recipe_data

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "hippocampus-mr-dvf-unsupervised" / "finetune.yaml"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--test", action="store_true")
    parser.add_argument("--subjects", type=int, nargs="+", default=[5, 10, 20])
    arguments = parser.parse_args()
    output, data = arguments.output.resolve(), arguments.data.resolve()
    output.mkdir(parents=True, exist_ok=True)
    end = " test, map | test, inverse |" if arguments.test else ""
    print(f"| labelled subjects | start | Dice within 5 minutes | of the whole run | minutes |{end}")
    print("|---|---|---|---|---|" + ("---|---|" if end else ""))
    if arguments.test:
        recipe = Recipe.read(arguments.recipe)
        print(f"| 0 | the parent | | | | {tested(as_in(recipe, output / 'parent'), recipe, data)} |", flush=True)
    for count in arguments.subjects:
        for tuned in (True, False):
            early, late, minutes = run(arguments.recipe, data, output, count, tuned)
            row = (
                f"| {count} | {'fine-tuned' if tuned else 'from scratch'} | {early:.3f} | {late:.3f} | {minutes:.1f} |"
            )
            folder = output / name_of(count, tuned)
            row += f" {tested(folder, Recipe.read(arguments.recipe), data)} |" if arguments.test else ""
            print(row, flush=True)


def as_in(recipe: Recipe, folder: Path) -> Path:
    """Returns a copy of a recipe's parent that sees images as the recipe does."""
    parent = hub.resolve(recipe.parent)
    shutil.copytree(parent, folder, dirs_exist_ok=True)
    card = cards.read(folder)
    cards.write(folder, card.model_copy(update={"input": recipe.input or card.input}), cards.read_body(folder))
    return folder


def tested(model: Path, recipe: Recipe, data: Path) -> str:
    """Returns the mean Dice on the test pairs, by the map and by its inverse, as cells of a table."""
    found = regzoo.evaluate(model, recipe_data.split_pairs(recipe, "test", data), error=False).summary()
    return " | ".join(f"{found[f'dice_{way}_after']['mean']:.3f}" for way in ("forward", "inverse"))


def name_of(count: int, tuned: bool) -> str:
    """Returns the name of a run's folder."""
    return f"{'tuned' if tuned else 'scratch'}-{count}"


def run(source: Path, data: Path, output: Path, count: int, tuned: bool) -> tuple[float, float, float]:
    """Returns the best Dice on `valid` within five minutes, that of the whole run, and the minutes of the command."""
    name = name_of(count, tuned)
    recipe = yaml.safe_load(source.read_text(encoding="utf-8"))
    splits = json.loads((data / recipe["data"]["root"] / recipe["data"]["splits"]).read_text())
    few = {"train": splits["train"][:count], "valid": splits["valid"]}
    (output / f"{name}.json").write_text(json.dumps(few))
    recipe["data"]["splits"] = str(output / f"{name}.json")
    if not tuned:
        parent = hub.resolve(recipe.pop("parent"))
        recipe = {key: yaml.safe_load((parent / cards.RECIPE).read_text())[key] for key in ("model", "input")} | recipe
    path = output / f"{name}.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    folder, minutes = output / name, output / f"{name}.minutes"
    if not minutes.exists():
        begin = time.perf_counter()
        command = [sys.executable, "-m", "regzoo", "finetune", str(path), "--data", str(data), "-o", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        minutes.write_text(str((time.perf_counter() - begin) / 60))
    with (folder / "log.csv").open() as file:
        found = [(float(row["seconds"]), float(row["valid_dice"])) for row in csv.DictReader(file)]
    early, late = (max(dice for seconds, dice in found if seconds <= limit) for limit in (300, float("inf")))
    return early, late, float(minutes.read_text())


if __name__ == "__main__":
    main()
