"""Scores registrations of two contrasts: overlap of labels both ways, and errors in mm where the map is known.

    python tests/benchmarks/any_contrast.py --data FOLDER [--by anycontrast-dvf affine,dvf:mind ...] [--sets ...]
        [--count N] [--split valid]

FOLDER holds `hippocampus-mr`, `brain-mr`, `brain-oasis-trt`, `brain-multicontrast` and `limb-ct-mr`, and `anycontrast`,
as recipes/anycontrast-dvf/prepare.py writes it. `--by` names models, or methods and, behind a colon, their loss.

- hippocampus-mr, brain-mr, inverted, oasis: mean Dice of the labels that have 100 voxels (hippocampi: one) in both
  images, by the map and by its inverse; the inverted ones are those of brain-mr with the moving contrast reversed.
- mni2mm, limb: T1 and T2 or FLAIR, CT and MR, which lie on each other; the moving one is bent by a smooth random field
  of 6 (limb: 10) mm on average over the body, and the error is that mean distance after the registration.
- long: whole heads as scanned, in two contrasts or on two days; the mean distance to the authors' map, over the middle
  of the head (60 mm), which the registration is not told.
"""

import argparse
import functools
import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from turned import overlap

import regzoo
from regzoo.data.tables import read_pairs
from regzoo.world.alignment import aligned
from regzoo.world.images import Image
from regzoo.world.transforms import Transform


class Case(NamedTuple):
    """A pair and what scores a map from fixed to moving space; the first number counts."""

    name: str
    fixed: Image
    moving: Image
    score: Callable[[Transform], tuple[float, ...]]


def labelled(data: Path, name: str, split: str) -> Iterator[Case]:
    """Yields pairs of a list that `prepare.py` wrote, or of OASIS-TRT."""
    if name == "oasis":
        folder = data / "brain-oasis-trt"
        subjects = [folder / f"oasis_trt_{number:02}" for number in range(1, 13)]
        sides = [(Path(f"{each}.nii.gz"), Path(f"{each}_dkt.nii.gz")) for each in subjects]
        pairs = [(*sides[i], *sides[i + 1]) for i in range(0, 12, 2)]
    else:
        listed = read_pairs(data / "anycontrast" / f"{name if split == 'test' else split}.csv")
        pairs = [(each.fixed, each.fixed_labels, each.moving, each.moving_labels) for each in listed]
    damaged = {"IXI256-HH-1723", "IXI438-HH-2155", "IXI638-HH-2786"}  # their label maps are
    for fixed, fixed_labels, moving, moving_labels in pairs:
        if damaged.isdisjoint(path.name.removesuffix(".nii.gz") for path in (fixed, moving)):
            labels = [Image.read(each, labels=True) for each in (fixed_labels, moving_labels)]
            least = 1 if "hippocampus" in str(fixed) else 100
            score = functools.partial(overlap, fixed=labels[0], moving=labels[1], least=least)
            yield Case(moving.stem, Image.read(fixed), Image.read(moving), score)


def bent(name: str, fixed: Image, moving: Image, body: np.ndarray, mean: float, width: float, seed: int) -> Case:
    """Returns a pair that lies on itself, its moving image bent by so many mm over the body."""
    noise = np.random.default_rng(seed).standard_normal((3, *moving.shape))
    smooth = [ndimage.gaussian_filter(each, width / moving.spacing, mode="wrap") for each in noise]
    field = np.stack(smooth, axis=-1)
    field *= mean / np.linalg.norm(field, axis=-1)[body].mean()
    known = Transform.from_field(field, moving.grid)
    assert (known.jacobian_determinant(moving.grid)[body] > 0).all()
    points = fixed.grid.coordinates()[body]
    given = known.apply_image(moving, moving.grid, outside="edge")

    def error(found: Transform) -> tuple[float]:
        return (float(np.linalg.norm(known.apply_points(found.apply_points(points)) - points, axis=-1).mean()),)

    return Case(name, fixed, given, error)


def brains(data: Path) -> Iterator[Case]:
    """Yields T1 and T2, T1 and FLAIR of two patients."""
    folder = data / "brain-multicontrast" / "mni2mm"
    for patient, contrast, seed in itertools.product(("07", "19"), ("t2", "flair"), (1, 2)):
        fixed, moving = (Image.read(folder / f"patient{patient}_{each}.nii.gz") for each in ("t1", contrast))
        name = f"patient {patient}, T1 to {contrast.upper()}, field {seed}"
        yield bent(name, fixed, moving, fixed.array > 0, 6.0, 20.0, seed)


