"""Measures registration without a network. `python tests/benchmarks/classical.py accuracy|speed --data FOLDER`.

`accuracy` prints, on hippocampus-mr (--split valid or test), Dice, folds and seconds of each list of methods, and, with
--split test, the error of the POPI-model's landmarks, phase 60 (moving) to 10 (fixed), with and without the lung masks.
`speed` prints the seconds of `regzoo register` as a whole process: an affine of a CT pair of 128 x 128 x 37 voxels, a
ddf of two prostates of 32 x 128 x 128, and affine,ffd of 96 x 96 x 96 voxels of synthetic texture.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

import regzoo
from regzoo import hub
from regzoo.ops.matrices import random_affine
from regzoo.schema.recipe import Recipe
from regzoo.training import recipe_data
from regzoo.world.images import Grid, Image
from regzoo.world.resampling import sample_matrix

METHODS = ("affine", "affine,demons", "affine,ffd", "affine,ddf", "affine,dvf")
LUNGS = ("affine,dvf", "affine,convex,dvf")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("accuracy", "speed"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", choices=("valid", "test"), default="valid")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--pairs", type=int, help="only so many pairs")
    arguments = parser.parse_args()
    if arguments.what == "speed":
        speed(arguments.data)
        return
    hippocampus(arguments.data, arguments.split, arguments.methods, arguments.pairs)
    if arguments.split == "test":
        popi(arguments.data / "lung-ct" / "popi-4dct")


def hippocampus(data: Path, split: str, methods: list[str], count: int | None) -> None:
    recipe = Recipe.read(hub.find("hippocampus-mr-dvf").folder / "recipe.yaml")
    records = recipe_data.split_pairs(recipe, split, data)[:count]
    for method in methods:
        rows = []
        for record in records:
            begin = time.perf_counter()
            facts = regzoo.register(method=method, **record.sources()).facts
            before, after = (facts["scores"][when]["mean_dice"] for when in ("before", "after"))
            rows.append((before, after, 100 * facts["jacobian"]["folds"], facts["jacobian"]["sdlogj"]))
            rows[-1] += (facts["seconds"]["optimisation"], time.perf_counter() - begin)
        mean = np.mean(rows, axis=0)
        print(
            f"hippocampus-mr {split}, {len(rows)} pairs, {method}: Dice {mean[0]:.4f} -> {mean[1]:.4f}, "
            f"folds {mean[2]:.4f} %, SDlogJ {mean[3]:.3f}, {mean[4]:.1f} s to optimise, {mean[5]:.1f} s in all",
            flush=True,
        )


def popi(folder: Path) -> None:
    for method in LUNGS:
        for masked in (False, True):
            sides = {}
            for side, phase in (("fixed", 10), ("moving", 60)):
                sides[side] = folder / f"phase_{phase}.nii.gz"
                sides[f"{side}_points"] = folder / f"phase_{phase}_landmarks.csv"
                if masked:
                    sides[f"{side}_mask"] = folder / f"phase_{phase}_lungmask.nii.gz"
            begin = time.perf_counter()
            facts = regzoo.register(method=method, start="world", **sides).facts
            seconds = time.perf_counter() - begin
            before, after = (facts["scores"][when]["tre"]["mean"] for when in ("before", "after"))
            print(
                f"POPI 60 to 10, {method}{', lung masks' if masked else ''}: TRE {before:.2f} -> {after:.3f} mm, "
                f"folds {100 * facts['jacobian']['folds']:.3f} %, {seconds:.1f} s",
                flush=True,
            )


def speed(data: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pairs = {
            "affine, head-and-neck CT 128 x 128 x 37": (*_affine_pair(data, Path(folder)), "affine"),
            "ddf, prostate MR 32 x 128 x 128": (*_prostates(data, Path(folder)), "ddf"),
            "affine,ffd, synthetic 96 x 96 x 96": (*_texture(Path(folder)), "affine,ffd"),
        }
        for name, (fixed, moving, method) in pairs.items():
            command = [sys.executable, "-m", "regzoo", "register", str(fixed), str(moving), "--method", method]
            begin = time.perf_counter()
            done = subprocess.run(
                [*command, "-o", str(Path(folder) / "out")], check=True, capture_output=True, text=True
            )
            print(f"{name}: {time.perf_counter() - begin:.1f} s, whole process", flush=True)
            print(done.stdout, flush=True)


def _affine_pair(data: Path, folder: Path) -> tuple[Path, Path]:
    """Writes the CT and the CT moved by a random affine."""
    image = Image.read(data / "tutorial" / "headneck-ct.h5" / "image", spacing=(4.0, 4.0, 5.0))
    return _written(folder, "ct", image, _moved(image))


def _prostates(data: Path, folder: Path) -> tuple[Path, Path]:
    file = data / "tutorial" / "prostate-mr.h5"
    return _written(folder, "mr", *(Image.read(file / f"image{i}", spacing=(3.0, 0.6, 0.6)) for i in (0, 1)))


def _texture(folder: Path) -> tuple[Path, Path]:
    noise = np.random.default_rng(1).normal(size=(96, 96, 96))
    image = Image(gaussian_filter(noise, 4).astype("float32"), Grid((96, 96, 96), np.eye(4)).affine)
    return _written(folder, "texture", image, _moved(image))


def _moved(image: Image) -> Image:
    full = np.eye(4)
    full[:3] = random_affine(3, image.shape, 0.1)[0]
    return Image(sample_matrix(image.array, full, image.shape, 1, "edge").astype("float32"), image.affine)


def _written(folder: Path, name: str, *images: Image) -> tuple[Path, Path]:
    paths = folder / f"{name}-fixed.nii.gz", folder / f"{name}-moving.nii.gz"
    for path, image in zip(paths, images, strict=True):
        image.save(path)
    return paths


if __name__ == "__main__":
    main()
