"""Draws six registrations for README, before and after: `python tests/benchmarks/anatomies.py --data FOLDER... -o PNG`.

FOLDER holds what the models' recipes name (`brain-mr`, `hippocampus-mr`, `lung-ct`, `brain-multicontrast`;
`headneck-ct` and `cardiac-cine-mr` as their recipes/*/prepare.py write them); of several the first that has it is
taken. Of brains, hippocampi, hearts and head and neck it is the test pair in the middle by what Dice gained, of lungs a
simulated breath of one chest, of two contrasts a T1 and the T2 of the same brain, bent by a known smooth field of 6 mm.
Prints what each gave.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from any_contrast import brains
from pictures import simulated
from PIL import Image as Picture
from scipy import ndimage

import regzoo
from regzoo import hub
from regzoo.hub import cards
from regzoo.registration.report.planes import Plane, nearest_axes
from regzoo.registration.report.shown import Shown
from regzoo.schema.recipe import Recipe
from regzoo.training import recipe_data
from regzoo.world.images import Image
from regzoo.world.resampling import resample

CHEST = "lung-ct/chest/cptac_lscc_00247"  # no network was trained on it
OUTLINES = 8  # of the largest labels, for of all those of a brain nothing is seen
ROWS = "fixed", "moving, before", "moving, after"


class Shot(NamedTuple):
    """A registration to draw: with which model, of what, across which axis (0 sagittal, 1 coronal, 2 axial)."""

    title: str
    model: str
    normal: int
    sources: Callable[[str, list[Path]], dict]


def first(folders: list[Path], name: str) -> Path:
    """Returns the first folder that holds a file or folder of that name."""
    found = [folder for folder in folders if list((folder / name).parent.glob(f"{(folder / name).name}*"))]
    if not found:
        raise SystemExit(f"--data: expected a folder that holds {name}.")
    return found[0]


def middle(model: str, folders: list[Path]) -> dict:
    """Returns the test pair that gains as much as half of the others."""
    entry = hub.resolve(model)
    rows, recipe = json.loads((entry / cards.SCORES).read_text())["test"]["rows"], Recipe.read(entry / cards.RECIPE)
    pairs = recipe_data.split_pairs(recipe, "test", first(folders, str(recipe.data.root)))
    order = sorted(range(len(rows)), key=lambda number: rows[number]["dice_after"] - rows[number]["dice_before"])
    return pairs[order[len(order) // 2]].sources()


def breath(model: str, folders: list[Path]) -> dict:
    """Returns two simulated states of breathing of a chest, the lungs as labels."""
    chest = first(folders, CHEST) / CHEST
    return simulated(regzoo.load(model), Path(f"{chest}.nii.gz"), Path(f"{chest}_lungmask.nii.gz"))


def contrasts(model: str, folders: list[Path]) -> dict:
    """Returns the T1 and the bent T2 of a patient's brain; what is bright in T1, the white matter, is the label."""
    case = next(brains(first(folders, "brain-multicontrast")))
    smooth = ndimage.gaussian_filter(case.fixed.array.astype("float32"), 0.5)
    white = smooth > np.percentile(case.fixed.array[case.fixed.array > 0], 60)
    return {
        "fixed": case.fixed,
        "moving": case.moving,
        "fixed_labels": Image(white.astype("uint8"), case.fixed.affine),
    }


SHOTS = (
    Shot("brain, MR", "brain-mr-dvf", 2, middle),
    Shot("hippocampus, MR", "hippocampus-mr-dvf", 0, middle),
    Shot("lung, CT\n(simulated breath)", "lung-ct-ddf", 1, breath),
    Shot("heart, cine MR", "cardiac-cine-mr-ddf", 2, middle),
    Shot("head and neck, CT\n(turned, simulated)", "headneck-ct-affine", 2, middle),
    Shot("any contrast: brain, T1 and T2\n(bent, simulated)", "anycontrast-dvf", 2, contrasts),
)


def draw(axes: np.ndarray, shot: Shot, sources: dict) -> None:
    """Draws a column: the fixed image, and the moving one before and after, all with the fixed image's outlines."""
    labels = sources["fixed_labels"]
    given = sources | ({"fixed_labels": None} if sources.get("moving_labels") is None else {})
    model = regzoo.load(shot.model)
    result = regzoo.register(**given, model=model, start=model.card.input.alignment)  # as it was trained and scored
    labels = labels if isinstance(labels, Image) else Image.read(labels, labels=True)
    outlined = resample(labels, result.fixed.grid, order=0).array
    if labels.channels is not None:
        outlined = np.where(outlined.max(axis=-1) > 0.5, outlined.argmax(axis=-1) + 1, 0)
    print(shot.model, result, flush=True)
    axis = nearest_axes(result.fixed.grid)[shot.normal]
    others = tuple(each for each in range(3) if each != axis)
    plane = Plane(result.fixed.grid, shot.normal, int(np.argmax(np.count_nonzero(outlined, axis=others))))
    shown, cut = Shown(result), plane.cut(outlined)
    images = {"fixed": result.fixed, "moving": shown.before, "moved": result.moved}
    for (name, image), panel in zip(images.items(), axes, strict=True):
        low, high = shown.window["fixed" if name == "fixed" else "moving"]
        panel.imshow(plane.cut(image.array), cmap="gray", vmin=low, vmax=high, origin="lower", aspect=plane.aspect)
        values, sizes = np.unique(cut[cut > 0], return_counts=True)
        for value in values[np.argsort(sizes)][-OUTLINES:]:
            panel.contour(cut == value, [0.5], colors="#ffd000", linewidths=0.7)
        panel.set_xticks([])
        panel.set_yticks([])
    axes[0].set_title(shot.title, fontsize=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    mpl.use("Agg")
    figure, axes = plt.subplots(3, len(SHOTS), figsize=(2.1 * len(SHOTS), 6.2), layout="constrained")
    for shot, column in zip(SHOTS, axes.T, strict=True):
        draw(column, shot, shot.sources(shot.model, arguments.data))
    for name, row in zip(ROWS, axes[:, 0], strict=True):
        row.set_ylabel(name, fontsize=8)
    figure.savefig(arguments.output, dpi=100)
    Picture.open(arguments.output).convert("RGB").quantize(128).save(arguments.output, optimize=True)


if __name__ == "__main__":
    main()
