"""A body without symmetry that is turned, seen on grids of other axes."""

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.transform import Rotation
from worlds import around

from regzoo.world.images import Grid, Image
from regzoo.world.pose import pose

CUBE = Grid((30, 30, 30), np.array([[2.0, 0, 0, -29], [0, 2, 0, -29], [0, 0, 2, -29], [0, 0, 0, 1]]))


def body(grid, turn=(0, 0, 0), shift=(0, 0, 0), size=1.0):
    """An ellipsoid with a dark and two bright spots, turned by a rotation vector in degrees."""
    places = (grid.coordinates() - shift) @ Rotation.from_rotvec(turn, degrees=True).as_matrix() / size
    value = np.clip(1.5 - ((places / (20, 26, 14)) ** 2).sum(-1), 0, 1)
    for middle, height in (((8, 10, 3), 1.0), ((-6, -12, -4), 0.7), ((-5, 9, 2), -0.6)):
        value = value + height * np.exp(-np.square(places - middle).sum(-1) / 50)
    return Image(value.astype("float32"), grid.affine)


@pytest.mark.parametrize("turn", [(0, 0, 15), (12, -9, 6), (0, 50, 0), (-20, 5, 160)])
def test_a_turn_is_found_wherever_the_images_lie(turn):
    fixed, moving = around(CUBE, "LAS", margin=0), around(CUBE, "oblique", margin=8)
    found = pose(body(fixed), body(moving, turn, shift=(5, -4, 3), size=1.1))
    np.testing.assert_allclose(found.turn, turn, atol=3.5)
    assert found.likeness > 0.97
    assert found.plain


def test_what_is_not_turned_is_not_called_so():
    fixed, moving = around(CUBE, "RAS", margin=0), around(CUBE, "LPS", margin=8)
    found = pose(body(fixed), body(moving, shift=(5, -4, 3)))
    assert np.abs(found.turn).max() < 1.5
    assert not found.plain


def test_a_body_that_looks_much_the_same_from_both_ends_is_not_turned():
    grid = around(CUBE, "RAS", margin=0)
    places = grid.coordinates()

    def spot(middle, height):
        return height * np.exp(-np.square(places - middle).sum(-1) / 60)

    ends = np.clip(1.5 - ((places / (12, 24, 17)) ** 2).sum(-1), 0, 1)
    one = Image(ends + spot((0, 14, 0), 0.1), grid.affine)
    two = Image(ends + spot((0, -14, 0), 0.1) + spot((7, 0, 0), 0.6), grid.affine)
    assert np.abs(pose(one, two).turn).max() < 5  # turned by half a circle, it is a little more alike


def test_what_is_not_alike_is_not_turned_plainly():
    random = np.random.default_rng(0)
    one, two = (Image(random.random(CUBE.shape).astype("float32"), CUBE.affine) for _ in range(2))
    assert not pose(one, two).plain
    other = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=CUBE.shape), 3)
    turned = body(CUBE, (70, 0, 0))
    found = pose(body(CUBE), Image((turned.array + 0.15 * other / other.std()).astype("float32"), CUBE.affine))
    assert 1 - found.likeness < 0.6 * (1 - found.unturned)  # much more alike, and still not alike enough to tell
    assert not found.plain


def test_a_slice_has_no_pose():
    assert pose(Image(np.eye(9)[..., None], np.eye(4)), body(CUBE)) is None
