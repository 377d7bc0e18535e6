import numpy as np
import pytest
from scipy import ndimage
from tensors import array, tensor

from regzoo.errors import InvalidError
from regzoo.ops.filters import (
    along_axes,
    blur,
    blur_matrix,
    difference,
    forward_difference,
    shift,
    smooth,
    window_matrix,
)

pytestmark = pytest.mark.backend

RANDOM = np.random.default_rng(3)
IMAGES = [RANDOM.normal(size=(2, 7, 4, 3)), RANDOM.normal(size=(2, 4, 7, 5, 2))]
# Weights of a window 5 wide, by hand; the Gaussian has a standard deviation of 5/6 voxels.
WEIGHTS = {"box": [1, 1, 1, 1, 1], "triangular": [1, 2, 3, 2, 1], "gaussian": np.exp(-0.72 * np.array([4, 1, 0, 1, 4]))}


def windowed_mean(x, weights):
    """Averages over the voxels that lie inside, voxel by voxel."""
    half = len(weights) // 2
    out = np.empty_like(x)
    for place in np.ndindex(*x.shape[1:-1]):
        total, sum_of_weights = 0, 0
        for step in np.ndindex(*(len(weights),) * len(place)):
            at = np.add(place, step) - half
            if (at >= 0).all() and (at < x.shape[1:-1]).all():
                weight = np.prod([weights[s] for s in step])
                total, sum_of_weights = total + weight * x[(slice(None), *at)], sum_of_weights + weight
        out[(slice(None), *place)] = total / sum_of_weights
    return out


@pytest.mark.parametrize("window", WEIGHTS)
@pytest.mark.parametrize("x", IMAGES, ids=["2d", "3d"])
def test_smooth_averages_the_window_inside_the_image(x, window):
    np.testing.assert_allclose(array(smooth(tensor(x), 5, window)), windowed_mean(x, WEIGHTS[window]), atol=2e-6)


def test_smooth_of_one_voxel_changes_nothing_and_of_integers_gives_means():
    for window in WEIGHTS:
        np.testing.assert_allclose(array(smooth(tensor(IMAGES[0]), 1, window)), IMAGES[0], atol=1e-6)
    found = array(smooth(np.array([0, 3, 9, 3], "uint8")[None, :, None], 3))
    np.testing.assert_allclose(found[0, :, 0], [1.5, 4, 5, 6], rtol=1e-6)


@pytest.mark.parametrize("x", IMAGES, ids=["2d", "3d"])
def test_along_axes_equals_einsum(x):
    matrices = [RANDOM.normal(size=(n, length)) for n, length in zip((3, 6, 2), x.shape[1:-1], strict=False)]
    pattern = {2: "bijc,xi,yj->bxyc", 3: "bijkc,xi,yj,zk->bxyzc"}[len(matrices)]
    expected = np.einsum(pattern, x, *matrices)
    np.testing.assert_allclose(array(along_axes(tensor(x), matrices)), expected, atol=1e-4)
    matrices[0] = None
    expected = np.einsum(pattern, x, np.eye(x.shape[1]), *matrices[1:])
    np.testing.assert_allclose(array(along_axes(tensor(x), matrices)), expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 7, 4, 3), (2, 2, 6, 3, 1)])
def test_difference_equals_numpy_gradient(shape):
    x = RANDOM.normal(size=shape)
    for axis in range(len(shape) - 2):
        np.testing.assert_allclose(array(difference(tensor(x), axis)), np.gradient(x, axis=axis + 1), atol=1e-6)


def test_difference_along_an_axis_of_one_voxel_is_zero():
    found = array(difference(tensor(RANDOM.normal(size=(2, 1, 4, 3))), 0))
    np.testing.assert_array_equal(found, np.zeros((2, 1, 4, 3)))


@pytest.mark.parametrize("shape", [(2, 7, 4, 3), (2, 1, 6, 2, 1)])
def test_forward_difference_equals_numpy_diff(shape):
    x = RANDOM.normal(size=shape)
    for axis in range(len(shape) - 2):
        expected = np.diff(x, axis=axis + 1) if shape[axis + 1] > 1 else np.zeros(shape)
        np.testing.assert_allclose(array(forward_difference(tensor(x), axis)), expected, atol=1e-6)


@pytest.mark.parametrize("step", [-2, 1, 6])
@pytest.mark.parametrize("x", IMAGES, ids=["2d", "3d"])
def test_shift_repeats_the_edge(x, step):
    for axis in range(x.ndim - 2):
        places = [min(max(i + step, 0), x.shape[axis + 1] - 1) for i in range(x.shape[axis + 1])]
        np.testing.assert_allclose(array(shift(tensor(x), axis, step)), np.take(x, places, axis + 1), rtol=1e-6)


@pytest.mark.parametrize("sigma", [0, 0.3, 1, 2, 16])
@pytest.mark.parametrize("x", IMAGES, ids=["2d", "3d"])
def test_gaussian_blur_equals_scipy(x, sigma):
    sigmas = (0, *[sigma] * (x.ndim - 2), 0)
    expected = ndimage.gaussian_filter(x, sigmas, mode="constant", radius=int(3 * sigma))
    np.testing.assert_allclose(array(blur(tensor(x), sigma)), expected, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.3, 1.5])
@pytest.mark.parametrize("x", IMAGES, ids=["2d", "3d"])
def test_cauchy_blur_equals_scipy(x, sigma):
    weights = 1 / (1 + (np.arange(-int(5 * sigma), int(5 * sigma) + 1) / sigma) ** 2)
    expected = x
    for axis in range(1, x.ndim - 1):
        expected = ndimage.correlate1d(expected, weights / weights.sum(), axis, mode="constant")
    np.testing.assert_allclose(array(blur(tensor(x), sigma, "cauchy")), expected, atol=1e-6)


@pytest.mark.parametrize("kernel", ["gaussian", "cauchy"])
def test_a_blur_keeps_the_mass_that_stays_inside(kernel):
    matrix = blur_matrix(41, 3, kernel)
    np.testing.assert_allclose(matrix[:, 20].sum(), 1)
    assert 0.5 < matrix[:, 0].sum() < 0.6


def test_blurs_that_mean_nothing_are_refused():
    with pytest.raises(InvalidError, match=r"sigma: expected a width in voxels of at least 0, received -1\."):
        blur(tensor(IMAGES[0]), -1)
    with pytest.raises(InvalidError, match=r"Unknown kernel 'box'\. Known: cauchy, gaussian\."):
        blur(tensor(IMAGES[0]), 1, "box")


@pytest.mark.parametrize("size", [4, 0, -1])
def test_window_sizes_that_have_no_centre_are_refused(size):
    with pytest.raises(InvalidError, match=rf"size: expected an odd number of voxels of at least 1, received {size}\."):
        window_matrix(8, size)


def test_unknown_window_is_refused():
    with pytest.raises(InvalidError, match=r"Unknown window 'gausian'\. Did you mean 'gaussian'\?"):
        smooth(tensor(IMAGES[0]), 3, "gausian")
