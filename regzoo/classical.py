"""Registration of one pair by optimisation, without a network: coarse to fine in the world, method after method."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import keras
import numpy as np
from keras import ops

from regzoo import backend
from regzoo.checks import unknown
from regzoo.config import AffineConfig, DDFConfig, DVFConfig, FFDConfig, PercentileIntensity
from regzoo.fields import resize_field
from regzoo.images import Grid, Image, normalise, resample
from regzoo.models.direct import DIRECT
from regzoo.transforms import Transform


@dataclass(frozen=True)
class Method:
    """How one kind of transform is optimised.

    Args:
        output: What is optimised.
        objective: What is minimised besides the image loss, kind -> loss -> settings.
        rate: Learning rate of Adam, in the weights' own unit: voxels, or half sizes of the image for matrices.
        coarsest: Levels of the pyramid, each half the resolution of the next.
    """

    output: AffineConfig | DDFConfig | DVFConfig | FFDConfig
    objective: Mapping[str, Mapping] = field(default_factory=dict)
    rate: float = 0.1
    levels: int = 3


_SMOOTH = {"deformation": {"gradient": {"weight": 1.0}}}
METHODS = MappingProxyType(
    {
        "rigid": Method(AffineConfig(constraint="rigid"), rate=0.01),
        "similarity": Method(AffineConfig(constraint="similarity"), rate=0.01),
        "affine": Method(AffineConfig(), rate=0.01),
        "ffd": Method(FFDConfig(spacing=(20.0, 10.0)), {"deformation": {"bending": {"weight": 1.0}}}, rate=0.3),
        "ddf": Method(DDFConfig(level=1), _SMOOTH, rate=0.2),
        "dvf": Method(DVFConfig(level=1), _SMOOTH, rate=0.2),
    }
)
IMAGE_LOSSES = ("ssd", "ncc", "lncc", "mi", "nmi", "mind")
_VOXELS = 600_000  # of the finest level; more detail than that costs more time than it gives accuracy
_LEAST = 12  # voxels along the longest axis of the coarsest level


def optimise(
    fixed: Image,
    moving: Image,
    start: Transform,
    methods: Sequence[str],
    *,
    loss: str = "lncc",
    iterations: int = 100,
    fixed_mask: Image | None = None,
    moving_mask: Image | None = None,
) -> Transform:
    """Registers by one method after another.

    Args:
        fixed: Fixed image.
        moving: Moving image.
        start: From fixed to moving space, linear.
        methods: Names of `METHODS`; each starts where the one before ended.
        loss: Image loss, one of `IMAGE_LOSSES`.
        iterations: Most steps on each level of the pyramid; a level ends early once its loss no longer falls.
        fixed_mask: Label map on the fixed image's grid; only what is not 0 counts.
        moving_mask: The same on the moving image's grid.

    Returns:
        From fixed to moving space, RAS mm; its grid is the fixed image's.

    Raises:
        InvalidError: If a name is unknown.
    """
    if loss not in IMAGE_LOSSES:
        raise unknown("image loss", loss, IMAGE_LOSSES)
    for name in methods:
        if name not in METHODS:
            raise unknown("method", name, METHODS)
    pair = _Pair(fixed, moving, fixed_mask, moving_mask)
    found = start
    for name in methods:
        found = _run(pair, found, METHODS[name], loss, iterations)
    return Transform(found.steps, fixed.grid)


class _Pair:
    """Both images, to be seen at any resolution."""

    def __init__(self, fixed: Image, moving: Image, fixed_mask: Image | None, moving_mask: Image | None) -> None:
        intensity = PercentileIntensity()
        self.dims = 2 if fixed.shape[2] == 1 else 3
        self.fixed = Image(normalise(fixed.array, intensity), fixed.affine)
        self.moving = Image(normalise(moving.array, intensity), moving.affine)
        self.masks = {"fixed_mask": fixed_mask, "moving_mask": moving_mask}

    def grids(self, levels: int) -> list[Grid]:
        """Returns the fixed image's grids from coarse to fine."""
        return [level_grid(self.fixed.grid, 2**level) for level in range(levels - 1, -1, -1)]

    def inputs(self, grid: Grid, linear: np.ndarray, factor: int) -> dict[str, np.ndarray]:
        """Returns a batch: the fixed image on `grid`, the moving one on its own, the matrix between their voxels."""
        other = level_grid(self.moving.grid, factor)
        batch = {"fixed": self._tensor(self.fixed, grid), "moving": self._tensor(self.moving, other)}
        for name, mask in self.masks.items():
            if mask is not None:
                inside = Image((mask.array != 0).astype("float32"), mask.affine)
                batch[name] = self._tensor(inside, grid if name == "fixed_mask" else other)
        matrix = np.linalg.solve(other.affine, linear @ grid.affine)[: self.dims]
        batch["moving_matrix"] = np.concatenate([matrix[:, : self.dims], matrix[:, 3:]], axis=1)[None].astype("float32")
        return batch

    def _tensor(self, image: Image, grid: Grid) -> np.ndarray:
        array = resample(image, grid, outside="edge").array
        return (array[:, :, 0] if self.dims == 2 else array)[None, ..., None].astype("float32")


