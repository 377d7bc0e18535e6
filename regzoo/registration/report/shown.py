"""What pictures and pages show of a result beside its own images, each worked out once."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from regzoo.registration.scores import inverted
from regzoo.world.images import Grid, Image
from regzoo.world.labels import sizes

if TYPE_CHECKING:
    from regzoo.registration.report.planes import Plane
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
        return self.before_on(self.result.fixed.grid)

    def before_on(self, grid: Grid) -> Image:
        """Returns the same on another grid."""
        moving = self.result.moving
        return self.result.start.apply_image(moving, grid, outside=self._darkest)

    @functools.cached_property
    def _darkest(self) -> float:
        return float(self.result.moving.array.min())

    @functools.cached_property
    def labels_before(self) -> Image | None:
        """The moving labels as they lay at the start."""
        return self.labels_before_on(self.result.fixed.grid)

    def labels_before_on(self, grid: Grid) -> Image | None:
        """Returns the same on another grid."""
        labels = self.result.moving_labels
        return None if labels is None else self.result.start.apply_labels(labels, grid)

    @functools.cached_property
    def label_sizes(self) -> dict[int, int]:
        """The voxels of each label: of the fixed image, or else of the moved ones."""
        labels = self.result.moved_labels if self.result.fixed_labels is None else self.result.fixed_labels
        return {} if labels is None else sizes(labels)

    @functools.cached_property
    def volume_change(self) -> np.ndarray:
        """The Jacobian determinant, (I, J, K): volume in the moving image by volume in the fixed one."""
        return self.result.transform.jacobian_determinant(self.result.fixed.grid)

    def voxel_shift(self, view: Plane) -> np.ndarray:
        """Returns how far the transform moves beyond the start, in voxels along the fixed image's axes.

        Args:
            view: On which plane.

        Returns:
            Shape (rows, columns, 3), as the plane is cut.
        """
        grid = self.result.fixed.grid
        shift = view.cut(self.result.transform.displacement(grid))
        shift = shift - view.cut(self.result.start.displacement(view.alone(grid)))
        return shift @ np.linalg.inv(grid.affine[:3, :3]).T.astype(np.float32)

    @functools.cached_property
    def middle(self) -> list[int]:
        """The voxel that planes go through: the labels' middle, or else the image's."""
        labels = self.result.fixed_labels
        if labels is not None and labels.channels is None and labels.array.any():
            inside = labels.array != 0
            along = (np.count_nonzero(inside, axis=others) for others in ((1, 2), (0, 2), (0, 1)))
            return [int(np.median(np.repeat(np.arange(len(count)), count))) for count in along]
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


def largest_error(mm: np.ndarray) -> float:
    """Returns where the scale of an expected error ends: at 5 mm, which is wrong, so that pictures can be compared.

    Where more than one voxel of 200 has a larger one, at 10, 20, 40 and so on.
    """
    most = float(np.percentile(mm, 99.5))
    return 5.0 * 2.0 ** max(0, math.ceil(math.log2(max(most, 5.0) / 5.0)))
