"""How accurate a model is against turn, shift and crop of the moving image: the table of its card.

    python tests/benchmarks/turned.py --model NAME (--pairs CSV | --data FOLDER [--split test]) [--start auto]
        [--degrees 10 20 30] [--shifts 10 20 40] [--crops 0.1 0.25] [--header] [--masks] [--refine N] [--smallest 100]
        [--first N] [--record]

Turns each pair's moving image about its middle, about one patient axis (R, A, S) after the other and about an oblique
one; shifts it along each, on a grid that is wider by as much on both sides, so that nothing is lost and its middle is
off; cuts a share of it off at each end of R, A and S. Voxels are resampled, and the header stays straight; with
`--header` they stay, and the header is turned and shifted instead. A crop keeps its true header. What a turned image
does not show is its edge, repeated; a shifted one's is its least value. Prints the mean Dice
after the registration, by the map and by its inverse; of pairs with landmarks, their mean distance in mm. Labels and
landmarks are not resampled or cut: they are read where the turn, which is known, leads back to. `--masks`: lung masks
beside the scans (NAME_lungmask.nii.gz) are given, changed as the scans are.

Then registers each fixed image with itself, without masks, as it is and with noise of 3 % of its range (percentiles 1
to 99) on the moving side, and prints how far that moves its voxels. `--record` writes both tables into the card of a
bundled model.
"""

import argparse
import itertools
import sys
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
from regzoo.world.images import Grid, Image
from regzoo.world.matrices import map_points
from regzoo.world.metrics import dice
from regzoo.world.resampling import resample
from regzoo.world.transforms import Transform

sys.path.append(str(Path(__file__).parents[1] / "tools"))
import sections

DEFAULTS = {"split": "test", "start": "auto", "degrees": [10, 20, 30], "shifts": [10, 20, 40], "crops": [0.1, 0.25]}
DEFAULTS |= {"smallest": 100, "refine": 0, "first": None, "header": False, "masks": False}
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
    sources = pair.sources()
    return overlap(whole, *(image_of(sources[each], labels=True) for each in ("fixed_labels", "moving_labels")), least)


def image_of(source: Path | Image, labels: bool = False) -> Image:
    """Reads an image, unless it is one; of labels that are channels, the first."""
    image = source if isinstance(source, Image) else Image.read(source, labels=labels)
    return Image((image.array[..., 0] > 0.5).astype("uint8"), image.affine) if image.channels else image


def masks_beside(pair: PairFiles) -> list[Image]:
    """Returns the lung masks that lie beside a pair's scans, (fixed, moving)."""
    paths = (str(each).replace(".nii", "_lungmask.nii") for each in (pair.fixed, pair.moving))
    return [
        Image((mask.array > 0).astype("uint8"), mask.affine) for mask in (Image.read(p, labels=True) for p in paths)
    ]


def measured(model: object, pairs: list[PairFiles], arguments: argparse.Namespace) -> dict[str, list[dict]]:
    """Registers every changed pair; returns what came of it, by what was done."""
    found: dict[str, list[dict]] = {}
    for pair in pairs:
        fixed, moving = (image_of(pair.sources()[each]) for each in ("fixed", "moving"))
        masks = masks_beside(pair) if arguments.masks else ()
        seen = changes(masks[1], arguments) if masks else itertools.repeat((None, None, None, None))
        for (what, way, given, there), (_, _, mask, _) in zip(changes(moving, arguments), seen, strict=bool(masks)):
            looked = {"fixed_mask": masks[0], "moving_mask": mask} if masks else {}
            start, refine = arguments.start, arguments.refine
            result = regzoo.register(fixed, given, model, start=start, refine=refine, error=False, **looked)
            back = Transform.linear(np.linalg.inv(there))
            figures = scores(result.transform.then(back), pair, arguments.smallest)
            told = [text for text in result.facts["warnings"] if text.startswith(("moving: turned", "moving: shows"))]
            row = {"way": way, "figures": figures, "start": result.facts["start"], "warned": bool(told)}
            found.setdefault(what, []).append(row)
            print(f"{pair.moving.name} {what} {way}: {figures[0]:.3f} {figures[1]:.3f} {row['start']}", flush=True)
    return found


def table(found: dict[str, list[dict]], points: bool) -> Iterator[str]:
    """Yields the lines of the table of what `measured` found."""
    yield "| moving image | by the map | by its inverse | worst way, mean of both | starts | warned of |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for what, rows in found.items():
        ways = {row["way"]: [] for row in rows}
        for row in rows:
            ways[row["way"]].append(row["figures"])
        means = {way: float(np.mean(each)) for way, each in ways.items()}
        worst = (max if points else min)(means, key=means.get)
        starts = [row["start"] for row in rows]
        kinds = ", ".join(f"{starts.count(name)} {name}" for name in dict.fromkeys(starts))
        both = (f"{each:.3f}" for each in np.mean([row["figures"] for row in rows], axis=0))
        cells = [what, *both, f"{means[worst]:.3f} {worst}".strip(), kinds]
        yield f"| {' | '.join(cells)} | {sum(row['warned'] for row in rows)} of {len(rows)} |"


