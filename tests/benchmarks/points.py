"""Compares the registration of real point sets with other implementations, on the same points.

    pip install pycpd small_gicp
    python tests/benchmarks/points.py --data FOLDER

Three kinds of points, fixed -> moving: the 300 landmarks of DIR-Lab COPD cases 1-6, exhale to inhale, the moving ones
shuffled so that no method knows which belongs to which, and their order used only to count the error (TRE); surfaces of
the lung masks, scored by Dice of the masks and by the error of the landmarks, which the methods never see; surfaces of
the hippocampus of the first 10 neighbours in the `valid` split, scored by the mean Dice of its two parts. ICP beside
small_gicp, CPD beside pycpd with the same settings; "-" where the other has no such method. Seconds are the mean of
one registration.
"""

import argparse
import itertools
import json
import time
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from regzoo.io.landmarks import read_points
from regzoo.points import cpd, icp, surface
from regzoo.points.coherent_drift import LAM, OUTLIERS, default_beta
from regzoo.world import metrics
from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform

COUNT = 600  # points of a surface
SETTINGS = {"outliers": OUTLIERS, "lam": LAM}  # and the default beta, which goes with the points
METHODS = ("icp", "icp planes", "icp-affine", "cpd-rigid", "cpd-similarity", "cpd-affine", "cpd-deformable")


def ours(method, fixed, moving, normals):
    name, constraint = ("icp", "rigid") if method.startswith("icp") and "-" not in method else method.split("-")
    if name == "icp":
        return icp(fixed, moving, constraint, normals=normals if method == "icp planes" else None).transform
    settings = SETTINGS if constraint == "deformable" else {"outliers": SETTINGS["outliers"]}
    return cpd(fixed, moving, constraint, **settings).transform


def small_gicp(method, fixed, moving):
    import small_gicp as library

    start = np.eye(4)
    start[:3, 3] = moving.mean(axis=0) - fixed.mean(axis=0)
    found = library.align(
        moving,
        fixed,
        start,
        registration_type="PLANE_ICP" if method == "icp planes" else "ICP",
        downsampling_resolution=1e-3,
        max_correspondence_distance=1e3,
        max_iterations=100,
    )
    return Transform.linear(found.T_target_source)


def pycpd(method, fixed, moving):
    import pycpd as library

    centres = fixed.mean(axis=0), moving.mean(axis=0)
    sizes = [np.sqrt(((part - c) ** 2).mean()) for part, c in zip((fixed, moving), centres, strict=True)]
    a, b = (fixed - centres[0]) / sizes[0], (moving - centres[1]) / sizes[1]
    width = default_beta(fixed) / sizes[0]
    settings = {"X": b, "Y": a, "w": SETTINGS["outliers"], "max_iterations": 150, "tolerance": 1e-5}
    if method == "cpd-similarity":
        found = library.RigidRegistration(**settings)  # its rigid always has a scale
    elif method == "cpd-affine":
        found = library.AffineRegistration(**settings)
    else:
        found = library.DeformableRegistration(**settings, alpha=SETTINGS["lam"], beta=width)
    found.register()

    def apply(points):
        points = (points - centres[0]) / sizes[0]
        if method == "cpd-deformable":  # its own method takes its own points only
            kernel = np.exp(-cdist(points, a, "sqeuclidean") / (2 * width**2))
            return (points + kernel @ found.W) * sizes[1] + centres[1]
        return found.transform_point_cloud(points) * sizes[1] + centres[1]

    return apply


def peer(method, fixed, moving):
    if method.startswith("cpd") and method != "cpd-rigid":
        return pycpd(method, fixed, moving)
    return None if "-" in method else small_gicp(method, fixed, moving)


