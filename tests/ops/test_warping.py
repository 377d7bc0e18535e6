import numpy as np
import pytest
from keras import ops
from scipy.ndimage import map_coordinates
from tensors import array, check_gradient, grid, run, tensor

from regzoo import backend
from regzoo.errors import InvalidError
from regzoo.ops.warping import sample, warp

pytestmark = pytest.mark.backend

RANDOM = np.random.default_rng(7)
SHAPES = [((9, 6), (5, 8)), ((7, 10, 5), (4, 6, 9))]  # moving, fixed
SCIPY = {"edge": "nearest", "zero": "grid-constant"}


def scipy_sample(image, coordinates, boundary, method):
    order = {"linear": 1, "nearest": 0}[method]
    items = [
        [map_coordinates(channel, np.moveaxis(at, -1, 0), order=order, mode=SCIPY[boundary]) for channel in item]
        for item, at in zip(np.moveaxis(image, -1, 1), coordinates, strict=True)
    ]
    return np.moveaxis(np.array(items), 1, -1)


@pytest.mark.parametrize("boundary", ["edge", "zero"])
@pytest.mark.parametrize(("moving", "fixed"), SHAPES)
def test_ramp(moving, fixed, boundary):
    dims = len(moving)
    slopes = RANDOM.normal(size=(2, dims, 3))  # items, axes, channels
    image = np.einsum("...d,bdc->b...c", grid(moving), slopes) + 5
    target = RANDOM.uniform(0, np.array(moving) - 1, size=(2, *fixed, dims))
    moved = run(warp, tensor(image), tensor(target - grid(fixed)), boundary=boundary)
    expected = np.einsum("b...d,bdc->b...c", target, slopes) + 5
    np.testing.assert_allclose(array(moved), expected, atol=2e-5)


@pytest.mark.parametrize("method", ["linear", "nearest"])
@pytest.mark.parametrize("boundary", ["edge", "zero"])
@pytest.mark.parametrize("moving", [shapes[0] for shapes in SHAPES])
def test_sample_equals_scipy(moving, boundary, method):
    dims, last = len(moving), np.array(moving) - 1
    image = RANDOM.normal(size=(2, *moving, 3)).astype("float32")
    inside = RANDOM.uniform(0, last, size=(2, 40, dims))
    around = RANDOM.uniform(-2.5, last + 2.5, size=(2, 40, dims))
    whole = RANDOM.integers(-1, last + 2, size=(2, 40, dims))
    border = RANDOM.choice([0, 1], size=(2, 40, dims)) * last
    far = np.where(RANDOM.random((2, 40, dims)) < 0.3, RANDOM.choice([-1e9, 1e9, -500, 500], (2, 40, dims)), around)
    places = np.concatenate([inside, around, whole, border, far], axis=1).astype("float32")
    found = array(run(sample, tensor(image), tensor(places), boundary=boundary, method=method))
    assert found.shape == (2, 200, 3)
    np.testing.assert_allclose(found, scipy_sample(image, places, boundary, method), atol=1e-5)
    if (dims, method) == (3, "linear"):
        compiled = backend.compiled(sample, boundary=boundary)(tensor(image), tensor(places))
        np.testing.assert_allclose(array(compiled), found, atol=1e-6)


@pytest.mark.parametrize("boundary", ["edge", "zero"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "bool"])
def test_nearest_keeps_integers_and_rounds_halves_up(dtype, boundary):
    labels = np.array([[0, 1, 0, 1, 1]], dtype=dtype)[..., None] * np.array(3, dtype=dtype)
    at = np.array([-0.51, -0.5, 0.49, 0.5, 1.49, 1.5, 2.5, 4.49, 4.5])[None, :, None]
    found = array(sample(labels, at, boundary, "nearest"))
    assert found.dtype == dtype
    expected = labels[0, [0, 0, 0, 1, 1, 2, 3, 4, 4], 0]
    if boundary == "zero":
        expected[-1] = 0
    np.testing.assert_array_equal(found[0, :, 0], expected)


