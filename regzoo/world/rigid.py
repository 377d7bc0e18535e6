"""A quick rigid registration of two images, seen coarsely, from several starts."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from regzoo.world.images import Grid, Image
from regzoo.world.matrices import about, map_points
from regzoo.world.resampling import resample

_COARSE, _FINE = 14, 28  # voxels along the longest axis of the smaller image, at which a search begins and ends
_TURNS = np.radians([[0, 0, 0], *(each * 25 * np.eye(3)[axis] for axis in range(3) for each in (1, -1))])
_TRIED, _FOLLOWED = 6, 3  # places that are looked at further, coarsely and finely
_FIRST, _STEPS = 3, 8  # steps of a search, at first and then
NEAR = 0.03  # of the fixed image's extent, within which two places are one
_WINDOW = 2.0  # voxels: standard deviation of the window by which intensities are made alike
_ONE_CONTRAST = 0.4  # likeness of the intensities themselves, from which they are compared and not their edges
_SEEN = 0.5  # of what the moving image could show of the fixed one, at least


@dataclass(frozen=True)
class Laid:
    """How well the moving image, laid by a matrix, fits the fixed one.

    Args:
        matrix: From fixed to moving space in mm, (4, 4).
        likeness: Correlation of what stands out from its surroundings, over the places that both images show, -1 to 1.
        seen: Share of the fixed image that the moving image shows, 0 to 1.
    """

    matrix: np.ndarray
    likeness: float
    seen: float


class Search:
    """Two images on coarse voxels along R, A and S.

    Args:
        fixed: One channel, of any contrast; at least 4 voxels along each axis.
        moving: The same.
    """

    def __init__(self, fixed: Image, moving: Image) -> None:
        self.fixed, self.moving = fixed, moving
        sizes = [float(np.ptp(image.grid.box(), axis=0).max()) for image in (fixed, moving)]
        self.extent = sizes[0]
        self.steps = [max(min(sizes) / n, max(sizes) / (2 * n)) for n in (_COARSE, _FINE)]

    @functools.cached_property
    def coarse(self) -> _Level:
        """Both images as a search begins; edges look the same in any contrast."""
        return _Level(*(_seen(image, self.steps[0]) for image in (self.fixed, self.moving)), _edges)

    @functools.cached_property
    def finer(self) -> tuple[tuple, tuple]:
        """Both images as a search ends."""
        return tuple(_seen(image, self.steps[1]) for image in (self.fixed, self.moving))

    def rigid(self, starts: Sequence[np.ndarray]) -> tuple[Laid, list[Laid]]:
        """Returns the best place that was found, and the starts as they are, judged in the same way.

        Args:
            starts: Matrices (4, 4) from fixed to moving space in mm. The search begins at each of them, at each turned
                by 25 degrees about R, A or S either way, and at the centres of mass.
        """
        middle, level = self.fixed.grid.box().mean(axis=0), self.coarse
        begun = [_turned(start, middle, turn) for start in [*starts, level.masses()] for turn in _TURNS]
        places = self._apart([level.fitted(each, _FIRST) for each in begun])[:_TRIED]
        places = self._apart([level.fitted(each.matrix, _STEPS) for each in places])[:_FOLLOWED]
        finer = self._compared([each.matrix for each in places])
        best = max((finer.fitted(each.matrix, _STEPS) for each in places), key=lambda each: each.likeness)
        return best, [finer.laid(each) for each in starts]

    def judged(self, places: Sequence[np.ndarray]) -> list[Laid]:
        """Returns how well the images fit at places, matrices (4, 4) from fixed to moving space in mm."""
        finer = self._compared(places)
        return [finer.laid(each) for each in places]

    def _compared(self, places: Sequence[np.ndarray]) -> _Level:
        """Returns both images as a search ends: their intensities, or edges where these fit at none of the places."""
        finer = _Level(*self.finer, _standing_out)
        if max(finer.laid(each).likeness for each in places) < _ONE_CONTRAST:
            finer = _Level(*self.finer, _edges)
        return finer

    def _apart(self, places: Sequence[Laid]) -> list[Laid]:
        """Returns places, the best first, without those that are nearly the same as a better one."""
        kept: list[Laid] = []
        for place in sorted(places, key=lambda each: -each.likeness):
            if all(self.distance(place.matrix, each.matrix) > NEAR * self.extent for each in kept):
                kept.append(place)
        return kept

    def distance(self, one: np.ndarray, other: np.ndarray) -> float:
        """Returns how far apart two matrices lay the fixed image, in mm: root mean square half way to its corners."""
        box = self.fixed.grid.box()
        points = (box + box.mean(axis=0)) / 2
        return float(np.sqrt(np.square(map_points(one, points) - map_points(other, points)).sum(axis=1).mean()))


class _Level:
    """Both images at one resolution, as what is compared of them."""

    def __init__(self, fixed: tuple, moving: tuple, seen_as) -> None:
        (array, inside, grid), (other, shown, there) = fixed, moving
        places = grid.coordinates()
        mass = np.where(inside, array, 0)
        self.centres = [_centre(mass, places), _centre(np.where(shown, other, 0), there.coordinates())]
        self.points, self.values = places[inside], seen_as(array)[inside]
        self.step, self.to_voxels = float(there.spacing[0]), np.linalg.inv(there.affine)
        image = seen_as(other)
        self.arrays = [image, *(each / self.step for each in np.gradient(image))]
        self.shown = shown.astype("float32")
        self.most = min(1.0, shown.sum() / max(1, inside.sum()) * (self.step / grid.spacing[0]) ** 3)
        self.middle = self.points.mean(axis=0)
        self.radius = float(np.sqrt(np.square(self.points - self.middle).sum(axis=1).mean()))

    def masses(self) -> np.ndarray:
        """Returns the shift from one centre of mass to the other."""
        return about(np.eye(3), *self.centres)

    def laid(self, matrix: np.ndarray) -> Laid:
        """Judges a place."""
        weights, values = self._sampled(matrix, slopes=False)
        seen = float(weights.mean())
        if seen < _SEEN * self.most:
            return Laid(matrix, -1.0, seen)
        weights = weights / weights.sum()
        one, other = (_standard(each, weights) for each in (self.values, values[0]))
        return Laid(matrix, float((weights * one * other).sum()), seen)

    def fitted(self, matrix: np.ndarray, steps: int) -> Laid:
        """Improves a place by so many steps of Levenberg and Marquardt, at most."""
        best, damping = self.laid(matrix), 1e-3
        for _ in range(steps):
            if best.likeness == -1.0:
                break
            normal, towards, centre = self._normal(best.matrix)
            for _ in range(3):
                step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)) + 1e-9 * np.eye(6), towards)
                step *= min(1.0, 4 * self.step / max(np.linalg.norm(step), 1e-9))
                turn = Rotation.from_rotvec(step[:3] / self.radius).as_matrix()
                found = self.laid(about(turn, centre, centre + step[3:]) @ best.matrix)
                if found.likeness > best.likeness + 1e-5:
                    break
                damping = max(damping, 1e-2) * 10
            else:
                break
            best, damping = found, damping / 5
            if np.linalg.norm(step) < 0.02 * self.step:
                break
        return best

    def _normal(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the normal equations of a turn (mm at the radius) about a centre and a shift, and the centre."""
        weights, (values, *slopes) = self._sampled(matrix)
        weights = weights / weights.sum()
        deviation = np.sqrt((weights * np.square(values - (weights * values).sum())).sum()) + 1e-9
        residual = _standard(self.values, weights) - _standard(values, weights)
        slopes = np.stack(slopes, axis=-1) / deviation
        centre = map_points(matrix, self.middle)
        turning = np.cross(map_points(matrix, self.points) - centre, slopes) / self.radius
        rows = np.concatenate([turning, slopes], axis=1)
        weighted = (rows * weights[:, None]).T
        return weighted @ rows, weighted @ residual, centre

    def _sampled(self, matrix: np.ndarray, slopes: bool = True) -> tuple[np.ndarray, list[np.ndarray]]:
        """Returns where the moving image shows something, 0 to 1, and its values and slopes there."""
        voxels = map_points(self.to_voxels @ matrix, self.points).T
        weights = ndimage.map_coordinates(self.shown, voxels, order=1, mode="constant")
        arrays = self.arrays if slopes else self.arrays[:1]
        return weights, [ndimage.map_coordinates(each, voxels, order=1, mode="nearest") for each in arrays]


