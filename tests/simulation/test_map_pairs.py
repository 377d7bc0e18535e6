"""Pairs of painted label maps and random shapes."""

import json

import numpy as np
import pytest
from tensors import array

from regzoo.errors import RegzooError
from regzoo.schema.recipe import Recipe
from regzoo.simulation import map_pairs
from regzoo.training import recipe_data
from regzoo.training.finetune import finetune
from regzoo.world.images import Image

SHAPE = (16, 20, 18)
RECIPE = {
    "name": "maps",
    "model": {"backbone": {"name": "unet", "channels": [4, 8]}, "output": {"name": "ddf"}},
    "input": {"spacing": (4, 4, 4), "shape": SHAPE, "around": "extent"},
    "data": {
        "kind": "maps",
        "tissues": [[3, 7]],
        "layers": [[500], [501]],
        "zoom": (1, 1),
        "shapes": 2,
        "share": 0,
        "label_sampling": 3,
        "validation_pairs": 2,
        "prior": {"shapes": 6, "cut": 0, "texture": 0, "blur": 0, "sliced": 0, "stripped": 0, "spread": 0},
    },
    "loss": {"label": {"dice": {"weight": 1}}, "deformation": {"gradient": {"weight": 1}}},
    "augmentation": {"shift": 1e-6},
    "training": {"steps": 2, "steps_per_epoch": 2},
}


def head(shift):
    """A box of two tissues and three labels within two layers, on 2 mm."""
    map_ = np.zeros((44, 48, 44), "int16")
    for margin, label in ((6, 500), (9, 501), (12, 3), (16, 12)):
        map_[margin + shift : 44 - margin + shift, margin:-margin, margin:-margin] = label
    map_[20 + shift : 24 + shift, 20:24, 20:24] = 7
    return map_


@pytest.fixture
def home(tmp_path):
    """Three maps for training, two for validation."""
    names = {"train": ["a", "b", "c"], "valid": ["d", "e"]}
    for shift, name in enumerate("abcde"):
        Image(head(shift), np.diag([2.0, 2, 2, 1])).save(tmp_path / f"{name}.nii.gz")
    (tmp_path / "splits.json").write_text(json.dumps(names))
    return tmp_path


def recipe_of(prior=None, augmentation=None, **data):
    """The recipe, with changes."""
    data = RECIPE["data"] | data
    changed = {"data": data | {"prior": data["prior"] | (prior or {})}}
    return Recipe.model_validate(RECIPE | changed | ({"augmentation": augmentation} if augmentation else {}))


def batch_of(home, recipe, seed=1, count=3):
    """A batch of a recipe, and its examples."""
    examples = recipe_data.data_of(recipe, home).examples(recipe.input)
    return {name: array(each) for name, each in examples.draw(np.random.default_rng(seed), count).items()}, examples


@pytest.mark.backend
def test_a_batch_shows_maps_each_in_a_contrast_of_its_own(home):
    batch, examples = batch_of(home, recipe_of())
    again, _ = batch_of(home, recipe_of())
    for name, each in batch.items():
        assert each.shape == (3, *SHAPE, 3 if "labels" in name else 1)
        assert each.dtype == np.float32
        np.testing.assert_array_equal(each, again[name])
        assert 0 <= each.min() <= each.max() <= 1
    assert np.abs(batch["fixed"] - batch["moving"]).max() > 0.1
    # The middle of what is of interest lies on the grid's middle, however far the maps were shifted.
    np.testing.assert_array_equal(batch["fixed_labels"], batch["moving_labels"])
    for image in (*batch["fixed"], *batch["moving"]):
        assert len(np.unique(image.round(5))) <= 6
    assert len(examples.valid) == 2
    assert all(isinstance(each, np.ndarray) for pair in examples.valid for each in pair.values())


def test_labels_of_one_tissue_are_alike_and_others_are_not(home):
    (alike, _), (apart, _) = (batch_of(home, recipe_of(prior={"spread": spread})) for spread in (0, 1))

    def differences(batch):
        image = batch["fixed"][..., 0]
        return np.abs(image[:, 8, 9, 8] - image[:, 8, 5, 8])  # label 7 in the middle, label 3 around

    assert differences(alike).max() < 1e-5
    assert differences(apart).max() > 0.05


