"""Whole heads: told from brains, and a model of brains is shown the brain alone."""

import json

import numpy as np
import pytest
from bright_mask import BRAIN, bright_mask, head
from command_line import run
from constant_model import constant_model

import regzoo
from regzoo.errors import RegzooError
from regzoo.registration import demo, stripping


@pytest.fixture(scope="module", autouse=True)
def zoo(tmp_path_factory):
    """A zoo that holds the model of masks, and a model of brains that is to be shown brains."""
    folder = tmp_path_factory.mktemp("zoo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGZOO_ZOO", str(folder))
        bright_mask(folder / "bright-mask")
        constant_model(folder / "brain-ddf", alignment="center", name="brain-ddf", strip="bright-mask")
        yield folder


@pytest.mark.backend
def test_the_brain_in_a_head_is_found():
    image, brain = head()
    found = stripping.brain_mask(image, regzoo.load("bright-mask"))
    assert found.grid.same_as(image.grid)
    both = (found.array > 0) & brain
    assert 2 * both.sum() / (found.array.sum() + brain.sum()) > 0.97
    assert found.array[32, 32, 29] == 1  # in the hole, which is as dark as air


def test_a_brain_alone_is_no_head():
    image, _ = head(skull=False)
    assert stripping.brain_mask(image, regzoo.load("bright-mask")) is None
    assert stripping.is_bare(image)


def test_what_may_be_a_head_is_not_surely_bare():
    image, _ = head()
    assert not stripping.is_bare(image)
    low, _ = head(middle=(0.0, 0.0, -60.0), skull=False)  # reaches the image's lowest slice, as a neck does
    assert not stripping.is_bare(low)
    large, _ = head(skull=False)
    assert not stripping.is_bare(regzoo.Image(large.array, large.affine * [1.5, 1.5, 1.5, 1]))


def test_a_brain_is_cropped_around_its_middle():
    image, brain = head(middle=(10.0, -20.0, 20.0))
    found = stripping.brain_alone(image, regzoo.Image(brain.astype("uint8"), image.affine))
    assert np.abs(found.grid.centre - (10, -20, 20)).max() < 3
    assert found.array.max() == 200
    assert not (found.array == 100).any()
    sides = np.ptp(found.grid.box(), axis=0)
    assert np.abs(sides - 2 * BRAIN - 20).max() < 12


def test_a_model_of_brains_lays_brain_on_brain():
    (fixed, _), (moving, _) = head(middle=(0.0, 0.0, 20.0)), head(middle=(15.0, -12.0, -4.0))
    result = regzoo.register(fixed, moving, "brain-ddf", start="center")
    assert np.abs(result.transform.apply_points([[0.0, 0.0, 20.0]])[0] - (15, -12, -4)).max() < 3
    told = result.facts["stripped"]
    assert (told["name"], told["version"]) == ("bright-mask", "1")
    ball = 4 / 3 * np.pi * BRAIN**3 / 1e6
    assert told["fixed"] == pytest.approx(ball, rel=0.05)
    assert told["moving"] == pytest.approx(ball, rel=0.05)
    assert "found by bright-mask version 1" in result.facts["done"]
    assert result.moved.array.max() == pytest.approx(200, abs=1)
    assert (result.moved.array == 100).any()  # its scalp is still there
    assert not any("skull" in warning for warning in result.facts["warnings"])


def test_either_image_may_be_a_head():
    (fixed, _), (moving, _) = head(skull=False), head(middle=(15.0, -12.0, 0.0))
    result = regzoo.register(fixed, moving, "brain-ddf")
    assert "fixed" not in result.facts["stripped"]
    assert "moving" in result.facts["stripped"]


