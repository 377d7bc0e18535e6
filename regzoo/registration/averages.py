"""What is in the middle of many subjects: the mean of their maps, and the mean of their images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import linalg

from regzoo.errors import InvalidError
from regzoo.registration.scores import Side, in_view
from regzoo.world.images import Grid, Image
from regzoo.world.steps import Field
from regzoo.world.transforms import Transform

_TURNED = 1e-6  # of a logarithm's imaginary part


def field_map(vectors: np.ndarray, grid: Grid) -> Transform:
    """Returns the map of displacements (*grid.shape, 3) in mm, which go on beyond the grid with their edge value."""
    return Transform((Field(vectors, grid),), grid)


class MeanMap:
    """The mean of maps that start from one grid, added one by one.

    Of matrices it is that of their logarithms, so that the mean of turns is a turn. Of fields it leads each voxel to
    the mean of the places that they lead it to.

    Args:
        grid: Where they start.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid, self.count = grid, 0
        self.total: np.ndarray | float = 0.0

    def add(self, found: Transform) -> None:
        """Adds a map; all are matrices, or none is.

        Raises:
            InvalidError: If it is a matrix that turns by half a circle, which is as far one way as the other.
        """
        matrix = found.matrix
        own = found.displacement(self.grid).astype(np.float64) if matrix is None else _logarithm(matrix)
        self.total, self.count = self.total + own, self.count + 1

    def value(self) -> Transform:
        """Returns the mean."""
        mean = self.total / self.count
        if mean.ndim == 2:
            return Transform.linear(np.vstack([linalg.expm(mean)[:3], [0, 0, 0, 1]]), self.grid)  # without rounding
        return field_map(mean, self.grid)


def _logarithm(matrix: np.ndarray) -> np.ndarray:
    found = linalg.logm(matrix)
    if np.abs(np.imag(found)).max() > _TURNED:
        raise InvalidError("it lies turned by half a circle against the others. Turn it first, in a viewer.")
    return np.real(found)


class KeptMaps:
    """Maps from one grid, on the disk: what is in memory does not grow with their number.

    Args:
        folder: Where they are; it is made.
        grid: Where they start.
    """

    def __init__(self, folder: Path, grid: Grid) -> None:
        folder.mkdir()
        self.folder, self.grid = folder, grid

    def keep(self, name: str, found: Transform) -> Transform:
        """Keeps a map, in place of an earlier one of this name, and returns it as it is kept."""
        matrix = found.matrix
        np.save(self._file(name), found.displacement(self.grid) if matrix is None else matrix)
        return self.of(name)

    def has(self, name: str) -> bool:
        """Tells whether there is a map of this name."""
        return self._file(name).exists()

    def of(self, name: str) -> Transform:
        """Returns a map."""
        kept = np.load(self._file(name))
        return Transform.linear(kept, self.grid) if kept.ndim == 2 else field_map(kept, self.grid)

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.npy"


class MeanImage:
    """The mean of images on one grid, at each voxel of those that show the place.

    Args:
        grid: The grid.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.count, self.total, self.squares = (np.zeros(grid.shape, kind) for kind in ("int32", "float64", "float64"))

    def add(self, values: np.ndarray, seen: np.ndarray) -> None:
        """Adds an image on the grid, and where it shows something."""
        self.count += seen
        self.total[seen] += values[seen]
        self.squares[seen] += np.square(values[seen], dtype=np.float64)

    def image(self) -> Image:
        """Returns the mean, float32; the lowest of its values where no image shows the place."""
        mean = self.total / np.maximum(self.count, 1)
        mean[self.count == 0] = mean[self.count > 0].min()
        return Image(mean.astype(np.float32), self.grid.affine)

    def spread(self) -> Image:
        """Returns the standard deviation, float32."""
        count = np.maximum(self.count, 1)
        variance = self.squares / count - np.square(self.total / count)
        return Image(np.sqrt(np.maximum(variance, 0)).astype(np.float32), self.grid.affine)


def laid(side: Side, transform: Transform, grid: Grid, matched: bool) -> tuple[np.ndarray, np.ndarray]:
    """Lays an image on a grid.

    Args:
        side: The image.
        transform: From the grid's space to the image's.
        grid: The grid.
        matched: Whether it is scaled so that its 1st and 99th percentile, of the voxels of the grid that it shows,
            become 0 and 1: those of images that are registered are of the same anatomy. Values beyond are kept. Where
            both are one value, as in a small mask, the lowest and the highest value are taken instead.

    Returns:
        Its values, float32, and where it shows the place, bool, both of shape (*grid.shape,).

    Raises:
        InvalidError: If it shows nothing there, or one value alone.
    """
    seen = in_view(transform, side, grid)
    moved = transform.apply_image(side.image, grid, outside=float(side.image.array.min())).array
    low, high = _range(moved[seen])
    return ((moved - low) / (high - low) if matched else moved).astype(np.float32), seen


def _range(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, (1, 99)) if values.size else (0.0, 0.0)
    if values.size and not high > low:
        low, high = values.min(), values.max()
    if not high > low:
        raise InvalidError("it shows nothing, or one value alone, where the template is.")
    return float(low), float(high)


def anatomy(image: Image) -> np.ndarray:
    """Returns where an image is not dark: above a tenth of its range between the 1st and 99th percentile, bool."""
    low, high = _range(image.array)
    return image.array > low + 0.1 * (high - low)
