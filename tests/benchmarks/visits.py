"""Dice of prostate-mask-longitudinal-ddf by how many visits lie between two masks of one test patient.

    python tests/benchmarks/visits.py --data FOLDER [--model NAME]

Every pair of visits of a test patient, the earlier one moving; FOLDER as for the recipe, which says what it holds.
"""

import argparse
import json
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import h5py
import numpy as np

import regzoo
from regzoo import hub
from regzoo.hub import cards
from regzoo.schema.recipe import Recipe
from regzoo.world.images import Image


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="prostate-mask-longitudinal-ddf")
    arguments = parser.parse_args()
    data = Recipe.read(hub.resolve(arguments.model) / cards.RECIPE).data
    home = arguments.data / data.root
    chosen = json.loads((home / data.splits).read_text())["test"]
    patients = defaultdict(list)
    with h5py.File(home / "data.h5") as file:
        for _, patient, visit in (name.split("-") for name in file):
            if patient in chosen:
                patients[patient].append(int(visit))
    model, rows = regzoo.load(arguments.model), defaultdict(list)
    for patient, visits in patients.items():
        for earlier, later in combinations(sorted(visits), 2):
            pair = (home / "data.h5" / f"group-{patient}-{visit}" for visit in (later, earlier))
            rows[later - earlier].append(scores(model, *pair))
    for gap, found in sorted(rows.items()):
        before, after, folds = np.array(found).T
        print(
            f"{gap} visits apart, {len(found)} pairs: Dice {before.mean():.3f} -> {after.mean():.3f} "
            f"± {after.std():.3f} (worst {after.min():.3f}), folds {100 * folds.mean():.4f} %"
        )


def scores(model: object, fixed: Path, moving: Path) -> tuple[float, float, float]:
    """Returns Dice before and after, and the share of folds; the masks are the images."""
    spacing = (1, 1, 1)  # the file tells none
    images, labels = ([Image.read(path, labels=kind, spacing=spacing) for path in (fixed, moving)] for kind in (0, 1))
    facts = regzoo.register(*images, model, fixed_labels=labels[0], moving_labels=labels[1]).facts
    dice = [facts["scores"][when]["mean_dice"] for when in ("before", "after")]
    return *dice, facts["jacobian"]["folds"]


if __name__ == "__main__":
    main()