def as_transform(found, grid):
    """A map of points as a field on a grid twice as coarse: its points are many."""
    if isinstance(found, Transform):
        return found
    shape = [size // 2 + 1 for size in grid.shape]
    coarse = Grid(shape, grid.affine @ np.diag([2.0, 2.0, 2.0, 1.0]))
    places = coarse.coordinates().reshape(-1, 3)
    moved = np.concatenate([found(part) for part in np.array_split(places, len(places) // 5000 + 1)])
    return Transform.from_field((moved - places).reshape(*coarse.shape, 3), coarse)


def landmarks(folder):
    for case in range(1, 7):
        pair = [read_points(folder / f"case_{case:02}_{phase}_landmarks.csv") for phase in ("exp", "insp")]
        shuffled = pair[1][np.random.default_rng(case).permutation(len(pair[1]))]
        yield pair[0], shuffled, None, lambda found, grid, pair=pair: {"TRE mm": error(pair, found)}, None


def error(pair, found):
    mapped = found.apply_points(pair[0]) if isinstance(found, Transform) else found(pair[0])
    return float(np.linalg.norm(mapped - pair[1], axis=1).mean())


def lungs(folder):
    for case in range(1, 7):
        stems = [str(folder / f"case_{case:02}_{phase}") for phase in ("exp", "insp")]
        points = [read_points(f"{stem}_landmarks.csv") for stem in stems]
        maps = [Image.read(f"{stem}_lungmask.nii.gz", labels=True) for stem in stems]
        # Half the resolution: Dice of a lung does not change by it, and a field of the peer takes long.
        maps = [Image(each.array[::2, ::2, ::2], each.affine @ np.diag([2.0, 2.0, 2.0, 1.0])) for each in maps]
        yield from surfaces(maps, lambda found, points=points: {"TRE mm": error(points, found)})


def hippocampi(folder):
    names = json.loads((folder / "splits.json").read_text())["valid"]
    for pair in itertools.pairwise(names[:11]):
        yield from surfaces([Image.read(folder / "labels" / f"{name}.nii.gz", labels=True) for name in pair])


def surfaces(maps, further=lambda found: {}):
    (fixed, _), (moving, normals) = (surface(each, COUNT, seed=seed) for seed, each in enumerate(maps))
    tree = cKDTree(surface(maps[1])[0])

    def score(found, grid):
        mapped = found.apply_points(fixed) if isinstance(found, Transform) else found(fixed)
        moved = as_transform(found, grid).apply_labels(maps[1], grid).array
        dice = np.mean(list(metrics.dice(maps[0].array, moved).values()))
        return {"Dice": float(dice), "surface mm": float(tree.query(mapped)[0].mean())} | further(found)

    yield fixed, moving, normals, score, maps[0].grid


def measure(cases):
    """Returns a row of figures for each method: before, regzoo's and the peer's, means over the cases."""
    rows = {}
    for fixed, moving, normals, score, grid in cases:
        rows.setdefault(("unregistered", ""), []).append(score(Transform(), grid))
        for method in METHODS:
            if method == "icp planes" and normals is None:
                continue
            for name, call in (
                ("regzoo", lambda m: ours(m, fixed, moving, normals)),  # noqa: B023
                ("peer", lambda m: peer(m, fixed, moving)),  # noqa: B023
            ):
                start = time.perf_counter()
                found = call(method)
                seconds = time.perf_counter() - start
                if found is not None:
                    rows.setdefault((method, name), []).append(score(found, grid) | {"seconds": seconds})
    return {key: {name: np.mean([each[name] for each in found]) for name in found[0]} for key, found in rows.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    folder = parser.parse_args().data
    copd = folder / "lung-ct" / "copd-masks"
    for title, cases in (
        ("COPD landmarks, shuffled", landmarks(copd)),
        (f"lung surfaces, {COUNT} points", lungs(copd)),
        (f"hippocampus surfaces, {COUNT} points", hippocampi(folder / "hippocampus-mr")),
    ):
        cases = list(cases)
        print(f"{title}: {len(cases)} pairs")
        rows = measure(cases)
        start = rows.pop(("unregistered", ""))
        print("  unregistered:", ", ".join(f"{name} {value:.3f}" for name, value in start.items()))
        for method in dict.fromkeys(key[0] for key in rows):
            for name in ("regzoo", "peer"):
                figures = rows.get((method, name))
                text = ", ".join(f"{key} {value:.3f}" for key, value in figures.items()) if figures else "-"
                print(f"  {method:<15} {name:<7} {text}", flush=True)


if __name__ == "__main__":
    main()
