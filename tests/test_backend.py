"""What `regzoo.backend` promises of every backend."""

import gc
import logging
import os
import weakref

import keras
import numpy as np
import pytest
from keras import ops
from tensors import array, tensor

from regzoo import backend, installed

pytestmark = pytest.mark.backend


def scaled(x, by=1.0):
    return by * x


def doubled_and_shifted(x, shift):
    return 2 * x + shift


def test_what_is_compiled_computes_the_same_and_keeps_its_settings():
    x = np.array([1.0, -2.0, 0.5], "float32")
    np.testing.assert_allclose(array(backend.compiled(scaled, by=3.0)(tensor(x))), 3 * x)
    np.testing.assert_allclose(array(backend.compiled(scaled, by=-1.0)(tensor(x))), -x)


def test_a_top_level_function_is_compiled_once_and_a_local_one_is_let_go():
    assert backend.compiled(scaled, by=2.0) is backend.compiled(scaled, by=2.0)
    assert backend.compiled(scaled, by=[2.0]) is backend.compiled(scaled, by=(2.0,))

    def local(x):
        return x + 1

    there = weakref.ref(local)
    assert backend.compiled(local) is not backend.compiled(local)
    del local
    gc.collect()
    assert there() is None


@pytest.mark.parametrize("times", [0, 1, 3])
def test_repeat_applies_a_step_so_often(times):
    expected = np.array([1.0, -2.0], "float32")
    found = backend.repeat(doubled_and_shifted, times, tensor(expected), tensor([0.5, 1.0]))
    for _ in range(times):
        expected = 2 * expected + [0.5, 1.0]
    np.testing.assert_allclose(array(found), expected)


def test_value_and_grad_are_those_of_calculus():
    x = np.array([1.0, -2.0, 0.5])
    value, gradient = backend.value_and_grad(lambda x: ops.sum(x**3))(tensor(x))
    assert float(array(value)) == pytest.approx((x**3).sum())
    np.testing.assert_allclose(array(gradient), 3 * x**2, rtol=1e-6)


def test_inference_gives_the_values_and_under_torch_no_gradient():
    weight = keras.Variable(np.array([2.0], "float32"))
    found = backend.inference(lambda x: x * weight.value, tensor([3.0]))
    np.testing.assert_allclose(array(found), [6.0])
    assert not getattr(found, "requires_grad", False)


def test_float32_holds_inside_and_what_was_set_comes_back_after_an_error():
    kept = keras.config.floatx()
    keras.config.set_floatx("float16")
    try:
        inside = backend.float32()(lambda: {}[keras.config.floatx()])
        with pytest.raises(KeyError, match="float32"):
            inside()
        assert keras.config.floatx() == "float16"
    finally:
        keras.config.set_floatx(kept)


def test_a_seed_gives_the_same_numbers_again():
    drawn = []
    for seed in (1, 1, 2):
        backend.seed(seed)
        drawn.append((array(keras.random.normal((4,))), np.random.random(4)))  # noqa: NPY002
    for first, again, other in zip(*drawn, strict=True):
        np.testing.assert_array_equal(first, again)
        assert np.abs(first - other).max() > 1e-3


def test_the_device_is_told_and_is_among_the_devices():
    assert backend.device() in ("cpu", "gpu", "tpu")
    assert any("cpu" in each.lower() for each in backend.devices())
    assert backend.threads()


def test_only_torch_samples_by_itself_and_only_images():
    image = tensor(np.zeros((1, 3, 4, 1)))
    assert backend.has_sampler(image) == (backend.NAME == "torch")
    assert not backend.has_sampler(tensor(np.zeros((1, 3, 1))))


@pytest.mark.skipif(backend.NAME != "tensorflow", reason="TensorFlow alone warns of images of many shapes")
def test_tensorflow_does_not_speak_of_retracing(monkeypatch):
    logger, heard = logging.getLogger("tensorflow"), []
    monkeypatch.setattr(logger, "callHandlers", lambda record: heard.append(record.getMessage()))
    logger.warning("5 out of the last %d calls to x triggered tf.function retracing. Tracing is", 5)
    logger.warning("something else")
    assert heard == ["something else"]


@pytest.mark.parametrize(("given", "left"), [(None, "1"), ("0", "0")])
def test_tensorflow_takes_the_faster_convolutions_unless_it_is_told_not_to(given, left, monkeypatch):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    if given:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", given)
    installed.choose()
    assert os.environ["TF_ENABLE_ONEDNN_OPTS"] == left
