"""A pair at any resolution: the fixed image's grids from coarse to fine, and what is compared on each."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from regzoo.schema.inputs import PercentileIntensity, WindowIntensity
from regzoo.world.images import Grid, Image, Outside, normalise, resample
from regzoo.world.transforms import Transform

_VOXELS = 600_000  # of the finest level; more detail than that costs more time than it gives accuracy
_LEAST = 12  # voxels along the longest axis of the coarsest level


def _scaled(array: np.ndarray) -> np.ndarray:
    """Returns intensities in [0, 1] between two percentiles, or over their whole range where few voxels differ."""
    low, high = np.percentile(array, (PercentileIntensity().low, PercentileIntensity().high))
    if not high > low:  # a mask of a small organ
        return normalise(array, WindowIntensity(low=array.min(), high=array.max()))
    return normalise(array, PercentileIntensity())


@dataclass(frozen=True, eq=False)
class Pair:
    """Two images and what says more of them.

    Args:
        fixed: Fixed image, in [0, 1].
        moving: Moving image, in [0, 1].
        others: `fixed_mask`, `moving_mask`: 1 where images are compared; `fixed_labels`, `moving_labels`: one channel
            a label. Each on the grid of its image.
    """

    fixed: Image
    moving: Image
    others: Mapping[str, Image] = field(default_factory=dict)

    @classmethod
    def of(cls, fixed: Image, moving: Image, masks: Mapping[str, Image], labels: tuple[Image, Image] | None) -> "Pair":
        """Returns a pair from images, label maps as masks (what is not 0 counts), and labels of both images."""
        others = {name: Image((mask.array != 0).astype("float32"), mask.affine) for name, mask in masks.items()}
        if labels is not None:
            others |= {"fixed_labels": labels[0], "moving_labels": labels[1]}
        return cls(*(Image(_scaled(each.array), each.affine) for each in (fixed, moving)), others)

    @property
    def dims(self) -> int:
        """2 where the fixed image is one slice."""
        return 2 if self.fixed.shape[2] == 1 else 3

    @property
    def in_volume(self) -> bool:
        """Whether the fixed image is one slice and the moving image is not: `start` says where the slice lies in it."""
        return self.dims == 2 and self.moving.shape[2] > 1

    def seen_through(self, transform: Transform) -> "Pair":
        """Returns the pair with the moving image moved to the fixed image's grid."""
        grid, others = self.fixed.grid, dict(self.others)
        for name in ("moving_mask", "moving_labels"):
            if name in others:
                others[name] = transform.apply_image(others[name], grid)
        return replace(self, moving=transform.apply_image(self.moving, grid, outside="edge"), others=others)

    def batch(self, grid: Grid, linear: np.ndarray, factor: float) -> dict[str, np.ndarray]:
        """Returns what a registration model trains on.

        Args:
            grid: Where the fixed image is seen.
            linear: From fixed to moving space, RAS mm, (4, 4).
            factor: How much coarser than its own grid the moving image is seen.
        """
        other = level_grid(self.moving.grid, factor)
        seen = {"fixed": self.fixed, "moving": self.moving, **self.others}
        grids = {name: grid if name.startswith("fixed") else other for name in seen}
        # Labels and masks end where their image does.
        outside = {name: "edge" if name in ("fixed", "moving") else 0.0 for name in seen}
        batch = {name: self.tensor(each, grids[name], outside[name]) for name, each in seen.items()}
        matrix = np.linalg.solve(other.affine, linear @ grid.affine)[: self.dims]
        batch["moving_matrix"] = np.concatenate([matrix[:, : self.dims], matrix[:, 3:]], axis=1)[None].astype("float32")
        return batch

    def tensor(self, image: Image, grid: Grid, outside: Outside = "edge") -> np.ndarray:
        """Returns an image on a grid as a batch of one, (1, *S, C)."""
        array = resample(image, grid, outside=outside).array
        array = array if image.channels else array[..., None]
        return (array[:, :, 0] if self.dims == 2 else array)[None].astype("float32")

    def field(self, ddf: np.ndarray, grid: Grid) -> Transform:
        """Returns a field (*S, D) in voxels of a grid as a transform."""
        if self.dims == 2:
            ddf = np.concatenate([ddf, np.zeros_like(ddf[..., :1])], axis=-1)[:, :, None]
        return Transform.from_voxel_ddf(ddf, grid)


def level_grid(grid: Grid, factor: float) -> Grid:
    """Returns a coarser grid over the same region, with voxels as equal in mm as whole numbers of them allow.

    The finest (`factor` 1) has the grid's own spacing, or a larger one where there are more than 600,000 voxels.
    """
    extent = grid.spacing * grid.shape
    long = np.array(grid.shape) > 1
    even = float(np.prod(extent[long]) / _VOXELS) ** (1 / max(1, long.sum()))
    finest = max(even, float(grid.spacing[long].min(initial=np.inf)) if long.any() else 0.0)
    wanted = np.maximum(np.minimum(finest * factor, extent.max() / _LEAST), grid.spacing)
    shape = np.maximum(np.rint(extent / wanted), np.minimum(grid.shape, 4)).astype(int)
    linear = grid.affine[:3, :3] * (np.array(grid.shape) / shape)
    affine = np.eye(4)
    affine[:3, :3] = linear
    corner = grid.affine[:3, 3] - grid.affine[:3, :3] @ np.full(3, 0.5)
    affine[:3, 3] = corner + linear @ np.full(3, 0.5)
    return Grid(tuple(shape), affine)
