import numpy as np
import pytest
from tensors import array, grid

from regzoo.checks import InvalidError
from regzoo.grids import about_centre, affine_grid, identity_grid, random_affine

pytestmark = pytest.mark.backend

MATRICES = {
    (3, 5): np.array([[[1.0, 2, 3], [4, 5, 6]], [[0, -1, 2.5], [1, 0, -7]]]),
    (2, 4, 3): np.array([[[1.0, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]], [[0, 0, 1, 1], [1, 0, 0, 2], [0, -2, 0, 3]]]),
}


@pytest.mark.parametrize("shape", [(3,), (2, 4), (2, 4, 3)])
def test_identity_grid(shape):
    found = identity_grid(shape)
    assert found.dtype == np.float32
    assert found.shape == (*shape, len(shape))
    for index in np.ndindex(*shape):
        assert tuple(found[index]) == index


@pytest.mark.parametrize("shape", MATRICES)
def test_affine_grid(shape):
    matrices = MATRICES[shape]
    found = array(affine_grid(matrices, shape))
    assert found.dtype == np.float32
    assert found.shape == (2, *shape, len(shape))
    for item, matrix in enumerate(matrices):
        for index in np.ndindex(*shape):
            expected = matrix[:, :-1] @ np.array(index) + matrix[:, -1]
            np.testing.assert_allclose(found[(item, *index)], expected, atol=1e-5)


def test_affine_grid_refuses_a_matrix_of_other_dimensions():
    message = r"matrix: expected shape \(B, 3, 4\) for a grid \(4, 5, 6\), received \(1, 2, 3\)\."
    with pytest.raises(InvalidError, match=message):
        affine_grid(np.eye(2, 3)[None], (4, 5, 6))


@pytest.mark.parametrize("shape", [(4, 7), (5, 2, 8)])
def test_about_centre_keeps_the_centre_and_the_linear_part(shape):
    dims = len(shape)
    given = np.random.default_rng(0).normal(size=(2, dims, dims + 1))
    before = given.copy()
    found = about_centre(given, shape)
    centre = np.append((np.array(shape) - 1) / 2, 1)
    np.testing.assert_allclose(found @ centre, centre[:-1] + given[..., -1])
    np.testing.assert_array_equal(found[..., :-1], given[..., :-1])
    np.testing.assert_array_equal(given, before)


def test_random_affine_repeats_with_its_seed():
    draws = [random_affine(seed, (6, 9, 4), 0.2, batch=3) for seed in (1, 1, 2, np.random.default_rng(1))]
    assert draws[0].shape == (3, 3, 4)
    assert draws[0].dtype == np.float32
    np.testing.assert_array_equal(draws[0], draws[1])
    np.testing.assert_array_equal(draws[0], draws[3])
    assert (draws[0] != draws[2]).all()
    np.testing.assert_array_equal(random_affine(0, (6, 9), 0.0)[0], np.eye(2, 3))


@pytest.mark.parametrize("shape", [(16, 10), (16, 10, 6)])
def test_random_affine_is_unbiased_bounded_and_never_mirrors(shape):
    matrices = random_affine(0, shape, 0.33, batch=5000).astype("float64")
    assert (np.linalg.det(matrices[..., :-1]) > 0).all()
    size, dims = np.array(shape), len(shape)
    corners = grid((2,) * dims).reshape(-1, dims) * (size - 1)
    moves = np.einsum("nde,ce->ncd", matrices[..., :-1], corners) + matrices[:, None, :, -1] - corners
    # The spread of a mean over 5000 draws is below 0.4 % of the size; a bias of a single voxel would be 6 %.
    assert (np.abs(moves.mean(0)) < 0.02 * size).all()
    centre = (size - 1) / 2
    for axis in range(dims):
        face = centre + np.eye(dims)[axis] * size / 2
        moves = np.abs(matrices[..., :-1] @ face + matrices[..., -1] - face)
        assert (moves <= 0.33 * size + 1e-5).all()
        assert (moves.max(0) > 0.9 * 0.33 * size).all()


@pytest.mark.parametrize("scale", [-0.1, 0.34, float("nan")])
def test_random_affine_refuses_a_scale_out_of_range(scale):
    with pytest.raises(InvalidError, match=rf"scale: expected a number from 0 to 0\.33, received {scale}\."):
        random_affine(0, (4, 4), scale)
