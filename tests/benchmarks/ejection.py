"""Ejection fractions from labels that a registration carries between the ends of the cycle, and their overlap.

    pip install picsl_greedy SimpleITK
    python tests/benchmarks/ejection.py --data FOLDER [--split test] [--models NAMES ...] [--greedy] [--each]

FOLDER/cardiac-mr-dvf is what recipes/cardiac-mr-dvf/prepare.py writes: end-diastole (moving) to end-systole (fixed).
The expert's label of end-diastole is moved to end-systole by the map (nearest neighbour), and the ejection fraction,
`1 - volume there / volume drawn at end-diastole`, compared with that of both drawn labels, in points; the same back,
with the label of end-systole moved to end-diastole by the inverse of the same map. Printed: the mean absolute error
over the patients with its 95 % interval (10,000 bootstrap samples of the patients), the mean error, and Dice both ways.
Greedy bends slice by slice, in 2-D.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import regzoo
from regzoo.data.tables import PairFiles, read_pairs
from regzoo.world import metrics
from regzoo.world.images import Image
from regzoo.world.transforms import Transform

LABELS = {1: "right ventricle", 2: "myocardium", 3: "left ventricle"}
GREEDY = "-d 2 -i f m -m NCC 4x4 -n 100x100x50 -s 1.5vox 0.5vox -o warp -oinv back -V 0"

Carried = tuple[np.ndarray, np.ndarray, float, float]
"""Moving labels on the fixed image, fixed labels on the moving image, share of folds, seconds."""


def by_model(name: str) -> Callable[[PairFiles], Carried]:
    model = regzoo.load(name)

    def carry(pair: PairFiles) -> Carried:
        begin = time.perf_counter()
        found = regzoo.register(pair.fixed, pair.moving, model, error=False)
        seconds = time.perf_counter() - begin
        return *moved(pair, found.transform), found.facts["jacobian"]["folds"], seconds

    return carry


def unregistered(pair: PairFiles) -> Carried:
    return *moved(pair, Transform.identity()), 0.0, 0.0


def moved(pair: PairFiles, transform: Transform) -> tuple[np.ndarray, np.ndarray]:
    fixed, moving = (Image.read(each, labels=True) for each in (pair.fixed_labels, pair.moving_labels))
    ways = (transform, moving, fixed.grid), (transform.inverse(), fixed, moving.grid)
    return tuple(way.apply_labels(labels, grid).array for way, labels, grid in ways)


def greedy(pair: PairFiles) -> Carried:
    import SimpleITK as sitk
    from picsl_greedy import Greedy2D

    def image(array):
        return sitk.GetImageFromArray(array.T.astype("float32").copy())

    images = [Image.read(each).array for each in (pair.fixed, pair.moving)]
    maps = [Image.read(each, labels=True).array for each in (pair.fixed_labels, pair.moving_labels)]
    there, back, seconds = [], [], 0.0
    for k in range(images[0].shape[2]):
        tool, begin = Greedy2D(), time.perf_counter()
        tool.execute(GREEDY, f=image(images[0][..., k]), m=image(images[1][..., k]), warp=None, back=None)
        seconds += time.perf_counter() - begin
        for onto, step, labels, carried in (("f", "warp", maps[1], there), ("m", "back", maps[0], back)):
            tool.execute(f"-d 2 -rf {onto} -ri NN -rm l moved -r {step}", l=image(labels[..., k]), moved=None)
            carried.append(sitk.GetArrayFromImage(tool["moved"]).T.round().astype("int16"))
    return np.stack(there, axis=2), np.stack(back, axis=2), np.nan, seconds


def ejected(diastole: np.ndarray, systole: np.ndarray, label: int) -> float:
    """Returns the share of a volume that is gone, in percent; voxels of both are equally large."""
    return 100 * (1 - (systole == label).sum() / (diastole == label).sum())


def interval(errors: np.ndarray) -> str:
    drawn = np.random.default_rng(0).choice(errors, (10_000, len(errors))).mean(axis=1)
    return f"{errors.mean():.2f} points ({' to '.join(f'{each:.2f}' for each in np.percentile(drawn, [2.5, 97.5]))})"


def tell(name: str, carry: Callable[[PairFiles], Carried], pairs: list[PairFiles], each: bool) -> None:
    dice, fractions, folds, times = [], [], [], []
    for pair in pairs:
        moving, fixed = (Image.read(path, labels=True).array for path in (pair.moving_labels, pair.fixed_labels))
        there, back, folded, seconds = carry(pair)
        dice.append([list(metrics.dice(*ways, list(LABELS)).values()) for ways in ((fixed, there), (moving, back))])
        ends = (moving, fixed), (moving, there), (back, fixed)
        fractions.append([[ejected(*pair, label) for label in LABELS] for pair in ends])
        folds.append(folded)
        times.append(seconds)
        if each:
            told = [f"{100 * np.mean(way):.1f}" for way in dice[-1]], [f"{found[2]:.1f}" for found in fractions[-1]]
            print(f"  {pair.moving.name}: Dice {', '.join(told[0])}; left ventricle {', '.join(told[1])} %", flush=True)
    dice, fractions = np.array(dice), np.array(fractions)
    ways = ["  ".join(f"{LABELS[k + 1]} {way[k]:.3f}" for k in range(3)) for way in dice.mean(axis=0)]
    print(f"{name}, {len(pairs)} patients, median {np.median(times):.2f} s, folds {100 * np.mean(folds):.4f} %")
    for way, told, found in zip(("end-systole", "end-diastole"), ways, dice.mean(axis=2).T, strict=True):
        print(f"  Dice at {way}: {found.mean():.3f} (worst {found.min():.3f})  {told}")
    for k in (0, 2):
        off = fractions[:, 1:, k] - fractions[:, :1, k]
        there, back = (f"{interval(np.abs(way))}, mean {way.mean():+.2f}" for way in off.T)
        print(f"  ejection fraction, {LABELS[k + 1]}: off by {there}; back {back}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", choices=("train", "valid", "test"), default="test")
    parser.add_argument("--models", nargs="*", default=["cardiac-cine-mr-ddf"])
    parser.add_argument("--greedy", action="store_true")
    parser.add_argument("--each", action="store_true", help="print each patient's figures too")
    arguments = parser.parse_args()
    pairs = read_pairs(arguments.data / "cardiac-mr-dvf" / f"{arguments.split}.csv")
    ways = {"unregistered": unregistered} | {name: by_model(name) for name in arguments.models}
    if arguments.greedy:
        ways["Greedy, 2-D slices"] = greedy
    for name, carry in ways.items():
        tell(name, carry, pairs, arguments.each)


if __name__ == "__main__":
    main()
