"""Whether a registration moved what fitted already."""

import functools

import numpy as np
import pytest
from constant_model import constant_model
from worlds import affine

import regzoo
from regzoo.registration.fit import Fit, fit, fit_doubts
from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform

# A constant model moves by what it was told, however the images lie.
register = functools.partial(regzoo.register, start="world")
GRID = Grid((30, 28, 26), affine(np.diag([2.0, 2.0, 2.5]), (-30, -28, -32)))


def texture(shift=(0, 0, 0)):
    x, y, z = np.moveaxis(GRID.coordinates() + shift, -1, 0)
    return Image((np.sin(x / 4) * np.cos(y / 5) + np.sin(z / 6 + x / 9) + 2).astype("float32"), GRID.affine)


def test_the_fit_of_an_image_with_itself_shifted_and_brightened():
    seen = np.ones(GRID.shape, bool)
    brighter = Image(5 - 2 * texture().array, GRID.affine)
    found = fit(texture(), texture((4, 0, 0)), brighter, seen)
    assert found.before < 0.8
    assert found.after == pytest.approx(1, abs=0.01)


def test_only_the_anatomy_is_compared_and_only_where_it_is_seen():
    half = np.zeros(GRID.shape, bool)
    half[15:] = True
    spoilt = texture().array.copy()
    spoilt[:15] = np.random.default_rng(0).random((15, 28, 26))
    spoilt = Image(spoilt, GRID.affine)
    everywhere = np.ones(GRID.shape, bool)
    mask = Image(half.astype("uint8"), GRID.affine)
    inside, within = (
        fit(texture(), spoilt, spoilt, everywhere, mask).after,
        fit(texture(), spoilt, spoilt, half).after,
    )
    assert min(inside, within) > 0.85
    assert fit(texture(), spoilt, spoilt, everywhere).after < 0.7


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (0.9, 0.91, "fitted at the start"),
        (0.9, 0.88, "fitted at the start"),
        (0.9, 0.92, ""),
        (0.7, 0.69, ""),
        (1.0, 1.0, ""),
    ],
)
def test_what_fitted_already(before, after, said):
    found = fit_doubts(Fit(before, after), only_if_better=False)
    assert len(found) == bool(said)
    assert all(said in each and "--only-if-better" in each for each in found)


def test_lungs_that_are_little_alike_are_spoken_of():
    (said,) = fit_doubts(Fit(0.2, 0.45), only_if_better=False, lungs=True)
    assert "Are they of two patients" in said
    assert fit_doubts(Fit(0.6, 0.83), only_if_better=False, lungs=True) == []
    assert fit_doubts(Fit(0.2, 0.45), only_if_better=False) == []


def test_the_start_is_kept_if_asked(tmp_path):
    model = regzoo.load(constant_model(tmp_path / "moves", (2, 0, 0)))
    plain = register(texture(), texture(), model)
    assert any("fitted at the start" in each for each in plain.facts["warnings"])
    np.testing.assert_allclose(plain.transform.displacement(GRID)[15, 14, 13], (2, 0, 0), atol=1e-3)
    kept = register(texture(), texture(), model, only_if_better=True)
    assert any(each.startswith("The start was kept") for each in kept.facts["warnings"])
    assert np.abs(kept.transform.displacement(GRID)).max() < 1e-6
    np.testing.assert_allclose(kept.moved.array, kept.fixed.array, atol=1e-5)
    better = register(texture((2, 0, 0)), texture(), model, only_if_better=True)
    np.testing.assert_allclose(better.transform.displacement(GRID)[15, 14, 13], (2, 0, 0), atol=1e-3)


def test_a_refinement_that_parts_labels_is_told_of(tmp_path, monkeypatch):
    model = regzoo.load(constant_model(tmp_path / "moves", (2, 0, 0)))
    labels = {name: texture(shift) for name, shift in (("fixed_labels", (2, 0, 0)), ("moving_labels", (0, 0, 0)))}
    labels = {name: Image((each.array > 2.5).astype("uint8"), GRID.affine) for name, each in labels.items()}
    pair = (texture((2, 0, 0)), texture(), model)

    done = {"voxels": [1, 1, 1], "iterations": 1, "before": 1.0, "after": 0.5, "converged": True}
    for away, said in ((Transform.linear(affine(np.eye(3), (0, 4, 0)), GRID), True), (Transform.identity(GRID), False)):
        monkeypatch.setattr(
            "regzoo.registration.register.classical.refine",
            lambda fixed, moving, start, guidance, away=away: (away.then(start), done),
        )
        found = register(*pair, refine=1, **labels).facts["warnings"]
        assert any(each.startswith("Refinement made labels overlap less: mean Dice 0.9") for each in found) == said