def _seen(image: Image, step: float) -> tuple[np.ndarray, np.ndarray, Grid]:
    """Returns an image on upright voxels of so many mm, in [0, 1], a little blurred; where it is; and these voxels."""
    thin = [max(1, int(step / 3 / each)) for each in image.spacing]  # a large image, smoothed whole, takes seconds
    sparse = Image(image.array[tuple(slice(None, None, each) for each in thin)], image.affine @ np.diag([*thin, 1.0]))
    low, high = np.percentile(sparse.array, (1, 99))
    low, high = (low, high) if high > low else (sparse.array.min(), sparse.array.max())
    scaled = np.clip((sparse.array.astype("float32") - low) / max(high - low, 1e-9), 0, 1)
    grid = image.grid.upright(step)
    array = resample(Image(scaled, sparse.affine), grid, outside="edge").array
    return ndimage.gaussian_filter(array, 0.7, mode="nearest"), image.grid.covers(grid.coordinates()), grid


def _standing_out(array: np.ndarray) -> np.ndarray:
    """Returns by how much values differ from those around them, in units of how much these vary."""
    mean = ndimage.gaussian_filter(array, _WINDOW, mode="nearest")
    spread = np.sqrt(np.maximum(ndimage.gaussian_filter(array * array, _WINDOW, mode="nearest") - mean * mean, 0))
    return (array - mean) / (spread + 0.05)


def _edges(array: np.ndarray) -> np.ndarray:
    """Returns slopes, without their direction, in units of those around them: alike in any contrast."""
    slope = np.sqrt(sum(np.square(each) for each in np.gradient(array)))
    return slope / (ndimage.gaussian_filter(slope, _WINDOW, mode="nearest") + 0.02)


def _turned(start: np.ndarray, middle: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Returns a start turned about the fixed image's middle."""
    return start @ about(Rotation.from_rotvec(turn).as_matrix(), middle, middle)


def _centre(mass: np.ndarray, places: np.ndarray) -> np.ndarray:
    return np.einsum("ijk,ijkd->d", mass, places) / max(float(mass.sum()), 1e-9)


def _standard(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    values = values - (weights * values).sum()
    return values / (np.sqrt((weights * np.square(values)).sum()) + 1e-9)
