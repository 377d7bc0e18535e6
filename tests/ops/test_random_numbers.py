import numpy as np
import pytest
from tensors import array

from regzoo.ops.random_numbers import normal, symmetric, uniform

pytestmark = pytest.mark.backend


def mixed(x):
    """`lowbias32` by NumPy."""
    x = x ^ (x >> np.uint32(16))
    x = x * np.uint32(0x7FEB352D)
    x = x ^ (x >> np.uint32(15))
    x = x * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


def test_numbers_are_those_of_the_published_mixing_on_every_backend():
    seeds = np.array([0, 1, 2**31 - 1], "int32")
    bits = mixed(
        mixed(np.arange(6, dtype="uint32"))[None] ^ mixed(mixed(seeds.astype("uint32")) + np.uint32(5))[:, None]
    )
    np.testing.assert_array_equal(array(uniform(seeds, 4, (2, 3))), (bits >> 8).reshape(3, 2, 3) / np.float32(2**24))


def test_numbers_are_even_and_have_nothing_to_do_with_each_other():
    seeds = np.arange(20, dtype="int32")
    numbers = array(uniform(seeds, 0, (2000,)))
    assert numbers.min() >= 0
    assert numbers.max() < 1
    np.testing.assert_allclose(np.histogram(numbers, 10, (0, 1))[0], 4000, rtol=0.06)
    others = [array(uniform(seeds, 1, (2000,))), np.roll(numbers, 1, axis=0), np.roll(numbers, 1, axis=1)]
    for other in others:
        assert abs(np.corrcoef(numbers.ravel(), other.ravel())[0, 1]) < 0.025
    assert np.abs(array(symmetric(seeds, 0, (2000,))) - (2 * numbers - 1)).max() < 1e-6


def test_normal_numbers_have_the_moments_of_their_distribution():
    numbers = array(normal(np.arange(40, dtype="int32"), 0, (5000,))).astype("float64")
    moments = [(numbers**power).mean() for power in (1, 2, 3, 4)]
    np.testing.assert_allclose(moments, [0, 1, 0, 3], atol=0.05)
    assert 4 < np.abs(numbers).max() < 4.8
