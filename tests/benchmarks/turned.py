"""How far the moving image may be turned before a model loses it.

    python tests/benchmarks/turned.py --model NAME --pairs CSV [--degrees 10 20 30]

Turns each pair's moving image and its labels about their middle, one patient axis (R, A, S) after the other, and prints
the mean Dice after the registration over the pairs.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

import regzoo
from regzoo.data.tables import read_pairs
from regzoo.world.images import Image


def turned(image: Image, axis: str, degrees: float) -> Image:
    """Returns an image whose affine is turned about its middle; its voxels stay as they are."""
    around, middle = np.eye(4), np.eye(4)
    around[:3, :3] = Rotation.from_rotvec(np.eye(3)["RAS".index(axis)] * degrees, degrees=True).as_matrix()
    middle[:3, 3] = image.grid.box().mean(axis=0)
    return Image(image.array, middle @ around @ np.linalg.inv(middle) @ image.affine)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--pairs", required=True, type=Path)
    parser.add_argument("--degrees", nargs="+", type=float, default=[10, 20, 30])
    arguments = parser.parse_args()
    model, pairs = regzoo.load(arguments.model), read_pairs(arguments.pairs)
    for axis, degrees in [("R", 0), *((axis, degrees) for axis in "RAS" for degrees in arguments.degrees)]:
        found = []
        for pair in pairs:
            moving = turned(Image.read(pair.moving), axis, degrees)
            labels = turned(Image.read(pair.moving_labels, labels=True), axis, degrees)
            result = regzoo.register(pair.fixed, moving, model, fixed_labels=pair.fixed_labels, moving_labels=labels)
            found.append(result.facts["scores"]["after"]["mean_dice"])
        print(
            f"{degrees:g} degrees about {axis}: {len(found)} pairs, Dice {np.mean(found):.3f}, worst {min(found):.3f}"
        )


if __name__ == "__main__":
    main()
