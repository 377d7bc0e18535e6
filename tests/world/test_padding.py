"""What scanners and programs fill an image with is told from its background."""

import numpy as np
import phantom
import pytest
from scipy import ndimage

from regzoo.schema.inputs import InputConfig, WindowIntensity
from regzoo.world.images import Image
from regzoo.world.lungs import lung_mask
from regzoo.world.padding import padding, without_padding
from regzoo.world.views import view

GRID = phantom.grid_at(spacing=(5.0, 5.0, 6.0), shape=(68, 50, 44))


@pytest.fixture(scope="module")
def chest():
    ct, lungs = phantom.chest_ct(GRID)
    noise = np.random.default_rng(0).normal(0, 20, GRID.shape).astype("float32")
    return Image(np.where(ct.array == -1000, -1000, ct.array + noise).astype("float32"), GRID.affine), lungs


def outside_circle():
    i, j = np.indices(GRID.shape[:2])
    away = np.hypot((i - 33.5) / 34, (j - 24.5) / 25) > 1
    return np.repeat(away[..., None], GRID.shape[2], axis=2)


@pytest.mark.parametrize("value", [-2000.0, -3024.0, -32768.0, 0.0])
def test_a_scanner_s_circle_is_found_and_taken_for_air(chest, value):
    ct, _ = chest
    where = outside_circle()
    given = Image(np.where(where, value, ct.array), ct.affine)
    np.testing.assert_array_equal(padding(given), where)
    clean = without_padding(given)
    np.testing.assert_array_equal(clean.array[~where], given.array[~where])
    assert -1100 < clean.array[where].min() == clean.array[where].max() <= -850


def test_zero_in_the_corners_alone_is_found_where_nearly_all_is_darker_than_tissue(chest):
    ct, _ = chest
    i, j = np.indices(GRID.shape[:2])
    corners = np.repeat((np.hypot((i - 33.5) / 34, (j - 24.5) / 25) > 1.3)[..., None], GRID.shape[2], axis=2)
    given = np.where(corners, 0.0, np.where(ct.array > 45, ct.array / 10 + 40, ct.array)).astype("float32")
    given[20:30, 20:30, 10:20] = 400  # bone: 2.7 % of the voxels
    assert np.percentile(given, 95) < 60
    np.testing.assert_array_equal(padding(Image(given, ct.affine)), corners)


def test_what_interpolation_left_beside_dark_padding_is_padding_too(chest):
    ct, _ = chest
    given = ndimage.uniform_filter(np.where(outside_circle(), -3024.0, ct.array), (3, 3, 1)).astype("float32")
    assert without_padding(Image(given, ct.affine)).array.min() >= -1050


def test_background_is_no_padding(chest):
    ct, lungs = chest
    brain = np.where(lungs.array > 0, 100 + ct.array / 50, 0)
    for array in (ct.array, brain, 255 - brain, lungs.array, np.zeros(GRID.shape), ct.array * 0 + ct.array.mean()):
        assert padding(Image(array, ct.affine)) is None
    centred = np.where(lungs.array > 0, brain - brain[lungs.array > 0].mean(), 0)
    np.testing.assert_array_equal(
        padding(Image(centred, ct.affine)), ndimage.binary_dilation(lungs.array == 0) & (lungs.array == 0)
    )


def test_the_same_value_inside_the_body_is_anatomy(chest):
    ct, _ = chest
    given = np.where(outside_circle(), 0.0, ct.array)
    given[30:34, 20:24, 20:24] = 0
    assert not padding(Image(given, ct.affine))[30:34, 20:24, 20:24].any()


def test_a_network_sees_air_and_lungs_in_a_padded_ct(chest):
    ct, _ = chest
    config = InputConfig(spacing=(10, 10, 10), shape=(32, 24, 24), intensity=WindowIntensity(low=-1000, high=200))
    given = Image(np.where(outside_circle(), 0.0, ct.array), ct.affine)
    seen, bare = view(given, config).image, view(ct, config).image
    assert np.abs(seen - bare).max() < 0.35
    assert np.abs(seen - bare).mean() < 0.01
    assert (lung_mask(without_padding(given)).array == lung_mask(ct).array).mean() > 0.999


def test_two_corners_of_one_value_by_chance_are_anatomy():
    values = np.random.default_rng(0).integers(1, 60, (30, 40, 20)).astype("float32")  # each of them in 1.7 %
    for corner in ((0, 0, 0), (0, 0, -1), (-1, -1, 0)):
        values[corner] = 30
    crop = Image(values, np.eye(4))
    assert padding(crop) is None
    assert without_padding(crop) is crop


def test_a_value_that_goes_over_into_others_is_no_padding():
    """As a dark corner of a heart's outermost slices, of grey values in whole numbers."""
    i, j, _ = np.indices((40, 44, 6))
    away = np.clip(np.hypot(i, j) - 8, 0, None) // 2
    values = 30 + away * np.where(i > j, 1, -1)  # 30 in two corners, 31 and 29 around it, to 53 and 7
    assert 0.03 < (values == 30).mean() < 0.1
    assert padding(Image(values.astype("float32"), np.eye(4))) is None
