import itertools

import loss_formulas
import numpy as np
import pytest
from loss_cases import KINDS, value
from tensors import grid, tensor

from regzoo import losses
from regzoo.errors import InvalidError

pytestmark = pytest.mark.backend

RANDOM = np.random.default_rng(11)
IN_MM = [losses.gradient, losses.bending, losses.elastic]
every_dims = pytest.mark.parametrize("dims", [2, 3])


@pytest.mark.parametrize("loss", KINDS["deformation"].values())
@every_dims
def test_translations_cost_nothing_and_affine_fields_no_bending(loss, dims):
    shape = (6, 5, 7)[:dims]
    shift = np.broadcast_to(RANDOM.normal(size=dims), (1, *shape, dims))
    np.testing.assert_allclose(value(loss, shift), 0, atol=1e-10)
    affine = (grid(shape) @ RANDOM.normal(size=(dims, dims)))[None]
    if loss in IN_MM:
        found = value(loss, affine, spacing=(2.0, 0.5, 1.0)[:dims])
        assert found < 1e-8 if loss is losses.bending else found > 0.1


@every_dims
def test_polynomials_are_exact(dims):
    shape, spacing = (7, 5, 6)[:dims], (2.0, 0.5, 3.0)[:dims]
    mm = np.array(spacing)
    slope = RANDOM.normal(size=(dims, dims))  # mm per mm: component, axis
    place = grid(shape) * mm
    ddf = (place @ slope.T / mm)[None]
    np.testing.assert_allclose(value(losses.gradient, ddf, spacing=spacing), (slope**2).mean(), rtol=1e-4)
    np.testing.assert_allclose(value(losses.gradient, ddf, spacing=spacing, norm="l1"), np.abs(slope).mean(), rtol=1e-4)
    strain = (slope + slope.T) / 2
    energy = 0.7 * (strain**2).sum() + 1.3 / 2 * np.trace(slope) ** 2
    np.testing.assert_allclose(value(losses.elastic, ddf, spacing=spacing, mu=0.7, lam=1.3), energy, rtol=1e-4)
    # u_0 = 0.3 x y: only the mixed derivative, 0.3, and it counts twice. u_1 = 0.4 x^2: the pure one, 0.8, counts once.
    ddf = np.zeros((1, *shape, dims))
    ddf[0, ..., 0] = 0.3 * place[..., 0] * place[..., 1] / mm[0]
    ddf[0, ..., 1] = 0.4 * place[..., 0] ** 2 / mm[1]
    expected = (2 * 0.3**2 + 0.8**2) / dims
    np.testing.assert_allclose(value(losses.bending, ddf, spacing=spacing), expected, rtol=1e-4)


@every_dims
def test_a_small_rotation_is_no_strain(dims):
    turn = np.zeros((dims, dims))
    turn[0, 1], turn[1, 0] = 0.01, -0.01
    ddf = (grid((6, 5, 7)[:dims]) @ turn)[None]
    assert value(losses.elastic, ddf) < 1e-10
    assert value(losses.gradient, ddf) > 1e-5


@pytest.mark.parametrize("loss", KINDS["deformation"].values())
@every_dims
def test_every_wave_of_two_voxels_is_seen(loss, dims):
    """Central differences are blind to a field that goes up and down from voxel to voxel."""
    shape = (6, 5, 8)[:dims]
    smooth = value(loss, 0.5 * np.sin(grid(shape) / 4)[None])
    for axes in itertools.chain.from_iterable(itertools.combinations(range(dims), n) for n in range(1, dims + 1)):
        wave = (-1.0) ** grid(shape)[..., list(axes)].sum(-1)
        ddf = np.zeros((1, *shape, dims))
        ddf[0, ..., axes[0]] = wave
        assert value(loss, ddf) > max(0.1, 3 * smooth)


