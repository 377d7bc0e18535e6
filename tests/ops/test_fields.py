import numpy as np
import pytest
import SimpleITK as sitk
from keras import ops
from scipy.interpolate import BSpline
from scipy.linalg import expm
from tensors import array, check_gradient, grid, run, tensor

from regzoo import backend
from regzoo.errors import InvalidError
from regzoo.ops.fields import (
    bspline_field,
    compose,
    control_positions,
    integrate,
    invert,
    jacobian_determinant,
    resize_field,
)

pytestmark = pytest.mark.backend

RANDOM = np.random.default_rng(5)
SHAPES = [(13, 9), (9, 12, 7)]
TURN = {  # two linear maps that do not commute, of small displacement
    2: np.array([[[1.1, 0.2], [-0.1, 0.9]], [[0.95, -0.15], [0.2, 1.05]]]),
    3: np.eye(3)
    + np.array([[[0.1, 0.2, 0], [-0.1, 0, 0.1], [0, 0.1, -0.1]], [[0, -0.2, 0.1], [0.1, 0, 0], [0.1, 0, 0]]]),
}
SINK = {  # velocities v = A x that spiral inward, so that no voxel of the grids above ever leaves them
    2: np.array([[-0.5, 0.4], [-0.2, -0.5]]),
    3: np.array([[-0.5, 0.2, 0.1], [-0.3, -0.4, 0.2], [0.1, -0.15, -0.5]]),
}


def offsets(shape):
    """Returns coordinates from the centre of the grid, shape (*S, D)."""
    return grid(shape) - (np.array(shape) - 1) / 2


def linear(matrix, shape, shift=0.0):
    """Returns the displacement of the map x -> matrix x + shift about the centre."""
    x = offsets(shape)
    return x @ np.asarray(matrix).T + shift - x


def inside(points, shape):
    """Says which points, from the centre, lie on the grid."""
    return (np.abs(points) <= (np.array(shape) - 1) / 2 + 1e-9).all(-1)


def wave(shape, size):
    """Returns a smooth field that is zero at the border, different in every component."""
    at = np.pi * grid(shape) / (np.array(shape) - 1)
    bump = np.sin(at).prod(-1)
    return size * np.stack([bump * np.cos(at[..., 1] * (d + 1) - d) for d in range(len(shape))], axis=-1)


