"""How far the moving image may be turned before a model loses it.

    python tests/benchmarks/turned.py --model NAME (--pairs CSV | --data FOLDER [--split test]) [--degrees 10 20 30]
        [--header] [--refine N] [--smallest 100]

Turns each pair's moving image about its middle, about one patient axis (R, A, S) after the other and about an oblique
one, and prints the mean Dice after the registration over the pairs, by the map and by its inverse. The voxels are
resampled on the moving image's own grid, whose header stays straight; with `--header` they stay, and the header is
turned. The labels are not resampled: they are read where the turn, which is known, leads back to.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

import regzoo
from regzoo import hub
from regzoo.data.tables import read_pairs
from regzoo.hub import cards
from regzoo.schema.recipe import Recipe
from regzoo.training import recipe_data
from regzoo.world.images import Image, resample
from regzoo.world.metrics import dice
from regzoo.world.transforms import Transform

AXES = {"R": (1, 0, 0), "A": (0, 1, 0), "S": (0, 0, 1), "R + A + S": np.full(3, 3**-0.5)}


def turn(image: Image, axis: str, degrees: float) -> np.ndarray:
    """Returns a turn about an image's middle, RAS mm, (4, 4)."""
    around, middle = np.eye(4), np.eye(4)
    around[:3, :3] = Rotation.from_rotvec(np.asarray(AXES[axis]) * degrees, degrees=True).as_matrix()
    middle[:3, 3] = image.grid.box().mean(axis=0)
    return middle @ around @ np.linalg.inv(middle)


def turned(image: Image, axis: str, degrees: float, header: bool = False) -> Image:
    """Returns an image turned about its middle: its voxels on its own grid, or its affine alone."""
    found = Image(image.array, turn(image, axis, degrees) @ image.affine)
    order = 0 if image.array.dtype.kind in "iu" else 1
    return found if header else resample(found, image.grid, order=order, outside=0 if order == 0 else "edge")


def overlap(whole: Transform, fixed: Image, moving: Image, least: int) -> tuple[float, float]:
    """Returns the mean Dice of labels moved by a map from fixed to moving space, and by its inverse.

    Args:
        whole: The map.
        fixed: Labels of the fixed image.
        moving: Labels of the moving image.
        least: Voxels that a label has at least in both images, to count.
    """
    sizes = [np.bincount(each.array[each.array > 0].astype(int), minlength=1000) for each in (fixed, moving)]
    labels = np.flatnonzero(np.minimum(*sizes) >= least)
    ways = (
        (fixed, whole.apply_image(moving, fixed.grid, order=0)),
        (
            moving,
            whole.inverse().apply_image(fixed, moving.grid, order=0),
        ),
    )
    return tuple(float(np.mean([*dice(a.array, b.array, labels).values()])) for a, b in ways)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--data")
    parser.add_argument("--split", default="test")
    parser.add_argument("--first", type=int, help="of the pairs, only so many")
    parser.add_argument("--degrees", nargs="+", type=float, default=[10, 20, 30])
    parser.add_argument("--header", action="store_true")
    parser.add_argument("--smallest", type=int, default=100, help="voxels of a label that counts")
    parser.add_argument("--refine", type=int, default=0)
    arguments = parser.parse_args()
    model = regzoo.load(arguments.model)
    if arguments.pairs:
        pairs = read_pairs(arguments.pairs)
    else:
        recipe = Recipe.read(hub.resolve(arguments.model) / cards.RECIPE)
        pairs = recipe_data.split_pairs(recipe, arguments.split, arguments.data)
    pairs = pairs[: arguments.first]
    for axis, degrees in [("R", 0), *((axis, degrees) for axis in AXES for degrees in arguments.degrees)]:
        found = {"by the map": [], "by its inverse": []}
        for pair in pairs:
            moving, fixed = Image.read(pair.moving), Image.read(pair.fixed)
            labels = [Image.read(each, labels=True) for each in (pair.fixed_labels, pair.moving_labels)]
            given = turned(moving, axis, degrees, arguments.header)
            result = regzoo.register(fixed, given, model, refine=arguments.refine)
            back = Transform.linear(np.linalg.inv(turn(moving, axis, degrees)))
            scores = overlap(result.transform.then(back), *labels, arguments.smallest)
            for way, score in zip(found.values(), scores, strict=True):
                way.append(score)
        told = ", ".join(f"{way} {np.mean(each):.3f} (worst {min(each):.3f})" for way, each in found.items())
        print(f"{degrees:g} degrees about {axis}: {len(pairs)} pairs, Dice {told}", flush=True)


if __name__ == "__main__":
    main()
