"""Both ways: moving labels by the map on the fixed image, fixed labels by its inverse on the moving image."""

import numpy as np
import pytest
from worlds import AFFINES, affine, rotation

from regzoo.registration.scores import Side, both_ways, carried_back, doubts, inverted, over_same_labels, score
from regzoo.world.images import Grid, Image
from regzoo.world.matrices import map_points
from regzoo.world.transforms import Transform

SPACING = np.array([1.0, 2.0, 1.5])
FIXED, MOVING = (
    Grid((16, 6, 5), affine(np.diag(SPACING), (0, 0, 0))),
    Grid((20, 7, 6), affine(np.diag(SPACING), (0, 0, 0))),
)
# Draws everything together to half its width about i = 7.5.
TOGETHER = Transform.linear(affine(np.diag([0.5, 1, 1]), (3.75, 0, 0)))
STILL = {"folds": 0.0, "sdlogj": 0.0}


def side(grid, start, stop):
    labels = np.zeros(grid.shape, np.uint8)
    labels[start:stop, 1:4, 1:4] = 3
    points = np.array([[4.0, 4, 3], [10, 6, 3]])
    return Side(Image(labels.astype(np.float32), grid.affine), Image(labels, grid.affine), points)


def scored(fixed, moving, transform):
    moved = transform.apply_image(moving.image, fixed.image.grid)
    return score(fixed, moving, transform, moved, np.ones(fixed.image.shape, bool))


@pytest.mark.parametrize("dense", [False, True])
def test_both_ways_by_hand(dense):
    """The map makes a moving label 12 wide as wide as the fixed image, 16; its inverse a fixed label 8 wide 4."""
    wide = Grid((40, 6, 5), affine(np.diag(SPACING), (-12, 0, 0)))
    transform = Transform.from_field(TOGETHER.displacement(wide), wide) if dense else TOGETHER
    found = scored(side(FIXED, 4, 12), side(MOVING, 2, 14), transform)
    assert found["dice_forward"] == {3: pytest.approx(2 * 8 / (8 + 16))}
    assert found["dice_inverse"] == {3: pytest.approx(2 * 4 / (12 + 4))}
    assert found["dice"] == {3: pytest.approx((2 / 3 + 1 / 2) / 2)}
    assert found["mean_dice"] == pytest.approx(7 / 12)
    assert (found["mean_dice_forward"], found["mean_dice_inverse"]) == pytest.approx((2 / 3, 1 / 2))
    assert (found["hd95_forward"][3], found["hd95_inverse"][3], found["mean_hd95"]) == pytest.approx((4, 4, 4))
    assert found["centroid"][3] == pytest.approx(0, abs=1e-6)
    assert found["inverse_residual"]["max"] <= (0.001 if dense else 1e-9)
    # landmarks at 4 and 10 of both images: by the map at 5.75 and 8.75, by its inverse at 0.5 and 12.5
    assert found["tre"]["mean"] == pytest.approx((1.75 + 1.25) / 2, abs=0.01)
    assert found["tre_inverse"]["mean"] == pytest.approx((3.5 + 2.5) / 2, abs=0.02)


@pytest.mark.parametrize("name", ["LPS", "anisotropic", "permuted", "oblique"])
def test_labels_are_carried_back_onto_the_moving_grid_wherever_it_lies(name):
    grid = Grid((14, 12, 10), AFFINES[name])
    centre = grid.centre
    turn = Transform.linear(
        affine(np.eye(3), centre + np.array([4, -2, 3]))
        @ affine(rotation(0.2, -0.1, 0.3) * 1.1, (0, 0, 0))
        @ affine(np.eye(3), -centre)
    )
    wave = 0.8 * np.sin(grid.coordinates() / 5)
    transform = Transform.from_field(wave, grid).then(turn)
    labels = np.random.default_rng(0).integers(0, 4, grid.shape).astype(np.uint8)
    labels[:3], labels[:, :, 7:] = 0, 0
    fixed = Image(labels, grid.affine)
    there = AFFINES["RAS"].copy()
    there[:3, 3] = map_points(turn.matrix, centre[None])[0] - 1.5 * 11
    onto = Image(np.zeros((23, 22, 24), np.uint8), there)
    onto.array[11, 10, 12] = 1
    back, residual = carried_back(transform, fixed, onto)
    places = inverted(transform, onto.grid.coordinates().reshape(-1, 3))
    voxels = np.rint(map_points(np.linalg.inv(grid.affine), places)).astype(int)
    inside = ((voxels >= 0) & (voxels < grid.shape)).all(1)
    # At the border of the box in which the field acts, no place leads to some.
    inside &= np.linalg.norm(transform.apply_points(places) - onto.grid.coordinates().reshape(-1, 3), axis=1) <= 0.15
    expected = np.where(inside, labels[tuple(np.where(inside[:, None], voxels, 0).T)], 0).reshape(onto.shape)
    assert (expected != 0).sum() > 300
    np.testing.assert_array_equal(back.array, expected)
    assert back.array.dtype == np.uint8
    assert residual["max"] <= 0.15
    assert residual["mean"] <= 2e-3
    soft = Image((labels[..., None] == [1, 2, 3]).astype(np.float32), grid.affine)
    channels, _ = carried_back(transform, soft, Image(np.zeros((*onto.shape, 3), np.float32), there))
    assert channels.array.shape == (*onto.shape, 3)
    assert 0.5 < channels.array.max() <= 1