def test_linear_reads_integers_as_numbers():
    image = np.array([[0, 100, 250]], dtype="uint8")[..., None]
    found = array(sample(image, np.array([[[0.25], [1.5]]])))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0, :, 0], [25, 175])


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32"])
def test_any_number_type_of_field_gives_float32(dtype):
    image, ddf = RANDOM.normal(size=(1, 4, 5, 1)), RANDOM.integers(-2, 3, size=(1, 3, 4, 2))
    found = array(warp(image.astype("float32"), ddf.astype(dtype)))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, array(warp(tensor(image), tensor(ddf))))


def test_one_set_of_coordinates_or_one_image_serves_the_batch():
    image, places = RANDOM.normal(size=(3, 6, 4, 2)), RANDOM.uniform(-1, 6, size=(3, 5, 7, 2))
    for boundary in ("edge", "zero"):
        for method in ("linear", "nearest"):
            found = array(run(sample, tensor(image), tensor(places[:1]), boundary=boundary, method=method))
            full = array(
                run(sample, tensor(image), tensor(np.repeat(places[:1], 3, 0)), boundary=boundary, method=method)
            )
            np.testing.assert_array_equal(found, full)
            found = array(run(sample, tensor(image[:1]), tensor(places), boundary=boundary, method=method))
            full = array(
                run(sample, tensor(np.repeat(image[:1], 3, 0)), tensor(places), boundary=boundary, method=method)
            )
            np.testing.assert_array_equal(found, full)


@pytest.mark.parametrize("method", ["linear", "nearest"])
@pytest.mark.parametrize("boundary", ["edge", "zero"])
def test_coordinates_that_are_no_number_stay_in_their_place(boundary, method):
    image = RANDOM.normal(size=(1, 4, 5, 1))
    bad = np.array([[[np.nan, 1], [np.inf, 2], [-np.inf, np.nan], [2, 3]]])
    found = array(backend.compiled(sample, boundary=boundary, method=method)(tensor(image), tensor(bad)))
    assert found[0, 3, 0] == np.float32(image[0, 2, 3, 0])
    assert found[0, 1, 0] == (np.float32(image[0, 3, 2, 0]) if boundary == "edge" else 0)


def places_off_the_kinks(size, count):
    whole = RANDOM.integers(-2, np.array(size) + 1, size=(2, count, len(size)))
    return whole + RANDOM.uniform(0.15, 0.85, size=whole.shape)


@pytest.mark.parametrize("boundary", ["edge", "zero"])
@pytest.mark.parametrize("size", [(5, 4), (4, 3, 5)])
def test_gradients_equal_finite_differences(size, boundary):
    image, places = RANDOM.normal(size=(2, *size, 2)), places_off_the_kinks(size, 20)
    weights = tensor(RANDOM.normal(size=(2, 20, 2)))
    check_gradient(lambda x: ops.sum(weights * sample(x, tensor(places), boundary)), image)
    check_gradient(lambda x: ops.sum(weights * sample(tensor(image), x, boundary)), places)


def test_gradient_of_a_ramp_is_its_slope_inside_and_nothing_beyond_the_edge():
    image = (grid((5, 6)) @ [2.0, -3.0])[None, ..., None]
    places = np.array([[[1.3, 2.6], [0.001, 0.001], [2.0, 3.0], [-1.5, 2.5], [9.0, 2.5], [9.0, 9.0]]])
    _, gradient = backend.value_and_grad(lambda x: ops.sum(sample(tensor(image), x)))(tensor(places))
    expected = [[2, -3], [2, -3], [2, -3], [0, -3], [0, -3], [0, 0]]
    np.testing.assert_allclose(array(gradient)[0], expected, atol=1e-5)


