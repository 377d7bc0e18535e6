import itertools

import numpy as np
import pytest
from tensors import array, run, tensor

from regzoo.ops.features import correlations, instance_normalised

pytestmark = pytest.mark.backend

RANDOM = np.random.default_rng(3)


@pytest.mark.parametrize("shape", [(5, 4), (4, 3, 5)])
def test_correlations_are_means_of_products_with_the_neighbours_of_the_other_image(shape):
    first, second = RANDOM.normal(size=(2, 2, *shape, 3))
    found = [array(each) for each in run(correlations, tensor(first), tensor(second))]
    for here, there, values in ((first, second, found[0]), (second, first, found[1])):
        assert values.shape == (2, *shape, 3 ** len(shape))
        for place in np.ndindex(*shape):
            for k, step in enumerate(itertools.product((-1, 0, 1), repeat=len(shape))):
                at = np.add(place, step)
                inside = (at >= 0).all() and (at < shape).all()
                other = there[(slice(None), *at)] if inside else np.zeros((2, 3))
                expected = (here[(slice(None), *place)] * other).mean(-1)
                np.testing.assert_allclose(values[(slice(None), *place, k)], expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(9, 7), (6, 5, 4)])
def test_instance_normalised_features_have_mean_0_and_variance_1_in_each_image(shape):
    axes = tuple(range(1, len(shape) + 1))
    x = RANDOM.normal(size=(2, *shape, 3)) * [1.0, 20.0, 0.0] + [5.0, -300.0, 7.0]
    found = array(run(instance_normalised, tensor(x)))
    np.testing.assert_allclose(found.mean(axes), 0, atol=5e-4)
    np.testing.assert_allclose(found.std(axes), [[1, 1, 0]] * 2, atol=1e-3)
    np.testing.assert_allclose(
        found[..., :2],
        (x[..., :2] - x[..., :2].mean(axes, keepdims=True)) / x[..., :2].std(axes, keepdims=True),
        atol=1e-3,
    )
