"""Whole heads: how well a model of masks finds the brain in them, and how a model of brains registers them.

    python tests/benchmarks/heads.py masks DATA [--split test] [--each 12] [--finder NAME] [--record]
    python tests/benchmarks/heads.py told DATA [--finder NAME|none]
    python tests/benchmarks/heads.py known DATA --model NAME
    python tests/benchmarks/heads.py visits DATA --model NAME | --method rigid [--loss nmi] [--finder NAME]
    python tests/benchmarks/heads.py picture DATA [--finder NAME] -o PNG

`masks`: Dice of the masks of heads made of label maps, on voxels of 2 mm, of any contrast; `--record` writes it into
the finder's card. `picture`: what is found in raw images of brain-multicontrast. `told`: which brains and
which heads are taken for heads. `known`: two heads of one label map and a known map between them. `visits`: the raw
images of brain-multicontrast that have a transform of its authors'. Errors are those of all voxels of the brain, in mm.
The models are a zoo's, or folders; `known` and `visits` need one whose card names a finder (`input.strip`).
"""

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image as Picture
from scipy import ndimage

import regzoo
from regzoo import backend
from regzoo.hub import cards
from regzoo.registration.report.planes import Plane, nearest_axes
from regzoo.registration.results import Result
from regzoo.registration.stripping import brain_mask, extent, find_brain, is_bare
from regzoo.schema.card import Score
from regzoo.world.images import Image
from regzoo.world.matrices import map_points
from regzoo.world.transforms import Transform

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes" / "head-mr-strip"))
from synthesis import FLUID, MAP, PRIORS, Heads, is_brain, read_maps, split

VISITS = (("01", "T1W"), ("01", "T2W"), ("03", "T2W"), ("01", "FLAIR"), ("03", "FLAIR"), ("19", "FLAIR"))
BRAINS = ("brain-mr/images/*", "brain-oasis-trt/oasis_trt_??.nii.gz", "brain-multicontrast/mni2mm/*[!s].nii.gz")
HEADS = ("brain-multicontrast/long/*.nii.gz",)


def masks(args: argparse.Namespace) -> None:
    """Prints Dice of the masks of heads of any contrast."""
    names = split(args.data / "head-labelmaps", args.split)
    for stripped in (0.0, 1.0):
        rows = itertools.islice(masked(args.data, args.split, args.finder, stripped), args.each * len(names))
        _, found, taken = np.array([*rows]).T
        print(
            f"{'brains' if stripped else 'heads'} of {', '.join(names)}: {len(found)}, Dice {found.mean():.4f} "
            f"± {found.std():.4f}, median {np.median(found):.4f}, worst {found.min():.4f}, below .95: "
            f"{(found < 0.95).sum()}; taken for heads: {taken.sum():.0f}",
            flush=True,
        )
        if args.record and not stripped:
            record(args, found, ", ".join(names))


def masked(data: Path, of: str, finder: str, stripped: float) -> Iterator[tuple[int, float, bool]]:
    """Yields numbers of heads made of the label maps of a split, Dice of their masks, and what is taken for a head."""
    names = split(data / "head-labelmaps", of)
    model, size = regzoo.load(finder), 2.0
    heads = Heads(*read_maps(data / "head-labelmaps", names), (96, 128, 160), size, stripped)
    for head in itertools.count():
        number = np.array([1000 + head], "int32")
        image, brain = (np.array(each)[0, ..., 0] for each in backend.inference(heads, number, number % len(names)))
        image, brain = Image(image, np.diag([size, size, size, 1])), brain > 0.5
        mask = find_brain(image, model)[0].array > 0
        yield head, 2 * (mask & brain).sum() / (mask.sum() + brain.sum()), brain_mask(image, model) is not None


def record(args: argparse.Namespace, found: np.ndarray, maps: str) -> None:
    """Writes the Dice of masks into the scores and the card of a bundled model of masks."""
    name = args.finder
    if args.split != "test":
        raise SystemExit(f"--record: expected the split test, received {args.split}.")
    folder = cards.zoo_folder() / name
    rows = [{"head": number, "mask_dice": float(value)} for number, value in enumerate(found)]
    spread = {"mean": found.mean(), "sd": found.std(), "median": np.median(found)}
    summary = {key: float(value) for key, value in spread.items()} | {"count": len(found)}
    test = {"heads": len(found), "summary": {"mask_dice": summary}, "rows": rows}
    (folder / cards.SCORES).write_text(json.dumps({"test": test}, indent=1) + "\n", encoding="utf-8")
    score = Score(
        metric="mask_dice",
        value=round(summary["mean"], 4),
        sd=round(summary["sd"], 4),
        data=f"heads of any contrast, synthesised from the label maps {maps} of head-labelmaps",
        pairs=len(found),
        command=f"python tests/benchmarks/heads.py masks FOLDER --each {args.each} --finder {name}",
    )
    card = cards.read(folder).model_copy(update={"files": cards.manifest(folder), "scores": (score,)})
    cards.write(folder, card, cards.read_body(folder))


