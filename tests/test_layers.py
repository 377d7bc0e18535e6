import keras
import numpy as np
import pytest
from tensors import array, tensor

from regzoo.errors import InvalidError
from regzoo.layers import Integrate, Warp
from regzoo.ops import fields, warping

pytestmark = pytest.mark.backend

RANDOM = np.random.default_rng(13)


@pytest.fixture
def mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(("boundary", "method"), [("edge", "linear"), ("zero", "nearest")])
def test_warp_is_the_function(boundary, method):
    image, ddf = tensor(RANDOM.normal(size=(2, 6, 5, 3))), tensor(RANDOM.normal(0, 3, size=(2, 4, 7, 2)))
    found = array(Warp(boundary, method)((image, ddf)))
    np.testing.assert_allclose(found, array(warping.warp(image, ddf, boundary, method)), atol=1e-6)


@pytest.mark.parametrize("steps", [1, 4])
def test_integrate_is_the_function(steps):
    velocity = tensor(RANDOM.normal(size=(2, 4, 5, 3, 3)))
    np.testing.assert_allclose(array(Integrate(steps)(velocity)), array(fields.integrate(velocity, steps)), atol=1e-6)


@pytest.mark.parametrize("layer", [Warp("zero", "nearest", name="w"), Integrate(3, name="i")])
def test_config_rebuilds_the_layer(layer):
    config = keras.saving.serialize_keras_object(layer)
    rebuilt = keras.saving.deserialize_keras_object(config)
    assert type(rebuilt) is type(layer)
    assert rebuilt.get_config() == layer.get_config()
    assert [getattr(rebuilt, key, None) for key in ("boundary", "method", "steps")] == [
        getattr(layer, key, None) for key in ("boundary", "method", "steps")
    ]


def test_layers_work_in_a_functional_model():
    moving, velocity = keras.Input((6, 5, 3)), keras.Input((6, 5, 2))
    ddf = Integrate(2)(velocity)
    model = keras.Model([moving, velocity], Warp("zero")([moving, ddf]))
    assert model.output_shape == (None, 6, 5, 3)
    image, v = RANDOM.normal(size=(3, 6, 5, 3)), RANDOM.normal(size=(3, 6, 5, 2))
    expected = warping.warp(tensor(image), fields.integrate(tensor(v), 2), "zero")
    found = model.predict([image.astype("float32"), v.astype("float32")], verbose=0)
    np.testing.assert_allclose(found, array(expected), atol=1e-5)


@pytest.mark.usefixtures("mixed_precision")
def test_geometry_stays_in_float32_under_mixed_precision():
    image, ddf = RANDOM.normal(size=(1, 300, 3, 1)), np.full((1, 300, 3, 2), 0.37)
    found = array(Warp()((tensor(image), tensor(ddf))))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, array(warping.warp(tensor(image), tensor(ddf))), atol=1e-6)
    assert array(Integrate()(tensor(ddf))).dtype == np.float32


@pytest.mark.parametrize(("name", "value"), [("boundary", "reflect"), ("method", "cubic"), ("boundary", None)])
def test_a_warp_of_an_unknown_name_is_refused_when_it_is_made(name, value):
    with pytest.raises(InvalidError, match=f"^Unknown {name} '{value}'"):
        Warp(**{name: value})
