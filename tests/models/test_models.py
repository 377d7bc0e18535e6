import keras
import numpy as np
import pytest
from tensors import array, run, tensor

from regzoo import losses
from regzoo.errors import InvalidError
from regzoo.models import build, weights
from regzoo.ops.fields import integrate, resize_field
from regzoo.ops.warping import warp
from regzoo.schema.networks import ModelConfig

pytestmark = pytest.mark.backend

RANDOM = np.random.default_rng(17)
SSD = {"image": {"ssd": {"weight": 1}}, "deformation": {"gradient": {"weight": 0.05}}}


def new(dims=2, output="ddf", channels=(4, 6), precision="float32", **settings):
    keras.utils.set_random_seed(1)
    backbone = {"name": "unet", "channels": channels, "convolutions": 1}
    config = {"dims": dims, "backbone": backbone, "output": {"name": output, "level": 0, **settings}}
    return build(ModelConfig.model_validate(config), precision=precision)


def noise(shape, batch=2):
    return {key: tensor(RANDOM.random((batch, *shape, 1))) for key in ("fixed", "moving")}


def predict(model, inputs):
    return run(lambda x: model(x), inputs)


def with_random_weights(model):
    """Sets large weights, the same on every backend, so that the field varies by voxels."""
    random = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(random.normal(0, 0.4, size=variable.shape))
    return model


def moved_head(model, size=0.5):
    """Gives the last layer a bias, so that the field is not zero."""
    bias = model.heads[0].bias
    bias.assign(np.arange(1, bias.shape[0] + 1) * size)
    return model


