"""Lists the real pairs that this recipe is scored on. `python prepare.py DATA`, then `--data DATA`.

DATA holds `hippocampus-mr` and `brain-mr`, each with `splits.json`. DATA/anycontrast gets test.csv, their test pairs,
which are those of hippocampus-mr.csv and brain-mr.csv; valid.csv, ten pairs of the images that other models choose
their steps by; inverted.csv, the test pairs of brains with moving images that are inverted within the brain: what was
bright is dark, and the background stays 0; and where there is `prostate-mrus`, prostate-mrus.csv, its test pairs.
"""

import csv
import itertools
import json
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

SETS = ("hippocampus-mr", "brain-mr")
COLUMNS = ("fixed", "moving", "fixed_labels", "moving_labels")


def main(data: Path) -> None:
    """Writes the three lists, and the inverted images."""
    folder = data / "anycontrast"
    folder.mkdir(exist_ok=True)
    splits = {name: json.loads((data / name / "splits.json").read_text(encoding="utf-8")) for name in SETS}
    listed: dict[str, list] = {"test": [], "valid": [], "inverted": []}
    for name in SETS:
        valid = splits[name]["valid"]
        pairs = {"test": splits[name]["test_pairs"], "valid": list(itertools.pairwise(valid))[:5]}
        for split, names in pairs.items():
            listed[split] += [row(name, moving, fixed) for moving, fixed in names]
        listed[name] = [row(name, moving, fixed) for moving, fixed in pairs["test"]]
    for moving, fixed in splits["brain-mr"]["test_pairs"]:
        target = folder / "inverted" / f"{moving}.nii.gz"
        target.parent.mkdir(exist_ok=True)
        nib.save(inverted(nib.load(data / "brain-mr" / "images" / target.name)), target)
        listed["inverted"].append(row("brain-mr", moving, fixed) | {"moving": f"inverted/{target.name}"})
    prostates = data / "prostate-mrus"
    if prostates.is_dir():
        names = json.loads((prostates / "splits.json").read_text(encoding="utf-8"))["test"]
        listed[prostates.name] = [
            {key: f"../{prostates.name}/{key}{'' if 'labels' in key else '_images'}/{name}.nii.gz" for key in COLUMNS}
            for name in names
        ]
    for split, rows in listed.items():
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


def inverted(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Returns an image whose contrast is reversed between its lowest and its highest value above 0."""
    values = np.asarray(image.dataobj, dtype="float32")
    inside = values > 0
    values[inside] = values[inside].max() + values[inside].min() - values[inside]
    return nib.Nifti1Image(values, image.affine)


def row(name: str, moving: str, fixed: str) -> dict[str, str]:
    """Returns a line of a list, relative to it."""
    sides = {"fixed": f"images/{fixed}", "moving": f"images/{moving}"}
    sides |= {"fixed_labels": f"labels/{fixed}", "moving_labels": f"labels/{moving}"}
    return {key: f"../{name}/{path}.nii.gz" for key, path in sides.items()}


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
