"""A body that fills one image and takes a small part of the other, as far as 3.3 times as wide."""

import numpy as np
import pytest
from narrow_and_wide import IN_NARROW, IN_WIDE, narrow_and_wide

from regzoo.classical import Guidance, optimise
from regzoo.classical.pyramid import Pair, level_grid
from regzoo.world.images import Image
from regzoo.world.transforms import Transform


@pytest.fixture(scope="module")
def images():
    return narrow_and_wide()


@pytest.mark.slow
def test_a_moving_image_of_three_times_the_width(images):
    for loss, most in (("lncc", 1.0), ("nmi", 0.5), ("mind", 1.5)):
        found, _ = optimise(*images, Transform.identity(), ["rigid"], Guidance(loss=loss, iterations=60))
        away = np.linalg.norm(found.apply_points(IN_NARROW) - IN_WIDE, axis=-1).mean()
        assert away < most, loss


@pytest.mark.backend
def test_a_fixed_image_of_three_times_the_width(images):
    narrow, wide = images
    found, (done,) = optimise(wide, narrow, Transform.identity(), ["rigid"], Guidance(loss="ncc"))
    away = np.linalg.norm(found.apply_points(IN_WIDE) - IN_NARROW, axis=-1).mean()
    assert away < 1.5
    assert found.grid.same_as(wide.grid)
    assert np.prod(done["levels"][0]["voxels"]) < 40**3  # not of what the moving image does not show


@pytest.mark.parametrize("loss", ["lncc", "mind", "ssd"])
def test_neither_faint_things_beyond_nor_the_background_count(images, loss):
    narrow, wide = images
    found, _ = optimise(wide, narrow, Transform.identity(), ["rigid"], Guidance(loss=loss))
    assert np.linalg.norm(found.apply_points(IN_WIDE) - IN_NARROW, axis=-1).mean() < 2


def test_the_moving_image_is_seen_as_coarsely_as_the_fixed_one():
    fixed, moving = (
        Image(np.arange(np.prod(shape), dtype="float32").reshape(shape), affine)
        for shape, affine in (((40, 44, 38), np.eye(4)), ((60, 60, 40), np.diag([1.5, 1.5, 3.0, 1.0])))
    )
    pair = Pair.of(fixed, moving, {}, None, Transform.identity())
    seen = pair.batch(level_grid(fixed.grid, 2), np.eye(4))
    assert seen["fixed"].shape == (1, 20, 22, 19, 1)
    assert seen["moving"].shape == (1, 32, 34, 21, 1)  # up to 22 mm beyond: half of the longest side