@pytest.mark.parametrize(("output", "level"), [("ddf", 0), ("ddf", 1), ("dvf", 0), ("dvf", 1)])
@pytest.mark.parametrize("shape", [(8, 12), (9, 7), (8, 4, 12), (9, 12, 7)])
def test_a_new_model_gives_a_small_field_of_the_input_size(shape, output, level):
    dims = len(shape)
    model = new(dims, output, channels=(2, 3, 4), level=level)
    found = predict(model, noise(shape))
    ddf = array(found["ddf"])
    assert ddf.shape == (2, *shape, dims)
    assert ddf.dtype == np.float32
    assert 0 < np.abs(ddf).max() < 0.01
    assert set(found) == ({"ddf"} if output == "ddf" else {"ddf", "velocity"})
    if output == "dvf":
        padded = [-(-n // 4) * 4 // 2**level for n in shape]
        assert tuple(found["velocity"].shape) == (2, *padded, dims)


@pytest.mark.parametrize("level", [0, 1])
def test_a_dvf_is_integrated_and_then_resized(level):
    model = with_random_weights(new(output="dvf", channels=(2, 3, 4), level=level, steps=3))
    found = predict(model, noise((8, 12)))
    assert np.abs(array(found["velocity"])).max() > 0.5
    expected = run(resize_field, run(integrate, found["velocity"], steps=3), shape=(8, 12))
    np.testing.assert_allclose(array(found["ddf"]), array(expected), atol=1e-4)


@pytest.mark.parametrize("flow", [False, True])
def test_exchanging_the_images_negates_a_symmetric_velocity(flow):
    config = {
        "dims": 2,
        "backbone": {"name": "unet", "channels": [2, 3, 4], "convolutions": 1},
        "output": {"name": "dvf", "symmetric": True, "steps": 3},
        "flow": flow,
    }
    symmetric = with_random_weights(build(ModelConfig.model_validate(config)))
    config["output"]["symmetric"] = False
    one_way = with_random_weights(build(ModelConfig.model_validate(config)))
    pair = noise((8, 12))
    exchanged = {"fixed": pair["moving"], "moving": pair["fixed"]}
    there, back = (array(predict(symmetric, inputs)["velocity"]) for inputs in (pair, exchanged))
    assert np.abs(there).max() > 0.1
    np.testing.assert_allclose(there, -back, atol=1e-5)
    inverse = array(symmetric.inverse(predict(symmetric, pair))["ddf"])
    np.testing.assert_allclose(array(predict(symmetric, exchanged)["ddf"]), inverse, atol=1e-4)
    halves = [array(predict(one_way, inputs)["velocity"]) / 2 for inputs in (pair, exchanged)]
    np.testing.assert_allclose(there, halves[0] - halves[1], atol=1e-5)


def test_other_sizes_are_padded_with_0_behind_the_last_voxel():
    model = with_random_weights(new(channels=(2, 3, 4)))
    inputs = noise((9, 7))
    padded = {key: tensor(np.pad(array(image), [(0, 0), (0, 3), (0, 1), (0, 0)])) for key, image in inputs.items()}
    found, expected = (array(predict(model, pair)["ddf"]) for pair in (inputs, padded))
    assert np.abs(found).max() > 0.1
    np.testing.assert_allclose(found, expected[:, :9, :7], atol=1e-5)


@pytest.mark.parametrize(("output", "level"), [("ddf", 1), ("dvf", 1), ("dvf", 0)])
def test_a_field_of_a_coarser_level_counts_in_voxels_of_the_input(output, level):
    model = moved_head(new(2, output, channels=(2, 3, 4), level=level))
    ddf = array(predict(model, noise((9, 14)))["ddf"])
    np.testing.assert_allclose(ddf, np.broadcast_to(np.array([0.5, 1.0]) * 2**level, ddf.shape), atol=0.01)


def blob_pair():
    """Returns one blob in two places and the way between: moved(x) = moving(x + way) is fixed(x)."""
    x = np.moveaxis(np.indices((16, 12)), 0, -1)
    way = np.array([2.5, -1.5])
    middle = np.array([6.5, 6.5])
    fixed, moving = (np.exp(-((x - place) ** 2).sum(-1) / 8)[None, ..., None] for place in (middle, middle + way))
    return {"fixed": fixed.astype("float32"), "moving": moving.astype("float32")}, way


@pytest.mark.parametrize("output", ["ddf", "dvf"])
def test_fit_lowers_the_loss_and_moves_the_blob_the_right_way(output):
    pair, way = blob_pair()
    labels = {f"{key}_labels": (image > 0.5).astype("float32") for key, image in pair.items()}
    pair.update(labels)
    model = new(2, output, steps=4) if output == "dvf" else new()
    objective = {"image": {"ssd": {"weight": 10}}, "label": {"dice": {"weight": 0.5}}, "deformation": {"bending": {}}}
    model.supervise(objective, (1.0, 1.0))
    model.compile(keras.optimizers.Adam(5e-3), jit_compile=keras.backend.backend() == "jax")
    before = predict(model, pair)
    history = model.fit(pair, epochs=40, verbose=0).history
    assert set(history) == {"loss", "image_ssd", "label_dice", "deformation_bending"}
    terms = [10 * history["image_ssd"][0], 0.5 * history["label_dice"][0], history["deformation_bending"][0]]
    assert history["loss"][0] == pytest.approx(sum(terms), rel=1e-4)
    start = array(losses.ssd(tensor(pair["fixed"]), tensor(pair["moving"])))[0]
    assert history["image_ssd"][0] == pytest.approx(start, rel=1e-2)
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    assert history["label_dice"][-1] < 0.9 * history["label_dice"][0]
    ddf = predict(model, pair)["ddf"]
    at_blob = np.average(array(ddf)[0], weights=pair["fixed"][0, ..., 0], axis=(0, 1))
    assert (at_blob * way > 0.3).all()
    assert np.abs(array(before["ddf"])).max() < 0.01
    moved = array(warp(tensor(pair["moving"]), ddf))
    assert ((moved - pair["fixed"]) ** 2).mean() < 0.7 * start


def test_without_an_objective_fit_says_what_to_do():
    model = new()
    model.compile("sgd", jit_compile=False)
    with pytest.raises(InvalidError, match=r"The model has no objective\. Call supervise\(.*, spacing\) before fit"):
        model.compute_loss(blob_pair()[0], None, model(blob_pair()[0]))


@pytest.mark.slow_under("jax", "tensorflow")
def test_supervise_may_come_after_predicting_and_again_after_training():
    pair, _ = blob_pair()
    model = new()
    model.predict(pair, verbose=0)
    model.supervise({**SSD, "deformation": {"gradient": {"weight": 0}}}, (1.0, 1.0))
    model.compile("sgd", jit_compile=False)
    assert set(model.fit(pair, verbose=0).history) == {"loss", "image_ssd"}
    model.supervise({"image": {"ncc": {"weight": 2}}}, (1.0, 1.0))
    logs = model.fit(pair, verbose=0).history
    assert set(logs) == {"loss", "image_ncc"}
    assert logs["loss"][0] == pytest.approx(2 * logs["image_ncc"][0])
    expected = array(losses.ncc(tensor(pair["fixed"]), tensor(pair["moving"])))[0]
    assert logs["image_ncc"][0] == pytest.approx(expected, abs=1e-3)


def test_the_convolutions_may_be_half_precise_but_not_the_field():
    model = moved_head(new(precision="mixed_bfloat16"), 0.3)
    exact = moved_head(new(), 0.3)
    inputs = noise((8, 8))
    ddf = predict(model, inputs)["ddf"]
    assert keras.backend.standardize_dtype(ddf.dtype) == "float32"
    assert keras.backend.standardize_dtype(model.backbone(keras.ops.ones((1, 8, 8, 2)))[0].dtype) == "bfloat16"
    np.testing.assert_allclose(array(ddf), array(predict(exact, inputs)["ddf"]), atol=1e-4)  # bfloat16 0.3 is 0.3008
    assert {variable.dtype for variable in model.variables} == {"float32"}


PATHS = [
    "encoder0_conv0/kernel",
    "encoder0_conv0/bias",
    "encoder1_conv0/kernel",
    "encoder1_conv0/bias",
    "decoder0_conv0/kernel",
    "decoder0_conv0/bias",
    "field/kernel",
    "field/bias",
]


def test_variable_paths_are_the_same_for_every_model_and_backend():
    for output in ("ddf", "dvf"):  # the second model in a process must not be numbered
        model = new(output=output)
        model.supervise(SSD, (1.0, 1.0))
        assert [variable.path for variable in model.variables] == PATHS
    deep = new(channels=(2, 3, 4, 5))
    assert len({variable.path for variable in deep.variables}) == len(deep.variables) == 16


@pytest.mark.parametrize("output", ["ddf", "dvf"])
def test_weights_come_back_from_a_file(tmp_path, output):
    model, inputs = moved_head(new(3, output)), noise((6, 5, 4))
    weights.save(tmp_path / "model.safetensors", weights.arrays(model.variables), {"epoch": 3})
    values, facts = weights.read(tmp_path / "model.safetensors")
    assert facts == {"epoch": 3}
    keras.utils.set_random_seed(2)
    backbone = {"name": "unet", "channels": (4, 6), "convolutions": 1}
    other = build(ModelConfig.model_validate({"backbone": backbone, "output": {"name": output, "level": 0}}))
    assert np.abs(array(predict(other, inputs)["ddf"]) - array(predict(model, inputs)["ddf"])).max() > 0.1
    weights.assign(other.variables, values)
    np.testing.assert_array_equal(array(predict(other, inputs)["ddf"]), array(predict(model, inputs)["ddf"]))
    weights.load(other, tmp_path / "model.safetensors")
    for old, new_ in zip(model.variables, other.variables, strict=True):
        np.testing.assert_array_equal(array(old.value), array(new_.value))


def test_half_precision_weights_are_widened_and_a_prefix_chooses():
    model = new()
    values = weights.arrays(model.variables, "model/")
    assert set(values) == {f"model/{path}" for path in PATHS}
    half = {name: (value * 0 + 0.1).astype("float16") for name, value in values.items()}
    weights.assign(model.variables, half | {"optimizer/rate": np.ones(1)}, prefix="model/")
    for variable in model.variables:
        assert variable.dtype == "float32"
        np.testing.assert_array_equal(array(variable.value), np.float32(np.float16(0.1)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"field/bias": None}, r"w do not fit the model: missing \['field/bias'\], not in the model \[\]\."),
        ({"more": np.ones(1)}, r"w do not fit the model: missing \[\], not in the model \['more'\]\."),
        ({"field/bias": np.ones(3, "float32")}, r"w: field/bias: expected shape \(2,\), received \(3,\)\."),
        (
            {"field/bias": np.ones(2, "float64")},
            r"w: field/bias: expected dtype float32 or float16, received float64\.",
        ),
        ({"field/bias": np.ones(2, "int32")}, r"w: field/bias: expected dtype float32 or float16, received int32\."),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_nothing_is_set(change, message):
    model = new()
    before = weights.arrays(model.variables)
    values = {name: value + 1 for name, value in before.items()} | change
    with pytest.raises(InvalidError, match=message):
        weights.assign(
            model.variables, {name: value for name, value in values.items() if value is not None}, source="w"
        )
    for name, value in weights.arrays(model.variables).items():
        np.testing.assert_array_equal(value, before[name])


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InvalidError, match=r"^model\.safetensors is not a readable safetensors file: "):
        weights.load(new(), tmp_path / "model.safetensors")


def test_compiled_is_what_the_layers_compute():
    """TensorFlow's graph optimiser once gave the lowest levels of a deep U-Net a wrong shape."""
    config = ModelConfig(backbone={"name": "unet", "channels": [4, 4, 4, 8, 8]}, output={"name": "ddf", "level": 2})
    model = build(config)
    images = np.random.default_rng(0).uniform(size=(2, 1, 32, 40, 32, 1)).astype("float32")
    batch = {"fixed": images[0], "moving": images[1]}
    compiled = array(model.predict_on_batch(batch)["ddf"])
    np.testing.assert_allclose(compiled, array(model(batch)["ddf"]), atol=1e-6)


@pytest.mark.parametrize("matrix", [None, np.eye(2, 3)])
def test_labels_and_masks_end_at_the_image_s_border_and_the_image_goes_on(matrix):
    """A label that fills the last two columns is moved three further in: its columns, and none that repeat them."""
    image = np.arange(56, dtype="float32").reshape(1, 7, 8, 1)
    label = np.zeros((1, 7, 8, 1), "float32")
    label[:, :, 6:] = 1
    inputs = {
        "fixed": image,
        "moving": image,
        "fixed_labels": label,
        "moving_labels": label,
        "moving_mask": 1 + 0 * image,
    }
    if matrix is not None:
        inputs["moving_matrix"] = matrix[None].astype("float32")
    ddf = tensor(np.broadcast_to((0.0, 3.25), (1, 7, 8, 2)))
    inputs = {key: tensor(each) for key, each in inputs.items()}
    compared = new().compared(inputs, {"ddf": ddf, "dense": ddf}, labels=True)
    _, moved, mask = (array(each) for each in compared["image"])
    np.testing.assert_allclose(moved[0, 0, :, 0], [3.25, 4.25, 5.25, 6.25, 7, 7, 7, 7], atol=1e-5)
    np.testing.assert_allclose(mask[0, 0, :, 0], [1, 1, 1, 1, 0.75, 0, 0, 0], atol=1e-5)
    np.testing.assert_allclose(array(compared["label"][1])[0, 0, :, 0], [0, 0, 0.25, 1, 0.75, 0, 0, 0], atol=1e-5)