def still(model: object, pairs: list[PairFiles], arguments: argparse.Namespace) -> Iterator[str]:
    """Registers each fixed image with itself; yields the lines of a table of how far its voxels are moved.

    A voxel of the network is as long as the shortest of its sides.
    """
    voxel = min(cards.read(hub.resolve(arguments.model)).input.spacing)
    yield "| moving image | mean, mm | mean, voxels of the network | most, mm | folds, % |"
    yield "| --- | --- | --- | --- | --- |"
    for noise, name in ((0, "the fixed image itself"), (0.03, "with noise of 3 % of its range")):
        rows = []
        for pair in {pair.fixed: pair for pair in pairs}.values():
            fixed = image_of(pair.sources()["fixed"])
            array, random = fixed.array.astype("float32"), np.random.default_rng(0)
            spread = noise * np.subtract(*np.percentile(array, (99, 1)))
            moving = Image(array + (spread * random.normal(size=array.shape)).astype("float32"), fixed.affine)
            result = regzoo.register(fixed, moving, model, start=arguments.start, refine=arguments.refine, error=False)
            places = fixed.grid.coordinates().reshape(-1, 3)
            moved = np.linalg.norm(result.transform.apply_points(places) - places, axis=1)
            rows.append((moved.mean(), moved.mean() / voxel, moved.max(), 100 * result.facts["jacobian"]["folds"]))
        mean, voxels, most, folds = np.mean(rows, axis=0)
        yield f"| {name} | {mean:.3f} | {voxels:.3f} | {most:.3f} | {folds:.4f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--data")
    parser.add_argument("--split")
    parser.add_argument("--first", type=int, help="of the pairs, only so many")
    parser.add_argument("--start", help="as in register")
    parser.add_argument("--degrees", nargs="*", type=float)
    parser.add_argument("--shifts", nargs="*", type=float, help="mm")
    parser.add_argument("--crops", nargs="*", type=float, help="shares of the image")
    parser.add_argument("--header", action="store_true")
    parser.add_argument("--masks", action="store_true", help="lung masks beside the scans are given")
    parser.add_argument("--smallest", type=int, help="voxels of a label that counts")
    parser.add_argument("--refine", type=int)
    parser.add_argument("--record", action="store_true", help="write the tables into the card")
    parser.set_defaults(**DEFAULTS)
    arguments = parser.parse_args()
    if arguments.record and arguments.model not in cards.bundled():
        parser.error("--record: expected a bundled --model, whose card it writes")
    model = regzoo.load(arguments.model)
    if arguments.pairs:
        pairs = read_pairs(arguments.pairs)
    else:
        recipe = Recipe.read(hub.resolve(arguments.model) / cards.RECIPE)
        pairs = recipe_data.split_pairs(recipe, arguments.split, arguments.data)
    pairs = pairs[: arguments.first]
    found = measured(model, pairs, arguments)
    tables = [*table(found, bool(pairs[0].fixed_points))], [*still(model, pairs, arguments)]
    print("", *tables[0], "", *tables[1], sep="\n")
    if arguments.record:
        record(arguments, pairs, *tables)


SECTION = """## How the moving image may lie

Printed by
`{command}`
on {pairs}: {measure}, after the moving image was turned, shifted or cut, {how}. A start other than the model's own was
found by `--start auto`; "warned of" counts the registrations whose warnings say that the moving image is turned or
shows too little.

{table}

Each fixed image registered with itself, as it is, and with noise of 3 % of its range on the moving side; a voxel of the
network is as long as the shortest of its sides:

{still}"""


def record(arguments: argparse.Namespace, pairs: list[PairFiles], lines: list[str], still: list[str]) -> None:
    """Writes the tables into the model's card, with the command that prints them."""
    given = f" --pairs FOLDER/{'/'.join(arguments.pairs.parts[-2:])}" if arguments.pairs else " --data FOLDER"
    for name, value in vars(arguments).items():
        if name not in ("model", "pairs", "data", "record") and value != DEFAULTS.get(name):
            values = [] if value is True else np.atleast_1d(value).tolist()
            given += " ".join([f" --{name}", *(f"{each:g}" if type(each) is float else str(each) for each in values)])
    measure = f"mean Dice of labels of at least {arguments.smallest} voxels"
    listed = arguments.pairs.name if arguments.pairs else arguments.split
    text = SECTION.format(
        command=f"python tests/benchmarks/turned.py --model {arguments.model}{given}",
        pairs=f"{len(pairs)} pair{'s' * (len(pairs) > 1)} of {listed}",
        measure="mean distance of landmarks, mm" if pairs[0].fixed_points else measure,
        how="its header with it" if arguments.header else "its voxels resampled and its header left straight",
        table="\n".join(lines),
        still="\n".join(still),
    )
    sections.write(cards.bundled()[arguments.model], "turned", text)


if __name__ == "__main__":
    main()
