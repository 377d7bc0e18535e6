"""Where a registration starts: kept, found, part of the saved transform."""

import numpy as np
import pytest
from bodies import body_at, body_pair, rigid
from constant_model import SHIFT, constant_model
from worlds import AFFINES

import regzoo
from regzoo.errors import InvalidError
from regzoo.registration.demo import IMAGES
from regzoo.registration.network import NetworkPair
from regzoo.registration.sides import read_side
from regzoo.registration.starts import found_start, method_start, start_told
from regzoo.world.images import Image
from regzoo.world.matrices import map_points

MIDDLE = np.array([30.0, -20.0, 12.0])
PLACES = MIDDLE + np.array([[20.0, 0, 0], [-20, 0, 0], [0, 26, 0], [0, -26, 0], [0, 0, 14], [0, 0, -14]])
TURNED = rigid((0, -30, 0), (4, 0, -3), MIDDLE)


def pair(matrix, fixed="RAS", moving="RAS"):
    return body_pair(AFFINES[fixed][:3, :3], AFFINES[moving][:3, :3], matrix, MIDDLE)


@pytest.fixture(scope="module")
def still(tmp_path_factory):
    """A model that moves nothing, on a grid about the size of the body."""
    folder = tmp_path_factory.mktemp("zoo") / "still"
    return regzoo.load(constant_model(folder, alignment="center", shape=(32, 28, 24)))


@pytest.mark.backend
@pytest.mark.parametrize(
    ("fixed_name", "moving_name"), [("RAS", "LAS"), ("LAS", "LPS"), ("LPS", "oblique"), ("oblique", "RAS")]
)
def test_a_start_is_part_of_the_saved_transform(still, tmp_path, fixed_name, moving_name):
    for number, matrix in enumerate((TURNED, np.linalg.inv(TURNED))):
        fixed, moving = pair(matrix, fixed_name, moving_name)
        labels = [
            Image((body_at(map_points(back, each.grid.coordinates()), MIDDLE) > 0.6).astype("uint8"), each.affine)
            for each, back in ((fixed, np.eye(4)), (moving, np.linalg.inv(matrix)))
        ]
        result = regzoo.register(fixed, moving, still, fixed_labels=labels[0], moving_labels=labels[1])
        assert result.facts["start"] == "rigid"
        assert result.facts["start_told"].startswith(("turned by 30", "turned by 29", "turned by 31"))
        assert "as a quick rigid search laid them (turned by" in result.facts["done"]
        assert not any("turned by" in each for each in result.facts["warnings"])
        result.save(tmp_path / str(number))
        saved = regzoo.Transform.load(tmp_path / str(number) / "transform.h5")
        expected = map_points(matrix, PLACES)
        assert np.linalg.norm(saved.apply_points(PLACES) - expected, axis=1).max() < 1.0
        assert np.linalg.norm(saved.inverse().apply_points(expected) - PLACES, axis=1).max() < 1.0
        np.testing.assert_allclose(saved.apply_points(PLACES), result.transform.apply_points(PLACES), atol=1e-3)
        assert result.facts["scores"]["after"]["mean_dice_forward"] > 0.9
        assert result.facts["scores"]["after"]["mean_dice_inverse"] > 0.9
        inside = (fixed.array > 0.3) & (result.moved.array > 0)
        assert np.corrcoef(fixed.array[inside], result.moved.array[inside])[0, 1] > 0.97


@pytest.mark.parametrize("start", ["auto", "rigid", "mass", "moments"])
def test_the_network_s_field_comes_before_the_start(tmp_path, start):
    model = regzoo.load(constant_model(tmp_path / "shifts", SHIFT, alignment="center", shape=(32, 28, 24)))
    fixed, moving = pair(TURNED, "oblique", "LPS")
    result = regzoo.register(fixed, moving, model, start=start, error=False)
    before = map_points(result.start.matrix, PLACES + SHIFT)
    np.testing.assert_allclose(result.transform.apply_points(PLACES), before, atol=1e-3)
    assert result.facts["start"] == ("rigid" if start == "auto" else start)
    assert result.facts["options"]["start"] == start


def test_the_network_sees_the_images_as_the_start_lays_them(still, monkeypatch):
    shown, predict = [], still.predict_on_batch
    monkeypatch.setattr(still, "predict_on_batch", lambda batch: shown.append(batch) or predict(batch))
    regzoo.register(*pair(TURNED, "LPS", "oblique"), still, error=False)
    fixed, moving = (shown[0][name].ravel() for name in ("fixed", "moving"))
    assert np.corrcoef(fixed[moving > 0], moving[moving > 0])[0, 1] > 0.97


