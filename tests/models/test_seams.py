"""A loss, a backbone and an output of one's own: each is one entry in one dict, and nothing else is touched."""

import json
from typing import Annotated, ClassVar, Literal

import keras
import numpy as np
import pytest
from keras import ops
from pydantic import Field
from tensors import array, tensor

import regzoo
from regzoo.errors import InvalidError
from regzoo.hub import cards
from regzoo.losses import weighted_terms
from regzoo.models import build, output_of, weights
from regzoo.models.heads import head, predictions
from regzoo.models.outputs.output import Output
from regzoo.models.trainable import Trainable
from regzoo.schema.backbones import BACKBONES, BackboneConfig, Channels
from regzoo.schema.inputs import InputConfig
from regzoo.schema.losses import LOSSES, Loss, Term
from regzoo.schema.networks import ModelConfig
from regzoo.schema.outputs import OUTPUTS, OutputConfig
from regzoo.schema.registry import Entry
from regzoo.schema.strict import validate
from regzoo.world.images import Image

SHAPE, SPACING, SHIFT = (12, 10, 14), (2.0, 1.5, 1.0), np.array([1.5, -1.0, 2.0])
UNET = {"name": "unet", "channels": [2, 2], "convolutions": 1}


class PowerTerm(Term):
    """The toy loss's settings."""

    power: Annotated[float, Field(gt=0, le=8)] = 2.0


def difference(fixed, moved, mask=None, power=2.0):
    """The mean of the difference to a power."""
    return ops.mean(ops.power(ops.abs(fixed - moved) + 1e-6, power), axis=(1, 2, 3, 4))


class PlainConfig(BackboneConfig):
    """Convolutions at one resolution, with a number of its own for how deep, wide and large it is."""

    name: Literal["plain"] = "plain"
    width: Channels = 4

    deepest: ClassVar[int] = 1

    @property
    def widest(self):
        return self.width

    def weights(self, dims):
        return 3**dims * self.width * (self.width + 2)


def plain(dims, levels, inputs, width, dtype):
    pair = keras.Input((*(None,) * dims, inputs))
    kind = {2: keras.layers.Conv2D, 3: keras.layers.Conv3D}[dims]
    x = kind(width, 3, padding="same", name="only", dtype=dtype)(pair)
    return keras.Model(pair, [x for _ in levels])


class ShiftConfig(OutputConfig):
    """One displacement for the whole image."""

    has_inverse: ClassVar[bool] = True
    name: Literal["shift"] = "shift"
    longest: Annotated[float, Field(gt=0, le=100)] = 20.0


class Shift(Output):
    """Its value is one displacement in mm, (B, D)."""

    def prediction(self, values, shape, covered=None):
        voxels = self.config.longest * ops.tanh(values[0] / self.config.longest) / ops.convert_to_tensor(self.spacing)
        ones = ops.ones((1, *shape, 1))
        return {"ddf": ones * ops.reshape(voxels, (-1, *(1,) * self.dims, self.dims)), "shift": values[0]}

    def inverse(self, prediction, covered=None):
        return self.prediction([-prediction["shift"]], prediction["ddf"].shape[1:-1])

    def heads(self, features, levels):
        return [head(self.dims, features[0], self.dims, "shift")]

    def read(self, heads, features, levels, shape):
        (found,) = predictions(heads, features)
        return [ops.mean(found, axis=tuple(range(1, self.dims + 1)))]

    def weights(self, shape):
        return {"shift": (self.dims,)}


@pytest.fixture
def toys(monkeypatch):
    monkeypatch.setitem(LOSSES["image"], "difference", Entry(PowerTerm, difference))
    monkeypatch.setitem(BACKBONES, "plain", Entry(PlainConfig, plain))
    monkeypatch.setitem(OUTPUTS, "shift", Entry(ShiftConfig, Shift))


def picture(places):
    middle = (np.array(SHAPE) - 1) / 2 * SPACING
    return np.exp(-(((places - middle) / (6, 4, 3)) ** 2).sum(-1)).astype("float32")


