"""Scores classical registration on the test pairs of a bundled model, for its card.

    pip install antspyx picsl_greedy SimpleITK
    python tests/benchmarks/peers.py --data FOLDER [--model NAME]

Where the test pairs have labels, images come to the peers as they come to the network: its grid, intensities, start;
labels are moved by nearest neighbour and scored on that grid. Where they have landmarks, ANTs reads the files and is
scored by the landmarks' error, with and without lung masks beside the images (NAME_lungmask.nii.gz).
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import pandas

from regzoo import cards, datasets, metrics
from regzoo.pairing import sides
from regzoo.pairs import Reader
from regzoo.pairs_csv import PairFiles
from regzoo.points import read_points
from regzoo.recipe import Recipe

ANTS = {"ANTs affine": "Affine", "ANTs SyN": "SyN"}


def ants(fixed, moving, labels, kind):
    import ants as library

    images = [library.from_numpy(array) for array in (fixed, moving, labels.astype("float32"))]
    start = time.perf_counter()
    found = library.registration(images[0], images[1], type_of_transform=ANTS[kind])["fwdtransforms"]
    seconds = time.perf_counter() - start
    moved = library.apply_transforms(images[0], images[2], found, interpolator="genericLabel")
    return moved.numpy().round().astype("int16"), seconds


def greedy(fixed, moving, labels, kind):
    import SimpleITK as sitk
    from picsl_greedy import Greedy3D

    images = [sitk.GetImageFromArray(array.T.astype("float32").copy()) for array in (fixed, moving, labels)]
    tool, start = Greedy3D(), time.perf_counter()
    tool.execute(
        "-d 3 -a -i f m -m NCC 2x2x2 -n 100x50 -ia-image-centers -o aff -V 0", f=images[0], m=images[1], aff=None
    )
    tool.execute("-d 3 -i f m -it aff -n 100x50x20 -m NCC 2x2x2 -s 1.0vox 0.5vox -o warp -V 0", warp=None)
    seconds = time.perf_counter() - start
    tool.execute("-d 3 -rf f -ri NN -rm l moved -r warp aff", l=images[2], moved=None)
    return np.asarray(sitk.GetArrayFromImage(tool["moved"])).T.round().astype("int16"), seconds


PEERS = dict.fromkeys(ANTS, ants) | {"Greedy affine + diffeomorphic": greedy}


def landmark_errors(pairs: list[PairFiles]) -> None:
    import ants as library

    for kind in ANTS:
        for masked in (False, True):
            errors, times = [], []
            for pair in pairs:
                images = [library.image_read(str(path)) for path in (pair.fixed, pair.moving)]
                masks = [
                    library.image_read(str(path).replace(".nii", "_lungmask.nii")) for path in (pair.fixed, pair.moving)
                ]
                settings = {"mask": masks[0], "moving_mask": masks[1]} if masked else {}
                start = time.perf_counter()
                found = library.registration(*images, type_of_transform=ANTS[kind], **settings)["fwdtransforms"]
                times.append(time.perf_counter() - start)
                fixed, moving = (read_points(path) for path in (pair.fixed_points, pair.moving_points))
                flip = np.array([-1, -1, 1])  # ANTs counts in LPS
                table = pandas.DataFrame(fixed * flip, columns=["x", "y", "z"])
                mapped = library.apply_transforms_to_points(3, table, found)[["x", "y", "z"]].to_numpy() * flip
                errors.append(np.linalg.norm(mapped - moving, axis=1).mean())
            shown = " ".join(f"{error:.2f}" for error in errors)
            print(
                f"{kind}{', lung masks' if masked else ''}: TRE {np.mean(errors):.2f} mm over {len(pairs)} pairs "
                f"({shown}), median {np.median(times):.2f} s",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="hippocampus-mr-dvf")
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    folder = cards.bundled()[arguments.model]
    recipe = Recipe.read(folder / cards.RECIPE)
    if recipe.data.kind == "breathing":
        landmark_errors(datasets.split_pairs(recipe, "test", arguments.data))
        return
    reader = Reader(cards.read(folder).input, recipe.data.label_values)
    pairs = [reader.pair(*sides(pair)) for pair in datasets.split_pairs(recipe, "test", arguments.data)]
    for name, peer in PEERS.items():
        scores, times = [], []
        for fixed, moving in pairs:
            maps = [(side.labels * np.arange(1, side.labels.shape[-1] + 1)).sum(-1) for side in (fixed, moving)]
            moved, seconds = peer(fixed.image[..., 0], moving.image[..., 0], maps[1], name)
            scores.append(statistics.mean(metrics.dice(maps[0].astype("int16"), moved).values()))
            times.append(seconds)
        mean, sd = np.mean(scores), np.std(scores)
        print(f"{name}: {len(pairs)} pairs, Dice {mean:.4f} ± {sd:.4f}, median {np.median(times):.2f} s", flush=True)


if __name__ == "__main__":
    main()
