"""What Python shows of an object is one line that says its size, millimetres, orientation and figures."""

import numpy as np
import pytest
from fake_zoo import make_entry
from worlds import AFFINES, affine

import regzoo
from regzoo.hub import cards
from regzoo.hub.entry import Entry
from regzoo.points.registration import PointRegistration
from regzoo.registration.evaluation import Evaluation
from regzoo.registration.results import Result
from regzoo.schema.card import Card
from regzoo.schema.inputs import InputConfig
from regzoo.schema.recipe import Recipe
from regzoo.world.images import Grid, Image
from regzoo.world.steps import Within
from regzoo.world.transforms import Transform

GRID = Grid((4, 6, 5), AFFINES["anisotropic"])
PLACE = "(4, 6, 5), 1 x 1.25 x 3 mm, RPS"
INPUT = {"shape": (16, 12, 8), "spacing": (2.0, 2.5, 3.0), "axes": "LPS"}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("RAS", "1.5 x 1.5 x 1.5 mm, RAS"),
        ("LPS", "1.5 x 1.5 x 1.5 mm, LPS"),
        ("permuted", "1.5 x 1 x 2 mm, ASL"),
        ("oblique", "1.2 x 1.7 x 2.1 mm, RAS oblique"),
    ],
)
def test_a_grid_says_its_voxels_millimetres_and_axes(name, told):
    assert repr(Grid((7, 9, 6), AFFINES[name])) == f"<Grid (7, 9, 6), {told}>"


def test_an_affine_that_a_header_rounded_is_not_oblique():
    assert "oblique" not in repr(Grid((2, 3, 4), affine([[1, 1e-5, 0], [0, 2, 0], [0, 0, 3]], (0, 0, 0))))


def test_an_image_says_its_grid_type_and_channels():
    assert repr(Image(np.zeros((4, 6, 5), np.int16), GRID.affine)) == f"<Image {PLACE}, int16>"
    assert repr(Image(np.zeros((4, 6, 5, 2), np.float32), GRID.affine)) == f"<Image {PLACE}, float32, 2 channels>"


def test_a_transform_says_its_steps_in_order_and_its_largest_displacement_once_that_is_known():
    vectors = np.zeros((*GRID.shape, 3))
    vectors[1, 2, 3] = (3.0, 0.0, 4.0)
    moved = Transform.from_field(vectors, GRID).then(Transform.linear(np.eye(4)))
    assert repr(Transform()) == "<Transform identity>"
    assert repr(moved) == f"<Transform field, matrix on {PLACE}>"
    moved.displacement(GRID)
    assert repr(moved) == f"<Transform field, matrix on {PLACE}, at most 5 mm>"
    within, linear = moved.steps
    assert repr(within) == f"<Within {PLACE}: field>"
    assert repr(within.steps[0]) == f"<Field {PLACE}>"
    assert repr(linear) == "<Linear [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]>"
    assert repr(Within((linear, *within.steps), GRID)) == f"<Within {PLACE}: matrix, field>"


def test_a_result_says_by_what_how_the_scores_changed_and_how_often_it_warns():
    image = Image(np.zeros(GRID.shape), GRID.affine)
    facts = {
        "model": {"name": "mine-ddf", "version": "2"},
        "scores": {
            "before": {"ncc": float("nan"), "mean_dice": 0.57, "tre": {"mean": 3.25}},
            "after": {"ncc": 0.9, "mean_dice": 0.8431, "tre": {"mean": 1.5}},
        },
        "jacobian": {"folds": 0.0012},
        "warnings": ["The field folds."],
    }
    told = "by mine-ddf@2: tre 3.25 to 1.50 mm, dice 0.570 to 0.843, 0.12 % folds, 1 warning"
    assert repr(Result(image, image, Transform(), facts)) == f"<Result {PLACE}, {told}>"
    facts = {"method": "affine,dvf", "scores": {"before": {"ncc": 0.25}, "after": {"ncc": 0.5}}, "warnings": []}
    told = "by affine,dvf: ncc 0.250 to 0.500, no warnings"
    assert repr(Result(image, image, Transform(), facts)) == f"<Result {PLACE}, {told}>"


def test_a_card_and_its_entry_say_what_the_model_is_for_its_grid_and_its_first_score(tmp_path):
    card = cards.read(make_entry(tmp_path / "lung-ct-ddf", input=INPUT))
    told = "lung, CT, (16, 12, 8), 2 x 2.5 x 3 mm, LPS, dice 0.852 ± 0.020"
    assert repr(card) == str(card) == f"<Card lung-ct-ddf@1: {told}>"
    entry = Entry(tmp_path, "bundled", card)
    assert repr(entry) == "<Entry lung-ct-ddf@1 (bundled): lung, CT, dice 0.852 ± 0.020>"


def test_a_bare_card_and_one_of_slices_are_told_too(tmp_path):
    card = cards.read(make_entry(tmp_path / "x"))
    bare = Card(name="x", version="3", input=InputConfig(shape=(8, 9), spacing=(1.5, 2.0)), files=card.files)
    assert repr(bare) == "<Card x@3: (8, 9), 1.5 x 2 mm, slices>"
    assert repr(Entry(tmp_path, "folder", bare)) == "<Entry x@3 (folder)>"


def test_an_evaluation_says_its_means():
    rows = ({"fixed": "a", "dice_after": 0.5}, {"fixed": "b", "dice_after": 0.75, "tre_after": 2.0})
    told = "mine-ddf@2, 2 pairs: dice_after 0.625, tre_after 2.000"
    assert repr(Evaluation({"name": "mine-ddf", "version": "2"}, rows)) == f"<Evaluation {told}>"


def test_a_registration_of_points_says_their_number_and_distances():
    nearest = [{"nearest": {"fixed": value, "moving": 9.0}} for value in (4.5, 0.25)]
    facts = {"method": "icp", "scores": dict(zip(("before", "after"), nearest, strict=True))}
    found = PointRegistration(np.zeros((30, 3)), np.zeros((40, 3)), Transform(), facts)
    assert repr(found) == "<PointRegistration of 30 and 40 points by icp: nearest point 4.50 to 0.25 mm>"


def test_a_recipe_says_where_it_starts_from_and_for_how_long():
    recipe = {
        "name": "mine",
        "parent": "lung-ct-ddf",
        "data": {"kind": "unpaired", "root": "mine", "images": "images", "splits": "splits.json"},
        "loss": {"image": {"lncc": {}}},
        "training": {"steps": 10, "learning_rate": 1e-4},
    }
    recipe = Recipe.model_validate(recipe)
    assert repr(recipe) == str(recipe) == "<Recipe mine@1 from lung-ct-ddf: unpaired data, 10 steps>"


def test_every_bundled_model_is_one_line():
    lines = [repr(each) for entry in regzoo.list() for each in (entry, entry.card)]
    assert len(lines) > 20
    assert [line for line in lines if "\n" in line or len(line) > 200] == []
