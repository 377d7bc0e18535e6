"""Error of landmarks where the patient lay otherwise, the scan was cut off, or nothing moved.

    python tests/benchmarks/landmarks.py --model NAME --data FOLDER [--first N] [--refine N] [--masks] [--still]
        [--turns 5 10 20] [--crops 18 48 72]

On the model's test pairs that have landmarks. Turns each moving scan about its middle, about one patient axis (R, A, S)
after the other and about an oblique one, its voxels resampled on its own grid and air where it shows nothing; and takes
so many mm off its lower end, and off its upper one. Prints the mean error of the landmarks in mm before and after, that
of the worst landmark and of the worst pair, folds and seconds. With `--masks`, lung masks beside the scans
(NAME_lungmask.nii.gz) are given, turned and cropped too. With `--still`, also registers each fixed scan with itself, as
it is and with noise of 3 % of its standard deviation on the moving side, and prints by how much it moves on the whole
grid and where HU are above -950.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

import regzoo
from regzoo import hub
from regzoo.data.tables import PairFiles
from regzoo.hub import cards
from regzoo.io.landmarks import read_points
from regzoo.schema.recipe import Recipe
from regzoo.training import recipe_data
from regzoo.world.images import Image, resample
from regzoo.world.matrices import map_points

sys.path.append(str(Path(__file__).parent))
from turned import AXES, turn

AIR = -1000.0


def turned(image: Image, axis: str, degrees: float, outside: float) -> Image:
    """Returns an image turned about its middle, on its own grid."""
    found = Image(image.array.astype("float32"), turn(image, axis, degrees) @ image.affine)
    return resample(found, image.grid, order=1 if outside else 0, outside=outside)


def cropped(image: Image, mm: float, end: str) -> Image:
    """Returns an image without so many mm of its lower or upper end; its third axis runs along S, up or down."""
    if abs(image.affine[2, 2]) < 0.99 * image.grid.spacing[2]:
        raise SystemExit("a scan's third axis is not along S")
    count, upwards = round(mm / image.grid.spacing[2]), image.affine[2, 2] > 0
    first = count if (end == "lower") == upwards else 0
    affine = image.affine.copy()
    affine[:3, 3] += first * affine[:3, 2]
    return Image(image.array[:, :, first : first + image.shape[2] - count], affine)


class Bench:
    """A model, and how it is asked.

    Args:
        model: From `regzoo.load`.
        refine: Steps of refinement.
        masks: Whether lung masks are given.
    """

    def __init__(self, model: object, refine: int, masks: bool) -> None:
        self.model, self.refine, self.masks = model, refine, masks

    def error(self, pair: PairFiles, change, matrix: np.ndarray) -> tuple:
        """Returns mean error before, after, that of the worst landmark, folds and seconds of one pair.

        Args:
            pair: Its files.
            change: Takes an image and the value outside it, and returns what the moving scan becomes.
            matrix: Where the change moves points to, (4, 4).
        """
        paths = pair.fixed, pair.moving
        fixed, moving = Image.read(paths[0]), change(Image.read(paths[1]), AIR)
        given = {}
        if self.masks:
            masks = [Image.read(str(each).replace(".nii", "_lungmask.nii"), labels=True) for each in paths]
            seen = change(masks[1], 0.0)
            given = {"fixed_mask": masks[0], "moving_mask": Image((seen.array > 0).astype("uint8"), seen.affine)}
        here, there = (read_points(each) for each in (pair.fixed_points, pair.moving_points))
        there, start = map_points(matrix, there), time.perf_counter()
        result = regzoo.register(fixed, moving, self.model, refine=self.refine, error=False, **given)
        seconds = time.perf_counter() - start
        before, after = (np.linalg.norm(each - there, axis=1) for each in (here, result.transform.apply_points(here)))
        return before.mean(), after.mean(), after.max(), 100 * result.facts["jacobian"]["folds"], seconds

    def told(self, name: str, pairs: list[PairFiles], change, matrix) -> None:
        """Prints a line for all pairs; `matrix` is made of a pair."""
        rows = np.array([self.error(pair, change, matrix(pair)) for pair in pairs])
        before, after, _, folds, _ = rows.mean(axis=0)
        each = f" ({' '.join(f'{row[1]:.2f}' for row in rows)})" if len(rows) > 1 else ""
        print(
            f"{name}: {len(rows)} pairs, {before:.2f} -> {after:.2f} mm{each}, worst landmark {rows[:, 2].max():.2f}, "
            f"folds {folds:.4f} %, {np.median(rows[:, 4]):.2f} s",
            flush=True,
        )

    def still(self, pairs: list[PairFiles], noise: float) -> None:
        """Prints how far a scan is moved when it is registered with itself."""
        rows = []
        for path in dict.fromkeys(pair.fixed for pair in pairs):
            fixed = Image.read(path)
            array, random = fixed.array.astype("float32"), np.random.default_rng(0)
            moving = Image(
                array + noise * array.std() * random.normal(size=array.shape).astype("float32"), fixed.affine
            )
            result = regzoo.register(fixed, moving, self.model, refine=self.refine, error=False)
            places = fixed.grid.coordinates()
            moved = np.linalg.norm(result.transform.apply_points(places.reshape(-1, 3)) - places.reshape(-1, 3), axis=1)
            body = (array > -950).ravel()
            rows.append((moved.mean(), moved.max(), moved[body].mean(), 100 * result.facts["jacobian"]["folds"]))
        mean, most, body, folds = np.mean(rows, axis=0)
        print(f"itself, noise {noise:g}: mean {mean:.4f} mm, most {most:.4f}, body {body:.4f}, folds {folds:.4f} %")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--first", type=int, help="of the pairs, only so many")
    parser.add_argument("--refine", type=int, default=0)
    parser.add_argument("--masks", action="store_true")
    parser.add_argument("--still", action="store_true")
    parser.add_argument("--turns", nargs="*", type=float, default=[5, 10, 20])
    parser.add_argument("--crops", nargs="*", type=float, default=[18, 48, 72])
    arguments = parser.parse_args()
    recipe = Recipe.read(hub.resolve(arguments.model) / cards.RECIPE)
    pairs = recipe_data.split_pairs(recipe, "test", arguments.data)[: arguments.first]
    bench = Bench(regzoo.load(arguments.model), arguments.refine, arguments.masks)
    straight = lambda _: np.eye(4)  # noqa: E731
    if arguments.still:
        for noise in (0, 0.03):
            bench.still(pairs, noise)
    bench.told("as it is", pairs, lambda image, _: image, straight)
    for axis in AXES:
        for degrees in arguments.turns:
            bench.told(
                f"{degrees:g} degrees about {axis}",
                pairs,
                lambda image, air, axis=axis, degrees=degrees: turned(image, axis, degrees, air),
                lambda pair, axis=axis, degrees=degrees: turn(Image.read(pair.moving), axis, degrees),
            )
    for end in ("lower", "upper"):
        for mm in arguments.crops:
            bench.told(
                f"{mm:g} mm off the {end} end",
                pairs,
                lambda image, _, mm=mm, end=end: cropped(image, mm, end),
                straight,
            )


if __name__ == "__main__":
    main()
