"""network_input gives what register shows to a network, and labels in the same places."""

import numpy as np
import pytest
from boxed_anatomy import boxes, picture_of
from constant_model import constant_model
from worlds import AFFINES, around, blobs

import regzoo
from regzoo.errors import InvalidError
from regzoo.world.images import Grid, Image

GRID = {"shape": (16, 12, 8), "spacing": (1.5, 1.5, 1.5)}


@pytest.mark.parametrize("alignment", ["center", "world"])
def test_it_is_what_register_shows_to_the_network(tmp_path, monkeypatch, alignment):
    fixed = blobs(Grid((20, 16, 12), AFFINES["LAS"]))
    moving = blobs(around(fixed.grid, "oblique", margin=2), seed=1)
    model = regzoo.load(constant_model(tmp_path / "zoo", alignment=alignment))
    shown, predict = [], model.predict_on_batch
    monkeypatch.setattr(model, "predict_on_batch", lambda batch: shown.append(batch) or predict(batch))
    regzoo.register(fixed, moving, model, start=alignment)
    found = regzoo.network_input(fixed, moving, model.card.input)
    assert found.keys() == shown[0].keys() == {"fixed", "moving"}
    for name, array in found.items():
        np.testing.assert_array_equal(array, shown[0][name])
        assert array.dtype == np.float32


def test_labels_lie_where_the_image_does():
    grid = Grid((20, 9, 9), AFFINES["LPS"])
    image = picture_of(grid)
    labels = Image(boxes((3, (2, 3, 4)), (7, (12, 2, 3))), grid.affine)
    marked = Image(np.where(labels.array == 7, 1000, image.array).astype("float32"), grid.affine)
    inputs = GRID | {"alignment": "world", "intensity": {"name": "window", "low": 0, "high": 1000}}
    found = regzoo.network_input(marked, image, inputs, fixed_labels=labels, moving_labels=labels)
    assert found["fixed_labels"].shape == found["moving_labels"].shape == (1, 16, 12, 8, 2)
    box = found["fixed_labels"][..., 1:] == 1
    assert box.sum() == 64
    np.testing.assert_array_equal(found["fixed"] > 0.95, box)
    chosen = regzoo.network_input(marked, image, inputs, fixed_labels=labels, moving_labels=labels, labels=[7])
    np.testing.assert_array_equal(chosen["fixed_labels"], found["fixed_labels"][..., 1:])


def test_each_slice_is_a_pair_of_a_2d_network():
    image = np.random.default_rng(0).random((12, 10, 5))
    found = regzoo.network_input(image, image, {"shape": (8, 8), "spacing": (1, 1)}, spacing=(1, 1, 3))
    assert {name: array.shape for name, array in found.items()} == {"fixed": (5, 8, 8, 1), "moving": (5, 8, 8, 1)}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"input": {"shap": (8, 8, 8)}}, r"input: shap: unknown key\. Did you mean 'shape'\?"),
        ({"input": "lung"}, "input: expected a dict"),
        ({"fixed_labels": np.ones((20, 9, 9), int)}, "labels: expected fixed_labels and moving_labels"),
        ({"fixed_labels": boxes((1, (2, 2, 2))), "moving_labels": boxes((2, (2, 2, 2)))}, "both images have, received"),
        ({"labels": [1]}, r"labels: expected values such as \[1, 2\], of fixed_labels and moving_labels"),
        ({"spacing": None}, "fixed: expected an array with one of spacing and affine"),
    ],
)
def test_what_cannot_be_used_is_named(given, message):
    image = np.random.default_rng(0).random((20, 9, 9))
    with pytest.raises(InvalidError, match=message):
        regzoo.network_input(image, image, **{"input": GRID, "spacing": (1, 1, 1)} | given)
