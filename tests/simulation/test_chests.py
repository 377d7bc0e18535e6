import numpy as np
import phantom
import pytest

from regzoo.errors import InvalidError
from regzoo.simulation import chests
from regzoo.world.images import Image
from regzoo.world.resampling import sample_points

SPACING, SHAPE = (8.0, 7.0, 9.0), (38, 31, 35)


@pytest.fixture(scope="module", params=[np.eye(3), np.diag([-1.0, -1.0, 1.0])], ids=["RAS", "LPS"])
def prepared(request):
    ct, lungs = phantom.chest_ct(phantom.grid_at(axes=request.param))
    return chests.prepare(ct, lungs, SPACING, SHAPE), ct


def maps_at(prepared, *points):
    places = Image(prepared.maps, prepared.grid.affine)
    return sample_points(places, np.array(points, dtype="float64"), outside="edge")


def test_arrays_have_the_shapes_that_the_grid_gives_them(prepared):
    found, _ = prepared
    assert found.network.shape == SHAPE
    assert found.maps.shape == (*found.grid.shape, 4)
    assert found.image.shape[:3] == tuple(round(1.5 * n) for n in found.grid.shape)
    np.testing.assert_allclose(found.network.centre, found.grid.centre)
    assert np.abs(found.network.centre - (0, 0, 17)).max() <= 5
    np.testing.assert_allclose(found.half, (113, 58, 87), atol=5)


def test_image_lies_where_the_scan_lies(prepared):
    found, ct = prepared
    affine = found.grid.affine @ np.diag([1 / 1.5, 1 / 1.5, 1 / 1.5, 1])
    affine[:3, 3] = found.grid.affine[:3, 3] - found.grid.spacing * (0.5 - 0.5 / 1.5)
    points = np.array([(-65, 0, 0), (65, 20, 40), (0, 30, 0), (0, -70, 50), (0, 90, 0), (-65, 0, -80)], dtype="float64")
    seen = sample_points(Image(found.image, affine), points)
    np.testing.assert_allclose(seen[:, 0], sample_points(ct, points), atol=60)
    np.testing.assert_allclose(seen[:, 1], [1, 1, 0, 0, 0, 0], atol=0.02)


def test_image_goes_on_beyond_the_scan(prepared):
    found, ct = prepared
    low = ct.grid.box()[:, 2].min()
    np.testing.assert_allclose(found.scan, (low, -low), atol=2.5)
    below = sample_points(Image(found.maps[..., 0], found.grid.affine), np.array([[0, 0, low - 30.0]]))
    np.testing.assert_allclose(below, 1)


def test_body_moves_and_what_is_far_outside_does_not(prepared):
    body = maps_at(prepared[0], (0, 0, 0), (0, 70, -60), (0, 135, 0), (0, -140, 0), (-180, 0, 0))[:, 0]
    np.testing.assert_allclose(body, (1, 1, 0, 0, 0), atol=1e-6)


def test_lungs_heart_and_belly_slide_and_spine_and_ribs_do_not(prepared):
    inside = maps_at(prepared[0], (-65, 0, 0), (65, 20, 40), (0, 20, 0), (-60, 10, -120))
    outside = maps_at(prepared[0], (0, -70, 0), (0, -70, 40), (0, -75, -100), (128, 0, 3), (-128, 0, 33), (0, 95, 0))
    assert inside[:, 1].min() > 0.95
    assert outside[:, 1].max() < 0.05
    assert inside[:, 2].min() > 0.8
    assert outside[:, 2].max() < 0.05
    wall = maps_at(prepared[0], (-65, 0, 0), (-95, 0, 0), (-108, 0, 0))[:, 2]
    assert (np.diff(wall) < -0.1).all()


def test_height_runs_from_diaphragm_to_apex(prepared):
    heights = maps_at(prepared[0], (65, 0, -110), (65, 0, -47), (65, 0, 30), (-65, 0, 103))[:, 3]
    assert heights[0] < -0.2
    np.testing.assert_allclose(heights[1], 0, atol=0.12)
    np.testing.assert_allclose(heights[2], 0.5, atol=0.12)
    np.testing.assert_allclose(heights[3], 1, atol=0.05)


def test_mask_on_another_grid_is_an_error():
    ct, lungs = phantom.chest_ct(phantom.grid_at(spacing=(8.0, 8.0, 9.0), shape=(40, 31, 35)))
    with pytest.raises(InvalidError, match="lungs: expected a mask on the CT's grid"):
        chests.prepare(ct, Image(lungs.array, np.eye(4)), SPACING, SHAPE)
    with pytest.raises(InvalidError, match="mask: expected a mask that is not empty"):
        chests.prepare(ct, Image(np.zeros_like(lungs.array), ct.affine), SPACING, SHAPE)
