"""Trains one small budget in every way of supervision and with every output, and prints the validation Dice of each.

    python tests/benchmarks/supervision.py --data ../shared/data --steps 500 --output runs/supervision

Same data, steps, seed, batch and augmentation for all; the same U-Net, but for `affine`, which has a GlobalNet of the
same width. A run that was stopped goes on where it was; one that is finished is only read.
"""

import argparse
import json
from pathlib import Path

from regzoo import finetune
from regzoo.schema.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent.parent
IMAGE, LABEL = {"lncc": {"weight": 0.3, "size": 7}}, {"dice": {"weight": 1.0}}
SMOOTH = {"gradient": {"weight": 1.0}}
UNET = {"name": "unet", "channels": [16, 32, 64, 128]}
OUTPUTS = {
    "ddf": {"backbone": UNET, "output": {"name": "ddf", "level": 1}},
    "dvf": {"backbone": UNET, "output": {"name": "dvf", "level": 1, "steps": 7}},
    "ffd": {"backbone": UNET, "output": {"name": "ffd", "spacing": [8.0, 4.0]}},
    "affine": {"backbone": {"name": "global", "channels": [16, 32, 64, 128]}, "output": {"name": "affine"}},
    "conditional": {"backbone": UNET, "output": {"name": "conditional"}},
}
RUNS = {
    "dvf, unsupervised": ("dvf", {"image": IMAGE, "deformation": SMOOTH}),
    "dvf, weakly supervised": ("dvf", {"label": LABEL, "deformation": SMOOTH}),
    "dvf, combined": ("dvf", {"image": IMAGE, "label": LABEL, "deformation": SMOOTH}),
    "ddf, combined": ("ddf", {"image": IMAGE, "label": LABEL, "deformation": SMOOTH}),
    "ffd, combined": ("ffd", {"image": IMAGE, "label": LABEL, "deformation": SMOOTH}),
    "affine, combined": ("affine", {"image": IMAGE, "label": LABEL}),
    "conditional, weakly supervised": ("conditional", {"label": LABEL}),
}


def recipe(name: str, steps: int) -> Recipe:
    """Returns the recipe of a run: the hippocampus recipe with another output and loss."""
    output, loss = RUNS[name]
    base = Recipe.read(ROOT / "recipes" / "hippocampus-mr-dvf" / "combined.yaml").model_dump(mode="json")
    training = base["training"] | {"steps": steps, "warmup": min(100, steps // 5), "steps_per_epoch": steps // 2}
    changes = {"name": name.replace(", ", "-").replace(" ", "-"), "model": OUTPUTS[output], "loss": loss}
    return Recipe.model_validate(base | changes | {"training": training})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--output", type=Path, default=Path("runs") / "supervision")
    options = parser.parse_args()
    print("| run | steps | valid Dice | folds, % | minutes |\n| --- | --- | --- | --- | --- |", flush=True)
    for name in RUNS:
        wanted = recipe(name, options.steps)
        folder = finetune(wanted, options.output / wanted.name, options.data)
        best = json.loads((folder / "scores.json").read_text())["valid"]
        folds = f"{100 * best['valid_folds']:.3f}" if "valid_folds" in best else "-"
        minutes = f"{best['seconds'] / 60:.1f}"
        row = [name, best["epoch"] * (options.steps // 2), f"{best['valid_dice']:.4f}", folds, minutes]
        print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
