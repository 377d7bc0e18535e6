import numpy as np
import pytest
from tensors import array

from regzoo.errors import InvalidError
from regzoo.ops.grids import affine_grid, identity_grid

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
