"""How well two images fit in the anatomy: whether a registration moved what fitted already, or fits two patients."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from regzoo.classical.pyramid import level_grid
from regzoo.world.images import Grid, Image
from regzoo.world.resampling import resample

_WINDOW = 7  # voxels
_FLAT = 1e-3  # of an image's variance
_FITS, _GAIN = 0.8, 0.015
"""On 18 simulated pairs of little breathing, five had a larger error after lung-ct-ddf than before: their fit was 0.90
to 0.98 and rose by -0.014 to 0.013. That of the others rose by 0.021 and more."""
_ONE_PATIENT = 0.6
"""Two states of breathing of one patient fit by 0.83 and more after lung-ct-ddf, five pairs of two patients by 0.18 to
0.45."""


@dataclass(frozen=True)
class Fit:
    """Local squared correlation in the anatomy, from 0 to 1 (the same), at the start and after a registration."""

    before: float
    after: float

    @property
    def fitted_already(self) -> bool:
        """Whether the images fitted at the start, and fit hardly better or worse after it, for something was moved."""
        return self.before >= _FITS and self.after - self.before < _GAIN and self.after != self.before

    def text(self) -> str:
        """Returns both figures in words."""
        return f"local correlation in the anatomy {self.before:.3f} at the start, {self.after:.3f} after it"


def fit(fixed: Image, started: Image, moved: Image, seen: np.ndarray, anatomy: Image | None = None) -> Fit:
    """Compares the moving image with the fixed one before and after a registration, where both were seen.

    Args:
        fixed: Fixed image.
        started: The moving image on the fixed image's grid, at the start.
        moved: The same after the registration.
        seen: Where both are in view, bool, the shape of `fixed`.
        anatomy: Mask on the fixed image's grid; None: what is not dark.

    Returns:
        The fit; nan where nothing is seen.
    """
    grid = level_grid(fixed.grid, 1)
    values = _on(fixed, grid)
    # Windows that reach into what only one image shows would compare it with what was filled in.
    inside = ndimage.minimum_filter(_on(Image(seen.astype("float32"), fixed.affine), grid), _size(grid.shape)) > 0.99
    if anatomy is None:
        low, high = np.percentile(values, (1, 99))
        inside &= values > low + 0.1 * (high - low)
    else:
        inside &= _on(Image((anatomy.array != 0).astype("float32"), anatomy.affine), grid) > 0.1
    return Fit(*(_local_correlation(values, _on(image, grid), inside) for image in (started, moved)))


def fit_doubts(found: Fit, only_if_better: bool, lungs: bool = False) -> list[str]:
    """Says that a registration moved what fitted already, that the start was kept, or that lungs are of two patients.

    Args:
        found: The fit.
        only_if_better: Whether the start was to be kept where the images fitted already.
        lungs: Whether the anatomy are lungs, and the model was made for those of one patient.
    """
    if lungs and found.after < _ONE_PATIENT:
        return [
            f"The lungs are little alike after the registration ({found.text()}; two scans of one patient: above 0.8). "
            "Are they of two patients, or have they changed? The model was made for one patient's breathing."
        ]
    if not found.fitted_already:
        return []
    if only_if_better:
        return [f"The start was kept, for the registration fitted no better: {found.text()}."]
    return [
        f"The images fitted at the start, and fit hardly better after the registration: {found.text()}. "
        "What was in place may have been moved; only_if_better (--only-if-better) then keeps the start."
    ]


def _on(image: Image, grid: Grid) -> np.ndarray:
    return resample(image, grid, outside="edge").array.astype("float32")


def _size(shape: tuple[int, int, int]) -> list[int]:
    return [_WINDOW if n > 1 else 1 for n in shape]


def _local_correlation(one: np.ndarray, two: np.ndarray, inside: np.ndarray) -> float:
    if not inside.any():
        return float("nan")
    size = _size(one.shape)
    one, two = (each - each.mean() for each in (one, two))
    means = [ndimage.uniform_filter(each, size) for each in (one, two, one * one, two * two, one * two)]
    spread = [np.maximum(means[2 + i] - means[i] ** 2, _FLAT * each.var() + 1e-30) for i, each in enumerate((one, two))]
    return float(np.mean(((means[4] - means[0] * means[1]) ** 2 / (spread[0] * spread[1]))[inside]))