def test_outer_layers_are_taken_off_from_outside_and_have_no_label_then(home):
    places = (8, 1, 8), (8, 3, 8), (8, 6, 8)  # skin, fluid, and what is of interest
    seen = set()
    for seed in range(8):
        batch, _ = batch_of(home, recipe_of(prior={"stripped": 1}), seed)
        for pair in range(3):
            shown = [tuple(batch[side][(pair, *each)][0] > 0.01 for each in places) for side in ("fixed", "moving")]
            seen |= set(shown)
            for layer, place in enumerate(places[:2]):
                if not all(each[layer] for each in shown):
                    assert not batch["fixed_labels"][(pair, *place)].any()
    assert {each[:2] for each in seen} == {(False, True), (False, False)}
    whole, _ = batch_of(home, recipe_of())
    assert all((whole[side][(0, *places[0])] > 0).all() for side in ("fixed", "moving"))


def test_random_shapes_are_the_same_in_both_images(home):
    batch, _ = batch_of(home, recipe_of(share=1))
    np.testing.assert_array_equal(batch["fixed_labels"], batch["moving_labels"])
    assert batch["fixed_labels"].sum() > 0
    bent, _ = batch_of(home, recipe_of(share=1, augmentation={"rotation": 30}))
    assert np.abs(bent["fixed_labels"] - bent["moving_labels"]).max() == 1


def test_zoom_shows_a_part_of_both_maps(home):
    small, large = (batch_of(home, recipe_of(zoom=(zoom, zoom), same=1))[0] for zoom in (0.5, 2.0))
    assert (small["fixed"] > 0).mean() > 2 * (large["fixed"] > 0).mean()
    np.testing.assert_array_equal(small["fixed_labels"], small["moving_labels"])


def test_thick_slices_lie_along_one_axis(home):
    def steps(image, axis):
        return np.abs(np.diff(image, axis=axis)).max()

    (sharp, _), (thick, _) = (batch_of(home, recipe_of(prior={"sliced": share, "slices": 40})) for share in (0, 1))
    images = [(side, pair) for side in ("fixed", "moving") for pair in range(3)]
    blurred = [[steps(thick[s][p], axis) < 0.9 * steps(sharp[s][p], axis) for axis in range(3)] for s, p in images]
    assert max(map(sum, blurred)) >= 1


def test_maps_of_layers_alone_or_of_too_many_labels_are_refused(home):
    many = np.arange(300, dtype="int16").reshape(10, 10, 3)
    for array_, expected in ((np.full((8, 8, 8), 500, "int16"), "data.layers"), (many, "at most 255 labels")):
        Image(array_, np.eye(4)).save(home / "a.nii.gz")
        with pytest.raises(RegzooError, match=expected):
            map_pairs.read_maps(home, ["a"], recipe_of().input, recipe_of().data)


def test_a_recipe_moves_maps_that_are_volumes():
    with pytest.raises(ValueError, match="augmentation"):
        Recipe.model_validate(RECIPE | {"augmentation": {}})
    with pytest.raises(ValueError, match="augmentation"):
        Recipe.model_validate(RECIPE | {"augmentation": {"together": {"turn": 30}}})  # moves no image against another
    with pytest.raises(ValueError, match="smaller first"):
        recipe_of(zoom=(2, 1))


@pytest.mark.backend
@pytest.mark.slow
def test_a_run_trains_on_maps(home):
    run = finetune(recipe_of(share=0.5, prior={"texture": 0.1, "blur": 2}), home / "run", home)
    assert (run / "model.safetensors").exists()


def test_half_of_the_channels_are_a_label_each_and_the_others_groups(home):
    prior = {"size": (16, 16), "black": 0}  # so that every map has at least three shapes
    recipe = recipe_of(share=1, label_sampling=6, prior=prior)
    images = [batch_of(home, recipe, seed)[0]["fixed_labels"] for seed in range(4)]
    single, grouped = (np.concatenate([each[..., part] for each in images]) for part in (slice(3), slice(3, None)))
    assert single.sum(axis=-1).max() == 1  # labels do not lie on each other, groups do
    assert grouped.sum(axis=-1).max() > 1
    assert grouped.mean() > 1.5 * single.mean()
