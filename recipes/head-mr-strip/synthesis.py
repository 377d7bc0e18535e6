"""Heads of any contrast, made of label maps on the device: what `head-mr-strip` is trained and tested on.

The label maps are those of SynthSeg (`labelmap15_*.nii.gz`, 1.5 mm), the way that of SynthStrip (Hoopes et al. 2022).
"""

import json
import math
from pathlib import Path

import nibabel
import numpy as np
from keras import ops
from scipy import ndimage

from regzoo.backend import Tensor
from regzoo.ops.fields import control_positions, cubic_bspline
from regzoo.ops.filters import interpolation_matrix
from regzoo.ops.grids import voxel_places
from regzoo.ops.matrices import linear_matrix
from regzoo.ops.random_numbers import normal, symmetric, uniform
from regzoo.ops.warping import sample

MAP = 1.5  # mm of the label maps
BOX = (128, 176, 176)  # voxels of a label map into which each of them fits

# What looks alike in any image: labels of both sides, and what is made of one tissue.
KINDS = (
    (0,),
    (2, 41, 7, 46),  # white matter
    (16, 28, 60, 85),  # brain stem, ventral diencephalon, chiasm
    (3, 42, 17, 53, 18, 54),  # cortex, hippocampus, amygdala
    (8, 47),  # cortex of the cerebellum
    (10, 49),
    (11, 50, 26, 58, 12, 51),
    (13, 52),
    (4, 43, 5, 44, 14, 15),  # ventricles
    (24,),  # fluid around the brain; the part in its furrows is one more
    (25, 57, 30, 62, 136, 137, 163, 164),
    (502,),  # arteries
    (514,),  # veins
    (506,),  # eyes
    (507,),  # other tissue: muscle, fat and all else
    (508, 530),
    (509,),  # mucosa
    (511,),  # skin
    (512,),  # spinal cord
    (515,),  # bone
    (516,),  # marrow
)
FLUID, OUTSIDE = 9, 11  # kinds: the fluid around the brain; the first that is no brain
FURROW = len(KINDS)
CLOSED = 7.5  # mm
PATCHES = 2  # each kind comes in two, in patches: fat and muscle, lesions
# T1, T2 and FLAIR, a value a kind, drawn around in half of the heads; random ones in the others.
PRIORS = np.array(
    [
        [
            0,
            0.75,
            0.7,
            0.5,
            0.48,
            0.6,
            0.52,
            0.68,
            0.15,
            0.15,
            0.55,
            0.5,
            0.3,
            0.2,
            0.45,
            0.4,
            0.4,
            0.6,
            0.65,
            0.08,
            0.5,
        ],
        [
            0,
            0.35,
            0.38,
            0.5,
            0.5,
            0.42,
            0.45,
            0.28,
            0.95,
            0.95,
            0.45,
            0.1,
            0.2,
            0.9,
            0.35,
            0.3,
            0.7,
            0.3,
            0.4,
            0.05,
            0.3,
        ],
        [
            0,
            0.5,
            0.52,
            0.62,
            0.62,
            0.56,
            0.6,
            0.5,
            0.12,
            0.15,
            0.6,
            0.1,
            0.2,
            0.2,
            0.4,
            0.4,
            0.6,
            0.45,
            0.5,
            0.06,
            0.35,
        ],
    ]
)