def level_grid(grid: Grid, factor: float) -> Grid:
    """Returns a coarser grid over the same region, with voxels as equal in mm as whole numbers of them allow.

    The finest (`factor` 1) has the grid's own spacing, or a larger one where there are more than 600,000 voxels.
    """
    extent = grid.spacing * grid.shape
    finest = max(float(np.prod(extent[np.array(grid.shape) > 1]) / _VOXELS) ** (1 / 3), float(grid.spacing.min()))
    wanted = np.maximum(grid.spacing, finest * factor)
    wanted = np.minimum(wanted, extent.max() / _LEAST)
    shape = np.maximum(np.rint(extent / np.maximum(wanted, grid.spacing)), np.minimum(grid.shape, 4)).astype(int)
    linear = grid.affine[:3, :3] * (np.array(grid.shape) / shape)
    affine = np.eye(4)
    affine[:3, :3] = linear
    corner = grid.affine[:3, 3] - grid.affine[:3, :3] @ np.full(3, 0.5)
    affine[:3, 3] = corner + linear @ np.full(3, 0.5)
    return Grid(tuple(shape), affine)


def _run(pair: _Pair, start: Transform, method: Method, loss: str, iterations: int) -> Transform:
    """Optimises one method from coarse to fine."""
    matrix = start.matrix
    if matrix is None:  # a field before this method: the moving image is seen through it, on the fixed image's grid
        moved = start.apply_image(pair.moving, pair.fixed.grid, outside="edge")
        pair, matrix = _seen(pair, moved), np.eye(4)
    linear, weights, grid = matrix, None, None
    for level, finer in enumerate(pair.grids(method.levels)):
        if grid is not None and finer.same_as(grid):
            continue
        model = _model(method, pair, finer)
        _carry(model, weights, grid, finer)
        grid = finer
        _descend(model, pair.inputs(grid, linear, 2 ** (method.levels - 1 - level)), method, loss, iterations)
        if isinstance(method.output, AffineConfig):
            linear = linear @ _world(model, grid)  # the next level starts from here, with zeros
        else:
            weights = [ops.convert_to_numpy(each.value) for each in model.trainable_variables]
    if isinstance(method.output, AffineConfig):
        return Transform.linear(linear) if start.matrix is not None else Transform.linear(linear).then(start)
    ddf = ops.convert_to_numpy(model.field(None, None)["ddf"])[0]
    if pair.dims == 2:
        ddf = np.concatenate([ddf, np.zeros_like(ddf[..., :1])], axis=-1)[:, :, None]
    return Transform.from_voxel_ddf(ddf, grid).then(start)


def _seen(pair: _Pair, moved: Image) -> _Pair:
    other = object.__new__(_Pair)
    other.dims, other.fixed, other.moving = pair.dims, pair.fixed, moved
    other.masks = pair.masks | {"moving_mask": None}
    return other


def _model(method: Method, pair: _Pair, grid: Grid) -> keras.Model:
    shape, spacing = grid.shape[: pair.dims], tuple(float(each) for each in grid.spacing[: pair.dims])
    return DIRECT[method.output.name](method.output, shape, spacing)


def _carry(model: keras.Model, weights: list[np.ndarray] | None, old: Grid | None, new: Grid) -> None:
    """Starts a level from the one before: the same displacements in mm."""
    for variable, value in zip(model.trainable_variables, weights or (), strict=False):
        dims = value.shape[-1]
        scale = (old.spacing[:dims] / new.spacing[:dims]).astype("float32")
        if model.name == "ffd":
            variable.assign(value * scale)
        else:
            variable.assign(resize_field(value, variable.shape[1:-1]))


def _world(model: keras.Model, grid: Grid) -> np.ndarray:
    """Returns a matrix in voxels as one in mm, (4, 4)."""
    matrix = ops.convert_to_numpy(model.field(None, None)["matrix"])[0]
    full, dims = np.eye(4), len(matrix)
    full[:dims, :dims], full[:dims, 3] = matrix[:, :dims], matrix[:, dims]
    return grid.affine @ full @ np.linalg.inv(grid.affine)


def _descend(model: keras.Model, inputs: dict, method: Method, loss: str, iterations: int) -> None:
    """Takes steps until the loss no longer falls."""
    model.supervise({"image": {loss: {}}, **method.objective}, model.spacing)
    model.compile(keras.optimizers.Adam(method.rate), jit_compile=backend.NAME == "jax")
    best, since = np.inf, 0
    for _ in range(iterations):
        value = float(np.mean(model.train_on_batch(inputs)))
        best, since = (value, 0) if value < best - 1e-4 * abs(best) else (best, since + 1)
        if since >= 15:
            return
