import numpy as np
import pytest
from keras import ops
from tensors import array, check_gradient, grid, tensor

from regzoo.backend import value_and_grad
from regzoo.errors import InvalidError
from regzoo.ops.matrices import PARAMETERS, about_centre, inverse_matrix, linear_matrix, random_affine

pytestmark = pytest.mark.backend


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


def rotation_of(parameters):
    """Rodrigues' formula for the vector whose length is the tangent of half the angle."""
    length = np.linalg.norm(parameters)
    axis, angle = parameters / length, 2 * np.arctan(length)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


@pytest.mark.parametrize("constraint", ["rigid", "similarity", "affine"])
@pytest.mark.parametrize(("shape", "spacing"), [((9, 6), (0.5, 2.0)), ((9, 6, 5), (1.0, 2.0, 0.7))])
def test_parameters_become_a_matrix_about_the_centre_in_millimetres(constraint, shape, spacing):
    dims, spacing = len(shape), np.array(spacing)
    parameters = np.random.default_rng(1).uniform(-0.3, 0.3, (2, PARAMETERS[constraint][dims]))
    found = array(linear_matrix(parameters, constraint, shape, spacing))
    centre = (np.array(shape) - 1) / 2
    for matrix, given in zip(found, parameters, strict=True):
        shift, rest = given[:dims], given[dims:]
        if constraint == "affine":
            linear = np.eye(dims) + rest.reshape(dims, dims)
        elif dims == 3:
            linear = rotation_of(rest[:3])
        else:
            angle = 2 * np.arctan(rest[0])
            linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        if constraint == "similarity":
            linear = linear * np.exp(rest[-1])
        in_mm = np.diag(spacing) @ matrix[:, :dims] @ np.diag(1 / spacing)
        np.testing.assert_allclose(in_mm, linear, atol=1e-5)
        np.testing.assert_allclose(matrix @ np.append(centre, 1), centre + shift * np.array(shape) / 2, atol=1e-5)


@pytest.mark.parametrize("constraint", PARAMETERS)
def test_no_parameters_are_the_identity_and_the_gradient_there_is_finite(constraint):
    def moved(parameters):
        return ops.sum(linear_matrix(parameters, constraint, (5, 6, 7), (1.0, 2.0, 3.0)) * weights)

    weights = tensor(np.random.default_rng(0).normal(size=(1, 3, 4)))
    zeros = np.zeros((1, PARAMETERS[constraint][3]))
    np.testing.assert_array_equal(array(linear_matrix(zeros, constraint, (5, 6, 7), (1, 2, 3))), np.eye(3, 4)[None])
    check_gradient(moved, zeros + 0.1)
    _, gradient = value_and_grad(moved)(tensor(zeros))
    assert np.isfinite(array(gradient)).all()
    assert (np.abs(array(gradient)) > 0).all()


def test_wrong_parameters_are_refused():
    with pytest.raises(InvalidError, match=r"parameters: expected shape \(B, 7\), received \(1, 6\)"):
        linear_matrix(np.zeros((1, 6)), "similarity", (4, 4, 4), (1, 1, 1))
    with pytest.raises(InvalidError, match=r"Unknown constraint 'ridgid'\. Did you mean 'rigid'"):
        linear_matrix(np.zeros((1, 6)), "ridgid", (4, 4, 4), (1, 1, 1))


@pytest.mark.parametrize("dims", [2, 3])
def test_inverse_matrix_undoes(dims):
    matrix = np.eye(dims, dims + 1) + np.random.default_rng(3).uniform(-0.3, 0.3, (2, dims, dims + 1))
    inverse = array(inverse_matrix(matrix))
    for there, back in zip(matrix, inverse, strict=True):
        x = np.random.default_rng(4).normal(size=dims)
        np.testing.assert_allclose(back @ np.append(there @ np.append(x, 1), 1), x, atol=1e-5)
