import functools

import numpy as np
import pytest
from keras import ops
from loss_cases import KINDS, images, value
from scipy.ndimage import gaussian_filter
from tensors import array, check_gradient, run, tensor

from regzoo import backend, losses
from regzoo.errors import InvalidError

pytestmark = pytest.mark.backend

ANY_CONTRAST = [losses.ncc, losses.lncc, losses.mi, losses.nmi, losses.mind]
MULTIMODAL = [losses.mi, losses.nmi, losses.mind]


def textures(shape, seed=0):
    """Returns a smooth random image with values from 0 to 1."""
    image = gaussian_filter(np.random.default_rng(seed).normal(size=shape), (0, *[1.5] * (len(shape) - 2), 0))
    return (image - image.min()) / np.ptp(image)


@pytest.mark.parametrize("loss", KINDS["image"].values())
@pytest.mark.parametrize("shape", [(2, 9, 7, 3), (2, 6, 9, 7, 2)])
def test_range_match_and_symmetry(loss, shape):
    fixed, moved = images(shape)
    match, unlike = value(loss, fixed, fixed), value(loss, fixed, moved)
    assert unlike.shape == (2,)
    assert (unlike > match + 0.01).all()
    np.testing.assert_allclose(unlike, value(loss, moved, fixed), rtol=1e-4)
    if loss is losses.mi:
        assert ((match > -np.log(23)) & (unlike < 0)).all()
    elif loss is losses.nmi:
        assert ((match > 0) & (match < 0.9) & (unlike < 1)).all()
    else:
        np.testing.assert_allclose(match, 0, atol=1e-5)
        assert loss is losses.ssd or (unlike <= 1).all()


@pytest.mark.parametrize("loss", ANY_CONTRAST)
@pytest.mark.parametrize(("scale", "shift"), [(-1, 0), (3, -7), (-0.01, 5), (1e-6, 0), (1000, 30000), (-400, 1e5)])
def test_contrast_and_offset_do_not_matter(loss, scale, shift):
    fixed, moved = images((2, 8, 9, 1))
    expected, match = value(loss, fixed, moved), value(loss, fixed, fixed)
    np.testing.assert_allclose(value(loss, fixed, scale * moved + shift), expected, atol=2e-3)
    np.testing.assert_allclose(value(loss, scale * fixed + shift, moved), expected, atol=2e-3)
    np.testing.assert_allclose(value(loss, fixed, scale * fixed + shift), match, atol=2e-3)


@pytest.mark.parametrize("loss", KINDS["image"].values())
@pytest.mark.parametrize("dims", [2, 3])
def test_a_match_is_the_least_of_all_shifts(loss, dims):
    fixed = textures((1, *(16, 14, 12)[:dims], 1))
    moving = fixed if loss in (losses.ssd, losses.ncc, losses.lncc) else np.sin(3.2 * fixed) + 0.1 * fixed
    at = {shift: value(loss, fixed, np.roll(moving, shift, axis=(1, 2)))[0] for shift in np.ndindex(4, 4)}
    match = at.pop((0, 0))
    assert match < min(at.values()) - 0.02 * (max(at.values()) - match)


@pytest.mark.parametrize("loss", [losses.mi, losses.nmi])
def test_information_is_the_same_whatever_the_levels_are_called(loss):
    random = np.random.default_rng(1)
    fixed = random.integers(0, 12, size=(2, 9, 8, 1))
    moved = (fixed + random.integers(0, 3, size=fixed.shape)) % 12
    fixed[:, 0, :2, 0] = moved[:, 0, :2, 0] = 0, 11  # every image has the lowest and the highest level
    names = random.permutation(12)
    settings = {"num_bins": 12, "sigma_ratio": 0.15}  # a Gaussian that stays in its bin
    expected = value(loss, fixed, moved, **settings)
    np.testing.assert_allclose(value(loss, fixed, names[moved], **settings), expected, rtol=1e-4)
    counts = [np.histogram2d(f.ravel(), m.ravel(), 12)[0] / f.size for f, m in zip(fixed, moved, strict=True)]
    if loss is losses.mi:
        plain = [-np.nansum(p * np.log(np.where(p > 0, p, 1) / np.outer(p.sum(1), p.sum(0)))) for p in counts]
        np.testing.assert_allclose(expected, plain, rtol=1e-4)


