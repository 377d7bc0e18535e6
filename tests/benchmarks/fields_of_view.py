"""Registers a body that fills one image and takes a small part of the other, 3.25 times as wide, by each image loss.

    KERAS_BACKEND=jax python tests/benchmarks/fields_of_view.py [--fine] [--method rigid] [LOSS ...]

The body is synthetic, turned by 7 degrees and shifted by 5.4 mm. Prints, for each loss with the moving and then the
fixed image as the wide one, the mean error in mm over 200 points of the body, seconds, and the voxels that were
compared. Voxels of 4 and 6.5 mm, with `--fine` of 2.5 and 4 mm. Ends with 1 where an error is above 2 mm.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np

from regzoo.classical import Guidance, optimise
from regzoo.schema.losses import LOSSES
from regzoo.world.transforms import Transform

sys.path.append(str(Path(__file__).parents[1] / "helpers"))
from narrow_and_wide import IN_NARROW, IN_WIDE, narrow_and_wide

MOST = 2.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("losses", nargs="*", metavar="LOSS", default=list(LOSSES["image"]))
    parser.add_argument("--method", default="rigid")
    parser.add_argument("--fine", action="store_true")
    arguments = parser.parse_args()
    narrow, wide = narrow_and_wide(arguments.fine)
    worst = 0.0
    for loss in arguments.losses:
        for name, images, points, wanted in (
            ("moving", (narrow, wide), IN_NARROW, IN_WIDE),
            ("fixed", (wide, narrow), IN_WIDE, IN_NARROW),
        ):
            started = time.perf_counter()
            found, done = optimise(*images, Transform.identity(), [arguments.method], Guidance(loss=loss))
            error = np.linalg.norm(found.apply_points(points) - wanted, axis=-1).mean()
            worst = max(worst, error)
            voxels = [" x ".join(map(str, level["voxels"])) for step in done for level in step["levels"]]
            seconds = time.perf_counter() - started
            print(f"{loss}, {name} wide: {error:.2f} mm, {seconds:.1f} s, {'; '.join(voxels)}", flush=True)
    return int(worst > MOST)


if __name__ == "__main__":
    sys.exit(main())
