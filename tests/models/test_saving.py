"""A model that was trained by hand becomes a zoo entry."""

import keras
import numpy as np
import pytest
from command_line import run
from keras import layers, ops
from worlds import AFFINES, blobs

import regzoo
from regzoo.errors import InvalidError, RegzooError
from regzoo.hub import cards
from regzoo.models import NETWORKS, build
from regzoo.world.images import Grid

pytestmark = pytest.mark.backend
SHAPE, SPACING = (16, 12, 8), (2.0, 2.5, 3.0)
CARD = {"name": "mine-ddf", "input": {"shape": SHAPE, "spacing": SPACING}, "summary": "A test."}
CONFIG = {"backbone": {"name": "unet", "channels": [2, 3]}, "output": {"name": "ddf"}}


def scattered(model, seed=0):
    random = np.random.default_rng(seed)
    for variable in model.variables:
        variable.assign(0.1 * random.normal(size=variable.shape))
    return model


def own(features=2):
    fixed, moving = keras.Input((None, None, None, 1)), keras.Input((None, None, None, 1))
    x = layers.Conv3D(features, 3, padding="same", activation="tanh")(ops.concatenate([fixed, moving], axis=-1))
    return keras.Model([fixed, moving], layers.Conv3D(3, 3, padding="same")(x))


def sized():
    sides = [keras.Input((8, 8, 8, 1)) for _ in range(2)]
    return keras.Model(sides, layers.Conv3D(3, 3, padding="same")(ops.concatenate(sides, axis=-1)))


@pytest.fixture
def my_net(monkeypatch):
    monkeypatch.setitem(NETWORKS, "my-net", own)


def field(model):
    random = np.random.default_rng(5)
    pair = {name: random.random((2, *SHAPE, 1)).astype("float32") for name in ("fixed", "moving")}
    return model.predict_on_batch(pair)["ddf"]


def images():
    return [regzoo.Image(blobs(Grid((20, 16, 12), AFFINES["RAS"]), seed).array, AFFINES["RAS"]) for seed in (0, 1)]


def test_a_model_from_a_plain_dict_is_saved_and_loaded(tmp_path):
    model = scattered(build(CONFIG, SPACING))
    expected = field(model)
    folder = regzoo.save(model, tmp_path / "mine", CARD)
    assert model.card.id == "mine-ddf@1"
    np.testing.assert_allclose(field(regzoo.load(folder)), expected, atol=1e-5)
    assert np.abs(expected).max() > 0.1


@pytest.mark.slow_under("jax")
def test_a_network_of_ones_own_is_trained_saved_and_registers(tmp_path, my_net):
    network = own(features=4)
    random = np.random.default_rng(0)
    pair = [random.random((2, *SHAPE, 1)).astype("float32") for _ in range(2)]
    network.compile(keras.optimizers.Adam(1e-2), loss=lambda _, ddf: regzoo.losses.gradient(ddf, SPACING))
    before = network.evaluate(pair, pair[0], verbose=0)
    network.fit(pair, pair[0], epochs=3, verbose=0)
    assert network.evaluate(pair, pair[0], verbose=0) < before
    folder = regzoo.save(network, tmp_path / "mine", CARD, network="my-net", settings={"features": 4})
    own(), own()  # Keras counts on: the layers have other names now
    loaded = regzoo.load(folder)
    expected = {"fixed": pair[0], "moving": pair[1]}
    np.testing.assert_allclose(loaded.predict_on_batch(expected)["ddf"], network.predict_on_batch(pair), atol=1e-5)
    result = regzoo.register(*images(), model=folder)
    assert result.facts["model"]["name"] == "mine-ddf"
    assert np.abs(result.transform.displacement(result.fixed.grid)).max() > 0


def test_whoever_loads_a_network_must_have_its_function(tmp_path, my_net, monkeypatch):
    folder = regzoo.save(own(), tmp_path / "mine", CARD, network="my-net")
    monkeypatch.delitem(NETWORKS, "my-net")
    with pytest.raises(InvalidError, match=r"a zoo entry holds no code.*regzoo\.models\.NETWORKS\['my-net'\] = "):
        regzoo.load(folder)
    with pytest.raises(InvalidError, match="'my-net', its user's own"):
        cards.read_config(folder)