def test_information_of_related_and_unrelated_levels():
    pair = np.broadcast_to([0.0, 1.0], (1, 6, 2))[..., None]
    exact = {"num_bins": 2, "sigma_ratio": 0.1}
    np.testing.assert_allclose(value(losses.mi, pair, 5 - 2 * pair, **exact), -np.log(2), rtol=1e-5)
    np.testing.assert_allclose(value(losses.nmi, pair, 5 - 2 * pair, **exact), 0, atol=1e-5)
    across = np.broadcast_to(np.array([0.0, 1.0] * 3)[None, :, None, None], pair.shape)
    np.testing.assert_allclose(value(losses.mi, pair, across, **exact), 0, atol=1e-5)
    np.testing.assert_allclose(value(losses.nmi, pair, across, **exact), 1, atol=1e-5)


@pytest.mark.parametrize("loss", MULTIMODAL)
def test_a_monotone_change_of_contrast_costs_little(loss):
    fixed = textures((1, 12, 11, 10, 1))
    unlike = value(loss, fixed, textures(fixed.shape, seed=1))
    match = value(loss, fixed, fixed)
    assert (value(loss, fixed, 1 - fixed**2) - match) / (unlike - match) < 0.35


def test_shared_background_is_no_match():
    random = np.random.default_rng(0)
    fixed, moved = np.zeros((2, 1, 24, 24, 1))
    fixed[0, 8:14, 8:14, 0], moved[0, 8:14, 8:14, 0] = random.normal(size=(2, 6, 6))
    assert value(losses.lncc, fixed, moved, size=5)[0] > 0.6
    tight = (slice(None), slice(3, 19), slice(3, 19))  # what the patches around the square reach
    near, far = (value(losses.mind, *pair)[0] for pair in ((fixed[tight], moved[tight]), (fixed, moved)))
    assert far > 0.97 * near > 0.02
    moved[:] = 0
    moved[0, 16:22, 16:22, 0] = random.normal(size=(6, 6))
    assert value(losses.lncc, fixed, moved, size=3)[0] > 0.95


@pytest.mark.parametrize(
    ("loss", "level_in_both", "level_in_one"),
    [(losses.ncc, 1, 1), (losses.lncc, 1, 1), (losses.mi, 0, 0), (losses.nmi, 1, 1), (losses.mind, 1, None)],
)
@pytest.mark.parametrize("level", [0.0, 0.7, 1e-8, 10000.3, -123456.7])
def test_a_constant_image_is_no_match(loss, level, level_in_both, level_in_one):
    constant, image = np.full((1, 7, 8, 9, 1), level), images((1, 7, 8, 9, 1))[0]
    for pair in ((constant, constant), (image, constant), (constant, image)):
        total = functools.partial(run, _total, loss=loss)
        result, gradient = backend.value_and_grad(total)(tensor(pair))
        expected = level_in_both if pair[0] is pair[1] else level_in_one
        assert array(result) > 0.1 if expected is None else array(result) == pytest.approx(expected, abs=1e-3)
        assert np.isfinite(array(gradient)).all()


def _total(pair, loss):
    return ops.sum(loss(pair[0], pair[1]))


@pytest.mark.parametrize("name", ["mi", "mind", "lncc"])
def test_axes_of_one_or_two_voxels(name):
    fixed, moved = images((1, 9, 1, 2, 1))
    found = value(KINDS["image"][name], fixed, moved)
    assert np.isfinite(found).all()
    assert found > value(KINDS["image"][name], fixed, fixed)


@pytest.mark.parametrize(
    ("loss", "settings", "message"),
    [
        (losses.mi, {"num_bins": 1}, r"num_bins: expected at least 2, received 1\."),
        (losses.nmi, {"sigma_ratio": 0}, r"sigma_ratio: expected a number above 0, received 0\."),
        (losses.mind, {"radius": 0}, r"radius: expected at least 1 voxel, received 0\."),
        (losses.mind, {"dilation": -1}, r"dilation: expected at least 1 voxel, received -1\."),
        (losses.lncc, {"size": 4}, r"size: expected an odd number"),
    ],
)
def test_settings_that_mean_nothing_are_refused(loss, settings, message):
    image = tensor(np.zeros((1, 4, 5, 1)))
    with pytest.raises(InvalidError, match=message):
        loss(image, image, **settings)


def half_mask(shape, seed=3):
    return (np.random.default_rng(seed).uniform(size=(*shape[:-1], 1)) < 0.5).astype("float64")


