"""Puts this recipe's data into a folder. `python prepare.py data.zip FOLDER`, then `--data FOLDER`.

`data.zip` is DeepReg's demonstration of grouped data (`longi-masks/data.zip` of github.com/yipenghu/example-data). Its
`data.h5` holds simulated prostate masks, one a key `group-PATIENT-VISIT`.
"""

import shutil
import sys
import zipfile
from pathlib import Path


def main(source: Path, folder: Path) -> None:
    """Writes data.h5 and the splits."""
    home = folder / "prostate-masks-longitudinal"
    home.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(source) as held:
        held.extract("data.h5", home)
    shutil.copy(Path(__file__).with_name("splits.json"), home)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