def test_the_residual_tells_where_a_field_folds():
    vectors = np.random.default_rng(0).normal(0, 4, (*FIXED.shape, 3))
    folding = Transform.from_field(vectors, FIXED)
    found = scored(side(FIXED, 4, 12), side(FIXED, 4, 12), folding)
    assert found["inverse_residual"]["max"] > 0.1


def test_a_field_that_nearly_folds_is_inverted_where_plain_iteration_stops():
    """Stretched elevenfold at once, u = 10 x there; x <- x - (T(x) - y) diverges, halved steps crawl."""
    grid = Grid((41, 5, 5), np.eye(4))
    places = grid.coordinates()[..., 0]
    vectors = np.zeros((*grid.shape, 3))
    vectors[..., 0] = np.clip(10 * (places - 20), -15, 15)
    steep = Transform.from_field(vectors, grid)
    goal = np.array([[y, 2, 2] for y in (5.5, 12, 19.3, 20, 26, 34)], float)
    back = inverted(steep, goal)
    np.testing.assert_allclose(steep.apply_points(back), goal, atol=1e-3)
    np.testing.assert_allclose(back[1:5, 0], 20 + (goal[1:5, 0] - 20) / 11, atol=1e-3)


def test_a_slice_is_not_carried_back_into_a_volume():
    one = Grid((16, 6, 1), FIXED.affine)
    labels = np.zeros(one.shape, np.uint8)
    labels[4:12, 1:4] = 3
    fixed = Side(Image(labels.astype(np.float32), one.affine), Image(labels, one.affine))
    found = scored(fixed, side(MOVING, 4, 12), Transform.linear(affine(np.eye(3), (0, 0, 1.5))))
    assert found["dice"] == {3: 1}
    assert "dice_inverse" not in found


@pytest.mark.parametrize("stop", [0, 14])
def test_no_label_in_common(stop):
    found = scored(side(FIXED, 0, 0), side(MOVING, 2 * bool(stop), stop), TOGETHER)
    assert found["dice"] == {}
    assert np.isnan(found["mean_dice"])
    assert "dice_inverse" not in found


def test_distances_are_means_over_the_labels_that_both_scores_have():
    def overlaps(lost):
        distances = {1: 2.0, 2: np.nan if lost else 6.0}
        return {"dice": {1: 0.5, 2: 0.0}, "hd95": distances, "centroid": distances, "mean_hd95": 2.0 if lost else 4.0}

    before = both_ways(overlaps(False), overlaps(False))
    after = both_ways(overlaps(True), overlaps(False))
    assert np.isnan(after["hd95"][2])
    found = over_same_labels(before, after)
    for when in ("before", "after"):
        for key in ("mean_hd95", "mean_hd95_forward", "mean_hd95_inverse", "mean_centroid"):
            assert found[when][key] == 2


@pytest.mark.parametrize(("squeezed", "stretched", "told"), [(0.02, 0.0, 0), (0.29, 0.02, 1), (0.0, 0.05, 1)])
def test_warns_of_labels_that_are_drawn_together(squeezed, stretched, told):
    scores = {"before": {"ncc": 0.5}, "after": {"ncc": 0.6}}
    found = doubts(scores, STILL | {"squeezed": squeezed, "stretched": stretched})
    assert len(found) == told
    if squeezed > 0.2:
        assert found[0].startswith(
            "Of the label voxels 29 % are squeezed (Jacobian below 0.3) and 2 % stretched (above 3)"
        )


@pytest.mark.parametrize(("low", "high", "told"), [(0.021, 5.9, 0), (0.006, 1.2, 1), (0.5, 7.0, 1), (-0.1, 1.0, 1)])
def test_warns_of_volumes_that_are_nowhere_real(low, high, told):
    scores = {"before": {"ncc": 0.5}, "after": {"ncc": 0.6}}
    found = doubts(scores, STILL | {"min": low, "max": high})
    assert found == [f"The Jacobian goes from {low:g} to {high:g}: where it is so far from 1, trust no volume."] * told
