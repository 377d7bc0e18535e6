import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from worlds import AFFINES, around, rotation

from regzoo.errors import InvalidError
from regzoo.world.alignment import aligned
from regzoo.world.images import Grid, Image

TURN, SHIFT = rotation(0.2, -0.15, 0.3), np.array([6.0, -4.0, 3.0])


NONE = np.eye(3)


def body(grid, turn=NONE, shift=(0, 0, 0)):
    """A bright ellipsoid on a dark ground of 10 that is turned and shifted."""
    places = (grid.coordinates() - shift) @ turn
    inside = ((places / (14, 9, 5)) ** 2).sum(-1)
    return Image((10 + 100 * np.clip(1.5 - inside, 0, 1)).astype("float32"), grid.affine)


def grids(fixed_name, moving_name):
    middle = Grid((25, 25, 25), np.diag([1.5, 1.5, 1.5, 1]))
    there = middle.affine.copy()
    there[:3, 3] = -18
    cube = Grid(middle.shape, there)
    return around(cube, fixed_name, margin=6), around(cube, moving_name, margin=12)


PAIRS = [("RAS", "LPS"), ("LAS", "oblique"), ("oblique", "anisotropic")]


@pytest.mark.parametrize("worlds", PAIRS)
def test_mass_finds_a_shift(worlds):
    fixed, moving = grids(*worlds)
    found = aligned(body(fixed), body(moving, shift=SHIFT), "mass")
    np.testing.assert_allclose(found.apply_points(np.zeros((1, 3)))[0], SHIFT, atol=0.2)


@pytest.mark.parametrize("worlds", PAIRS)
def test_moments_find_a_rotation(worlds):
    fixed, moving = grids(*worlds)
    found = aligned(body(fixed), body(moving, TURN, SHIFT), "moments")
    points = np.array([[10.0, 0, 0], [0, 10, 0], [0, 0, 10]])
    np.testing.assert_allclose(found.apply_points(points), points @ TURN.T + SHIFT, atol=0.6)


@pytest.mark.parametrize("degrees", [30, 120, 150, 180])
def test_moments_find_more_than_a_quarter_of_a_turn(degrees):
    fixed, moving = grids("LAS", "oblique")
    turn = Rotation.from_rotvec(degrees * np.array([0.6, 0.0, 0.8]), degrees=True).as_matrix()

    def spotted(grid, turn, shift):
        spot = np.exp(-((((grid.coordinates() - shift) @ turn) - (8, 3, 1)) ** 2).sum(-1) / 12)
        return Image(body(grid, turn, shift).array + 60 * spot.astype("float32"), grid.affine)

    found = aligned(spotted(fixed, NONE, (0, 0, 0)), spotted(moving, turn, SHIFT), "moments")
    points = np.array([[10.0, 0, 0], [0, 10, 0], [0, 0, 10]])
    np.testing.assert_allclose(found.apply_points(points), points @ turn.T + SHIFT, atol=1.2)


def test_center_lays_middle_on_middle():
    fixed, moving = Grid((4, 5, 6), AFFINES["oblique"]), Grid((7, 3, 4), AFFINES["LPS"])
    found = aligned(body(fixed), body(moving), "center")
    np.testing.assert_allclose(found.apply_points(fixed.box().mean(0)[None])[0], moving.box().mean(0))


def test_world_is_the_identity():
    fixed, moving = grids("RAS", "LPS")
    assert (aligned(body(fixed), body(moving), "world").matrix == np.eye(4)).all()


def test_another_name_is_refused():
    fixed, moving = grids("RAS", "LPS")
    with pytest.raises(InvalidError, match="alignment: expected 'center', 'world', 'mass' or 'moments'"):
        aligned(body(fixed), body(moving), "centre")
