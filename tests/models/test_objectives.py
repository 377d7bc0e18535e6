"""Every loss as a model is trained by it: with masks and without, one way and both ways."""

import functools

import numpy as np
import pytest
from keras import ops
from loss_cases import KINDS, LOSSES, spaced
from tensors import array, tensor

from regzoo import backend
from regzoo.errors import InvalidError
from regzoo.models.base import RegistrationModel
from regzoo.ops.warping import warp

pytestmark = pytest.mark.backend

SHAPE, SPACING = (9, 8, 7), (2.0, 0.5, 3.0)
SETTINGS = {"lncc": {"size": 3}, "mind": {"radius": 1, "dilation": 1}, "folding": {"margin": 0.9}}
MASKS = [(), ("fixed_mask",), ("moving_mask",), ("fixed_mask", "moving_mask")]


@pytest.fixture(autouse=True)
def eager(monkeypatch):
    """All losses in one compiled function take a minute to compile, and nothing here depends on it."""
    monkeypatch.setattr(backend, "compiled", lambda function, **static: functools.partial(function, **static))


class Given(RegistrationModel):
    """Two fields, of which the second stands for the inverse of the first."""

    invertible = True

    def __init__(self, there, back):
        super().__init__(name="given")
        self.there, self.back = there, back
        self.build()

    def field(self, fixed, moving):
        return {"ddf": tensor(self.there)}

    def inverse(self, prediction):
        return {"ddf": tensor(self.back)}


def batch():
    random = np.random.default_rng(5)
    sides = {"fixed": random.random((2, *SHAPE, 1)), "moving": random.random((2, *SHAPE, 1))}
    for side in ("fixed", "moving"):
        sides[f"{side}_labels"] = random.uniform(0.1, 0.9, (2, *SHAPE, 2))
        sides[f"{side}_mask"] = (random.random((2, *SHAPE, 1)) > 0.3).astype("float32")
    return sides | {"known": random.normal(size=(2, *SHAPE, 3))}


def fields():
    return np.random.default_rng(6).normal(size=(2, 2, *SHAPE, 3)).astype("float32")


def arguments(kind, pair, ddf, mask):
    """Returns what a loss compares, from what is documented: masks multiplied, zero outside, the image's edge on."""
    if kind == "deformation":
        return [tensor(ddf)]
    if kind == "known":
        return [tensor(pair["known"]), tensor(ddf), tensor(pair["fixed_mask"]) if "fixed_mask" in mask else None]
    if kind == "label":
        return [tensor(pair["fixed_labels"]), warp(tensor(pair["moving_labels"]), tensor(ddf), "zero")]
    masks = [tensor(pair["fixed_mask"])] if "fixed_mask" in mask else []
    masks += [warp(tensor(pair["moving_mask"]), tensor(ddf), "zero")] if "moving_mask" in mask else []
    both = masks[0] * masks[-1] if len(masks) == 2 else (masks or [None])[0]
    return [tensor(pair["fixed"]), warp(tensor(pair["moving"]), tensor(ddf)), both]


def expected(kind, name, pair, ddf, mask):
    loss = KINDS[kind][name]
    settings = {**SETTINGS.get(name, {}), **spaced(name, {}, 3)}
    return float(array(ops.mean(loss(*arguments(kind, pair, ddf, mask), **settings))))


def exchanged(pair, mask):
    other = {"fixed": "moving", "moving": "fixed"}
    turned = {key: pair[key.replace(side, other[side])] for key in pair for side in other if key.startswith(side)}
    return turned, tuple(each.replace(side, other[side]) for each in mask for side in other if each.startswith(side))


def found(pair, mask, kinds, symmetric):
    model = Given(*fields())
    objective = {kind: {name: SETTINGS.get(name, {}) for k, name in LOSSES if k == kind} for kind in kinds}
    model.supervise(objective, SPACING, symmetric)
    inputs = {key: tensor(value) for key, value in pair.items() if not key.endswith("_mask") or key in mask}
    total = float(array(model.compute_loss(inputs, None, model.field(None, None))))
    values = {each.name: float(array(each.result())) for each in model.metrics if "_" in each.name}
    assert total == pytest.approx(sum(values.values()), rel=1e-4)
    return values


@pytest.mark.parametrize("mask", MASKS, ids=lambda mask: "+".join(mask) or "none")
def test_every_loss_one_way(mask):
    pair, (there, _) = batch(), fields()
    values = found(pair, mask, KINDS, symmetric=False)
    assert len(values) == len(LOSSES)
    for kind, name in LOSSES:
        wanted = expected(kind, name, pair, there, mask)
        assert values[f"{kind}_{name}"] == pytest.approx(wanted, rel=2e-3, abs=1e-4), (kind, name)


@pytest.mark.parametrize("mask", MASKS, ids=lambda mask: "+".join(mask) or "none")
def test_every_loss_both_ways_is_the_mean_of_the_pair_and_of_the_pair_exchanged(mask):
    pair, (there, back) = batch(), fields()
    pair.pop("known")
    kinds = [kind for kind in KINDS if kind != "known"]
    values = found(pair, mask, kinds, symmetric=True)
    other, other_mask = exchanged(pair, mask)
    for kind, name in LOSSES:
        if kind != "known":
            ways = expected(kind, name, pair, there, mask), expected(kind, name, other, back, other_mask)
            assert values[f"{kind}_{name}"] == pytest.approx(np.mean(ways), rel=2e-3, abs=1e-4), (kind, name)


@pytest.mark.slow_under("tensorflow")
def test_masks_change_what_they_should():
    pair, (there, _) = batch(), fields()
    for kind, name in LOSSES:
        values = [expected(kind, name, pair, there, mask) for mask in MASKS]
        different = {"image": 4, "known": 2}.get(kind, 1)
        assert len({round(value, 6) for value in values}) == different, (kind, name)


def test_a_known_field_has_no_known_inverse():
    with pytest.raises(InvalidError, match=r"loss\.symmetric: expected false, since the inverse of a known field"):
        Given(*fields()).supervise({"known": {"distance": {}}}, SPACING, symmetric=True)


def test_both_ways_need_one_grid():
    model, pair = Given(*fields()), batch()
    model.supervise({"image": {"ssd": {}}}, SPACING, symmetric=True)
    inputs = {key: tensor(pair[key]) for key in ("fixed", "moving")} | {"moving_matrix": tensor(np.eye(3, 4)[None])}
    with pytest.raises(InvalidError, match="moving_matrix: expected none with a symmetric loss"):
        model.compute_loss(inputs, None, model.field(None, None))
