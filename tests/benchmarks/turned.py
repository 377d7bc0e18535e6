"""How accurate a model is against turn, shift and crop of the moving image: the table of its card.

    python tests/benchmarks/turned.py --model NAME (--pairs CSV | --data FOLDER [--split test]) [--start auto]
        [--degrees 10 20 30] [--shifts 10 20 40] [--crops 0.1 0.25] [--header] [--refine N] [--smallest 100] [--first N]

Turns each pair's moving image about its middle, about one patient axis (R, A, S) after the other and about an oblique
one; shifts it along each, on a grid that is wider by as much on both sides, so that nothing is lost and its middle is
off; cuts a share of it off at each end of R, A and S. Voxels are resampled, and the header stays straight; with
`--header` they stay, and the header is turned and shifted instead. A crop keeps its true header. Prints the mean Dice
after the registration, by the map and by its inverse; of pairs with landmarks, their mean distance in mm. Labels and
landmarks are not resampled or cut: they are read where the turn, which is known, leads back to.
"""

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

import regzoo
from regzoo import hub
from regzoo.data.tables import PairFiles, read_pairs
from regzoo.hub import cards
from regzoo.io.landmarks import read_landmarks
from regzoo.schema.recipe import Recipe
from regzoo.training import recipe_data
from regzoo.world.images import Grid, Image, resample
from regzoo.world.matrices import map_points
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
    return moved(image, turn(image, axis, degrees), image.grid, header)


def moved(image: Image, matrix: np.ndarray, grid: Grid, header: bool = False, outside: float | str = "edge") -> Image:
    """Returns an image moved in space: its voxels on a grid, or its affine alone."""
    found = Image(image.array, matrix @ image.affine)
    order = 0 if image.array.dtype.kind in "iu" else 1
    return found if header else resample(found, grid, order=order, outside=0 if order == 0 else outside)


def shift(axis: str, mm: float) -> np.ndarray:
    """Returns a shift, RAS mm, (4, 4)."""
    matrix = np.eye(4)
    matrix[:3, 3] = np.asarray(AXES[axis]) * mm
    return matrix


def shifted(image: Image, axis: str, mm: float, header: bool = False) -> Image:
    """Returns an image shifted on a grid that is wider by as much on both sides, or its affine alone."""
    along = np.linalg.inv(image.affine[:3, :3]) @ shift(axis, mm)[:3, 3]
    more = np.ceil(np.abs(along) - 1e-6).astype(int)
    affine = image.affine.copy()
    affine[:3, 3] = map_points(image.affine, -more)
    grid = Grid(tuple(np.array(image.shape) + 2 * more), affine)
    return moved(image, shift(axis, mm), grid, header, outside=float(image.array.min()))


def cropped(image: Image, axis: str, share: float, end: int) -> Image:
    """Returns an image without a share of it along the axis that is nearest to R, A or S.

    Args:
        image: The image.
        axis: `"R"`, `"A"` or `"S"`.
        share: What is cut off.
        end: 1: at the end towards that direction; -1: at the other.
    """
    direction = np.asarray(AXES[axis]) @ (image.affine[:3, :3] / image.spacing)
    along = int(np.abs(direction).argmax())
    count = round(share * image.shape[along])
    kept = [slice(None)] * 3
    last = direction[along] * end > 0
    kept[along] = slice(None, image.shape[along] - count) if last else slice(count, None)
    affine = image.affine.copy()
    affine[:3, 3] = map_points(image.affine, np.eye(3)[along] * (0 if last else count))
    return Image(image.array[tuple(kept)], affine)


