"""A method asked again about a changed pair: the known change is undone, and where it guesses, answers differ."""

import numpy as np
import pytest
from scipy import ndimage

import regzoo
from regzoo.classical import Guidance, optimise
from regzoo.hub.cards import zoo_folder
from regzoo.registration.expected import methods
from regzoo.registration.expected.evidence import evidence
from regzoo.registration.expected.methods import asked_again, calibration
from regzoo.world.images import Image
from regzoo.world.transforms import Transform

AFFINE = np.array([[2.0, 0, 0, -31], [0, 2, 0, -35], [0, 0, 2, -27], [0, 0, 0, 1]])
SHIFT = np.array([6.0, -4.0, 2.0])  # mm
NAMES = ("affine",)


def spots(seed, shift=(0, 0, 0)):
    """An ellipsoid of spots, shifted in mm: its own grid, another than the moving image's."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(32, 36, 28)), 2.5)
    places = np.indices(noise.shape) * 2.0
    away = (places - np.array([31, 35, 27])[:, None, None, None]) / np.array([24, 28, 20])[:, None, None, None]
    array = (1 + 0.5 * noise / noise.std()).clip(0.2, 2) * ((away**2).sum(0) < 1)
    moved = AFFINE.copy()
    moved[:3, 3] += shift
    return Image(array.astype("float32"), moved)


def asked_of(fixed, moving, guidance=None):
    guidance, start = guidance or Guidance(), Transform.identity(fixed.grid)
    found, _ = optimise(fixed, moving, start, NAMES, guidance)
    asked = asked_again(fixed, moving, start, found, NAMES, guidance, None)
    return asked, evidence(asked, found, start).pair


def test_answers_agree_where_there_is_one_and_differ_where_there_is_none():
    fixed = spots(1)
    asked, sure = asked_of(fixed, spots(1, SHIFT))
    _, guessed = asked_of(fixed, spots(2, SHIFT))
    for difference in asked.differences:  # of the changed pair, and of the pair the other way round
        assert np.linalg.norm(difference[asked.inside], axis=-1).mean() < 1.5  # the change alone: 5
    assert guessed["disagreement"] > 5 * sure["disagreement"]
    assert np.allclose(asked.fixed.grid.spacing, 4, atol=0.3)


def test_masks_go_with_their_images():
    fixed, moving = spots(1), spots(1, SHIFT)
    shown = {"fixed_mask": fixed, "moving_mask": moving}
    masks = {name: Image((image.array > 0).astype("uint8"), image.affine) for name, image in shown.items()}
    asked, pair = asked_of(fixed, moving, Guidance(**masks))
    assert pair["disagreement"] < 1.5
    assert asked.anatomy.sum() == pytest.approx((fixed.array > 0).sum() / 8, rel=0.15)


@pytest.fixture
def calibrated(monkeypatch):
    """Methods that are taken to be as far off as a model is."""
    file = zoo_folder() / "hippocampus-mr-dvf" / "error.json"
    monkeypatch.setattr(methods, "CALIBRATED", {("affine", "dvf"): str(file), NAMES: str(file)})


def test_only_what_was_calibrated_has_a_calibration(calibrated):
    image = spots(1)
    assert calibration(("affine", "dvf"), image, Guidance()).of.startswith("hippocampus-mr-dvf@")
    assert calibration(("rigid",), image, Guidance()) is None
    assert calibration(("affine", "dvf"), image, Guidance(loss="mind")) is None
    assert calibration(("affine", "dvf"), image, Guidance(iterations=20)) is None
    slice_alone = Image(image.array[:, :, :1], image.affine)
    assert calibration(("affine", "dvf"), slice_alone, Guidance()) is None


@pytest.mark.parametrize("refine", [0, 1])
def test_register_foretells_the_error_of_methods_but_not_of_their_refinement(calibrated, refine):
    facts = regzoo.register(spots(1), spots(1, SHIFT), method="affine", refine=refine).facts
    assert ("error" in facts) == (not refine)
    assert facts["verdict"] != "good" or not refine
