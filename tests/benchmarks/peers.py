"""Scores classical registration on the test pairs of a bundled model, for its card.

    pip install antspyx picsl_greedy SimpleITK
    python tests/benchmarks/peers.py --data FOLDER --model NAME [--peers ...] [--own METHODS ...] [--smallest N]
        [--pairs CSV]

Where the test pairs have labels, images come to the peers as they come to the network: its grid, intensities, start;
labels are moved by nearest neighbour and scored on that grid, 2-D ones slice by slice, both ways: moving labels by the
map, fixed labels by its inverse. Where pairs are of breathing,
ANTs reads the files and is scored by the landmarks' error, with and without lung masks beside the images
(NAME_lungmask.nii.gz). `--own model affine,dvf` does the same pairs by the model and by this project's classical
methods, `--own refine:60` by the model and as many steps of refinement, `--own labels:affine` by a method that is shown
each pair's first label instead of the images: what is scored on it was fitted to it.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import pandas

import regzoo
from regzoo import hub
from regzoo.data.draws import sides
from regzoo.data.reader import Reader, label_values
from regzoo.data.tables import PairFiles, read_pairs
from regzoo.hub import cards
from regzoo.io.landmarks import read_points
from regzoo.schema.recipe import Recipe
from regzoo.training import recipe_data
from regzoo.world import metrics
from regzoo.world.images import Image
from regzoo.world.labels import mask
from regzoo.world.views import View

ANTS = {"ANTs affine": "Affine", "ANTs SyN": "SyN"}


def ants(fixed, moving, kind):
    """Registers; returns what carries labels to the fixed image, what carries them back, and the seconds."""
    import ants as library

    images = [library.from_numpy(array) for array in (fixed, moving)]
    start = time.perf_counter()
    found = library.registration(*images, type_of_transform=ANTS[kind])
    seconds = time.perf_counter() - start

    def carry(labels, onto, steps, inverted):
        image = library.from_numpy(labels.astype("float32"))
        settings = {"interpolator": "genericLabel", "whichtoinvert": inverted}
        return library.apply_transforms(onto, image, steps, **settings).numpy().round().astype("int16")

    forward, back = found["fwdtransforms"], found["invtransforms"]
    return (
        lambda labels: carry(labels, images[0], forward, [False] * len(forward)),
        lambda labels: carry(labels, images[1], back, [step.endswith(".mat") for step in back]),
        seconds,
    )


def greedy(fixed, moving, kind):
    """As `ants`."""
    import SimpleITK as sitk
    from picsl_greedy import Greedy3D

    def image(array):
        return sitk.GetImageFromArray(array.T.astype("float32").copy())

    tool, start = Greedy3D(), time.perf_counter()
    given = {"f": image(fixed), "m": image(moving)}
    tool.execute("-d 3 -a -i f m -m NCC 2x2x2 -n 100x50 -ia-image-centers -o aff -V 0", **given, aff=None)
    bend = "-d 3 -i f m -it aff -n 100x50x20 -m NCC 2x2x2 -s 1.0vox 0.5vox -o warp -oinv back -V 0"
    tool.execute(bend, warp=None, back=None)
    seconds = time.perf_counter() - start

    def carry(labels, onto, steps):
        tool.execute(f"-d 3 -rf {onto} -ri NN -rm l moved -r {steps}", l=image(labels), moved=None)
        return np.asarray(sitk.GetArrayFromImage(tool["moved"])).T.round().astype("int16")

    return lambda labels: carry(labels, "f", "warp aff"), lambda labels: carry(labels, "m", "aff,-1 back"), seconds


def unregistered(fixed, moving, kind):
    return (lambda labels: labels.astype("int16")), (lambda labels: labels.astype("int16")), 0.0


PEERS = {"unregistered": unregistered} | dict.fromkeys(ANTS, ants) | {"Greedy affine + diffeomorphic": greedy}


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
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument(
        "--own", nargs="*", default=[], help="model, refine:STEPS, methods as 'affine,dvf', or labels:METHODS"
    )
    parser.add_argument("--smallest", type=int, default=1, help="only labels of so many voxels in the fixed image")
    parser.add_argument("--pairs", type=Path, help="a CSV of other pairs than the model's test pairs")
    parser.add_argument("--count", type=int, help="only the first so many pairs")
    arguments = parser.parse_args()
    folder = hub.resolve(arguments.model)
    recipe = Recipe.read(folder / cards.RECIPE)
    records = (
        read_pairs(arguments.pairs) if arguments.pairs else recipe_data.split_pairs(recipe, "test", arguments.data)
    )
    records = records[: arguments.count]
    for way in arguments.own:
        print(f"{way}: {own(arguments.model, records, way, arguments.smallest)}", flush=True)
    if not arguments.peers:
        return
    if recipe.data.kind == "breathing":
        landmark_errors(records)
        return
    config = cards.read_config(folder)
    values = getattr(recipe.data, "label_values", None) or label_values(
        [side for pair in records for side in sides(pair)]
    )
    reader = Reader(cards.read(folder).input, values)
    for name in arguments.peers:
        scores, times = [], []
        for record in records:
            fixed, moving = reader.pair(*sides(record))
            maps = [label_map(side).astype("int16") for side in (fixed, moving)]
            images = [side.image[..., 0] for side in (fixed, moving)]
            *carried, seconds = (by_slice if config.dims == 2 else one)(name, images, maps)
            scores.append(both_ways(*maps, *carried, arguments.smallest))
            times.append(seconds)
        print(f"{name}: {told(scores, times)}", flush=True)


def one(name: str, images: list[np.ndarray], maps: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, float]:
    """Moving labels on the fixed image, fixed labels on the moving image, seconds."""
    there, back, seconds = PEERS[name](*images, name)
    return there(maps[1]), back(maps[0]), seconds


def by_slice(name: str, images: list[np.ndarray], maps: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, float]:
    count = maps[0].shape[2]
    found = [one(name, [each[:, :, k] for each in images], [each[:, :, k] for each in maps]) for k in range(count)]
    there, back, seconds = zip(*found, strict=True)
    return np.stack(there, axis=2), np.stack(back, axis=2), sum(seconds)


def label_map(side: View) -> np.ndarray:
    """One number a voxel; of soft labels that of the last which is there."""
    if not side.soft:
        return side.labels
    return ((side.labels >= 0.5) * np.arange(1, side.labels.shape[-1] + 1)).max(-1)


def both_ways(
    fixed: np.ndarray, moving: np.ndarray, moved: np.ndarray, back: np.ndarray, smallest: int
) -> tuple[float, float]:
    """Mean Dice of the labels that the fixed image has in so many voxels, and the moving one at all: each way."""
    labels = [int(k) for k in np.unique(fixed) if k and (fixed == k).sum() >= smallest and (moving == k).any()]
    pairs = (fixed, moved), (moving, back)
    return tuple(statistics.mean(metrics.dice(*pair, labels).values()) for pair in pairs)


def told(scores: list[tuple[float, float]], times: list[float]) -> str:
    means, (forward, inverse) = np.mean(scores, axis=1), np.mean(scores, axis=0)
    return (
        f"{len(scores)} pairs, Dice both ways {np.mean(means):.4f} ± {np.std(means):.4f} (worst {min(means):.4f}; "
        f"map {forward:.4f}, inverse {inverse:.4f}), median {np.median(times):.2f} s"
    )


def own(name: str, records: list[PairFiles], way: str, smallest: int) -> str:
    """The same pairs by this project: whole images, labels by nearest neighbour on the fixed image's grid."""
    kind, _, rest = way.partition(":")
    model = regzoo.load(name) if kind in ("model", "refine") else None
    settings = {"model": model, "refine": int(rest or 0)} if model else {"method": rest or way}
    scores, times, rows = [], [], []
    for record in records:
        sources = record.sources()
        if kind == "labels":
            sources |= {side: first_label(sources[f"{side}_labels"]) for side in ("fixed", "moving")}
            settings |= {"loss": "ssd", "start": "mass"}
        begin = time.perf_counter()
        found = regzoo.register(**settings, **sources)
        times.append(time.perf_counter() - begin)
        facts = found.facts
        after = facts["scores"]["after"]
        tre, centroid = after.get("tre", {}).get("mean", np.nan), after.get("mean_centroid", np.nan)
        rows.append((100 * facts["jacobian"]["folds"], facts["jacobian"]["sdlogj"], tre, centroid))
        dice = [after.get(f"dice_{way}", {}) for way in ("forward", "inverse")]
        if found.fixed_labels is not None and found.fixed_labels.channels is None:
            large = [k for k in dice[0] if (found.fixed_labels.array == k).sum() >= smallest]
            dice = [{k: side[k] for k in large} for side in dice]
        scores.append(tuple(np.mean(list(side.values())) if side else np.nan for side in dice))
    folds, sdlogj, tre, centroid = np.mean(rows, axis=0)
    each = "" if np.isnan(tre) else f" ({' '.join(f'{row[2]:.2f}' for row in rows)})"
    distances = f"TRE {tre:.2f} mm{each}, centroids {centroid:.2f} mm"
    return f"{told(scores, times)}, folds {folds:.4f} %, SDlogJ {sdlogj:.3f}, {distances}"


def first_label(source: Path | Image) -> Image:
    labels = source if isinstance(source, Image) else Image.read(source, labels=True)
    return Image(mask(labels, 1).astype("float32"), labels.affine)


if __name__ == "__main__":
    main()
