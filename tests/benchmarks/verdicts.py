"""Draws a good and a failed registration for README: `python tests/benchmarks/verdicts.py --data FOLDER -o PNG`.

Two crops of hippocampus-mr that were in no training, as they are, and the moving one turned by 120 degrees about R, its
header left straight. Prints both verdicts with their reasons.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.spatial.transform import Rotation

import regzoo

MODEL, FIXED, MOVING = "hippocampus-mr-dvf", "hippocampus_210", "hippocampus_070"
DEGREES, WIDTH, SHOWN = 120, 480, 0.42  # of the report, whose further rows are left out


def turned(image: regzoo.Image) -> regzoo.Image:
    """Returns an image whose voxels are turned about their middle."""
    turn, middle = Rotation.from_euler("x", DEGREES, degrees=True).as_matrix(), (np.array(image.shape) - 1) / 2
    array = ndimage.affine_transform(image.array.astype("float32"), turn, middle - turn @ middle, order=1)
    return regzoo.Image(array, image.affine)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    fixed, moving = (
        regzoo.Image.read(arguments.data / "hippocampus-mr" / "images" / f"{name}.nii.gz") for name in (FIXED, MOVING)
    )
    pictures = []
    for image in (moving, turned(moving)):
        result = regzoo.register(fixed, image, model=MODEL)
        print(result.facts["verdict"], *result.facts["reasons"], sep="\n  ")
        with tempfile.TemporaryDirectory() as folder:
            result.save(folder)
            report = Image.open(Path(folder) / "report.png").convert("RGB")
        report = report.crop((0, 0, report.width, round(SHOWN * report.height)))
        pictures.append(report.resize((WIDTH, round(report.height * WIDTH / report.width)), Image.Resampling.LANCZOS))
    sheet = Image.new("RGB", (2 * WIDTH, max(each.height for each in pictures)), "white")
    for number, each in enumerate(pictures):
        sheet.paste(each, (number * WIDTH, 0))
    sheet.quantize(128, dither=Image.Dither.NONE).save(arguments.output, optimize=True)


if __name__ == "__main__":
    main()
