"""Compares simulated with real breathing, and times it. `python tests/benchmarks/breathing.py --data FOLDER`.

Real: DIR-Lab 4DCT landmarks, cases 1 to 6 (quiet breathing), and DIR-Lab COPD landmarks, cases 1 to 6 (from full breath
in to full breath out). Simulated: points in the lungs where there are vessels, as the landmarks are, on five chest CTs.
Every case is turned so that it breathes out. COPD scans were centred one by one, so its rows and the rows next to them
are without the mean displacement. Prints, over cases, the least, the median and the largest; over draws, the 5th, 50th
and 95th percentile. Then the time that a pair takes: by the clock, and of the processor, all cores together.
"""

import argparse
import itertools
import statistics
import time
from pathlib import Path

import numpy as np
from scipy import ndimage

from regzoo import backend
from regzoo.simulation import chests, motion
from regzoo.simulation.breathing import Simulator
from regzoo.world.images import Image

SPACING = {
    1: 0.97,
    2: 1.16,
    3: 1.15,
    4: 1.13,
    5: 1.10,
    6: 0.97,
}  # mm in plane, published with the 4DCT cases; 2.5 along z
GRID = {"spacing": (5.0, 5.0, 5.0), "shape": (80, 64, 64)}
FIFTHS = np.linspace(0, 1, 6)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=60, help="draws a CT")
    arguments = parser.parse_args()
    lung = arguments.data / "lung-ct"
    draws = list(_simulated(lung / "chest", arguments.pairs))
    quiet = [_measures(*case) for case in _quiet(lung / "dirlab-4dct-landmarks")]
    low, high = (f(case["SI of the lowest fifth"] for case in quiet) for f in (min, max))
    deep = [_measures(*case, centred=True) for case in _forced(lung / "copd-masks")]
    all_draws = [_measures(*case) for case in draws]
    alike = [m for m in all_draws if low <= m["SI of the lowest fifth"] <= high]
    strong = [_measures(*case, centred=True) for case in draws]
    strong = [m for m, n in zip(strong, all_draws, strict=True) if n["SI of the lowest fifth"] > high]
    tables = {
        f"4DCT, {len(quiet)} cases": (quiet, (0, 50, 100)),
        f"simulated alike, {len(alike)}": (alike, (5, 50, 95)),
        f"COPD, {len(deep)} cases": (deep, (0, 50, 100)),
        f"simulated deeper, {len(strong)}": (strong, (5, 50, 95)),
        f"simulated, all {len(all_draws)}": (all_draws, (5, 50, 95)),
    }
    print(f"{'mm, or share of the lowest fifth SI':38}" + "".join(f"{name:>26}" for name in tables))
    for key in quiet[0]:
        cells = (np.percentile([m[key] for m in rows], levels) for rows, levels in tables.values())
        print(f"{key:38}" + "".join(f"{'{:7.2f} {:7.2f} {:7.2f}'.format(*cell):>26}" for cell in cells))

    _times(lung / "chest")


def _times(folder: Path) -> None:
    simulator = next(_simulators(folder))
    rows = []
    for seed in range(25):
        clock, processor = time.perf_counter(), time.process_time()
        simulator(motion.draw(motion.BreathingPrior(), np.random.default_rng(seed), simulator.chest.network))
        rows.append((1e3 * (time.perf_counter() - clock), 1e3 * (time.process_time() - processor)))
    clock, processor = (statistics.median(column) for column in zip(*rows[5:], strict=True))
    shape = " x ".join(map(str, GRID["shape"]))
    print(f"a pair on {shape} voxels, {backend.NAME}: {clock:.0f} ms, {processor:.0f} ms of the processor")


def _quiet(folder: Path):
    for case, step in SPACING.items():
        rows = np.genfromtxt(folder / f"case0{case}_300.csv", delimiter=",")
        scale = np.array([step, -step, -2.5])  # indices run to the back and downwards; towards A and S here
        yield rows[:, :3] * scale, (rows[:, 3:6] - rows[:, :3]) * scale


def _forced(folder: Path):
    for case in range(1, 7):
        full, empty = (
            np.genfromtxt(folder / f"case_0{case}_{phase}_landmarks.csv", delimiter=",", skip_header=1)
            for phase in ("insp", "exp")
        )
        yield full, empty - full


def _simulated(folder: Path, pairs: int):
    prior = motion.BreathingPrior(position=0)
    for index, simulator in enumerate(_simulators(folder)):
        for pair in range(pairs):
            drawn = motion.draw(prior, np.random.default_rng([index, pair]), simulator.chest.network)
            hu, masks, ddf = simulator(drawn)
            inner = ndimage.binary_erosion(masks[0])
            points = np.argwhere(inner & (hu[0] > np.percentile(hu[0][inner], 70)))
            points = np.random.default_rng(pair).permutation(points)[:300]
            yield points * 5.0, np.sign(drawn["diaphragm"]) * ddf[tuple(points.T)] * 5.0


def _simulators(folder: Path):
    for path in sorted(folder.glob("*_lungmask.nii.gz")):
        ct, lungs = Image.read(str(path).replace("_lungmask", "")), Image.read(path, labels=True)
        yield Simulator(chests.prepare(ct, lungs, **GRID))


def _measures(points: np.ndarray, u: np.ndarray, centred: bool = False) -> dict[str, float]:
    if centred:
        u = u - u.mean(axis=0)
    height = (points[:, 2] - points[:, 2].min()) / np.ptp(points[:, 2])
    fifth = [u[(height >= low) & (height <= high)].mean(axis=0) for low, high in itertools.pairwise(FIFTHS)]
    base = fifth[0][2] - (fifth[4][2] if centred else 0)
    design = np.c_[np.ones(len(points)), points - points.mean(axis=0)]
    slopes, *_ = np.linalg.lstsq(design, u, rcond=None)
    size = np.linalg.norm(u, axis=1)
    found = {f"|u| p{level}": np.percentile(size, level) for level in (5, 25, 50, 75, 95, 100)}
    found["|u| mean"] = size.mean()
    for axis, name in enumerate(("LR", "AP", "SI")):
        low, high = np.percentile(u[:, axis], (5, 95))
        found |= {f"{name} p5": low, f"{name} p95": high}
    found["SI of the lowest fifth"] = fifth[0][2]
    found |= {f"SI of fifth {i + 1} / lowest": fifth[i][2] / base for i in range(5)}
    found |= {f"AP of fifth {i + 1} / lowest SI": fifth[i][1] / base for i in range(5)}
    found["LR deviation / lowest SI"] = u[:, 0].std() / base
    found["AP deviation / lowest SI"] = u[:, 1].std() / base
    found["SI grows per 100 mm to the back"] = -100 * slopes[2, 2] / base
    residual = u - design @ slopes
    found["rest of an affine fit / lowest SI"] = np.sqrt((residual**2).sum(axis=1).mean()) / base
    found["rest of an affine fit, mm"] = np.sqrt((residual**2).sum(axis=1).mean())
    return found


if __name__ == "__main__":
    main()
