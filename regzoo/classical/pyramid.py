"""A pair at any resolution: the fixed image's grids from coarse to fine, and what is compared on each."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from regzoo.schema.inputs import PercentileIntensity, WindowIntensity
from regzoo.world.images import Grid, Image
from regzoo.world.matrices import map_points
from regzoo.world.resampling import Outside, normalise, resample
from regzoo.world.transforms import Transform

_VOXELS = 600_000  # of the finest level; more detail than that costs more time than it gives accuracy
_NEARLY = 1.05  # times the image's own spacing: to resample it for so little would only blur it
_LEAST = 12  # voxels along the longest axis of the coarsest level
_LATTICE = 17  # points along each axis of the fixed image by which is found what both images show


def scaled(array: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """Returns intensities in [0, 1] between two percentiles of a sample, or over its whole range where few differ."""
    sample = sample if np.ptp(sample) else array
    percentiles = PercentileIntensity()
    low, high = np.percentile(sample, (percentiles.low, percentiles.high))
    if not high > low:  # a mask of a small organ
        low, high = sample.min(), sample.max()
    return normalise(array, WindowIntensity(low=low, high=high))


def seen(image: Image, grid: Grid) -> np.ndarray:
    """Returns an image on a grid, in [0, 1]; 0 where it shows nothing."""
    array = resample(image, grid, outside="edge").array
    return scaled(array, array) if np.ptp(array) else np.zeros_like(array)


@dataclass(frozen=True, eq=False)
class Pair:
    """Two images and what says more of them.

    Args:
        fixed: Fixed image, in [0, 1].
        moving: Moving image, in [0, 1].
        others: `fixed_mask`, `moving_mask`: 1 where images are compared; `fixed_labels`, `moving_labels`: one channel
            a label. Each on the grid of its image.
        shown: The voxels of the fixed image that the moving image shows, and some around them.
    """

    fixed: Image
    moving: Image
    others: Mapping[str, Image] = field(default_factory=dict)
    shown: tuple[slice, slice, slice] = (slice(None),) * 3

    @classmethod
    def of(
        cls,
        fixed: Image,
        moving: Image,
        masks: Mapping[str, Image],
        labels: tuple[Image, Image] | None,
        start: Transform,
    ) -> "Pair":
        """Returns a pair from images, label maps as masks (what is not 0 counts), and labels of both images.

        Fields of view may differ widely. What of the moving image lies far from where `start` takes the fixed image is
        cut off, and the brightness of each image is that of what both show.
        """
        others = {name: Image((mask.array != 0).astype("float32"), mask.affine) for name, mask in masks.items()}
        if labels is not None:
            others |= {"fixed_labels": labels[0], "moving_labels": labels[1]}
        (shown, near), seen = _shared_view(fixed.grid, moving.grid, start)
        others = {name: _cut(each, near) if name.startswith("moving") else each for name, each in others.items()}
        bright = [each.array[box] for each, box in zip((fixed, moving), seen, strict=True)]
        moving = _cut(moving, near)
        fixed = Image(scaled(fixed.array, bright[0]), fixed.affine)
        return cls(fixed, Image(scaled(moving.array, bright[1]), moving.affine), others, shown)

    def shared_view(self) -> "Pair":
        """Returns the pair with the fixed image cut to what the moving image shows and some way around it.

        Only what it shows is compared: faint things beyond would outweigh the anatomy where the fixed image is far
        wider, as they count as much in `lncc` and `mind`.
        """
        shown = {"moving_mask": Image(np.ones(self.moving.shape, "float32"), self.moving.affine)}
        cut = {name: _cut(each, self.shown) for name, each in self.others.items() if name.startswith("fixed")}
        everywhere = (slice(None),) * 3
        return replace(self, fixed=_cut(self.fixed, self.shown), others=shown | {**self.others} | cut, shown=everywhere)

    @property
    def dims(self) -> int:
        """2 where the fixed image is one slice."""
        return 2 if self.fixed.shape[2] == 1 else 3

    @property
    def in_volume(self) -> bool:
        """Whether the fixed image is one slice and the moving image is not: `start` says where the slice lies in it."""
        return self.dims == 2 and self.moving.shape[2] > 1

    def compared(self, given: Transform | None) -> float:
        """Returns the share of the image that the smaller mask leaves, in (0, 1].

        Args:
            given: By which the moving image's mask lies on the fixed image; None: it is taken as it is.
        """
        masks = {name: each for name, each in self.others.items() if "mask" in name}
        if given is not None and "moving_mask" in masks:
            masks["moving_mask"] = given.apply_image(masks["moving_mask"], self.fixed.grid)
        return min((float(each.array.mean()) for each in masks.values()), default=1.0)

    def seen_through(self, transform: Transform) -> "Pair":
        """Returns the pair with the moving image moved to the fixed image's grid."""
        grid, others = self.fixed.grid, dict(self.others)
        for name in ("moving_mask", "moving_labels"):
            if name in others:
                others[name] = transform.apply_image(others[name], grid)
        return replace(self, moving=transform.apply_image(self.moving, grid, outside="edge"), others=others)

    def batch(self, grid: Grid, linear: np.ndarray) -> dict[str, np.ndarray]:
        """Returns what a registration model trains on; the moving image is seen as coarsely as the fixed one.

        Args:
            grid: Where the fixed image is seen.
            linear: From fixed to moving space, RAS mm, (4, 4).
        """
        other = coarsened(self.moving.grid, float(grid.spacing[: self.dims].min()))
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