@pytest.mark.parametrize("shape", SHAPES)
def test_compose_adds_translations(shape):
    shifts = RANDOM.normal(size=(2, 2, len(shape)))
    outer, inner = (np.broadcast_to(shift[:, *[None] * len(shape)], (2, *shape, len(shape))) for shift in shifts)
    np.testing.assert_allclose(array(run(compose, tensor(outer), tensor(inner))), outer + inner, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_compose_does_the_inner_map_first(shape):
    a, b = TURN[len(shape)]
    shift = np.array([0.5, -0.3, 0.2])[: len(shape)]
    outer, inner = linear(a, shape), linear(b, shape, shift)
    x = offsets(shape)
    once = x @ b.T + shift
    # Two batch items, the second with the roles exchanged.
    found = array(run(compose, tensor([outer, inner]), tensor([inner, outer])))
    valid = inside(once, shape)
    assert valid.mean() > 0.5
    np.testing.assert_allclose(found[0][valid], (once @ a.T - x)[valid], atol=2e-5)
    valid = inside(x @ a.T, shape)
    np.testing.assert_allclose(found[1][valid], (x @ a.T @ b.T + shift - x)[valid], atol=2e-5)
    assert np.abs(found[0] - found[1])[valid].max() > 0.1


def test_compose_takes_an_outer_field_of_another_size():
    outer, inner = linear(TURN[2][0], (15, 11)), np.ones((6, 8, 2))
    found = array(run(compose, tensor(outer[None]), tensor(inner[None])))
    np.testing.assert_allclose(found[0], 1 + outer[1:7, 1:9], atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_integrate_a_constant_velocity_is_a_translation(shape):
    velocity = np.broadcast_to(RANDOM.normal(size=(2, *[1] * len(shape), len(shape))), (2, *shape, len(shape)))
    np.testing.assert_allclose(array(run(integrate, tensor(velocity))), velocity, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_integrate_a_linear_velocity_is_the_matrix_exponential(shape):
    sink = SINK[len(shape)]
    x = offsets(shape)
    velocity = tensor((x @ sink.T)[None])
    for steps in (2, 7):
        matrix = np.linalg.matrix_power(np.eye(len(shape)) + sink / 2**steps, 2**steps)
        np.testing.assert_allclose(array(run(integrate, velocity, steps=steps))[0], x @ matrix.T - x, atol=1e-4)
    np.testing.assert_allclose(array(run(integrate, velocity))[0], x @ expm(sink).T - x, atol=0.03)


@pytest.mark.parametrize("shape", [(17, 13), (13, 16, 11)])
def test_integrate_the_negative_velocity_is_the_inverse(shape):
    velocity = tensor([wave(shape, 1.0), wave(shape, -0.7)])
    there, back = run(integrate, velocity), run(integrate, -velocity)
    assert np.abs(array(there)).max() > 0.8
    assert np.abs(array(run(compose, back, there))).max() < 0.08
    np.testing.assert_allclose(array(backend.compiled(integrate, steps=7)(velocity)), array(there), atol=1e-5)


def test_integrate_has_the_gradient_of_finite_differences():
    weights = tensor(RANDOM.normal(size=(1, 5, 6, 2)))
    # The second squaring reads at 2 * velocity / 4: between 0.05 and 0.45 voxels, so nothing crosses a kink.
    velocity = RANDOM.uniform(0.1, 0.9, size=(1, 5, 6, 2)) * 0.5
    check_gradient(lambda v: ops.sum(weights * integrate(v, steps=2)), velocity, step=2e-3, tolerance=2e-2)


@pytest.mark.parametrize("shape", SHAPES)
def test_invert_a_linear_map(shape):
    a, b = TURN[len(shape)]
    inverse, residual = run(invert, tensor([linear(a, shape), linear(b, shape, 0.4)]), iterations=30)
    assert residual.shape == (2,)
    assert array(residual).max() < 1e-3
    x = offsets(shape)
    for item, (matrix, shift) in enumerate([(a, 0.0), (b, 0.4)]):
        expected = (x - shift) @ np.linalg.inv(matrix).T
        valid = inside(expected, shape)
        assert valid.mean() > 0.5
        np.testing.assert_allclose(array(inverse)[item][valid], (expected - x)[valid], atol=1e-3)


def test_invert_a_map_that_stretches_more_than_twofold():
    """The whole step of the fixed-point iteration leads away from there."""
    ddf = np.clip(2.5 * (np.arange(24.0) - 9), 0, 10)[None, :, None]  # 3.5 voxels become one
    inverse, residual = run(invert, tensor(ddf), iterations=40)
    assert array(residual)[0] < 1e-3
    expected = np.interp(np.arange(24), np.arange(24) + ddf[0, :, 0], np.arange(24)) - np.arange(24)
    np.testing.assert_allclose(array(inverse)[0, :20, 0], expected[:20], atol=1e-3)


def test_invert_tells_what_it_could_not_invert():
    shape = (15, 11)
    folding = wave(shape, 4.0)
    assert array(run(jacobian_determinant, tensor(folding[None]))).min() < 0
    _, residual = invert(tensor([folding, wave(shape, 0.8)]))
    assert array(residual)[0] > 1
    assert array(residual)[1] < 1e-3


@pytest.mark.parametrize(
    ("old", "new"), [((8, 6), (16, 9)), ((16, 9), (8, 6)), ((6, 8, 5), (9, 8, 15)), ((12, 8, 10), (4, 12, 5))]
)
def test_resize_keeps_a_linear_displacement_of_the_same_region(old, new):
    dims = len(old)
    matrix, shift = RANDOM.normal(size=(2, dims, dims)), RANDOM.normal(size=(2, dims))

    def displacement(shape):
        place = (grid(shape) + 0.5) / shape  # share of the region, whose borders are voxel edges
        moves = np.einsum("bde,...e->b...d", matrix, place) + shift.reshape(2, *[1] * dims, dims)
        return moves * shape  # in voxels

    found = array(run(resize_field, tensor(displacement(old)), shape=new))
    assert found.shape == (2, *new, dims)
    place = (grid(new) + 0.5) / new * old - 0.5
    valid = ((place >= 0) & (place <= np.array(old) - 1)).all(-1)
    assert valid.mean() > 0.3
    np.testing.assert_allclose(found[:, valid], displacement(new)[:, valid], atol=1e-4)


def test_resize_to_the_same_shape_changes_nothing():
    field = RANDOM.normal(size=(2, 4, 5, 2)).astype("float32")
    np.testing.assert_array_equal(array(resize_field(field, (4, 5))), field)


@pytest.mark.parametrize("shape", SHAPES)
def test_jacobian_of_linear_maps(shape):
    matrices = TURN[len(shape)] * np.array([1.0, -1.3])[:, None, None]
    found = array(run(jacobian_determinant, tensor([linear(matrix, shape) for matrix in matrices])))
    assert found.shape == (2, *shape)
    for item, matrix in enumerate(matrices):
        np.testing.assert_allclose(found[item], np.linalg.det(matrix), atol=1e-4)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_jacobian_is_negative_where_the_field_folds(axis):
    position = np.array([0.0, 1, 2, 3, 4, 3, 2, 3, 4, 5])  # where each voxel goes
    expected = np.array([1, 1, 1, 1, 0, -1, 0, 1, 1, 1])
    shape = [4, 5, 6]
    shape[axis] = 10
    ddf = np.zeros((1, *shape, 3))
    along = [1, 1, 1]
    along[axis] = 10
    ddf[..., axis] = (position - np.arange(10)).reshape(along)
    found = array(run(jacobian_determinant, tensor(ddf)))[0]
    np.testing.assert_allclose(found, np.broadcast_to(expected.reshape(along), shape), atol=1e-6)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.5, 3.0)])
