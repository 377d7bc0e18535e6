"""Every function of tensors takes NumPy arrays, as keras.ops do, and gives what it gives of tensors."""

import inspect

import keras
import numpy as np
import pytest
from tensors import array, tensor

from regzoo import losses, ops
from regzoo.ops import features, optical_flow

pytestmark = pytest.mark.backend

RANDOM = np.random.default_rng(0)
SHAPE = (6, 5, 4)
IMAGE, OTHER = RANDOM.random((2, 2, *SHAPE, 1))
FIELD, OTHER_FIELD = RANDOM.random((2, 2, *SHAPE, 3)) - 0.5
MASK = (RANDOM.random((2, *SHAPE, 1)) > 0.3).astype("float64")
MATRIX = np.tile(np.eye(3, 4), (2, 1, 1)) + 0.1 * RANDOM.random((2, 3, 4))
ONE = (SHAPE, (1.0, 2.0, 3.0))
PAIR, WEIGHED = (IMAGE, OTHER), (IMAGE, OTHER, MASK)

CASES = {
    ops.affine_grid: (MATRIX, SHAPE),
    ops.along_axes: (IMAGE, [np.eye(6), None, np.eye(4)]),
    ops.blur: (IMAGE, 1.0),
    ops.bspline_field: (RANDOM.random((2, 6, 6, 5, 3)), (6, 5, 3), (2, 2, 2)),
    ops.compose: (FIELD, OTHER_FIELD),
    ops.determinant: ([FIELD, OTHER_FIELD, FIELD + 1],),
    ops.difference: (IMAGE, 0),
    ops.forward_difference: (IMAGE, 0),
    ops.integrate: (FIELD,),
    ops.inverse_linear: (MATRIX[..., :3],),
    ops.inverse_matrix: (MATRIX,),
    ops.invert: (0.3 * FIELD,),
    ops.jacobian_determinant: (FIELD,),
    ops.linear_matrix: (RANDOM.random((2, 12)), "affine", *ONE),
    ops.map_places: (MATRIX, FIELD),
    ops.mean: (IMAGE, MASK),
    ops.resize_field: (FIELD, (8, 7, 3)),
    ops.sample: (IMAGE, 2 + FIELD),
    ops.self_similarity: (IMAGE, 1, 1, 1e-3),
    ops.shift: (IMAGE, 1, 1),
    ops.smooth: (IMAGE, 3),
    ops.standardised: (IMAGE, MASK),
    ops.warp: (IMAGE, FIELD),
    features.correlations: PAIR,
    features.instance_normalised: (IMAGE,),
    optical_flow.optical_flow: PAIR,
    losses.ssd: WEIGHED,
    losses.ncc: WEIGHED,
    losses.lncc: (*WEIGHED, 3),
    losses.mi: WEIGHED,
    losses.nmi: WEIGHED,
    losses.mind: (*WEIGHED, 1, 1),
    losses.dice: (*PAIR, (0, 1)),
    losses.jaccard: (*PAIR, (0, 1)),
    losses.cross_entropy: (*PAIR, 0.5, (0, 1)),
    losses.label_ssd: (*PAIR, (0, 1)),
    losses.centroid: PAIR,
    losses.gradient: (FIELD,),
    losses.bending: (FIELD,),
    losses.elastic: (FIELD,),
    losses.folding: (2 * FIELD,),
    losses.distance: (FIELD, OTHER_FIELD, MASK),
}
OF_NUMPY = "about_centre blur_matrix control_positions cubic_bspline identity_grid interpolation_matrix millimetres "
OF_NUMPY += "random_affine window_matrix named weighted_terms"


def test_no_function_is_forgotten():
    public = [getattr(room, name) for room in (ops, losses) for name in room.__all__]
    found = {each for each in public if inspect.isfunction(each)}
    assert {each.__name__ for each in found - CASES.keys()} == set(OF_NUMPY.split())


@pytest.mark.parametrize("function", CASES, ids=lambda each: each.__name__)
def test_numpy_arrays_and_tensors_give_the_same(function):
    given = CASES[function]
    wanted = function(*keras.tree.map_structure(_tensor, given))
    found = function(*given)
    for one, other in zip(_listed(wanted), _listed(found), strict=True):
        assert keras.ops.is_tensor(other)
        np.testing.assert_allclose(array(other), array(one), rtol=1e-4, atol=1e-5)


def _tensor(value):
    return tensor(value) if isinstance(value, np.ndarray) and value.ndim > 2 else value


def _listed(value):
    return value if isinstance(value, list | tuple) else [value]
