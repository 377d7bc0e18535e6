"""Random shapes in random contrasts."""

import numpy as np
import pytest
from constant_model import constant_model
from tensors import array

import regzoo
from regzoo import hub
from regzoo.data.draws import Files
from regzoo.data.reader import Reader
from regzoo.errors import InvalidError
from regzoo.hub import cards
from regzoo.ops.grids import identity_grid
from regzoo.ops.warping import warp
from regzoo.schema.augmentation import Augmentation
from regzoo.schema.data import ShapesData
from regzoo.schema.inputs import InputConfig
from regzoo.schema.priors import ShapesPrior
from regzoo.schema.recipe import Recipe
from regzoo.simulation import shapes
from regzoo.simulation.shape_pairs import ShapesBatches
from regzoo.training import recipe_data
from regzoo.training.finetune import finetune
from regzoo.world.images import Image

GRID = InputConfig(spacing=(2, 2, 2), shape=(24, 32, 28), around="extent")
FIELD = {"affine": 0.1, "field": {"strength": 4, "smoothness": 20}}
PRIOR = {"shapes": 6, "size": (8, 16)}


def batch_of(seed=1, augmentation=None, **data):
    """A batch of two pairs."""
    data = ShapesData.model_validate({"kind": "shapes", "prior": PRIOR, "label_sampling": 4} | data)
    augmentation = Augmentation.model_validate(FIELD if augmentation is None else augmentation)
    return ShapesBatches(data, GRID, augmentation)(np.random.default_rng(seed), 2)


def test_noise_is_as_smooth_as_asked():
    random = np.random.default_rng(1)
    fine, coarse = (shapes.smooth_noise(random, 40, (48, 40), (step, step)) for step in (3, 12))
    assert fine.shape == coarse.shape == (40, 48, 40)
    slope = [np.abs(np.diff(each, axis=1)).mean() / each.std() for each in (fine, coarse)]
    assert slope[0] == pytest.approx(4 * slope[1], rel=0.15)
    assert abs(coarse.mean()) < 0.1


@pytest.mark.parametrize("dims", [2, 3])
def test_a_map_has_all_its_shapes(dims):
    prior = ShapesPrior(shapes=6, size=(8, 8))
    found = shapes.label_map(np.random.default_rng(3), (40, 44, 48)[:dims], (2.0,) * dims, prior)
    assert found.shape == (40, 44, 48)[:dims]
    assert set(np.unique(found)) == set(range(6))


def test_paint_is_one_intensity_a_shape():
    random, prior = np.random.default_rng(4), ShapesPrior(shapes=5, size=(10, 20), texture=0, blur=0)
    labels = shapes.label_map(random, (30, 30, 30), (2.0,) * 3, prior)
    means = np.array([0.3, 0.9, 0.1, 0.6, 0.7])
    image = shapes.painted(random, labels, means, (2.0,) * 3, prior, black=2)
    assert (image.min(), image.max()) == (0, 1)
    assert np.all(image[labels == 2] == 0)
    assert all(np.ptp(image[labels == each]) < 1e-6 for each in range(5))
    assert image[labels == 1].mean() == 1
    blurred = shapes.painted(random, labels, means, (2.0,) * 3, prior.model_copy(update={"blur": 8.0}), black=None)
    assert np.unique(blurred).size > 100


def test_contrasts_are_related_or_not():
    random, prior = np.random.default_rng(6), ShapesPrior(shapes=60)

    def likeness(share):
        drawn = [shapes.contrasts(random, prior.model_copy(update={"related": share})) for _ in range(200)]
        assert all(0 <= each.min() <= each.max() <= 1 for pair in drawn for each in pair)
        return np.array([np.corrcoef(*pair)[0, 1] for pair in drawn])

    assert np.abs(likeness(0)).max() < 0.6
    related = likeness(1)
    assert np.abs(related).min() > 0.9
    assert 0.3 < (related > 0).mean() < 0.7
    assert 0.3 < (np.abs(likeness(0.5)) > 0.8).mean() < 0.7