SEEN = (("01", 1, "T1W"), ("03", 1, "T2W"), ("19", 2, "FLAIR"))
"""Patient, visit and contrast of what is drawn, in axial and coronal slices, on which nobody's face is seen."""


def picture(args: argparse.Namespace) -> None:
    """Draws the outline of what is found in raw heads."""
    mpl.use("Agg")
    finder = regzoo.load(args.finder)
    figure, axes = plt.subplots(2, len(SEEN), figsize=(2.4 * len(SEEN), 5), layout="constrained")
    for (patient, study, kind), column in zip(SEEN, axes.T, strict=True):
        image = Image.read(args.data / "brain-multicontrast" / "long" / f"patient{patient}_study{study}_{kind}.nii.gz")
        mask = find_brain(image, finder)[0].array > 0
        for panel, normal in zip(column, (2, 1), strict=True):
            axis = nearest_axes(image.grid)[normal]
            others = tuple(each for each in range(3) if each != axis)
            plane = Plane(image.grid, normal, int(np.argmax(np.count_nonzero(mask, axis=others))))
            most = np.percentile(image.array, 99.5)
            panel.imshow(plane.cut(image.array), cmap="gray", vmin=0, vmax=most, origin="lower", aspect=plane.aspect)
            panel.contour(plane.cut(mask.astype("uint8")), [0.5], colors="#ffd000", linewidths=0.9)
            panel.set_axis_off()
        column[0].set_title(f"patient {patient}, {kind}", fontsize=8)
    figure.savefig(args.output, dpi=100)
    Picture.open(args.output).convert("RGB").quantize(128).save(args.output, optimize=True)


def told(args: argparse.Namespace) -> None:
    """Prints what is taken for a head."""
    finder = None if args.finder == "none" else regzoo.load(args.finder)
    for pattern in (*BRAINS, *HEADS):
        rows = []
        for path in sorted(args.data.glob(pattern)):
            image = Image.read(path)
            rows.append((is_bare(image), *extent(image), *((0, 0, 0) if finder is None else asked(image, finder))))
        bare, shown, touching, litres, around, head = np.array(rows, float).T
        print(
            f"{pattern}: {len(rows)} images of {span(shown)} l, at most {span(touching)} mm² on a face; surely bare "
            f"{bare.sum():.0f}"
        )
        if finder is not None:
            print(f"  the network: brain {span(litres)} l, around it {span(around)} as much; heads {head.sum():.0f}")


def asked(image: Image, finder: object) -> tuple[float, float, bool]:
    """Returns litres of brain, volumes of the brain that are bright around it, and whether that makes a head."""
    mask, around = find_brain(image, finder)
    litres = float((mask.array > 0).sum() * np.prod(image.spacing)) / 1e6
    return litres, around, brain_mask(image, finder) is not None


def span(values: np.ndarray) -> str:
    return f"{values.min():.2f} to {values.max():.2f}"


def made(kinds: np.ndarray, seed: int) -> np.ndarray:
    """Returns a T1 of kinds of tissue."""
    random = np.random.default_rng(seed)
    means = np.append(PRIORS[0], PRIORS[0][FLUID])
    texture = ndimage.gaussian_filter(random.normal(size=kinds.shape), 1.5) * 4
    array = ndimage.gaussian_filter(means[kinds] * (1 + 0.06 * texture), 0.5)
    return np.abs(array + 0.02 * random.normal(size=kinds.shape)).astype("float32") * 1000


def known_map(points: np.ndarray, middle: np.ndarray, seed: int) -> np.ndarray:
    """Maps points of moving space (N, 3), mm, to fixed space: a turn, a shift, and waves of up to 5 mm."""
    random = np.random.default_rng(seed)
    angles = np.radians(random.uniform(-10, 10, 3))
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [each for each in range(3) if each != axis]
        one = np.eye(3)
        one[a, a] = one[b, b] = np.cos(angle)
        one[a, b], one[b, a] = -np.sin(angle), np.sin(angle)
        turn = turn @ one
    away = points - middle
    waves = sum(
        random.uniform(-2.5, 2.5, 3) * np.sin(away @ random.uniform(-1, 1, 3) / 15 + random.uniform(0, 6))[:, None]
        for _ in range(4)
    )
    return away @ turn.T + middle + random.uniform(-8, 8, 3) + waves


