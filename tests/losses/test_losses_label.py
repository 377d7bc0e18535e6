import numpy as np
import pytest
from keras import ops
from loss_cases import KINDS, value
from tensors import array, grid, run, tensor

from regzoo import backend, losses
from regzoo.errors import InvalidError

pytestmark = pytest.mark.backend

OVERLAPS = [losses.dice, losses.jaccard, losses.cross_entropy, losses.label_ssd]
SCALES = (0, 1, 2, 4, 8, 16)


def label_maps():
    """Four voxels by two, three labels: half overlap, none in both, only in one; the second item is empty."""
    fixed, moved = np.zeros((2, 2, 4, 2, 3))
    fixed[0, :2, :, 0] = moved[0, 1:3, :, 0] = 1
    fixed[0, 0, 0, 2] = 1
    return fixed, moved


def ball(shape, radius, centre):
    return (np.linalg.norm(grid(shape) - centre, axis=-1) < radius).astype(float)[None, ..., None]


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        # Label 0 overlaps in 2 of 4 + 4 voxels, label 1 is nowhere and left out, label 2 is in one map only.
        (losses.dice, ((1 - 4 / 8) + 1) / 2),
        (losses.jaccard, ((1 - 2 / 6) + 1) / 2),
        (losses.label_ssd, (4 / 8 + 1 / 8) / 2),
        (losses.cross_entropy, np.log(10001) * (4 / 8 + 1 / 8) / 2 / 2),
    ],
)
def test_overlaps_against_hand_counts(loss, expected):
    fixed, moved = label_maps()
    np.testing.assert_allclose(value(loss, fixed, moved), [expected, 0], rtol=1e-4)
    np.testing.assert_allclose(value(loss, fixed, fixed), [0, 0], atol=1e-6)
    np.testing.assert_allclose(array(loss(fixed.astype("uint8"), tensor(moved)))[0], expected, rtol=1e-4)


def test_cross_entropy_weighs_background_against_label():
    fixed, moved = label_maps()
    missed, added = (value(losses.cross_entropy, fixed, moved, background_weight=w)[0] for w in (0, 1))
    np.testing.assert_allclose([missed, added], np.log(10001) * np.array([3 / 16, 2 / 16]), rtol=1e-4)


@pytest.mark.parametrize("loss", [losses.dice, losses.jaccard, losses.label_ssd])
@pytest.mark.parametrize("kernel", ["gaussian", "cauchy"])
@pytest.mark.parametrize("scale", [0, 2, 16])
def test_a_match_of_blurred_labels_is_0_and_no_other_size_or_place_is_less(loss, kernel, scale):
    shape, middle = (17, 16, 15), np.array([8, 7.5, 7])
    fixed, settings = ball(shape, 4, middle), {"scales": (scale,), "kernel": kernel}
    np.testing.assert_allclose(value(loss, fixed, fixed, **settings), 0, atol=1e-6)
    others = [ball(shape, radius, middle) for radius in (3, 5, 6)] + [ball(shape, 4, middle + 1)]
    found = [value(loss, fixed, other, **settings)[0] for other in others]
    assert min(found) > 1e-9
    assert found[1] < found[2]  # further off is worse


def test_coarse_scales_pull_labels_that_do_not_touch():
    fixed, (near, far) = ball((24, 9, 8), 3, 4), (ball((24, 9, 8), 3, (place, 4, 4)) for place in (12, 18))
    for loss in (losses.dice, losses.jaccard):
        np.testing.assert_allclose([value(loss, fixed, moved)[0] for moved in (near, far)], 1)
        assert value(loss, fixed, near, scales=SCALES)[0] < value(loss, fixed, far, scales=SCALES)[0] - 0.05


def test_the_loss_is_the_mean_over_scales():
    fixed, moved = np.random.default_rng(2).random((2, 2, 9, 8, 2))
    one = [value(losses.dice, fixed, moved, scales=(scale,)) for scale in (0, 2)]
    np.testing.assert_allclose(value(losses.dice, fixed, moved, scales=(0, 2)), np.mean(one, 0), rtol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_centroid_in_millimetres(dims):
    shape, spacing = (12, 14, 13)[:dims], (2.0, 0.5, 3.0)[:dims]
    fixed, moved = np.zeros((2, 2, *shape, 3))
    box, shifted = ((slice(3, 6), slice(2, 7), slice(1, 3))[:dims], (slice(5, 8), slice(6, 11), slice(2, 4))[:dims])
    fixed[(0, *box, 0)] = moved[(0, *shifted, 0)] = 1
    fixed[(0, *box, 1)] = 1  # in one map only: left out
    expected = np.linalg.norm((np.array([2, 4, 1]) * (2.0, 0.5, 3.0))[:dims])
    np.testing.assert_allclose(value(losses.centroid, fixed, moved, spacing=spacing), [expected, 0], rtol=1e-5)
    found = value(losses.centroid, 0.3 * fixed, 0.9 * moved, spacing=spacing)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # the mass does not matter
    np.testing.assert_allclose(value(losses.centroid, fixed, fixed)[0], 0, atol=2e-3)


@pytest.mark.parametrize("loss", KINDS["label"].values())
@pytest.mark.parametrize("case", ["match", "fixed only", "moved only", "neither"])
def test_gradients_are_finite_where_a_label_matches_or_is_missing(loss, case):
    labels = np.random.default_rng(4).integers(0, 2, size=(1, 5, 6, 4, 2)).astype(float)
    fixed = labels if case in ("match", "fixed only") else 0 * labels
    moved = labels if case in ("match", "moved only") else 0 * labels
    total, gradient = backend.value_and_grad(lambda x: ops.sum(run(loss, tensor(fixed), x)))(tensor(moved))
    assert np.isfinite(array(total))
    assert np.isfinite(array(gradient)).all()
    if case == "neither":
        assert (array(total), np.abs(array(gradient)).max()) == (0, 0)


@pytest.mark.parametrize("loss", KINDS["label"].values())
def test_a_label_that_neither_map_has_changes_nothing(loss):
    fixed, moved = np.random.default_rng(3).random((2, 2, 6, 5, 2))
    expected = value(loss, fixed, moved)
    fixed, moved = (np.concatenate([x, np.zeros((2, 6, 5, 3))], axis=-1) for x in (fixed, moved))
    np.testing.assert_allclose(value(loss, fixed, moved), expected, rtol=1e-5)


@pytest.mark.parametrize("loss", OVERLAPS)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scales": ()}, r"scales: expected at least one width in voxels, received \(\)\."),
        ({"scales": (-1,)}, r"sigma: expected a width in voxels of at least 0, received -1\."),
        ({"scales": (1,), "kernel": "gausian"}, r"Unknown kernel 'gausian'\. Did you mean 'gaussian'\?"),
    ],
)
def test_scales_that_mean_nothing_are_refused(loss, settings, message):
    labels = tensor(np.zeros((1, 4, 5, 1)))
    with pytest.raises(InvalidError, match=message):
        loss(labels, labels, **settings)


def test_other_settings_that_mean_nothing_are_refused():
    labels = tensor(np.zeros((1, 4, 5, 1)))
    with pytest.raises(InvalidError, match=r"background_weight: expected a number from 0 to 1, received 1\.5\."):
        losses.cross_entropy(labels, labels, background_weight=1.5)
    with pytest.raises(InvalidError, match=r"spacing: expected 2 values in millimetres, received \[1\.0\]\."):
        losses.centroid(labels, labels, spacing=(1.0,))
