"""Helpers of the tests of the tensor rooms: in and out of the running backend, and finite differences."""

import functools

import numpy as np
from keras import ops

from regzoo import backend


def tensor(values):
    return ops.convert_to_tensor(np.asarray(values, dtype="float32"))


def array(values):
    return ops.convert_to_numpy(values)


def run(function, *tensors, **settings):
    """Calls a function; compiled on JAX, which otherwise compiles every operation by itself."""
    if backend.NAME == "jax":
        function = backend.compiled(function, **settings)
        settings = {}
    return function(*tensors, **settings)


def grid(shape):
    """Returns voxel coordinates, shape (*S, D), float64, without the code under test."""
    return np.moveaxis(np.indices(shape), 0, -1).astype("float64")


def check_gradient(function, x, step=1e-2, tolerance=1e-2):
    """Compares the gradient of a scalar function with central differences along itself and along random directions."""
    value, gradient = backend.value_and_grad(functools.partial(run, function))(tensor(x))
    gradient = array(gradient).astype("float64")
    assert np.isfinite(array(value))
    assert np.isfinite(gradient).all()
    length = np.linalg.norm(gradient)
    assert length > 0
    random = np.random.default_rng(0)
    for direction in (gradient, *random.normal(size=(2, *x.shape)) / np.sqrt(x.size) * length):
        unit = direction / np.abs(direction).max()
        low, high = (float(array(run(function, tensor(x + sign * step * unit)))) for sign in (-1, 1))
        scale = length * np.linalg.norm(unit)
        assert abs((high - low) / (2 * step) - (gradient * unit).sum()) <= tolerance * scale
