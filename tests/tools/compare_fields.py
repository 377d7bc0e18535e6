"""Keeps the fields of all bundled models on one pair each, or compares today's with kept ones.

`python tests/tools/compare_fields.py keep FILE.npz` before a change, `... compare FILE.npz [--within 1e-4]` after it,
on the same machine under the same backend. Pairs: a simulated chest for models around lungs, else a real pair of the
data set that the model's name tells (DATA, or ../shared/data), else a synthetic pair.
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1] / "helpers"))
import phantom

import regzoo
from regzoo.hub import cards
from regzoo.registration import demo
from regzoo.simulation import synthetic

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("REGZOO_DATA", ROOT.parent / "shared" / "data"))


def pair(name: str, around: str) -> tuple:
    """Returns fixed and moving image and their labels."""
    if around == "lungs":
        grid = phantom.grid_at()
        (fixed, fixed_labels), (moving, moving_labels) = (phantom.chest_ct(grid, (0, 0, z)) for z in (0, 8))
        return fixed, moving, fixed_labels, moving_labels
    if name.startswith("hippocampus") and DATA.is_dir():
        return demo.real_files(DATA)
    if name.startswith("brain") and (DATA / "brain-mr").is_dir():
        files = sorted((DATA / "brain-mr" / "images").glob("*.nii.gz"))[:2]
        return (*files, *(each.parents[1] / "labels" / each.name for each in files))
    return synthetic.synthetic_pair()[:4]


def fields() -> dict[str, np.ndarray]:
    """Returns each model's displacement on its fixed image in mm; of a conditional model, the labels."""
    found = {}
    for name in sorted(cards.bundled()):
        model = regzoo.load(name)
        fixed, moving, fixed_labels, moving_labels = pair(name, model.card.input.around)
        result = regzoo.register(fixed, moving, model, fixed_labels=fixed_labels, moving_labels=moving_labels)
        transform = result.transform
        found[name] = result.moved_labels.array if transform is None else transform.displacement(result.fixed.grid)
    return found


def main() -> int:
    """Keeps or compares; exits 1 if a field differs by more than `--within`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("keep", "compare"))
    parser.add_argument("file")
    parser.add_argument("--within", type=float, default=0.0, help="largest difference in mm; 0: bit-equal")
    options = parser.parse_args()
    found = fields()
    if options.what == "keep":
        np.savez_compressed(options.file, **found)
        print(f"{len(found)} fields kept in {options.file}")
        return 0
    kept = np.load(options.file)
    largest = {name: float(np.abs(kept[name].astype("float64") - found[name]).max()) for name in found}
    for name, difference in largest.items():
        print(f"{name:36} {difference:.2g}")
    return int(sorted(kept) != sorted(found) or max(largest.values()) > options.within)


if __name__ == "__main__":
    sys.exit(main())
