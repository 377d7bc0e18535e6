"""Losses of a field: how rough, strained or folded it is. Differences are of neighbours, so that no wave escapes."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Literal

from keras import ops

from regzoo.backend import Tensor
from regzoo.errors import invalid
from regzoo.ops.fields import determinant
from regzoo.ops.filters import forward_difference
from regzoo.ops.grids import millimetres
from regzoo.ops.statistics import float32, mean


def gradient(ddf: Tensor, spacing: Sequence[float] | None = None, norm: Literal["l1", "l2"] = "l2") -> Tensor:
    """Norm of the field's first derivatives: how much neighbouring voxels move apart.

    Args:
        ddf: Field in voxels, shape (B, *S, D).
        spacing: Millimetres a voxel, D values; derivatives are then mm per mm. None: 1 mm.
        norm: `"l2"`, the mean of squares, or `"l1"`, the mean of absolute values, over pairs of neighbours, components
            and axes.

    Returns:
        Shape (B,), from 0 (translation).

    Raises:
        ValueError: If `spacing` has not D values, or `norm` is unknown.

    Example:
        >>> float(gradient(ops.ones((1, 4, 4, 2)))[0])  # a translation
        0.0
    """
    if norm not in ("l1", "l2"):
        raise invalid("norm", "'l1' or 'l2'", norm)
    power = ops.abs if norm == "l1" else ops.square
    parts = [mean(power(part)) for part in _derivatives(ddf, spacing)]
    return sum(parts) / len(parts)


def bending(ddf: Tensor, spacing: Sequence[float] | None = None) -> Tensor:
    """Bending energy: the squared second derivatives, summed over pairs of axes.

    Args:
        ddf: Field in voxels, shape (B, *S, D).
        spacing: Millimetres a voxel, D values; the energy is then in 1/mm^2. None: 1 mm.

    Returns:
        Shape (B,), mean over voxels and components, from 0 (any affine field).

    Raises:
        ValueError: If `spacing` has not D values.

    Example:
        >>> float(bending(ops.ones((1, 4, 4, 2)))[0])
        0.0

    Source: Rueckert et al., Nonrigid registration using free-form deformations, 1999, eq. 8.
    """
    first = _derivatives(ddf, spacing)
    spacing = millimetres(spacing, len(first))
    # d2/dadb = d2/dbda: the mixed ones count twice.
    parts = [
        (1.0 if a == b else 2.0) * mean(ops.square(forward_difference(first[a], b) / spacing[b]))
        for a in range(len(first))
        for b in range(a, len(first))
    ]
    return sum(parts)


def elastic(ddf: Tensor, spacing: Sequence[float] | None = None, mu: float = 1.0, lam: float = 1.0) -> Tensor:
    """Energy of linear elasticity, `mu e:e + lam / 2 tr(e)^2`, where e is the strain, the symmetric part of du/dx.

    Args:
        ddf: Field in voxels, shape (B, *S, D).
        spacing: Millimetres a voxel, D values; strain is then mm per mm. None: 1 mm.
        mu: First cost, of any strain (the second Lamé parameter, the shear modulus).
        lam: Further cost of a change of volume (the first Lamé parameter, lambda).

    Returns:
        Shape (B,), mean over the corners of the grid's cells, from 0 (translation; a rotation costs about its angle to
        the fourth).

    Raises:
        ValueError: If `spacing` has not D values.

    Example:
        >>> float(elastic(ops.ones((1, 4, 4, 2)))[0])
        0.0

    Source: Broit, Optimal registration of deformed images, 1981. Its Navier equations are those of the least energy.
    """
    dims = ddf.shape[-1]

    def energy(slope: list) -> Tensor:
        strain = [[(slope[b][..., a] + slope[a][..., b]) / 2 for b in range(dims)] for a in range(dims)]
        squares = sum(ops.square(strain[a][b]) for a in range(dims) for b in range(dims))
        return mean(mu * squares + lam / 2 * ops.square(sum(strain[a][a] for a in range(dims))))

    energies = [energy(slope) for slope in _at_corners(_derivatives(ddf, spacing), ddf.shape[1:-1])]
    return sum(energies) / len(energies)


def folding(ddf: Tensor, margin: float = 0.0) -> Tensor:
    """How far Jacobian determinants fall below a margin: the mean of `max(0, margin - det)`.

    There is a determinant at each corner of each of the grid's cells, of the edges that meet there. Where the field,
    interpolated linearly, folds nowhere, none is below 0; in 2-D the reverse holds too. They are the same in voxels
    and in millimetres.

    Args:
        ddf: Field in voxels, shape (B, *S, D), D of 2 or 3.
        margin: Smallest determinant that costs nothing, 0 to below 1 (that of the identity).

    Returns:
        Shape (B,), from 0 (no determinant below the margin).

    Example:
        >>> float(folding(ops.zeros((1, 3, 3, 2)))[0])
        0.0

    Source: Liu et al., On finite difference Jacobian computation in deformable image registration, 2022.
    """
    corners = _at_corners(_derivatives(ddf, None), ddf.shape[1:-1])
    parts = [mean(ops.relu(margin - determinant(slope))) for slope in corners]
    return sum(parts) / len(parts)


def _derivatives(field: Tensor, spacing: Sequence[float] | None) -> list:
    """Returns the forward differences along each axis of a voxel field's millimetre vectors per millimetre."""
    field = float32(field)
    dims = field.shape[-1]
    spacing = millimetres(spacing, dims)
    scaled = ops.concatenate([field[..., d : d + 1] * spacing[d] for d in range(dims)], axis=-1)
    return [forward_difference(scaled, axis) / spacing[axis] for axis in range(dims)]


def _at_corners(first: list, shape: Sequence[int]) -> Iterator[list]:
    """Goes through the corners of a cell: the derivatives along its edges that meet there, (B, *cells, D) an axis.

    Along an axis of one voxel there is one cell, and its derivative is 0.
    """
    dims = len(first)
    for corner in itertools.product(*(range(min(length, 2)) for length in shape)):
        cells = [slice(at, at + max(length - 1, 1)) for at, length in zip(corner, shape, strict=True)]
        edges = [[slice(None) if axis == along else cells[axis] for axis in range(dims)] for along in range(dims)]
        yield [part[(slice(None), *edge)] for part, edge in zip(first, edges, strict=True)]