@pytest.mark.parametrize("boundary", ["edge", "zero"])
def test_gradient_on_a_border_between_cells_is_the_slope_of_one_of_them(boundary):
    image = np.array([1.0, 3.0, 2.0, 6.0])[None, :, None, None] * np.ones((1, 1, 3, 1))
    _, gradient = backend.value_and_grad(lambda u: ops.sum(warp(tensor(image), u, boundary)))(
        tensor(np.zeros((1, 4, 3, 2)))
    )
    outside = 0.0 if boundary == "edge" else 1.0
    slopes = [outside * 1, 2, -1, 4, outside * -6]
    for row, found in enumerate(array(gradient)[0, :, 1, 0]):
        assert min(abs(found - slope) for slope in slopes[row : row + 2]) < 1e-4


def common(*arguments, **settings):
    """Samples by gathers, as backends without a sampler of their own do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "has_sampler", lambda image: False)
        return run(sample, *arguments, **settings)


@pytest.mark.skipif(backend.NAME != "torch", reason="other backends have no sampler of their own")
@pytest.mark.parametrize("boundary", ["edge", "zero"])
@pytest.mark.parametrize("shape", [(9, 6), (1, 7), (7, 10, 5), (6, 1, 8), (128, 3, 90)])
def test_torchs_own_sampler_equals_the_common_one(shape, boundary):
    dims, last = len(shape), np.array(shape) - 1
    image = RANDOM.uniform(size=(2, *shape, 3))
    cells = RANDOM.integers(-3, last + 3, size=(2, 300, dims))
    inside = cells + RANDOM.uniform(1e-3, 1 - 1e-3, size=cells.shape)  # a gradient is that of one cell
    whole = np.concatenate([RANDOM.integers(-1, last + 2, size=(2, 60, dims)), np.zeros((2, 1, dims)) + last], axis=1)
    for places in (inside, whole, np.where(RANDOM.random(whole.shape) < 0.3, RANDOM.choice([-1e9, 1e9]), whole)):
        found, expected = (by(tensor(image), tensor(places), boundary) for by in (sample, common))
        np.testing.assert_allclose(array(found), array(expected), atol=1e-5)
    weights = tensor(RANDOM.normal(size=(2, 300, 3)))
    gradients = []
    for by in (sample, common):
        by_place = backend.value_and_grad(lambda x, by=by: ops.sum(weights * by(tensor(image), x, boundary)))
        by_value = backend.value_and_grad(lambda x, by=by: ops.sum(weights * by(x, tensor(inside), boundary)))
        gradients.append([array(by_place(tensor(inside))[1]), array(by_value(tensor(image))[1])])
    for found, expected in zip(*gradients, strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


def test_compiled_warp_equals_eager():
    image, ddf = tensor(RANDOM.normal(size=(2, 6, 5, 2))), tensor(RANDOM.normal(0, 3, size=(2, 3, 6, 2)))
    found = backend.compiled(warp, boundary="zero")(image, ddf)
    np.testing.assert_allclose(array(found), array(warp(image, ddf, "zero")), atol=1e-6)


def test_errors_name_the_argument():
    image = np.zeros((1, 4, 5, 1), "float32")
    with pytest.raises(InvalidError, match=r"Unknown boundary 'edgy'\. Did you mean 'edge'\?"):
        sample(image, np.zeros((1, 3, 2), "float32"), boundary="edgy")
    with pytest.raises(InvalidError, match=r"Unknown method 'cubic'\. Known: linear, nearest\."):
        sample(image, np.zeros((1, 3, 2), "float32"), method="cubic")
    expected = r"coordinates: expected shape \(B, \.\.\., 2\) for an image \(1, 4, 5, 1\), received \(1, 3, 3\)\."
    with pytest.raises(InvalidError, match=expected):
        sample(image, np.zeros((1, 3, 3), "float32"))
    with pytest.raises(InvalidError, match=r"ddf: expected shape \(B, \*S, 2\), received \(1, 4, 5, 3\)\."):
        warp(image, np.zeros((1, 4, 5, 3), "float32"))


def test_a_batch_that_is_not_the_image_s_is_refused():
    with pytest.raises(InvalidError, match="coordinates: expected a batch of 3, as the image has, or of 1"):
        sample(tensor(np.ones((3, 4, 5, 1))), tensor(np.ones((2, 6, 2))))