@pytest.mark.parametrize("dims", [2, 3])
def test_jacobian_equals_simpleitk(dims, spacing):
    shape, spacing = (7, 9, 6)[:dims], spacing[:dims]
    ddf = RANDOM.normal(0, 0.4, size=(*shape, dims))
    axes = (*range(dims)[::-1], dims)  # SimpleITK's arrays are k, j, i
    image = sitk.GetImageFromArray(np.ascontiguousarray((ddf * spacing).transpose(axes)), isVector=True)
    image.SetSpacing(spacing)
    expected = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(image)).transpose()
    interior = (slice(1, -1),) * dims
    found = array(run(jacobian_determinant, tensor(ddf[None])))[0]
    assert found.min() < 0 < found.max()
    np.testing.assert_allclose(found[interior], expected[interior], atol=1e-4)


def test_fields_take_numpy_arrays_of_any_number_type():
    ddf = RANDOM.normal(0, 0.2, size=(1, 4, 5, 2))
    for function in (lambda u: compose(u, u), integrate, lambda u: invert(u)[0], lambda u: resize_field(u, (6, 3))):
        found = array(function(ddf))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, array(function(tensor(ddf))), atol=1e-6)


@pytest.mark.parametrize(("shape", "spacing"), [((13, 9), (4.0, 2.5)), ((9, 12, 7), (3.0, 5.0, 20.0))])
def test_bspline_field_is_the_cubic_spline_of_its_control_points(shape, spacing):
    positions = [control_positions(n, each) for n, each in zip(shape, spacing, strict=True)]
    for n, each, where in zip(shape, spacing, positions, strict=True):
        assert where[0] == -each - 0.5
        assert n - 0.5 <= where[-2] < n - 0.5 + each
    control = RANDOM.normal(size=(2, *(len(each) for each in positions), len(shape)))
    found = array(run(bspline_field, tensor(control), shape=shape, spacing=spacing))
    for axis, (where, each, n) in enumerate(zip(positions, spacing, shape, strict=True), start=1):
        # Knots two spacings beyond the outermost control points on either side.
        knots = where[0] + each * np.arange(-2, len(where) + 2)
        spline = BSpline(knots, np.eye(len(where)), 3, extrapolate=False)(np.arange(n))
        control = np.moveaxis(np.tensordot(spline, control, (1, axis)), 0, axis)
    np.testing.assert_allclose(found, control, atol=1e-5)


def test_control_points_on_a_plane_give_that_plane():
    shape, spacing = (11, 8), (3.0, 2.0)
    places = [control_positions(n, each) for n, each in zip(shape, spacing, strict=True)]
    plane = 0.3 * places[0][:, None] - 0.5 * places[1] + 2
    found = array(bspline_field(tensor(np.stack([plane, -plane], -1)[None]), shape, spacing))[0]
    x = grid(shape)
    expected = 0.3 * x[..., 0] - 0.5 * x[..., 1] + 2
    np.testing.assert_allclose(found, np.stack([expected, -expected], -1), atol=1e-5)


def test_control_points_of_another_lattice_are_refused():
    with pytest.raises(InvalidError, match=r"control: expected shape \(B, 7, 7, D\) for a grid \(11, 8\), received"):
        bspline_field(tensor(np.zeros((1, 6, 7, 2))), (11, 8), (3.0, 2.0))
