"""Lists the pairs that the recipe trains and is scored on. `python prepare.py SOURCE FOLDER`, then `--data FOLDER`.

SOURCE holds patients of ACDC (CC BY-NC-SA 4.0): `NAME_ed.nii.gz` and `NAME_es.nii.gz`, short-axis stacks at the end of
diastole and of systole, their labels `NAME_ed_label` and `NAME_es_label` (1 right ventricle, 2 myocardium, 3 left
ventricle), and `splits.json`, lists of names.

FOLDER/cardiac-mr-dvf gets one list of pairs a split: of each patient, the end of diastole (moving) to that of systole
(fixed). The network learns both ways, and is scored both ways, from that one.
"""

import csv
import json
import os
import sys
from pathlib import Path

COLUMNS = {"fixed": "es", "moving": "ed", "fixed_labels": "es_label", "moving_labels": "ed_label"}


def main(source: Path, folder: Path) -> None:
    """Writes the list of every split."""
    folder.mkdir(parents=True, exist_ok=True)
    place = Path(os.path.relpath(source, folder))
    for split, patients in json.loads((source / "splits.json").read_text(encoding="utf-8")).items():
        rows = [[(place / f"{each}_{end}.nii.gz").as_posix() for end in COLUMNS.values()] for each in patients]
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([COLUMNS, *rows])


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]) / "cardiac-mr-dvf")
