"""What a registration model is called with, and how it is not saved."""

import keras
import numpy as np
import pytest

from regzoo.errors import InvalidError
from regzoo.models import NETWORKS, OwnModel, build
from regzoo.models.own import build_own
from regzoo.models.saving import save
from regzoo.schema.own import OwnConfig

pytestmark = pytest.mark.backend
IMAGE = np.zeros((1, 16, 12, 8, 1), "float32")


def two_outputs():
    sides = [keras.Input((16, 12, 8, 1)) for _ in range(2)]
    return keras.Model(sides, [keras.layers.Conv3D(3, 3, padding="same")(each) for each in sides])


def wide_output():
    sides = [keras.Input((16, 12, 8, 1)) for _ in range(2)]
    return keras.Model(sides, keras.layers.Conv3D(2, 3, padding="same")(keras.layers.Add()(sides)))


@pytest.fixture(scope="module", params=["built", "own"])
def model(request):
    if request.param == "built":
        return build({"backbone": {"name": "unet", "channels": [2, 3]}, "output": {"name": "ddf"}})
    sides = [keras.Input((None, None, None, 1)) for _ in range(2)]
    both = keras.layers.Concatenate()(sides)
    return OwnModel(keras.Model(sides, keras.layers.Conv3D(3, 3, padding="same")(both)))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([IMAGE, IMAGE], "inputs: expected a dictionary with 'fixed' and 'moving', received a list"),
        (
            {"fixed": IMAGE[..., 0], "moving": IMAGE[..., 0]},
            r"fixed: expected shape \(B, X, Y, Z, C\), with the channels",
        ),
        ({"fixed": IMAGE, "moving": IMAGE[0]}, r"moving: expected shape \(B, X, Y, Z, C\).*received \(16, 12, 8, 1\)"),
        (
            {"fixed": IMAGE, "moving": IMAGE[:, :8]},
            r"moving: expected the shape of fixed, \(1, 16, 12, 8, 1\), received",
        ),
        ({"fixed": IMAGE, "moving": IMAGE, "fixed_label": IMAGE}, "Unknown input 'fixed_label'. Did you mean 'fixed_l"),
        (
            {"fixed": IMAGE, "moving": IMAGE, "moving_mask": IMAGE[:, :8]},
            r"moving_mask: expected the grid of moving, \(16, 12, 8\), and channels, received \(1, 8, 12, 8, 1\)",
        ),
    ],
)
def test_wrong_inputs_are_named(model, inputs, message):
    with pytest.raises(InvalidError, match=message):
        model(inputs)


def test_a_label_loss_without_labels_is_named(model):
    model.supervise({"label": {"dice": {}}}, (1.0, 1.0, 1.0))
    with pytest.raises(InvalidError, match=r"inputs: expected 'moving_labels', which a label loss compares, received"):
        model.compute_loss(
            {"fixed": IMAGE, "moving": IMAGE, "fixed_labels": IMAGE}, y_pred=model({"fixed": IMAGE, "moving": IMAGE})
        )


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: None, "network: expected a Keras model of two inputs, .* received a NoneType"),
        (lambda: keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]), "expected a Keras model of two inputs"),
        (lambda: two_outputs(), "network: expected one output, the ddf, received 2 outputs"),
        (lambda: wide_output(), r"output of the network: expected a tensor \(B, 16, 12, 8, 3\), the ddf"),
        (lambda features: None, "The network 'mine' cannot be built by its function: TypeError: .*features"),
        ("text", "The network 'mine' cannot be built by its function: TypeError"),
    ],
)
def test_a_function_that_builds_no_network_is_named(monkeypatch, function, message):
    monkeypatch.setitem(NETWORKS, "mine", function)
    with pytest.raises(InvalidError, match=message):
        build_own(OwnConfig(network="mine"))


def test_an_output_whose_size_depends_on_the_images_is_told_in_one_line():
    sides = [keras.Input((None, None, None, 1)) for _ in range(2)]
    halved = keras.layers.Conv3D(3, 3, strides=2, padding="same")(keras.layers.Add()(sides))
    message = r"^output of the network: expected a tensor \(B, 16, 12, 8, 3\), the ddf, received \(1, 8, 6, 4, 3\)\.$"
    with pytest.raises(InvalidError, match=message):
        OwnModel(keras.Model(sides, halved))({"fixed": IMAGE, "moving": IMAGE})


def test_a_config_and_a_card_are_dicts(model, tmp_path):
    with pytest.raises(InvalidError, match="config: expected a dict with 'backbone' and 'output', received 'unet'"):
        build("unet")
    with pytest.raises(InvalidError, match="card: expected a dict with 'name' and 'input', received 'mine'"):
        save(model, tmp_path / "mine", "mine")


def test_spacing_has_a_value_for_each_axis(model):
    with pytest.raises(InvalidError, match=r"spacing: expected 3 numbers of mm above 0, received \(1.0, 2.0\)"):
        model.supervise({"image": {"ssd": {}}}, (1.0, 2.0))
    with pytest.raises(InvalidError, match="spacing: expected 3 numbers"):
        build({"backbone": {"name": "unet", "channels": [2, 3]}, "output": {"name": "ddf"}}, (1.0, 2.0))


def test_spacing_is_that_for_which_the_model_was_built():
    model = build({"backbone": {"name": "unet", "channels": [2, 3]}, "output": {"name": "ddf"}}, (1.0, 1.0, 2.0))
    with pytest.raises(InvalidError, match=r"spacing: expected \(.*\), for which the model was built, received"):
        model.supervise({"image": {"ssd": {}}}, (1.0, 1.0, 1.0))


@pytest.mark.parametrize("given", [("adam", "mse"), {"loss": "mse"}, {"loss": keras.losses.MeanSquaredError()}])
def test_a_loss_is_set_by_supervise_alone(model, given):
    with pytest.raises(InvalidError, match=r"loss: expected none in compile, .* Call supervise"):
        model.compile(**given) if isinstance(given, dict) else model.compile(*given)


@pytest.mark.parametrize("name", ["metrics", "weighted_metrics", "loss_weights"])
def test_what_needs_a_target_is_refused_by_compile(model, name):
    with pytest.raises(InvalidError, match=rf"{name}: expected none in compile, .* Call supervise"):
        model.compile("adam", **{name: ["mse"]})


def test_fit_before_supervise_says_what_to_do():
    model = build({"backbone": {"name": "unet", "channels": [2, 3]}, "output": {"name": "ddf"}})
    model.compile("adam")
    for call in (model.fit, model.evaluate, model.train_on_batch):
        with pytest.raises(InvalidError, match=r"^The model has no objective\. Call supervise.* before fit\.$"):
            call({"fixed": IMAGE, "moving": IMAGE})


def test_a_target_is_refused():
    model = build({"backbone": {"name": "unet", "channels": [2, 3]}, "output": {"name": "ddf"}})
    model.supervise({"image": {"ssd": {}}}, (1.0, 1.0, 1.0))
    inputs = {"fixed": IMAGE, "moving": IMAGE}
    with pytest.raises(InvalidError, match="y: expected none, for the fixed image"):
        model.compute_loss(inputs, IMAGE, model(inputs))


def test_no_file_is_left_that_cannot_be_opened(model, tmp_path):
    with pytest.raises(InvalidError, match=r"Write a zoo entry by regzoo\.save\(model, folder, card\)"):
        model.save(tmp_path / "model.keras")
    assert list(tmp_path.iterdir()) == []