@pytest.mark.backend
def test_batches_are_the_same_for_a_seed_and_hold_the_same_shapes_moved():
    first, again, other = (batch_of(seed) for seed in (1, 1, 2))
    channels = {"fixed_labels": 4, "moving_labels": 4, "known": 3}
    for key, value in first.items():
        np.testing.assert_array_equal(value, again[key])
        assert value.shape == (2, 24, 32, 28, channels.get(key, 1))
        assert value.dtype == np.float32
        assert key == "known" or 0 <= value.min() <= value.max() <= 1
    assert np.abs(first["fixed"] - other["fixed"]).max() > 0.1
    fixed, moving = (first[f"{side}_labels"] >= 0.5 for side in ("fixed", "moving"))
    overlap = 2 * (fixed & moving).sum() / (fixed.sum() + moving.sum())
    assert 0.2 < overlap < 0.95
    # The known field leads from fixed to moving: it lays the moving image's shapes on the fixed image's.
    where = first["known"] + identity_grid(GRID.shape)
    inside = np.all((where >= 0) & (where <= np.array(GRID.shape) - 1), axis=-1)[..., None]
    laid, fixed = (
        np.where(inside, each >= 0.5, 0)
        for each in (array(warp(first["moving_labels"], first["known"], "zero")), first["fixed_labels"])
    )
    assert 2 * (fixed & laid).sum() / (fixed.sum() + laid.sum()) > 0.98
    still = batch_of(augmentation={})
    assert np.abs(still["known"]).max() == 0
    np.testing.assert_array_equal(still["fixed_labels"], still["moving_labels"])
    assert still["fixed_labels"].sum(axis=-1).max() == 1


@pytest.mark.backend
def test_what_moves_the_shapes_is_in_the_known_field():
    batch = batch_of(augmentation={"rotation": 20, "shift": 6}, prior=PRIOR | {"cut": 0})
    laid = array(warp(batch["moving_labels"], batch["known"], "zero")) >= 0.5
    where = batch["known"] + identity_grid(GRID.shape)
    inside = np.all((where >= 1) & (where <= np.array(GRID.shape) - 2), axis=-1)[..., None]
    fixed, laid = (each & inside for each in (batch["fixed_labels"] >= 0.5, laid))
    assert 2 * (fixed & laid).sum() / (fixed.sum() + laid.sum()) > 0.98


def test_shapes_go_on_beyond_the_grid_so_that_edges_do_not_tell_the_motion():
    far = {"affine": 0.2, "field": {"strength": 8, "smoothness": 20}}
    for seed in range(4):
        batch = batch_of(seed, far, label_sampling=6, prior=PRIOR | {"black": 0})
        np.testing.assert_allclose(batch["fixed_labels"].sum(axis=-1), 1, atol=1e-5)
        np.testing.assert_array_equal(batch["moving_labels"].sum(axis=-1), 1)


def test_a_black_shape_lies_around_the_others():
    prior = ShapesPrior(shapes=8, size=(8, 16))
    found = np.stack(
        [
            shapes.label_map(np.random.default_rng(seed), (40, 44, 48), (2.0,) * 3, prior, (16, 14, 12)) == 0
            for seed in range(8)
        ]
    ).mean(axis=0)
    assert found[20, 22, 24] == 0
    assert found[[0, 0, -1], [0, -1, 0], [0, 0, -1]].min() == 1
    for place in ((4, 22, 24), (20, 8, 24), (20, 22, 12)):  # at the ellipsoid, in some maps one and in some the other
        assert 0.1 < found[place] < 0.9


def test_images_end_within_the_grid_each_on_its_own():
    prior = PRIOR | {"black": 0, "texture": 0, "blur": 0}
    batch = batch_of(prior=prior | {"cut": 1}, augmentation=FIELD | {"bias": {"strength": 0.2, "smoothness": 40}})
    whole = batch_of(prior=prior | {"cut": 0}, augmentation=FIELD | {"bias": {"strength": 0.2, "smoothness": 40}})
    boxes = []
    for side in ("fixed", "moving"):
        ends = np.abs(batch[side] - whole[side]).max(axis=0)[..., 0] > 0
        assert ends[0].any()
        assert not ends[4:-4, 6:-6, 5:-5].any()
        boxes.append(ends)
    assert (boxes[0] != boxes[1]).any()
    assert np.all(batch["fixed"][batch["fixed_mask"] == 0] == 0)
    assert np.all(whole["fixed_mask"] == 1)