def voxels(transform: Transform, grid: Grid) -> np.ndarray:
    """Returns a transform as a field in voxels of a volume's grid, (*S, 3)."""
    return (transform.displacement(grid) @ np.linalg.inv(grid.affine[:3, :3]).T).astype("float32")


def level_grid(grid: Grid, factor: float) -> Grid:
    """Returns a coarser grid over the same region, with voxels as equal in mm as whole numbers of them allow.

    The finest (`factor` 1) has the grid's own spacing, or a larger one where there are more than about 600,000 voxels.
    """
    extent = grid.spacing * grid.shape
    long = np.array(grid.shape) > 1
    even = float(np.prod(extent[long]) / _VOXELS) ** (1 / max(1, long.sum()))
    own = float(grid.spacing[long].min(initial=np.inf)) if long.any() else 0.0
    finest = own if even < _NEARLY * own else even
    return coarsened(grid, min(finest * factor, extent.max() / _LEAST))


def coarsened(grid: Grid, step: float) -> Grid:
    """Returns a grid over the same region with voxels of about `step` mm, never finer than the grid's own."""
    extent = grid.spacing * grid.shape
    wanted = np.maximum(step, grid.spacing)
    shape = np.maximum(np.rint(extent / wanted), np.minimum(grid.shape, 4)).astype(int)
    linear = grid.affine[:3, :3] * (np.array(grid.shape) / shape)
    affine = np.eye(4)
    affine[:3, :3] = linear
    corner = grid.affine[:3, 3] - grid.affine[:3, :3] @ np.full(3, 0.5)
    affine[:3, 3] = corner + linear @ np.full(3, 0.5)
    return Grid(tuple(shape), affine)


def _shared_view(fixed: Grid, moving: Grid, start: Transform) -> tuple[tuple, tuple]:
    """Returns the voxels of each grid that lie where the other is, by `start`: and half of that extent around, and not.

    By as much background in the one as in the other, percentiles give both images one brightness.
    """
    ends = (np.linspace(-0.5, n - 0.5, _LATTICE) for n in fixed.shape)
    places = map_points(fixed.affine, np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(-1, 3))
    there = start.apply_points(places)
    inside = moving.covers(there)
    if not inside.any():
        return (((slice(None),) * 3,) * 2,) * 2
    step = fixed.spacing * fixed.shape / (_LATTICE - 1)
    boxes = (fixed, places[inside], float(step.max())), (moving, there, 0.0)
    return tuple(tuple(_around(*box, share) for box in boxes) for share in (0.5, 0.0))


def _around(grid: Grid, points: np.ndarray, margin: float, share: float) -> tuple[slice, slice, slice]:
    """Returns the voxels of a grid in the box around points, or up to a share of its extent and a margin away."""
    voxels = map_points(np.linalg.inv(grid.affine), points)
    reach = (np.ptp(points, axis=0).max() * share + margin) / grid.spacing
    first = np.clip(np.floor(voxels.min(axis=0) - reach), 0, np.array(grid.shape) - 1).astype(int)
    last = np.clip(np.ceil(voxels.max(axis=0) + reach) + 1, first + 1, grid.shape).astype(int)
    return tuple(slice(*each) for each in zip(first, last, strict=True))


def _cut(image: Image, voxels: tuple[slice, slice, slice]) -> Image:
    affine = image.affine.copy()
    affine[:3, 3] = map_points(image.affine, np.array([each.start or 0 for each in voxels], dtype=float))
    return Image(image.array[voxels], affine)