def limbs(data: Path, split: str) -> Iterator[Case]:
    """Yields CT and MR of limbs."""
    folder = data / "limb-ct-mr"
    for name, seed in itertools.product(json.loads((folder / "splits.json").read_text())[split], (1, 2)):
        ct, mr = (Image.read(folder / f"{name}_{each}.nii.gz") for each in ("ct", "mrt1"))
        body = (ct.array > -300) & (mr.array > 0.1 * np.percentile(mr.array, 99))
        yield bent(f"{name}, field {seed}", ct, mr, ndimage.binary_opening(body, iterations=2), 10.0, 25.0, seed)


def heads(data: Path) -> Iterator[Case]:
    """Yields pairs of whole heads that the authors registered."""
    folder = data / "brain-multicontrast" / "long"

    def shared(patient: str, study: int, contrast: str) -> Transform:
        """Returns the map from the patient's common space to a scan."""
        scan = folder / f"patient{patient}_study{study}_"
        # In files that ITK wrote, a map leads from where an image is laid to where it is read, so to the scan.
        common = Transform.load(f"{scan}FLAIR_to_common_space.txt")
        return (
            common if contrast == "FLAIR" else common.then(Transform.load(f"{scan}{contrast}_intrastudy_to_FLAIR.txt"))
        )

    scans = sorted(path.name.removesuffix(".nii.gz") for path in folder.glob("*.nii.gz"))
    for one, other in itertools.combinations(scans, 2):
        (patient, study, contrast), (also, later, another) = (each.split("_") for each in (one, other))
        days = study == later
        if patient != also or (contrast == another) == days:
            continue
        fixed, moving = (Image.read(folder / f"{each}.nii.gz") for each in (one, other))
        ways = [shared(patient[-2:], int(each[0][-1]), each[1]) for each in ((study, contrast), (later, another))]
        known = ways[0].inverse().then(ways[1])
        shown = fixed.array > 0.2 * np.percentile(fixed.array, 99)
        places = fixed.grid.coordinates()[shown]
        middle = np.median(places, axis=0)
        points = places[np.linalg.norm(places - middle, axis=-1) < 60][::7]
        wanted = known.apply_points(points)
        name = f"{one} to {other}"

        def error(found: Transform, points: np.ndarray = points, wanted: np.ndarray = wanted) -> tuple[float]:
            return (float(np.linalg.norm(found.apply_points(points) - wanted, axis=-1).mean()),)

        yield Case(name, fixed, moving, error)


SETS = {
    "hippocampus-mr": lambda data, split: labelled(data, "hippocampus-mr", split),
    "brain-mr": lambda data, split: labelled(data, "brain-mr", split),
    "inverted": lambda data, split: labelled(data, "inverted", split),
    "oasis": lambda data, split: labelled(data, "oasis", split),
    "mni2mm": lambda data, split: brains(data),
    "limb": limbs,
    "long": lambda data, split: heads(data),
}


loaded = functools.cache(regzoo.load)


def registered(by: str, case: Case) -> tuple[Transform, float]:
    """Returns the map by a model, or by METHODS:LOSS, and the seconds it took."""
    method, _, loss = by.partition(":")
    how = {"method": method, "loss": loss} if loss else {"model": loaded(by)}
    begin = time.perf_counter()
    found = regzoo.register(case.fixed, case.moving, **how, error=False)
    seconds = found.facts.get("seconds", {}).get("network", time.perf_counter() - begin)
    return found.transform, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--by", nargs="+", default=["anycontrast-dvf"])
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--split", default="test", choices=["valid", "test"])
    parser.add_argument("--count", type=int, help="of each set, only the first so many pairs")
    parser.add_argument("--each", action="store_true", help="print every pair")
    arguments = parser.parse_args()
    for name in arguments.sets:
        rows: dict[str, list] = {by: [] for by in ("before", *arguments.by)}
        for case in itertools.islice(SETS[name](arguments.data, arguments.split), arguments.count):
            rows["before"].append((case.score(aligned(case.fixed, case.moving, START.get(name, "center"))), 0.0))
            for by in arguments.by:
                found, seconds = registered(by, case)
                rows[by].append((case.score(found), seconds))
            if arguments.each:
                print(f"  {case.name}: {', '.join(f'{by} {np.mean(each[-1][0]):.3f}' for by, each in rows.items())}")
        for by, found in rows.items():
            scores = np.array([score for score, _ in found])
            means = scores.mean(axis=1)
            worst = means.min() if scores.shape[1] == 2 else means.max()
            ways = (
                f" (map {scores[:, 0].mean():.3f}, inverse {scores[:, 1].mean():.3f})" if scores.shape[1] == 2 else ""
            )
            took = np.median([seconds for _, seconds in found])
            print(
                f"{name}, {len(found)} pairs, {by}: {means.mean():.3f} ± {means.std():.3f}{ways}, worst {worst:.3f}, "
                f"{took:.2f} s",
                flush=True,
            )


START = {"mni2mm": "world", "limb": "world", "long": "world"}
"""How images lie before; elsewhere, centre on centre."""


if __name__ == "__main__":
    main()