def changes(image: Image, arguments: argparse.Namespace) -> Iterator[tuple[str, str, Image, np.ndarray]]:
    """Yields what was done in which way, the changed image, and the matrix from the image to it."""
    yield "as it lies", "", image, np.eye(4)
    for degrees, axis in itertools.product(arguments.degrees, AXES):
        image_there = turned(image, axis, degrees, arguments.header)
        yield f"turned by {degrees:g} degrees", f"about {axis}", image_there, turn(image, axis, degrees)
    for mm, axis in itertools.product(arguments.shifts, AXES):
        yield f"shifted by {mm:g} mm", f"to {axis}", shifted(image, axis, mm, arguments.header), shift(axis, mm)
    for share, axis, end in itertools.product(arguments.crops, "RAS", (1, -1)):
        name = axis if end == 1 else {"R": "L", "A": "P", "S": "I"}[axis]
        yield f"cropped by {100 * share:g} %", f"at {name}", cropped(image, axis, share, end), np.eye(4)


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
        (moving, whole.inverse().apply_image(fixed, moving.grid, order=0)),
    )
    return tuple(float(np.mean([*dice(a.array, b.array, labels).values()])) for a, b in ways)


def distance(whole: Transform, fixed: np.ndarray, moving: np.ndarray) -> tuple[float, float]:
    """Returns the mean distance of landmarks (N, 3) in mm, by a map from fixed to moving space and by its inverse."""
    ways = (whole.apply_points(fixed), moving), (whole.inverse().apply_points(moving), fixed)
    return tuple(float(np.linalg.norm(a - b, axis=1).mean()) for a, b in ways)


def scores(whole: Transform, pair: PairFiles, least: int) -> tuple[float, float]:
    """Returns the figures of a pair, by the map and by its inverse: of its landmarks, or else of its labels."""
    if pair.fixed_points:
        return distance(whole, *(read_landmarks(each).points for each in (pair.fixed_points, pair.moving_points)))
    labels = (Image.read(each, labels=True) for each in (pair.fixed_labels, pair.moving_labels))
    return overlap(whole, *labels, least)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--data")
    parser.add_argument("--split", default="test")
    parser.add_argument("--first", type=int, help="of the pairs, only so many")
    parser.add_argument("--start", default="auto", help="as in register")
    parser.add_argument("--degrees", nargs="*", type=float, default=[10, 20, 30])
    parser.add_argument("--shifts", nargs="*", type=float, default=[10, 20, 40], help="mm")
    parser.add_argument("--crops", nargs="*", type=float, default=[0.1, 0.25], help="shares of the image")
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
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    starts: dict[str, list[str]] = {}
    warned: dict[str, int] = {}
    for pair in pairs[: arguments.first]:
        fixed = Image.read(pair.fixed)
        for what, way, given, there in changes(Image.read(pair.moving), arguments):
            result = regzoo.register(fixed, given, model, start=arguments.start, refine=arguments.refine, error=False)
            back = Transform.linear(np.linalg.inv(there))
            figures = scores(result.transform.then(back), pair, arguments.smallest)
            found.setdefault(what, {}).setdefault(way, []).append(figures)
            starts.setdefault(what, []).append(result.facts["start"])
            told = [text for text in result.facts["warnings"] if text.startswith(("moving: turned", "moving: shows"))]
            warned[what] = warned.get(what, 0) + bool(told)
            print(f"{pair.moving.name} {what} {way}: {figures[0]:.3f} {figures[1]:.3f} {starts[what][-1]}", flush=True)
    print("\n| moving image | by the map | by its inverse | worst, of both ways | starts | warned of |")
    print("| --- | --- | --- | --- | --- | --- |")
    for what, ways in found.items():
        every = np.concatenate([*ways.values()])
        means = {way: float(np.mean(each)) for way, each in ways.items()}
        worst = (max if pairs[0].fixed_points else min)(means, key=means.get)
        kinds = ", ".join(f"{starts[what].count(name)} {name}" for name in dict.fromkeys(starts[what]))
        row = [what, *(f"{each:.3f}" for each in every.mean(axis=0)), f"{means[worst]:.3f} {worst}", kinds]
        print(f"| {' | '.join(row)} | {warned[what]} of {len(every)} |")


if __name__ == "__main__":
    main()
