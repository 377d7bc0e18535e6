import numpy as np
import phantom
import pytest

from regzoo.errors import InvalidError
from regzoo.world import lungs, metrics
from regzoo.world.images import Image

AXES = {
    "RAS": np.eye(3),
    "LPS": np.diag([-1.0, -1.0, 1.0]),
    "permuted": np.array([[0, 0, -1.0], [1, 0, 0], [0, 1, 0]]),
}
SHAPES = {"RAS": (112, 76, 70), "LPS": (112, 76, 70), "permuted": (86, 80, 100)}


@pytest.fixture(scope="module", params=AXES)
def scan(request):
    grid = phantom.grid_at(shape=SHAPES[request.param], axes=AXES[request.param])
    ct, mask = phantom.chest_ct(grid)
    places = grid.coordinates()
    ct.array[phantom.ellipsoid(places, (40, 30, -110), (25, 25, 15))] = -980  # gas in the stomach
    return ct, mask, places


def test_lungs_are_found_in_any_orientation_and_gas_below_is_not(scan):
    ct, mask, places = scan
    found = lungs.lung_mask(ct)
    assert found.grid.same_as(ct.grid)
    assert found.array.dtype == np.uint8
    assert metrics.dice(mask.array, found.array)[1] > 0.96
    assert not found.array[places[..., 2] < -95].any()


def test_body_is_found_without_the_table(scan):
    ct, _, places = scan
    found = lungs.body_mask(ct).array > 0
    expected = phantom.body_at(places)
    assert metrics.dice(expected.astype(int), found.astype(int))[1] > 0.97
    assert not found[places[..., 1] < -104].any()


@pytest.mark.parametrize("value", [-1000.0, 0.5, 40.0])
def test_no_lungs_is_an_error(value):
    with pytest.raises(InvalidError, match=r"image: expected a chest CT in HU .*, received 0\.00 l"):
        lungs.lung_mask(Image(np.full((40, 41, 42), value, np.float32), np.diag([4, 4, 4, 1.0])))


def test_grid_lies_on_the_middle_of_the_lungs_box():
    mask = np.zeros((30, 20, 25), np.uint8)
    mask[4:9, 10:17, 3] = 1  # the middle voxel is (6, 13, 3)
    image = Image(mask, np.array([[-2.0, 0, 0, 50], [0, 0, 3.0, -7], [0, 1.5, 0, 9], [0, 0, 0, 1]]))
    grid = lungs.centred_grid(image, (4.0, 5.0, 6.0), (11, 8, 5))
    np.testing.assert_allclose(grid.affine[:3, :3], np.diag([4, 5, 6]))
    np.testing.assert_allclose(grid.centre, (50 - 2 * 6, -7 + 3 * 3, 9 + 1.5 * 13))
    with pytest.raises(InvalidError, match="mask: expected a mask that is not empty"):
        lungs.centred_grid(Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), (1.0, 1.0, 1.0), (4, 4, 4))


@pytest.mark.data
def test_lungs_of_real_scans(data_home):
    scores = []
    for path in sorted((data_home / "lung-ct" / "chest").glob("*_lungmask.nii.gz")):
        given = Image.read(path, labels=True)
        found = lungs.lung_mask(Image.read(str(path).replace("_lungmask", "")))
        scores.append(metrics.dice(given.array, found.array)[1])
        centres = [lungs.centred_grid(each, (5.0, 5.0, 5.0), (80, 64, 64)).centre for each in (given, found)]
        assert np.abs(centres[0] - centres[1]).max() <= 5
    print(np.round(scores, 4))
    assert len(scores) == 5
    assert min(scores) > 0.97