def read_maps(folder: Path, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns label maps as kinds, (N, *BOX), uint8, and the voxel on which each brain's middle lies, (N, 3).

    Fluid in the furrows of a brain, which is inside a closing of its tissue by 7.5 mm, is the kind `FURROW`.
    """
    table = np.zeros(1024, np.uint8)
    for kind, labels in enumerate(KINDS):
        table[list(labels)] = kind
    maps, middles = [], []
    for name in names:
        found = table[np.asarray(nibabel.load(folder / f"{name}.nii.gz").dataobj).astype(int)]
        found = np.pad(found, [(0, each - n) for each, n in zip(BOX, found.shape, strict=True)])
        tissue = (found > 0) & (found < OUTSIDE) & (found != FLUID)
        grown = ndimage.distance_transform_edt(~np.pad(tissue, 6)) <= CLOSED / MAP
        closed = ndimage.distance_transform_edt(grown)[(slice(6, -6),) * 3] > CLOSED / MAP
        inside = ndimage.binary_fill_holes(closed)
        found[inside & (found == FLUID)] = FURROW
        maps.append(found)
        middles.append([(axis.start + axis.stop - 1) / 2 for axis in ndimage.find_objects(tissue.astype(int))[0]])
    return np.stack(maps), np.array(middles, np.float32)


def is_brain() -> np.ndarray:
    """Tells of each kind, FURROW the last, whether it is brain, (kinds + 1,), bool."""
    kinds = np.arange(FURROW + 1)
    return ((kinds > 0) & (kinds < OUTSIDE) & (kinds != FLUID)) | (kinds == FURROW)


def split(folder: Path, name: str) -> list[str]:
    """Returns the names of a split's label maps."""
    return json.loads((folder / "splits.json").read_text(encoding="utf-8"))[name]


def _array(values: list | np.ndarray) -> Tensor:
    return ops.convert_to_tensor(np.asarray(values, "float32"))


def _spread(x: Tensor, matrices: list[np.ndarray]) -> Tensor:
    """Applies a matrix (n, m) along each axis of (B, *M), in three large products."""
    x = ops.matmul(x, _array(matrices[2].T))
    x = ops.matmul(_array(matrices[1]), x)
    shape = (-1, *(len(matrix) for matrix in matrices))
    return ops.reshape(ops.matmul(_array(matrices[0]), ops.reshape(x, (-1, x.shape[1], shape[2] * shape[3]))), shape)


def _linear(seeds: Tensor, stream: int, shape: tuple[int, ...], step: float) -> Tensor:
    """Returns normal random numbers, one each `step` voxels and linear between, (B, *shape, 1)."""
    points = [int(n / step) + 2 for n in shape]
    places = [interpolation_matrix(np.arange(n) / step, k) for n, k in zip(shape, points, strict=True)]
    return _spread(normal(seeds, stream, points), places)[..., None]


class Heads:
    """Makes heads of label maps, each of a seed, under any backend.

    Args:
        maps: (N, *BOX), uint8, of `read_maps`.
        middles: (N, 3), of `read_maps`.
        shape: Voxels of the images.
        size: Millimetres of a voxel. A head is made on voxels half as large.
        stripped: Share of heads that are without skull already.
    """

    def __init__(
        self, maps: np.ndarray, middles: np.ndarray, shape: tuple[int, ...], size: float, stripped: float = 0.12
    ) -> None:
        self.maps, self.middles = ops.convert_to_tensor(maps[..., None]), ops.convert_to_tensor(middles)
        self.shape, self.fine, self.stripped = shape, tuple(2 * n for n in shape), stripped
        self.step = size / 2

    def __call__(self, seeds: Tensor, subjects: Tensor) -> tuple[Tensor, Tensor]:
        """Returns images and brains.

        Args:
            seeds: (B,), int32.
            subjects: Which label map each is made of, (B,), int32.

        Returns:
            Images in [0, 1] and the share of brain in each voxel, both (B, *shape, 1).
        """
        kinds = self._kinds(seeds, subjects)
        patch = self._smooth(seeds, 30, 12.0) > 2.0 * uniform(seeds, 31, (1, 1, 1, 1)) - 0.5
        index = ops.cast(kinds, "int32") * PATCHES + ops.cast(patch, "int32")
        means, spreads, brain = self._table(seeds)
        step = ops.arange(ops.shape(seeds)[0], dtype="int32")[:, None, None, None, None] * means.shape[1]
        values = ops.take(ops.reshape(means, (-1,)), index + step)
        texture = self._smooth(seeds, 40, 3.0) + self._smooth(seeds, 41, 9.0)
        values = values + ops.take(ops.reshape(spreads, (-1,)), index + step) * texture
        image = self._seen(values, seeds)
        inside = self._field_of_view(seeds)
        target = ops.take(_array(brain), ops.cast(kinds, "int32"))
        pooled = ops.reshape(target, (-1, *[part for n in self.shape for part in (n, 2)]))
        return self._recoloured(image, inside, seeds), ops.mean(pooled, axis=(2, 4, 6))[..., None] * inside

    def _kinds(self, seeds: Tensor, subjects: Tensor) -> Tensor:
        """Turns, scales, bends and places label maps; a brain's middle comes to lie near the grid's, or above it."""
        vector = normal(seeds, 0, (3,))
        vector = vector / ops.sqrt(ops.sum(ops.square(vector), axis=-1, keepdims=True) + 1e-9)
        angle = math.radians(50) * uniform(seeds, 1, (1,)) * ops.where(uniform(seeds, 2, (1,)) < 0.5, 0.3, 1.0)
        zeros = ops.zeros_like(vector)
        turn = linear_matrix(ops.concatenate([zeros, vector * ops.tan(angle / 2)], -1), "rigid", (1, 1, 1), (1, 1, 1))
        skew = 0.06 * symmetric(seeds, 3, (3, 3)) * (1 - ops.eye(3)) + ops.eye(3)[None] * (
            ops.exp(0.18 * symmetric(seeds, 4, (1, 1)) + 0.1 * symmetric(seeds, 5, (3, 1)))
        )
        side = ops.where(uniform(seeds, 6, (1,)) < 0.5, -1.0, 1.0)
        mirror = ops.concatenate([side, ops.ones_like(side), ops.ones_like(side)], axis=-1)
        linear = ops.matmul(turn[..., :3], skew) * mirror[:, :, None]
        shift = symmetric(seeds, 7, (3,)) * _array([12.0, 25.0, 35.0]) + _array([0.0, -5.0, 15.0])
        centre = _array([(n - 1) / 2 for n in self.fine]) + shift / self.step
        away = ops.moveaxis(voxel_places(self.fine), -1, 0)[None] - centre[:, :, None, None, None]
        for stream, step, size in ((8, 40.0, 4.0), (9, 16.0, 1.2)):
            away = away + size / self.step * self._bent(seeds, stream, step / self.step)
        middles = ops.take(self.middles, subjects, axis=0)
        places = ops.einsum("bij,bjxyz->bxyzi", linear * (self.step / MAP), away) + middles[:, None, None, None]
        return sample(ops.take(self.maps, subjects, axis=0), places, "zero", "nearest")

    def _bent(self, seeds: Tensor, stream: int, step: float) -> Tensor:
        """Returns a smooth random field on the fine grid, (B, 3, *fine), of cubic B-splines."""
        positions = [control_positions(n, step) for n in self.fine]
        splines = [
            cubic_bspline((np.arange(n)[:, None] - each) / step) for n, each in zip(self.fine, positions, strict=True)
        ]
        points = [len(each) for each in positions]
        drawn = ops.reshape(normal(seeds, stream, (3, *points)), (-1, *points))
        return ops.reshape(_spread(drawn, splines), (-1, 3, *self.fine))

    def _smooth(self, seeds: Tensor, stream: int, step: float) -> Tensor:
        """Returns a rougher random field of about deviation 1, a value each `step` mm and linear between."""
        return _linear(seeds, stream, self.fine, step / self.step)

    def _table(self, seeds: Tensor) -> tuple[Tensor, Tensor, np.ndarray]:
        """Draws mean and deviation of each kind, (B, kinds * PATCHES), and says which kinds are brain."""
        count, one = len(KINDS), (1, 1)
        priors = _array(PRIORS)
        which = ops.cast(3 * uniform(seeds, 10, ()), "int32")
        likely = ops.take(priors, which, axis=0)[..., None] + 0.08 * normal(seeds, 11, (count, 1))
        random = uniform(seeds, 12, (count, 1))
        means = ops.where(uniform(seeds, 13, one) < 0.5, likely, random)
        strength = ops.concatenate([0.06 * ops.ones((OUTSIDE,)), 0.4 * ops.ones((count - OUTSIDE,))])[None, :, None]
        means = means + strength * symmetric(seeds, 14, (count, PATCHES)) * uniform(seeds, 15, one)
        spreads = 0.07 * uniform(seeds, 16, (count, PATCHES)) * uniform(seeds, 17, one) * 2
        means, spreads = (ops.concatenate([x, x[:, FLUID : FLUID + 1]], axis=1) for x in (means, spreads))
        brain = is_brain()
        # Air is dark, but for some heads; what was stripped is exactly 0, with fluid, some or none.
        air = ops.where(uniform(seeds, 18, one) < 0.85, 0.02 * means[:, :1], means[:, :1])
        means = ops.concatenate([air, means[:, 1:]], axis=1)
        fluid, furrow = (np.arange(count + 1) == kind for kind in (FLUID, FURROW))
        kept = np.stack([brain, brain | fluid, brain & ~furrow])
        kept = ops.take(_array(kept), ops.cast(3 * uniform(seeds, 19, ()), "int32"), axis=0)[..., None]
        kept = ops.where(uniform(seeds, 20, one) < self.stripped, kept, 1.0)
        flat = (-1, (count + 1) * PATCHES)
        return ops.reshape(means * kept, flat), ops.reshape(spreads * kept, flat), brain

    def _seen(self, values: Tensor, seeds: Tensor) -> Tensor:
        """Blurs into slices along each axis, one of them often thick, and reads the network's grid from them."""
        batch, axes = ops.shape(values)[0], []
        thick = ops.cast(3 * uniform(seeds, 50, ()), "int32")
        for axis, (n, fine) in enumerate(zip(self.shape, self.fine, strict=True)):
            is_thick = ops.cast(ops.equal(thick, axis), "float32") * ops.cast(uniform(seeds, 51, ()) < 0.5, "float32")
            step = 1.0 + uniform(seeds, 52 + axis, ()) + is_thick * (1 + 4.5 * uniform(seeds, 55, ()))  # mm of slices
            blur = ops.maximum(step, self.step * (1.5 + 0.75 * uniform(seeds, 56 + axis, ()))) / 2.355
            step, blur = step[:, None, None], blur[:, None, None]
            places = self.step * ops.arange(fine, dtype="float32")[None, None]
            slices = (ops.arange(int(fine * self.step) + 2, dtype="float32")[None, :, None]) * step
            mean = ops.exp(-0.5 * ops.square((places - slices) / blur))
            mean = mean / (ops.sum(mean, axis=-1, keepdims=True) + 1e-6)
            read = self.step * (2 * ops.arange(n, dtype="float32") + 0.5)[None, :, None]
            read = ops.maximum(0.0, 1 - ops.abs(read - ops.transpose(slices, (0, 2, 1))) / step)
            axes.append(ops.matmul(read, mean))
        x = ops.reshape(values, (batch, self.fine[0], -1))
        x = ops.reshape(ops.matmul(axes[0], x), (batch * self.shape[0], self.fine[1], self.fine[2]))
        x = ops.matmul(x, ops.repeat(ops.transpose(axes[2], (0, 2, 1)), self.shape[0], axis=0))
        x = ops.matmul(ops.repeat(axes[1], self.shape[0], axis=0), x)
        return ops.reshape(x, (batch, *self.shape, 1))

    def _field_of_view(self, seeds: Tensor) -> Tensor:
        """Returns 1 where the scanner saw, and 0 elsewhere: a box, and for some heads a face that was cut off."""
        half = _array([n / 2 for n in self.shape])
        x = (voxel_places(self.shape)[None] - (half - 0.5)) / half  # -1 to 1
        margins = ops.where(uniform(seeds, 60, (2, 3)) < 0.3, 0.45 * uniform(seeds, 61, (2, 3)), 0.0)
        low, high = -1 + margins[:, 0], 1 - margins[:, 1]
        seen = (x >= low[:, None, None, None]) & (x <= high[:, None, None, None])
        plane = x[..., 1] * 1.1 - x[..., 2] > 0.55 + 0.5 * uniform(seeds, 62, (1, 1, 1))  # before and below
        cut = plane & (uniform(seeds, 63, (1, 1, 1)) < 0.15)
        return ops.cast(ops.all(seen, axis=-1) & ~cut, "float32")[..., None]

    def _recoloured(self, image: Tensor, inside: Tensor, seeds: Tensor) -> Tensor:
        """Adds a bias field and noise, scales by percentiles as `register` does, and draws a gamma."""
        one = (1, 1, 1, 1)
        bias = _linear(seeds, 70, self.shape, 50.0 / (2 * self.step))
        image = image * ops.exp(0.35 * uniform(seeds, 71, one) * bias)
        noise = 0.06 * ops.square(uniform(seeds, 72, one)) * normal(seeds, 73, (*self.shape, 1))
        stripped = ops.cast(uniform(seeds, 20, one) < self.stripped, "float32")
        image = ops.abs(image + noise * (1 - stripped * ops.cast(image < 0.01, "float32")))
        last = math.prod(-(-n // 2) for n in self.shape) - 1
        flat = ops.sort(ops.reshape((image * inside)[:, ::2, ::2, ::2], (ops.shape(image)[0], last + 1)), axis=-1)
        rank = ops.cast(last * (0.97 + 0.029 * uniform(seeds, 74, ())), "int32")
        top = ops.take_along_axis(flat, rank[:, None], axis=1)[:, :, None, None, None]
        image = ops.clip(image / (top + 1e-3), 0.0, 1.0)
        return ops.power(image, ops.exp(0.5 * symmetric(seeds, 75, one))) * inside