@pytest.mark.parametrize("loss", KINDS["image"].values())
@pytest.mark.parametrize("shape", [(2, 8, 9, 2), (2, 5, 6, 7, 1)])
def test_a_mask_of_ones_is_none(loss, shape):
    pair = images(shape)
    np.testing.assert_allclose(value(loss, *pair, np.ones((*shape[:-1], 1))), value(loss, *pair), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("loss", KINDS["image"].values())
def test_one_mask_is_for_all_images_of_a_batch(loss):
    pair = images((2, 5, 6, 7, 1))
    mask = half_mask((1, 5, 6, 7, 1))
    np.testing.assert_allclose(value(loss, *pair, mask), value(loss, *pair, np.repeat(mask, 2, axis=0)), rtol=1e-5)


@pytest.mark.parametrize("loss", [losses.ssd, losses.ncc, losses.mi, losses.nmi])
def test_what_a_mask_leaves_out_is_as_if_it_were_not_there(loss):
    pair = images((1, 6, 7, 8, 1))
    mask = half_mask(pair[0].shape)
    inside = [image[mask > 0].reshape(1, 1, -1, 1) for image in pair]
    outside = [np.where(mask > 0, image, 50 * image) for image in pair]
    np.testing.assert_allclose(value(loss, *outside, mask), value(loss, *inside), rtol=1e-3)


def test_a_masked_window_looks_beyond_the_mask():
    """The border of an organ, which a mask ends at, says where it lies: windows are weighed by their centre."""
    fixed, moved = images((1, 9, 9, 1))
    mask = np.zeros((1, 9, 9, 1))
    mask[:, 3:6, 3:6] = 1
    near, far = np.array(moved), np.array(moved)
    near[:, 2, 3:6] *= 5  # within reach of the windows of 5 voxels around the mask's
    far[:, 0] *= 5
    # The image's variance inside the mask, which the floor is relative to, is the same in all three.
    inside, moved_near, moved_far = (value(losses.lncc, fixed, m, mask, size=5)[0] for m in (moved, near, far))
    assert moved_far == pytest.approx(inside, rel=1e-6)
    assert abs(moved_near - inside) > 0.01


def test_a_mask_chooses_where_self_similarity_is_compared():
    fixed = textures((1, 24, 20, 1))
    moved = np.where(np.arange(20)[None, None, :, None] < 10, fixed, textures((1, 24, 20, 1), seed=4))
    mask = np.zeros((1, 24, 20, 1))
    mask[:, :, :5] = 1
    assert value(losses.mind, fixed, moved, mask)[0] < 0.02 < value(losses.mind, fixed, moved)[0] / 3
    assert value(losses.mind, fixed, moved, 1 - mask)[0] > value(losses.mind, fixed, moved)[0]


@pytest.mark.parametrize("loss", [losses.ssd, losses.ncc, losses.lncc, losses.mind])
def test_gradients_through_a_mask(loss):
    fixed, moved = textures((1, 7, 8, 1)), textures((1, 7, 8, 1), seed=2)
    mask = half_mask(fixed.shape)
    mask[:, :3] = 0  # also where windows hold nothing
    check_gradient(lambda x: ops.sum(loss(tensor(fixed), x, tensor(mask))), moved, step=1e-3, tolerance=3e-2)


@pytest.mark.parametrize("loss", [losses.mi, losses.nmi])
def test_gradients_of_information_through_a_mask(loss):
    fixed, moved = textures((1, 7, 8, 1)), textures((1, 7, 8, 1), seed=2)
    span = np.array([-0.5, 1.5]).repeat(8).reshape(1, 2, 8, 1)  # holds the span of the bins, a constant of gradients
    mask = np.concatenate([half_mask(fixed.shape), np.ones_like(span)], axis=1)
    whole = lambda x: ops.concatenate([x, tensor(span)], axis=1)  # noqa: E731
    check_gradient(lambda x: ops.sum(loss(whole(tensor(fixed)), whole(x), tensor(mask))), moved, 1e-3, tolerance=3e-2)


def test_a_background_of_very_many_voxels_is_counted_rightly():
    random = np.random.default_rng(0)
    fixed, moved = random.uniform(size=(2, 1, 8, 8, 1))
    fixed[0, 1:, :5] = moved[0, :6, 2:] = 0.337  # neither the least value nor on a place of the histogram
    many = [np.tile(image, (1, 1, 2**15, 1)) for image in (fixed, moved)]
    for mask in ([], [np.full(many[0].shape, 0.1)]):  # a long sum of tenths drifts
        np.testing.assert_allclose(value(losses.mi, *many, *mask), value(losses.mi, fixed, moved), rtol=1e-4)


def test_nothing_inside_a_mask_is_no_match():
    pair = images((1, 8, 9, 1))
    for loss in (losses.ncc, losses.lncc, losses.mind):
        np.testing.assert_allclose(value(loss, *pair, np.zeros((1, 8, 9, 1))), 1, atol=1e-3)
    for loss, none in ((losses.ssd, 0), (losses.mi, 0), (losses.nmi, 1)):
        np.testing.assert_allclose(value(loss, *pair, np.zeros((1, 8, 9, 1))), none, atol=1e-3)