def known(args: argparse.Namespace) -> None:
    """Prints the error of the registration of two heads made of a test label map, by a known map."""
    folder = args.data / "head-labelmaps"
    names = split(folder, "test")
    maps, middles = read_maps(folder, names)
    for number, (name, kinds, middle) in enumerate(zip(names, maps, middles, strict=True)):
        affine = np.diag([MAP, MAP, MAP, 1.0])
        places = np.indices(kinds.shape).reshape(3, -1).T * MAP
        there = known_map(places, middle * MAP, number)
        moved = ndimage.map_coordinates(kinds, there.T / MAP, order=0, cval=0).reshape(kinds.shape)
        fixed, moving = Image(made(kinds, 2 * number), affine), Image(made(moved, 2 * number + 1), affine)
        inside = is_brain()[moved].ravel()
        for strip in (True, False):
            result = regzoo.register(fixed, moving, args.model, strip=strip, error=False)
            errors, before = (
                np.linalg.norm(each.apply_points(there[inside]) - places[inside], axis=-1)
                for each in (result.transform, result.start)
            )
            told_of(f"{name}, {'stripped' if strip else 'as it is'}", errors, before, result)


def visits(args: argparse.Namespace) -> None:
    """Prints the error of the registration of raw heads against the authors' transforms."""
    finder = regzoo.load(args.finder)
    for name, fixed, moving, truth in pairs(args.data / "brain-multicontrast" / "long"):
        image = Image.read(fixed)
        mask = brain_mask(image, finder)
        places = map_points(image.affine, np.argwhere(mask.array > 0))
        wanted = Transform.linear(truth).apply_points(places)
        named = {"method": args.method, "loss": args.loss} if args.method else {"model": args.model}
        for strip in (True,) if args.method else (True, False):
            result = regzoo.register(fixed, moving, **named, strip=strip, error=False)
            errors, before = (
                np.linalg.norm(each.apply_points(places) - wanted, axis=-1) for each in (result.transform, result.start)
            )
            how = args.method or ("stripped" if strip else "as it is")
            told_of(f"{name}, {how}", errors, before, result)


def pairs(folder: Path) -> Iterator[tuple[str, Path, Path, np.ndarray]]:
    """Yields name, fixed and moving file, and the authors' map from fixed to moving space, RAS mm.

    Their files map points as ITK has it: those of FLAIR to those of another contrast, and those of the common space to
    those of FLAIR (the other directions match the images less, or not at all).
    """

    def of_flair(patient: str, study: int, kind: str) -> np.ndarray:
        if kind == "FLAIR":
            return np.eye(4)
        return Transform.load(folder / f"patient{patient}_study{study}_{kind}_intrastudy_to_FLAIR.txt").matrix

    def file(patient: str, study: int, kind: str) -> Path:
        return folder / f"patient{patient}_study{study}_{kind}.nii.gz"

    for patient, kind in VISITS:
        common = [
            Transform.load(folder / f"patient{patient}_study{study}_FLAIR_to_common_space.txt").matrix
            for study in (1, 2)
        ]
        whole = of_flair(patient, 2, kind) @ common[1] @ np.linalg.inv(of_flair(patient, 1, kind) @ common[0])
        yield f"{patient} {kind}, visit 1 from 2", file(patient, 1, kind), file(patient, 2, kind), whole
    for fixed in sorted(folder.glob("*_FLAIR.nii.gz")):
        patient, study = fixed.name[7:9], int(fixed.name[15])
        for kind in ("T1W", "T2W"):
            moving = file(patient, study, kind)
            if moving.exists():
                yield f"{patient}, visit {study}, FLAIR from {kind}", fixed, moving, of_flair(patient, study, kind)


def told_of(name: str, errors: np.ndarray, before: np.ndarray, result: Result) -> None:
    """Prints the error of a pair."""
    stripped = {key: value for key, value in result.facts.get("stripped", {}).items() if key in ("fixed", "moving")}
    print(
        f"{name}: error mean {errors.mean():.2f}, 95 of 100 below {np.percentile(errors, 95):.2f}, at the start "
        f"{before.mean():.2f} mm; litres {stripped}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("masks", "told", "known", "visits", "picture"))
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--each", type=int, default=12, help="heads of each label map")
    parser.add_argument("--model", default="brain-mr-dvf")
    parser.add_argument("--method", help="of `visits`, in the place of a model; nothing is stripped")
    parser.add_argument("--loss", help="of the method")
    parser.add_argument("--finder", default="head-mr-strip")
    parser.add_argument("--record", action="store_true", help="write the Dice of masks into the finder's card")
    parser.add_argument("-o", "--output", type=Path, default=Path("heads.png"))
    args = parser.parse_args()
    {"masks": masks, "told": told, "known": known, "visits": visits, "picture": picture}[args.what](args)


if __name__ == "__main__":
    main()