def test_what_lies_upright_keeps_the_model_s_start(still):
    fixed, moving = pair(rigid((1, 0, -1), (0.5, 0, 0.5), MIDDLE))
    auto = regzoo.register(fixed, moving, still)
    usual = regzoo.register(fixed, moving, still, start="center")
    assert auto.facts["start"] == "center"
    assert "start_told" not in auto.facts
    np.testing.assert_array_equal(auto.moved.array, usual.moved.array)


def test_what_is_turned_further_than_a_start_straightens_is_spoken_of(still):
    fixed, moving = pair(rigid((0, 0, 30), (0, 0, 0), MIDDLE))
    said = {}
    for start in ("auto", "center"):
        warnings = regzoo.register(fixed, moving, still, start=start).facts["warnings"]
        said[start] = [each for each in warnings if "knows turns" in each]
    assert (len(said["auto"]), len(said["center"])) == (0, 1)
    assert "--start rigid" in said["center"][0]


def test_a_method_starts_from_it():
    fixed, moving = pair(TURNED)
    name, start = method_start(fixed, moving, "auto")
    assert name == "rigid"
    assert np.linalg.norm(start.apply_points(PLACES) - map_points(TURNED, PLACES), axis=1).max() < 1.0
    assert method_start(fixed, fixed, "auto")[0] == "center"
    result = regzoo.register(fixed, moving, method="rigid", iterations=2, error=False)
    assert (result.facts["start"], result.facts["method"]) == ("rigid", "rigid")


@pytest.mark.parametrize("array", [np.ones((12, 12, 12)), np.arange(144.0).reshape(12, 12, 1)], ids=["same", "slice"])
def test_what_shows_too_little_keeps_its_start(array):
    usual = ("center", np.eye(4))
    image, other = Image(array, np.eye(4)), Image(np.arange(1728.0).reshape(12, 12, 12), np.eye(4))
    assert found_start(other, image, "auto", usual) is usual
    with pytest.raises(InvalidError, match=r"^start: expected 'center' or 'world', .* received 'rigid'"):
        found_start(other, image, "rigid", usual)


def test_an_affine_network_lays_brains():
    sides = [read_side(name, Image.read(IMAGES / f"{name}.nii.gz"), None) for name in ("mni152", "colin27")]
    found = NetworkPair(regzoo.load("brain-mr-dvf"), *sides, "affine", {})
    alone = NetworkPair(regzoo.load("brain-mr-affine"), *sides, None, {})
    assert found.started == "affine"
    corners = sides[0].image.grid.box()
    moved = found.start.apply_points(corners) - alone.start.apply_points(corners)
    assert 0.5 < np.linalg.norm(moved, axis=1).max() < 60


def test_how_a_start_turns_and_shifts_is_told():
    fixed, _ = pair(np.eye(4))
    assert start_told(TURNED, fixed) == "turned by 30 degrees, shifted by 5 mm"


def test_a_moving_image_that_shows_too_little_is_spoken_of(still):
    fixed, moving = pair(np.eye(4))
    for share, said in ((0.9, 0), (0.7, 1)):
        cut = Image(moving.array[: round(share * moving.shape[0])], moving.affine)
        warnings = regzoo.register(fixed, cut, still, start="world", error=False).facts["warnings"]
        assert sum("of what the fixed image shows" in each for each in warnings) == said


def test_a_crop_is_laid_by_its_header(still):
    fixed, moving = pair(np.eye(4))
    affine, count = moving.affine.copy(), round(0.25 * moving.shape[1])
    affine[:3, 3] += count * affine[:3, 1]
    result = regzoo.register(fixed, Image(moving.array[:, count:], affine), still, error=False)
    assert result.facts["start"] == "world"
    np.testing.assert_allclose(result.transform.apply_points(PLACES), PLACES, atol=1e-4)


@pytest.mark.parametrize(("turned_by", "found", "chosen"), [(60, 60, "rigid"), (0, 60, "center"), (10, 50, "center")])
def test_a_linear_network_starts_where_it_ends_best(monkeypatch, turned_by, found, chosen):
    fixed, moving = (Image.read(IMAGES / f"{name}.nii.gz") for name in ("mni152", "colin27"))
    middle = moving.grid.box().mean(axis=0)
    lain = Image(moving.array, rigid((0, 0, turned_by), (0, 0, 0), middle) @ moving.affine)
    laid = "rigid", rigid((0, 0, found), (0, 0, 0), middle)
    monkeypatch.setattr("regzoo.registration.network.found_start", lambda *_: laid)
    result = regzoo.register(fixed, lain, "brain-mr-affine", error=False)
    assert result.facts["start"] == chosen
    assert result.facts["scores"]["after"]["ncc"] > 0.9
