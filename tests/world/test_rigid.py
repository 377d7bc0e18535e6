"""The quick rigid search finds known turns and shifts, whatever the headers, the contrast and the field of view."""

import numpy as np
import pytest
from bodies import body_pair, rigid
from worlds import AFFINES

from regzoo.world.images import Image
from regzoo.world.matrices import map_points
from regzoo.world.rigid import Search

MIDDLE = np.array([30.0, -20.0, 12.0])
CASES = [
    ("RAS", "LAS", (0, 0, 0), (9, -7, 8)),
    ("LAS", "LPS", (30, 0, 0), (0, 0, 0)),
    ("LPS", "oblique", (0, -30, 0), (4, 0, -3)),
    ("oblique", "RAS", (17, 17, -17), (-5, 6, 2)),
    ("permuted", "oblique", (0, 0, 30), (0, 0, 4)),
]


def pair(matrix, fixed="RAS", moving="RAS"):
    return body_pair(AFFINES[fixed][:3, :3], AFFINES[moving][:3, :3], matrix, MIDDLE)


def error(found, expected):
    """Returns how far apart two matrices take places in the body, at most, in mm."""
    places = MIDDLE + np.array([[20.0, 0, 0], [-20, 0, 0], [0, 26, 0], [0, -26, 0], [0, 0, 14], [0, 0, -14]])
    return np.linalg.norm(map_points(found, places) - map_points(expected, places), axis=1).max()


@pytest.mark.parametrize(("fixed_name", "moving_name", "turn", "shift"), CASES)
def test_a_known_matrix_is_found_both_ways(fixed_name, moving_name, turn, shift):
    matrix = rigid(turn, shift, MIDDLE)
    fixed, moving = pair(matrix, fixed_name, moving_name)
    for one, other, expected in ((fixed, moving, matrix), (moving, fixed, np.linalg.inv(matrix))):
        found, (start,) = Search(one, other).rigid([np.eye(4)])
        assert error(found.matrix, expected) < 1.0
        assert found.likeness > 0.9 > start.likeness


def test_it_is_found_in_another_contrast():
    matrix = rigid((0, 25, 0), (3, 0, -2), MIDDLE)
    fixed, moving = pair(matrix)
    other = Image(np.exp(-2 * moving.array), moving.affine)
    assert error(Search(fixed, other).rigid([np.eye(4)])[0].matrix, matrix) < 2.0


@pytest.mark.parametrize(("axis", "end"), [(0, 1), (1, 0), (2, 1)])
def test_it_is_found_where_a_quarter_of_the_body_is_cut_off(axis, end):
    matrix = rigid((15, 0, 10), (0, 0, 0), MIDDLE)
    fixed, moving = pair(matrix)
    count = moving.shape[axis] // 4
    kept = [slice(None)] * 3
    kept[axis] = slice(None, -count) if end else slice(count, None)
    affine = moving.affine.copy()
    affine[:3, 3] += 0 if end else count * moving.affine[:3, axis]
    cut = Image(moving.array[tuple(kept)], affine)
    found, _ = Search(fixed, cut).rigid([np.eye(4)])
    assert error(found.matrix, matrix) < 2.0
    assert 0.4 < found.seen < 0.9


def test_a_place_where_nothing_is_seen_is_no_match():
    fixed, moving = pair(np.eye(4))
    away = rigid((0, 0, 0), (60, 0, 0), MIDDLE)
    assert Search(fixed, moving).rigid([away])[1][0].likeness == -1.0
