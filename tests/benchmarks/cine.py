"""The left ventricle's cavity of the test patient of cardiac-cine-mr-ddf over the cycle: its volume and strain.

    python tests/benchmarks/cine.py --data FOLDER --output volume.png [--model NAME]

FOLDER/cardiac-cine-mr is what recipes/cardiac-cine-mr-ddf/prepare.py writes. Fixed is end-diastole, where an expert
drew the cavity, and moving each frame; the field's Jacobian determinant, summed over the drawn cavity, is its volume in
that frame. Strain is the change of the circle of equal area, the mean over the drawn slices, and not of muscle fibres.
Prints Dice of each slice, end-systole (moving) to end-diastole (fixed), the volumes, and those drawn by the expert.
"""

import argparse
import csv
from pathlib import Path

import matplotlib as mpl
import numpy as np

import regzoo
from regzoo.world import metrics
from regzoo.world.images import Image

mpl.use("Agg")
import matplotlib.pyplot as plt


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="cardiac-cine-mr-ddf")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    home = arguments.data / "cardiac-cine-mr"
    with (home / "test.csv").open(encoding="utf-8") as file:
        pair = {key: home / value for key, value in next(csv.DictReader(file)).items()}
    patient = pair["fixed"].name[: -len("-00.nii.gz")]
    model = regzoo.load(arguments.model)
    drawn = {key: Image.read(pair[f"{key}_labels"], labels=True) for key in ("fixed", "moving")}
    found = regzoo.register(model=model, **pair)
    maps = [each.array == 1 for each in (found.fixed_labels, found.moving_labels, found.moved_labels)]
    print("slice  before  after")
    for k in range(maps[0].shape[2]):
        fixed, moving, moved = (each[..., k] for each in maps)
        if fixed.any() and moving.any():
            before, after = (metrics.dice(fixed.astype(int), other.astype(int), [1])[1] for other in (moving, moved))
            print(f"{k:5d}  {before:.3f}   {after:.3f}")
    areas = []
    frames = sorted(home.glob(f"{patient}-[0-9][0-9].nii.gz"))
    for frame in frames:
        cavity = drawn["fixed"].array == 1
        transform = regzoo.register(pair["fixed"], frame, model).transform
        grown = transform.jacobian_determinant(transform.grid)
        areas.append((grown * cavity).sum(axis=(0, 1)) * np.prod(drawn["fixed"].spacing[:2]))
    areas = np.array(areas)
    rest = cavity.sum(axis=(0, 1)) * np.prod(drawn["fixed"].spacing[:2])
    seen = rest > 0
    volumes = areas[:, seen].sum(axis=1) * drawn["fixed"].spacing[2] / 1000
    strain = 100 * (np.sqrt(areas[:, seen] / rest[seen]) - 1).mean(axis=1)
    truth = {key: (image.array == 1).sum() * np.prod(image.spacing) / 1000 for key, image in drawn.items()}
    numbers = {key: int(pair[key].name[-len("00.nii.gz") :][:2]) for key in truth}
    print("frame  volume (ml)  strain (%)")
    for number, (volume, change) in enumerate(zip(volumes, strain, strict=True)):
        print(f"{number:5d}  {volume:11.1f}  {change:10.1f}")
    for key, name in (("fixed", "end-diastole"), ("moving", "end-systole")):
        print(f"drawn at {name}, frame {numbers[key]}: {truth[key]:.1f} ml, carried {volumes[numbers[key]]:.1f} ml")
    draw(arguments.output, patient, volumes, strain, truth, numbers)


def draw(path: Path, patient: str, volumes: np.ndarray, strain: np.ndarray, truth: dict, numbers: dict) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    axes[0].plot(volumes, "o-", label="carried from end-diastole")
    axes[0].plot(
        [numbers[key] for key in truth], list(truth.values()), "kx", markersize=10, label="drawn by the expert"
    )
    axes[0].set(xlabel="frame", ylabel="volume of the drawn slices (ml)", title=patient, ylim=(0, 1.1 * volumes.max()))
    axes[0].legend()
    axes[1].plot(strain, "o-", color="tab:red")
    axes[1].set(xlabel="frame", ylabel="strain of the circle of equal area (%)", title="mean over the slices")
    for each in axes:
        each.grid(alpha=0.3)
        each.set_xticks(range(0, len(volumes), 2))
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    main()
