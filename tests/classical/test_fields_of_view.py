"""A body that fills one image and takes a small part of the other, as far as 3.3 times as wide."""

import numpy as np
import pytest
from worlds import affine, rotation

from regzoo.classical import Guidance, optimise
from regzoo.classical.pyramid import Pair, level_grid
from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform

RANDOM = np.random.default_rng(3)
CENTRES, SIZES, HEIGHTS = RANDOM.uniform(-45, 45, (60, 3)), RANDOM.uniform(6, 14, 60), RANDOM.uniform(-0.6, 1, 60)
TURN, SHIFT = rotation(0.06, -0.05, 0.09), np.array([4.0, -3.0, 2.0])
POINTS = RANDOM.uniform(-35, 35, (200, 3))


def body(points):
    """An ellipsoid with blobs inside, in mm from its middle; around it nothing."""
    blobs = sum(
        height * np.exp(-np.square(points - centre).sum(-1) / (2 * size**2))
        for centre, size, height in zip(CENTRES, SIZES, HEIGHTS, strict=True)
    )
    return 100 * (1 + blobs) / (1 + np.exp((np.linalg.norm(points / (60, 70, 55), axis=-1) - 1) * 25))


def middle_grid(shape, spacing):
    return Grid(shape, affine(np.diag([spacing] * 3), -spacing * (np.array(shape) - 1) / 2))


@pytest.fixture(scope="module")
def narrow_and_wide():
    narrow, wide = middle_grid((40, 44, 38), 4.0), middle_grid((80, 86, 74), 6.5)
    turned = (wide.coordinates() - SHIFT) @ TURN
    return tuple(
        Image(body(places).astype("float32"), grid.affine)
        for places, grid in ((narrow.coordinates(), narrow), (turned, wide))
    )


@pytest.mark.slow
def test_a_moving_image_of_three_times_the_width(narrow_and_wide):
    for loss, most in (("lncc", 1.0), ("nmi", 0.5), ("mind", 1.5)):
        found, _ = optimise(*narrow_and_wide, Transform.identity(), ["rigid"], Guidance(loss=loss, iterations=60))
        away = np.linalg.norm(found.apply_points(POINTS) - (POINTS @ TURN.T + SHIFT), axis=-1).mean()
        assert away < most, loss


@pytest.mark.backend
def test_a_fixed_image_of_three_times_the_width(narrow_and_wide):
    narrow, wide = narrow_and_wide
    found, (done,) = optimise(wide, narrow, Transform.identity(), ["rigid"], Guidance(loss="ncc"))
    away = np.linalg.norm(found.apply_points(POINTS @ TURN.T + SHIFT) - POINTS, axis=-1).mean()
    assert away < 1.5
    assert found.grid.same_as(wide.grid)
    assert np.prod(done["levels"][0]["voxels"]) < 40**3  # not of what the moving image does not show


def test_the_moving_image_is_seen_as_coarsely_as_the_fixed_one():
    fixed, moving = (
        Image(np.arange(np.prod(shape), dtype="float32").reshape(shape), affine)
        for shape, affine in (((40, 44, 38), np.eye(4)), ((60, 60, 40), np.diag([1.5, 1.5, 3.0, 1.0])))
    )
    pair = Pair.of(fixed, moving, {}, None, Transform.identity())
    seen = pair.batch(level_grid(fixed.grid, 2), np.eye(4))
    assert seen["fixed"].shape == (1, 20, 22, 19, 1)
    assert seen["moving"].shape == (1, 32, 34, 21, 1)  # up to 22 mm beyond: half of the longest side
