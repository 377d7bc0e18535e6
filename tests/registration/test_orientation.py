"""Anatomy that is turned or mirrored against the other image's is spoken of."""

import numpy as np
import pytest
from constant_model import constant_model
from scipy.spatial.transform import Rotation

import regzoo
from regzoo.classical import Guidance
from regzoo.registration.orientation import gain_told, mirror_gain, mirrored, still_turned, turned_start
from regzoo.world.images import Image

AFFINE = np.array([[2.0, 0, 0, -31], [0, 2, 0, -31], [0, 0, 2, -31], [0, 0, 0, 1]])


def body(turn=(0, 0, 0)):
    """An ellipsoid with spots that has no symmetry, turned by a rotation vector in degrees."""
    axes = np.moveaxis(np.indices((32, 32, 32)), 0, -1) * 2.0 - 31
    places = axes @ Rotation.from_rotvec(turn, degrees=True).as_matrix()
    value = np.clip(1.5 - ((places / (20, 26, 14)) ** 2).sum(-1), 0, 1)
    for middle, height in (((8, 10, 3), 1.0), ((-6, -12, -4), 0.7), ((-5, 9, 2), -0.6)):
        value = value + height * np.exp(-np.square(places - middle).sum(-1) / 50)
    return Image(value.astype("float32"), AFFINE)


@pytest.fixture(scope="module")
def card(tmp_path_factory):
    return regzoo.load(constant_model(tmp_path_factory.mktemp("zoo") / "constant")).card


@pytest.mark.parametrize(
    ("turn", "said"),
    [
        ((0, 0, 15), "15 degrees"),
        ((0, 50, 0), "about A"),
        ((0, 0, 6), ""),
        ((20, 0, 0), ""),
        ((0, 0, 175), "or a mirror"),
    ],
)
def test_a_turn_that_a_model_does_not_know(card, turn, said):
    found = turned_start(card, body(), body(turn))
    assert len(found) == bool(said)
    assert all(said in each and "constant-ddf knows turns" in each for each in found)


def test_an_outline_tells_no_turn(card):
    outlines = [Image((body(turn).array > 0.5).astype("float32"), AFFINE) for turn in ((0, 0, 0), (0, 0, 40))]
    assert turned_start(card, *outlines) == []


@pytest.mark.parametrize("name", ["rotation", "rotation_tested"])
def test_a_model_that_was_trained_or_tested_on_turns_knows_them(card, name):
    trained = card.model_copy(update={"training": {name: 40.0}})
    assert turned_start(trained, body(), body((0, 0, 30))) == []
    assert len(turned_start(trained, body(), body((0, 0, 60)))) == 1


def test_register_speaks_of_a_turn(tmp_path):
    model = regzoo.load(constant_model(tmp_path / "still", alignment="center", shape=(32, 24, 20)))
    said = [
        [
            each
            for each in regzoo.register(body(), body(turn), model, start="center").facts["warnings"]
            if "turned by" in each
        ]
        for turn in ((0, 0, 0), (0, 0, 20))
    ]
    assert [len(each) for each in said] == [0, 1]


def test_what_is_still_turned_after_a_method():
    (said,) = still_turned(body(), body((0, 0, 40)))
    assert said.startswith("moved: still turned by")
    assert still_turned(body(), body((0, 0, 3))) == []


@pytest.mark.backend
@pytest.mark.parametrize(("axes", "axis"), [("RAS", 0), ("PIL", 2)])
def test_a_mirror_image_that_fits_better(axes, axis):
    fixed = body().array[None, ..., None]
    still = {"ddf": np.zeros((*fixed.shape[:-1], 3), "float32")}
    asked = []

    def predict(batch):
        asked.append(batch["moving"])
        return still

    other = np.flip(fixed, 1 + axis).copy()
    noise = np.random.default_rng(0).random(fixed.shape).astype("float32")
    assert mirrored({"fixed": fixed, "moving": noise}, still, predict, axes) == []  # too little alike to say
    assert asked == []
    near = {"fixed": 0.58 * fixed + 0.42 * other, "moving": 0.42 * fixed + 0.58 * other}
    (said,) = mirrored(near, still, predict, axes)
    assert "mirror image fits" in said
    np.testing.assert_array_equal(asked[-1], np.flip(near["moving"], 1 + axis))
    assert mirrored({"fixed": near["fixed"], "moving": near["fixed"]}, still, predict, axes) == []


def sides(share):
    """The body with so much of its mirror image."""
    one = body().array
    return Image((1 - share) * one + share * np.flip(one, 0), AFFINE)


@pytest.mark.parametrize(
    ("moving", "said"),
    [
        (sides(0.58), 1),
        (sides(0.42), 0),
        (sides(0.5), 0),  # one side is as the other
        (Image(np.random.default_rng(0).random((32, 32, 32)), AFFINE), 0),  # too little alike to say
        (Image((body().array > 3).astype("float32"), AFFINE), 0),  # an empty one
    ],
)
def test_left_and_right_are_told_where_they_can_be(moving, said):
    told = gain_told(mirror_gain(sides(0.42), moving, "center", Guidance(iterations=30)))
    assert ["mirror image fits" in each for each in told] == [True] * said


def test_register_by_a_method_says_so_and_judges_by_it():
    result = regzoo.register(
        sides(0.42), sides(0.58), method="rigid,dvf", iterations=30
    )  # a dvf makes what is mirrored fit
    (told,) = [each for each in result.facts["warnings"] if "mirror image fits" in each]
    assert told in result.facts["reasons"]


def test_a_mask_of_the_moving_image_is_mirrored_with_it():
    half = np.ones((32, 32, 32), "uint8")
    half[24:] = 0  # a mask of one side
    guidance = Guidance(iterations=30, moving_mask=Image(half, AFFINE))
    fixed, moving = sides(0.42), sides(0.58)
    assert len(gain_told(mirror_gain(fixed, moving, "center", guidance))) == 1


@pytest.mark.parametrize("masked", [True, False])
def test_a_mirror_image_that_shows_nothing_there_does_not_end_the_run(masked):
    one = body().array
    if masked:  # masks of one side, whose mirror image is on the other
        half = np.zeros((32, 32, 32), "uint8")
        half[18:] = 1
        fixed, moving = Image(one, AFFINE), Image(one, AFFINE)
        guidance = Guidance(iterations=5, fixed_mask=Image(half, AFFINE), moving_mask=Image(half, AFFINE))
    else:  # a small image of what lies at one side of a wide one
        wide = np.zeros((128, 32, 32), "float32")
        wide[96:] = one
        place = AFFINE + np.array([[0, 0, 0, 192], [0] * 4, [0] * 4, [0] * 4])
        fixed, moving, guidance = Image(one, place), Image(wide, AFFINE), Guidance(iterations=5)
    assert gain_told(mirror_gain(fixed, moving, "world", guidance)) == []