def test_heads_are_left_as_they_are_if_so_wished():
    (fixed, _), (moving, _) = head(middle=(0.0, 0.0, 20.0)), head(middle=(15.0, -12.0, -4.0))
    result = regzoo.register(fixed, moving, "brain-ddf", start="center", strip=False)
    assert "stripped" not in result.facts
    assert result.facts["options"]["strip"] is False
    assert np.abs(result.transform.apply_points([[0.0, 0.0, 20.0]])[0] - (0, 0, 20)).max() < 3
    assert any("skull" in warning for warning in result.facts["warnings"])


def test_brains_need_no_model_of_masks(tmp_path):
    model = constant_model(tmp_path / "model", name="brain-ddf", strip="nowhere-mask")
    brain, _ = head(skull=False)
    assert "stripped" not in regzoo.register(brain, brain, model).facts
    with pytest.raises(RegzooError, match=r"may be whole heads.*nowhere-mask.*--no-strip"):
        regzoo.register(brain, head()[0], model)


def test_the_record_says_what_was_stripped(tmp_path):
    regzoo.register(head()[0], head()[0], "brain-ddf", error=False).save(tmp_path / "out", html=False)
    told = json.loads((tmp_path / "out" / "result.json").read_text())["stripped"]
    assert set(told) == {"name", "version", "sha256", "fixed", "moving"}


def test_the_command_says_what_was_stripped(tmp_path):
    files = [str(tmp_path / f"{name}.nii.gz") for name in ("fixed", "moving")]
    for file in files:
        head()[0].save(file)
    command = ["register", *files, "--model", "brain-ddf", "--no-error", "--no-html", "-o", str(tmp_path / "out")]
    code, told, _ = run(*command)
    assert code == 0
    assert "Of whole heads, the fixed one (0.69 l of brain)" in told
    code, told, _ = run(*command, "--no-strip")
    assert code == 0
    assert "Of whole heads" not in told


def test_a_head_does_not_speak_against_a_model_of_brains_that_is_shown_the_brain():
    image, _ = head()
    whole = regzoo.Image(np.pad(image.array, 12), image.affine)  # much wider than what the network sees
    ((card, misfits),) = regzoo.candidates(whole, whole)
    assert (card.name, misfits) == ("brain-ddf", [])
    body = regzoo.Image(np.pad(image.array, 12, constant_values=100), image.affine)  # bright throughout: some 20 litres
    ((_, misfits),) = regzoo.candidates(body, body)
    assert any("skull or neck" in each for each in misfits)
    assert any("size" in each for each in misfits)


def test_a_model_of_masks_registers_nothing():
    brain, _ = head(skull=False)
    with pytest.raises(RegzooError, match=r"registers two images.*bright-mask@1"):
        regzoo.register(brain, brain, "bright-mask")
    names = [card.name for card, _ in regzoo.candidates(brain, brain)]
    assert names == ["brain-ddf"]
    with pytest.raises(RegzooError, match="its own script"):
        regzoo.load("bright-mask").supervise({"image": {"lncc": {}}}, (4.0, 4.0, 4.0))


@pytest.mark.data
@pytest.mark.parametrize("kind", ["T1W", "T2W", "FLAIR"])
def test_the_zoos_own_model_finds_the_brain_in_raw_images(kind, data_home, monkeypatch):
    monkeypatch.delenv("REGZOO_ZOO")
    image = regzoo.Image.read(data_home / "brain-multicontrast" / "long" / f"patient01_study1_{kind}.nii.gz")
    found = stripping.brain_mask(image, regzoo.load("head-mr-strip"))
    assert 1.2 < (found.array > 0).sum() * np.prod(found.spacing) / 1e6 < 1.5  # litres, of one patient
    low, high = (np.argwhere(found.array)[:, :2].min(axis=0), np.argwhere(found.array)[:, :2].max(axis=0))
    assert np.abs((low + high) / 2 - np.array(image.shape[:2]) / 2).max() < 0.1 * max(image.shape[:2])


@pytest.mark.parametrize("name", ["mni152", "colin27"])
def test_brains_of_the_demo_are_surely_bare(name):
    assert stripping.is_bare(regzoo.Image.read(demo.IMAGES / f"{name}.nii.gz"))
