"""Compares every loss with others and measures its speed. `python tests/benchmarks/losses.py`.

Prints the value of one seeded pair (10 x 12 x 11 voxels, two labels, a smooth field) by regzoo, by the plain formula in
NumPy and by a peer, which is MONAI, or torch (ssd, cross_entropy) or SciPy (centroid); then the milliseconds of value
and gradient with respect to the moved side for 2 x 48 x 64 x 48 voxels (fastest of 11 calls).
MONAI's gradient and bending take wider differences, of inner voxels only, and so differ.
"""

import sys
import time
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from regzoo import backend, losses  # Keras by way of backend, which keeps the backend's start-up chatter away

sys.path.append(str(Path(__file__).parents[1] / "helpers"))
import loss_formulas
import loss_peers

from regzoo.schema.losses import LOSSES

ops = backend.keras.ops
SPACING = {"spacing": (1.0, 2.0, 1.5)}
SETTINGS = {"lncc": {"size": 3}, "centroid": SPACING, "elastic": SPACING}


def example(shape, seed=0):
    """Returns images from 0 to 1 in a margin of 0, two soft labels and a field in voxels, all without batch axis."""
    random = np.random.default_rng(seed)
    texture = gaussian_filter(random.normal(size=(2, *shape)), (0, 1, 1, 1))
    images = np.pad(texture[:, 2:-2, 2:-2, 2:-2], ((0, 0), (2, 2), (2, 2), (2, 2)))
    moved = 0.7 * images[0] ** 2 + 0.3 * images[1]
    images = [np.where(x != 0, (x - x.min()) / np.ptp(x), 0)[..., None] for x in (images[0], moved)]
    smooth = gaussian_filter(random.normal(size=(4, *shape)), (0, 2, 2, 2)) * 6
    labels = [np.moveaxis(1 / (1 + np.exp(-3 * part)), 0, -1) for part in (smooth[:2], smooth[2:])]
    ddf = np.moveaxis(gaussian_filter(random.normal(size=(3, *shape)), (0, 2, 2, 2)) * 20, 0, -1)
    return {"image": images, "label": labels, "deformation": [ddf]}


def milliseconds(loss, arguments, settings):
    *fixed, moved = (ops.convert_to_tensor(np.stack([x, x[::-1]]).astype("float32")) for x in arguments)
    step = backend.compiled(
        lambda moved, *fixed: backend.value_and_grad(lambda m: ops.sum(loss(*fixed, m, **settings)))(moved)
    )
    times = []
    for _ in range(11):
        start = time.perf_counter()
        ops.convert_to_numpy(step(moved, *fixed)[1])
        times.append(1000 * (time.perf_counter() - start))
    return min(times)


def main():
    small, large = example((10, 12, 11)), example((48, 64, 48))
    print(f"{'loss':26}{'regzoo':>12}{'formula':>12}{'peer':>12}{'ms':>8}   ({backend.NAME})")
    rows = [(kind, *row) for kind in LOSSES if kind in small for row in losses.named(kind).items()]
    for kind, name, loss in rows:
        settings = SETTINGS.get(name, {})
        value = ops.convert_to_numpy(loss(*(x[None].astype("float32") for x in small[kind]), **settings))[0]
        formula = getattr(loss_formulas, loss.__name__)(*small[kind], **settings)
        function = getattr(loss_peers, loss.__name__, None)
        peer = "-"
        if function:
            peer = f"{function(*small[kind], **settings):.6f}"
        spent = milliseconds(loss, large[kind], settings)
        print(f"{kind + '.' + name:26}{value:12.6f}{formula:12.6f}{peer:>12}{spent:8.1f}", flush=True)


if __name__ == "__main__":
    main()
