"""What pictures and pages show of a result beside its own images, each worked out once."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from regzoo.registration.scores import inverted
from regzoo.world.images import Image

if TYPE_CHECKING:
    from regzoo.registration.results import Result
    from regzoo.world.transforms import Transform


@dataclass(frozen=True, eq=False)
class Shown:
    """A result, and what is drawn from it on the fixed image's grid.

    Args:
        result: What `register` gave.
    """

    result: Result

    @functools.cached_property
    def before(self) -> Image:
        """The moving image as it lay at the start, its lowest value around it."""
        moving = self.result.moving
        return self.result.start.apply_image(moving, self.result.fixed.grid, outside=float(moving.array.min()))

    @functools.cached_property
    def labels_before(self) -> Image | None:
        """The moving labels as they lay at the start."""
        labels = self.result.moving_labels
        return None if labels is None else self.result.start.apply_labels(labels, self.result.fixed.grid)

    @functools.cached_property
    def volume_change(self) -> np.ndarray:
        """The Jacobian determinant, (I, J, K): volume in the moving image by volume in the fixed one."""
        return self.result.transform.jacobian_determinant(self.result.fixed.grid)

    @functools.cached_property
    def voxel_shift(self) -> np.ndarray:
        """How far the transform moves beyond the start, in voxels along the fixed image's axes, (I, J, K, 3)."""
        grid = self.result.fixed.grid
        shift = self.result.transform.displacement(grid) - self.result.start.displacement(grid)
        return shift @ np.linalg.inv(grid.affine[:3, :3]).T.astype(np.float32)

    @functools.cached_property
    def middle(self) -> list[int]:
        """The voxel that planes go through: the labels' middle, or else the image's."""
        labels = self.result.fixed_labels
        if labels is not None and labels.channels is None and labels.array.any():
            return [int(np.median(index)) for index in np.nonzero(labels.array)]
        return [(n - 1) // 2 for n in self.result.fixed.shape]

    @functools.cached_property
    def window(self) -> dict[str, tuple[float, float]]:
        """The values of either image that are black and white: its 1st and 99th percentile."""
        images = {"fixed": self.result.fixed, "moving": self.result.moving}
        return {name: tuple(np.percentile(image.array, [1, 99]).tolist()) for name, image in images.items()}

    @functools.cached_property
    def landmarks(self) -> dict[str, np.ndarray]:
        """Returns landmarks (N, 3) in RAS mm of fixed space: `fixed`, and the moving ones `before` and `after`."""
        found = {} if self.result.fixed_points is None else {"fixed": self.result.fixed_points}
        points = self.result.moving_points
        ways: dict[str, Transform] = {"before": self.result.start}
        if self.result.transform is not None:
            ways["after"] = self.result.transform
        return found if points is None else found | {name: inverted(way, points) for name, way in ways.items()}
