"""Writes what these recipes train and are scored on. `python prepare.py SOURCE FOLDER`, then `--data FOLDER`.

SOURCE holds patients of the Sunnybrook Cardiac Data (CC0 1.0): `NAME_cine.nii.gz` (4-D, short axis), `NAME_ED_label`
and `NAME_ES_label` (1 is the cavity of the left ventricle), and `cases.json` (ED_frame, ES_frame and
slices_with_ED_and_ES_endocard, all from 0).

FOLDER/cardiac-cine-mr gets one file a frame, the cavity's labels on the slices where an expert drew both of them, and
one list of pairs a split. Training pairs any two frames of a patient, and end-diastole with end-systole as often as all
others together; `valid` and `test` are one patient each, end-systole (moving) to end-diastole (fixed).
"""

import csv
import itertools
import json
import sys
from pathlib import Path

from regzoo.world.images import Image

SPLITS = {"train": ("SC-HF-I-1", "SC-HF-I-2"), "valid": ("SC-HF-I-6",), "test": ("SC-HF-I-4",)}
COLUMNS = ("fixed", "moving", "fixed_labels", "moving_labels")


def main(source: Path, folder: Path) -> None:
    """Writes the files of every split."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = json.loads((source / "cases.json").read_text(encoding="utf-8"))
    for split, patients in SPLITS.items():
        rows = [row for patient in patients for row in pairs(source, folder, patient, cases[patient], split)]
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *rows])


def pairs(source: Path, folder: Path, patient: str, case: dict, split: str) -> list[tuple[str, ...]]:
    """Writes a patient's frames and labels and returns the pairs."""
    frames = [f"{patient}-{number:02d}.nii.gz" for number in range(case["frames"])]
    for number, name in enumerate(frames):
        Image.read(source / f"{patient}_cine.nii.gz", volume=number).save(folder / name)
    for phase in ("ED", "ES"):
        drawn = Image.read(source / f"{patient}_{phase}_label.nii.gz", labels=True)
        cavity = (drawn.array == 1).astype("uint8")
        slices = [k for k in range(cavity.shape[2]) if k not in case["slices_with_ED_and_ES_endocard"]]
        cavity[:, :, slices] = 0
        Image(cavity, drawn.affine).save(folder / f"{patient}-{phase}.nii.gz")
    ends = [(frames[case[f"{phase}_frame"]], f"{patient}-{phase}.nii.gz") for phase in ("ED", "ES")]
    labelled = [(fixed, moving, fixed_label, moving_label) for (fixed, fixed_label), (moving, moving_label) in
                itertools.permutations(ends)]  # fmt: skip
    if split != "train":
        return labelled[:1]
    others = [(fixed, moving, "", "") for fixed, moving in itertools.permutations(frames, 2)]
    return others + labelled * (len(others) // len(labelled))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]) / "cardiac-cine-mr")