def test_both_images_of_a_training_pair_are_seen_at_one_scale(tmp_path):
    random = np.random.default_rng(0)
    for name, shape in (("a", (20, 20, 20)), ("b", (40, 40, 40))):
        Image(random.random(shape, "float32"), np.eye(4)).save(tmp_path / f"{name}.nii.gz")
    fixed, moving = (Files(tmp_path / f"{name}.nii.gz") for name in "ab")
    for alignment in ("center", "world"):
        reader = Reader(GRID.model_copy(update={"alignment": alignment}), ())
        for pair, spacing in (((fixed, moving), 20 / 24), ((moving, fixed), 40 / 24)):
            grids = [side.grid for side in reader.pair(*pair)]
            for grid in grids:
                np.testing.assert_allclose(grid.spacing, spacing)
            assert grids[0].same_as(grids[1]) == (alignment == "world")


@pytest.mark.backend
@pytest.mark.parametrize("size", [0.5, 3.0])
def test_a_registration_counts_in_mm_whatever_the_scale(tmp_path, size):
    folder = constant_model(tmp_path / "m", (4.0, 0, 0), around="extent")
    config = cards.read(folder).input
    shape = np.array(config.shape)
    image = Image(np.random.default_rng(0).random(shape, "float32"), np.diag([size, size, size, 1]))
    scale = np.max(shape * size / (shape * np.array(config.spacing)))
    found = regzoo.register(image, image, hub.resolve(folder))
    middle = image.grid.centre[None]
    np.testing.assert_allclose(found.transform.apply_points(middle) - middle, [[4.0 * scale, 0, 0]], atol=1e-3)
    assert not [text for text in found.facts["warnings"] if "was made for" in text or "wide" in text]


RECIPE = {
    "name": "shapes",
    "model": {"backbone": {"name": "unet", "channels": [4, 8]}, "output": {"name": "ddf"}},
    "input": GRID.model_dump(),
    "data": {"kind": "shapes", "prior": PRIOR, "label_sampling": 3, "validation_pairs": 2},
    "loss": {"label": {"dice": {"weight": 1}}, "deformation": {"gradient": {"weight": 1}}},
    "augmentation": FIELD,
    "training": {"steps": 2, "steps_per_epoch": 2},
}


@pytest.mark.backend
@pytest.mark.slow
def test_a_run_trains_without_any_data(tmp_path):
    run = finetune(Recipe.model_validate(RECIPE), tmp_path / "run", tmp_path)
    log = (run / "log.csv").read_text()
    assert "valid_dice" in log
    assert "label_dice" in log
    assert cards.read(run).input.around == "extent"


def test_recipes_that_cannot_be():
    with pytest.raises(ValueError, match="expected affine, rotation, shift or field, since only they move shapes"):
        Recipe.model_validate(RECIPE | {"augmentation": {"noise": 0.1}})
    with pytest.raises(ValueError, match="together: expected null, since data"):
        Recipe.model_validate(RECIPE | {"augmentation": {"affine": 0.1, "together": {"turn": 30}}})
    with pytest.raises(ValueError, match="size: expected the smaller first"):
        ShapesPrior(size=(20, 10))
    with pytest.raises(ValueError, match="a grid that fits an image has three axes"):
        InputConfig(spacing=(1, 1), shape=(8, 8), around="extent")
    recipe = Recipe.model_validate(RECIPE)
    with pytest.raises(InvalidError, match="pairs to validate on are simulated"):
        recipe_data.split_pairs(recipe, "valid", ".")
    with pytest.raises(InvalidError, match=r"data\.test: expected a CSV file of pairs"):
        recipe_data.split_pairs(recipe, "test", ".")