def test_an_installed_package_adds_a_network_for_the_command_line_too(tmp_path, monkeypatch):
    (tmp_path / "lab_networks.py").write_text(
        "import keras\n\n\ndef small():\n    sides = [keras.Input((None, None, None, 1)) for _ in range(2)]\n"
        "    both = keras.layers.Concatenate()(sides)\n"
        "    return keras.Model(sides, keras.layers.Conv3D(3, 3, padding='same')(both))\n"
    )
    about = tmp_path / "lab_networks-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-networks\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[regzoo.networks]\nlab-net = lab_networks:small\n")
    monkeypatch.syspath_prepend(tmp_path)
    import lab_networks

    folder = regzoo.save(scattered(lab_networks.small()), tmp_path / "mine", CARD, network="lab-net")
    for name, image in zip(("fixed.nii.gz", "moving.nii.gz"), images(), strict=True):
        image.save(tmp_path / name)
    files = (str(tmp_path / name) for name in ("fixed.nii.gz", "moving.nii.gz"))
    code, out, err = run("register", *files, "--model", str(folder), "-o", str(tmp_path / "out"))
    assert code == 0, err
    assert "correlation" in out


def test_a_function_that_builds_another_network_is_found_out(tmp_path, my_net):
    message = r"settings: expected the arguments with which 'my-net' .* of 547 weights, received {}, .* of 275"
    with pytest.raises(InvalidError, match=message):
        regzoo.save(own(4), tmp_path / "mine", CARD, network="my-net")
    NETWORKS["my-net"] = lambda: keras.Model(*(lambda m: (m.inputs, m.outputs[0] * 2.0))(own()))
    with pytest.raises(RegzooError, match="What was saved gives another ddf"):
        regzoo.save(scattered(own()), tmp_path / "mine", CARD, network="my-net")
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_is_told_before_anything_is_written(tmp_path, my_net):
    model = build(CONFIG, SPACING)
    wrong = [
        (model, {"input": CARD["input"]}, {}, "card: name: the key is missing"),
        (model, CARD | {"input": {"shape": SHAPE, "spacing": (1, 1, 1)}}, {}, "for which the model was built"),
        (model, CARD | {"sumary": "x"}, {}, "Did you mean 'summary'"),
        (own(), CARD, {}, "network: expected the name in regzoo.models.NETWORKS"),
        (model, CARD, {"settings": {"a": 1}}, "settings: expected none without network"),
        (own(), CARD, {"network": "my-net", "settings": [4]}, "settings: expected a dict of the function's arguments"),
        (sized(), CARD, {"network": "my-net"}, r"card: input.shape: expected \(8, 8, 8\), which the network takes"),
        (own(), CARD, {"network": "other-net"}, "The network 'other-net' is not known here"),
    ]
    for model, card, more, message in wrong:
        with pytest.raises(InvalidError, match=message):
            regzoo.save(model, tmp_path / "mine", card, **more)
        assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    with pytest.raises(InvalidError, match=r"exists\. Choose another folder"):
        regzoo.save(model, tmp_path / "mine", CARD)


def test_a_config_with_a_wrong_key_is_one_line():
    with pytest.raises(InvalidError, match=r"config: backbon: unknown key\. Did you mean 'backbone'"):
        build({"backbon": {}})


@pytest.mark.slow_under("jax")
def test_losses_with_parameters_work_in_compile(tmp_path):
    moving, ddf = keras.Input((12, 10, 1)), keras.Input((12, 10, 2))
    moved = regzoo.layers.Warp(name="moved")([moving, layers.Dense(2, name="ddf")(ddf)])
    model = keras.Model([moving, ddf], moved)
    model.compile("adam", loss=regzoo.losses.Loss("lncc", size=5))
    random = np.random.default_rng(0)
    image, field = random.random((2, 12, 10, 1)).astype("float32"), random.random((2, 12, 10, 2)).astype("float32")
    expected = ops.mean(regzoo.losses.lncc(image, model([image, field]), size=5))
    np.testing.assert_allclose(
        model.evaluate([image, field], image, verbose=0), ops.convert_to_numpy(expected), atol=1e-5
    )
    model.fit([image, field], image, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.loss.settings == {"size": 5}
    np.testing.assert_allclose(
        loaded.evaluate([image, field], image, verbose=0), model.evaluate([image, field], image, verbose=0), atol=1e-6
    )


def test_a_loss_of_a_field_looks_at_the_output_alone_and_wrong_parameters_are_told():
    ddf = np.random.default_rng(0).random((2, 4, 5, 2)).astype("float32")
    found = regzoo.losses.Loss("gradient", spacing=(1.0, 3.0))(np.zeros_like(ddf), ddf)
    np.testing.assert_allclose(
        float(ops.convert_to_numpy(found)),
        float(ops.convert_to_numpy(ops.mean(regzoo.losses.gradient(ddf, (1.0, 3.0))))),
        rtol=1e-5,
    )
    with pytest.raises(InvalidError, match=r"Unknown parameter of lncc 'sise'\. Did you mean 'size'"):
        regzoo.losses.Loss("lncc", sise=5)
    with pytest.raises(InvalidError, match=r"Unknown loss 'lnc'\. Did you mean 'lncc'"):
        regzoo.losses.Loss("lnc")