def pair():
    """Returns images on one grid: fixed(x) = moving(x + SHIFT)."""
    affine = np.diag([*SPACING, 1.0])
    places = np.moveaxis(np.indices(SHAPE), 0, -1) * SPACING
    return Image(picture(places), affine), Image(picture(places - SHIFT), affine)


def trained(config, objective, steps=3, rate=0.01):
    keras.utils.set_random_seed(1)
    model = build(config, SPACING)
    model.supervise(objective, SPACING)
    model.compile(keras.optimizers.Adam(rate), jit_compile=keras.backend.backend() == "jax")
    fixed, moving = (each.array[None, ..., None] for each in pair())
    return model, model.fit({"fixed": fixed, "moving": moving}, epochs=steps, verbose=0).history["loss"]


def entry(folder, model, config):
    """Writes a model as a zoo entry."""
    folder.mkdir()
    weights.save(folder / cards.WEIGHTS, weights.arrays(model.variables))
    (folder / cards.CONFIG).write_text(json.dumps(config))
    inputs = {"shape": SHAPE, "spacing": SPACING, "alignment": "world"}
    cards.write(folder, cards.Card(name="toy-ct-shift", version="1", input=inputs, files=cards.manifest(folder)), "Toy")
    return folder


@pytest.mark.backend
@pytest.mark.parametrize(
    ("backbone", "output", "objective"),
    [
        ({"name": "plain", "width": 3}, {"name": "ddf"}, {"image": {"ssd": {}}}),
        (UNET, {"name": "shift", "longest": 30}, {"image": {"ssd": {}}}),
        (UNET, {"name": "ddf"}, {"image": {"difference": {"power": 1}}}),
        ({"name": "plain"}, {"name": "shift"}, {"image": {"difference": {"power": 2}}}),
    ],
    ids=["backbone", "output", "loss", "all"],
)
def test_a_toy_is_built_trained_saved_loaded_and_registers(toys, tmp_path, backbone, output, objective):
    config = {"backbone": backbone, "output": output}
    model, losses = trained(config, objective)
    assert losses[-1] < losses[0]
    folder = entry(tmp_path / "toy", model, config)
    loaded = regzoo.load(folder)
    batch = {name: tensor(each.array[None, ..., None]) for name, each in zip(("fixed", "moving"), pair(), strict=True)}
    np.testing.assert_array_equal(array(loaded(batch)["ddf"]), array(model(batch)["ddf"]))
    result = regzoo.register(*pair(), folder, start="center")
    found = result.transform.displacement(result.fixed.grid)
    # Percentiles stretch the intensities a little on the way, and the field follows them; in mm, not in voxels.
    expected = array(model(batch)["ddf"])[0] * SPACING
    assert np.abs(expected).max() > 0.02
    np.testing.assert_allclose(found, expected, atol=0.3 * np.abs(expected).max())


def test_a_toy_output_is_one_object_for_a_network_and_for_a_weight(toys):
    network = build({"backbone": UNET, "output": {"name": "shift", "longest": 100}}, SPACING)
    network.heads[0].kernel.assign(0 * network.heads[0].kernel)
    network.heads[0].bias.assign(SHIFT)  # mm
    fixed, moving = (tensor(each.array[None, ..., None]) for each in pair())
    direct = Trainable(output_of(ShiftConfig(longest=100), 3, SPACING), SHAPE)
    assert type(direct.meaning) is type(network.meaning) is Shift
    assert direct.invertible
    direct.supervise({"image": {"difference": {"power": 2}}}, SPACING)
    direct.compile(keras.optimizers.Adam(0.1), jit_compile=keras.backend.backend() == "jax")
    direct.fit({"fixed": array(fixed), "moving": array(moving)}, epochs=80, verbose=0)
    for model in (network, direct):
        found = model.field(fixed, moving)
        np.testing.assert_allclose(array(found["ddf"])[0, 3, 4, 5] * SPACING, SHIFT, atol=0.1)
        np.testing.assert_allclose(array(model.inverse(found)["ddf"]), -array(found["ddf"]), atol=1e-6)