@pytest.mark.parametrize(("loss", "settings"), [*((loss, {}) for loss in IN_MM), (losses.gradient, {"norm": "l1"})])
def test_values_do_not_depend_on_the_grid(loss, settings):
    def on_grid(spacing):
        place = grid(np.round(np.array([40.0, 30.0]) / spacing).astype(int)) * spacing + np.array(spacing) / 2
        x, y = place[..., 0] / 8, place[..., 1] / 6
        mm = np.stack([np.sin(x + 0.5 * y), 2 * np.cos(x) * np.sin(y)], axis=-1)
        return value(loss, mm[None] / spacing, spacing=spacing, **settings)

    np.testing.assert_allclose(on_grid((1.0, 0.5)), on_grid((0.5, 1.0)), rtol=0.08)
    np.testing.assert_allclose(on_grid((0.4, 0.3)), on_grid((0.8, 0.3)), rtol=0.05)


@every_dims
def test_smooth_fields_cost_what_central_differences_say(dims):
    shape, spacing = (24, 30, 26)[:dims], (2.0, 1.0, 1.5)[:dims]
    place = grid(shape)
    ddf = np.stack([2 * np.sin(place[..., d - 1] / 6 + d) * np.cos(place[..., d] / 7) for d in range(dims)], axis=-1)
    first = [np.gradient(ddf[..., d] * spacing[d], *spacing) for d in range(dims)]
    slope = np.mean([part**2 for parts in first for part in parts])
    second = [part for parts in first for g in parts for part in np.gradient(g, *spacing)]
    np.testing.assert_allclose(value(losses.gradient, ddf[None], spacing=spacing), slope, rtol=0.02)
    energy = sum((part**2).mean() for part in second) / dims
    found = value(losses.bending, ddf[None], spacing=spacing)
    np.testing.assert_allclose(found, energy, rtol=0.1)  # at the border, central differences are one-sided


@pytest.mark.parametrize("loss", KINDS["deformation"])
@pytest.mark.parametrize("shape", [(1, 5), (2, 1), (1, 1), (4, 1, 2), (2, 2, 2), (1, 3, 1)])
def test_axes_of_one_or_two_voxels(loss, shape):
    ddf = 2 * RANDOM.normal(size=(2, *shape, len(shape)))
    expected = [getattr(loss_formulas, loss)(item) for item in ddf]
    np.testing.assert_allclose(value(KINDS["deformation"][loss], ddf), expected, rtol=1e-4, atol=1e-6)


def test_folding_of_known_folds():
    place = grid((8, 5, 6))
    flipped = np.zeros((1, 8, 5, 6, 3))
    flipped[0, ..., 1] = -1.5 * place[..., 1]  # det = 1 - 1.5
    np.testing.assert_allclose(value(losses.folding, flipped), 0.5, rtol=1e-5)
    np.testing.assert_allclose(value(losses.folding, flipped, margin=0.25), 0.75, rtol=1e-5)
    shrunk = -0.9 * place[None]  # det = 0.001
    np.testing.assert_allclose(value(losses.folding, shrunk), 0, atol=1e-7)
    np.testing.assert_allclose(value(losses.folding, shrunk, margin=0.1), 0.099, rtol=1e-3)
    one = np.zeros((1, 8, 6, 2))
    one[0, 3, 2, 0] = 1.5  # a voxel passes the next one: the cells on both sides of one edge turn over at two corners
    np.testing.assert_allclose(value(losses.folding, one), 2 * 2 * 0.5 / (4 * 7 * 5), rtol=1e-4)


def test_settings_that_mean_nothing_are_refused():
    ddf = tensor(np.zeros((1, 4, 5, 2)))
    for loss in IN_MM:
        with pytest.raises(
            InvalidError, match=r"spacing: expected 2 values in millimetres, received \[1\.0, 1\.0, 1\.0\]"
        ):
            loss(ddf, spacing=(1.0, 1.0, 1.0))
    with pytest.raises(InvalidError, match=r"norm: expected 'l1' or 'l2', received L2\."):
        losses.gradient(ddf, norm="L2")