def test_a_toy_loss_is_checked_like_any_other(toys):
    loss = validate(Loss, {"image": {"difference": {"weight": 2, "power": 3}}}, "recipe")
    assert (loss.image.difference.power, loss.image.ssd) == (3.0, None)
    assert loss.model_dump(exclude_none=True)["image"] == {"difference": {"weight": 2.0, "power": 3.0}}
    assert validate(Loss, loss.model_dump(mode="json", exclude_none=True), "recipe") == loss
    with pytest.raises(InvalidError, match=r"image.difference.power: expected greater than 0, received -1"):
        validate(Loss, {"image": {"difference": {"power": -1}}}, "recipe")
    with pytest.raises(InvalidError, match=r"image\.difference\.pover: unknown key\. Did you mean 'power'\?"):
        validate(Loss, {"image": {"difference": {"pover": 1}}}, "recipe")
    with pytest.raises(
        InvalidError, match=r"objective: image\.difference\.pover: unknown key\. Did you mean 'power'\?"
    ):
        weighted_terms({"image": {"difference": {"pover": 1}}}, SPACING)


def test_a_toy_loss_has_its_parameters_in_compile(toys):
    fixed, moved = (tensor(each.array[None, ..., None]) for each in pair())
    found = array(regzoo.losses.Loss("difference", power=3)(fixed, moved))
    np.testing.assert_allclose(found, np.mean(np.abs(array(fixed) - array(moved)) ** 3), rtol=1e-5)


def test_a_toy_loss_registers_a_pair_by_optimisation(toys):
    result = regzoo.register(*pair(), method="rigid", loss="difference", start="world", iterations=60)
    middle = (np.array(SHAPE) - 1) / 2 * SPACING
    np.testing.assert_allclose(result.transform.apply_points(middle[None])[0] - middle, SHIFT, atol=0.3)
    assert result.facts["loss"] == "difference"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"backbone": {"name": "plane"}}, r"backbone\.name: expected 'unet', .*'plain', received 'plane'"),
        ({"backbone": {"name": "plain", "wide": 3}}, r"backbone\.wide: unknown key\. Did you mean 'width'\?"),
        ({"output": {"name": "shift", "longest": 0}}, r"output\.longest: expected greater than 0, received 0\."),
        ({"output": {"name": "shift"}, "passes": 2}, r"passes: expected 1, unless the output is ddf, dvf, ffd or fitt"),
        ({"output": {"name": "shift"}, "descriptor": "mind"}, "descriptor: expected none, unless the output is ddf"),
        ({"backbone": {"name": "plain"}, "output": {"name": "affine"}}, "backbone: expected global for the output aff"),
        ({"backbone": {"name": "plain"}, "output": {"name": "dvf"}}, "output.level must be below 1"),
    ],
)
def test_what_a_toy_cannot_do_is_refused_like_any_other(toys, config, message):
    with pytest.raises(InvalidError, match=message):
        build({"backbone": UNET, "output": {"name": "ddf"}} | config)


def test_a_toy_of_more_weights_or_features_than_memory_is_refused(toys, monkeypatch):
    monkeypatch.setattr(PlainConfig, "weights", lambda self, dims: 2**27 + 1)
    with pytest.raises(InvalidError, match="expected a network of at most 134217728 weights, received about 134217729"):
        build({"backbone": {"name": "plain"}, "output": {"name": "ddf"}})
    monkeypatch.undo()
    monkeypatch.setitem(BACKBONES, "plain", Entry(PlainConfig, plain))
    config = ModelConfig.model_validate({"backbone": {"name": "plain", "width": 512}, "output": {"name": "ddf"}})
    with pytest.raises(InvalidError, match="at most 524288 voxels with 512 channels"):
        InputConfig(shape=(96, 96, 96)).check(config)
    InputConfig(shape=(80, 80, 80)).check(config)


def test_without_its_entry_nothing_of_a_toy_is_left():
    for config in ({"backbone": {"name": "plain"}}, {"output": {"name": "shift"}}):
        with pytest.raises(InvalidError, match=r"received '(plain|shift)'"):
            build({"backbone": UNET, "output": {"name": "ddf"}} | config)
    with pytest.raises(InvalidError, match=r"image.difference: unknown key"):
        validate(Loss, {"image": {"difference": {}}}, "recipe")
