import numpy as np
import phantom
import pytest
from pydantic import ValidationError
from scipy.interpolate import BSpline

from regzoo.schema.priors import BreathingPrior
from regzoo.simulation.motion import draw

GRID = phantom.grid_at(spacing=(5.0, 6.0, 7.0), shape=(40, 33, 30))
PARTS = {
    "diaphragm": {"diaphragm", "wall", "drift", "local"},
    "wall": {"wall"},
    "local": {"local"},
    "jitter": {"local"},
    "pleura": {"band"},
    "position": {"shift", "turn"},
    "anatomy": {"linear", "offset", "shapes"},
    "appearance": {"lung_gain", "offset_hu", "blur", "noise", "slabs", "crop"},
    "measured": {"share"},
}


def drawn(seed=3, **settings):
    return draw(BreathingPrior(**settings), np.random.default_rng(seed), GRID)


def test_draws_depend_on_the_seed_alone():
    first, again, other = drawn(), drawn(), drawn(4)
    for name, value in first.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, again[name])
    assert first["diaphragm"] != other["diaphragm"]


@pytest.mark.parametrize("part", PARTS)
def test_switching_a_part_off_leaves_the_others_as_they_were(part):
    full, without = drawn(), drawn(**{part: 0})
    changed = {name for name in full if not np.array_equal(full[name], without[name])}
    assert changed <= PARTS[part]
    assert changed
    neutral = {"linear": np.eye(3), "lung_gain": np.ones(2)}
    if part not in ("local", "jitter", "diaphragm"):  # the random motion has two of them as its sources
        for name in changed:
            np.testing.assert_allclose(without[name], np.broadcast_to(neutral.get(name, 0), full[name].shape))


def test_draws_stay_within_the_prior():
    draws = [drawn(seed, diaphragm=25, wall=0.2, pleura=6) for seed in range(200)]
    amplitude = np.array([each["diaphragm"] for each in draws])
    assert 20 < np.abs(amplitude).max() <= 25
    assert np.abs(amplitude).min() < 2
    assert 0.35 < (amplitude > 0).mean() < 0.65
    assert all(abs(each["wall"][1]) <= 0.2 * abs(each["diaphragm"]) + 1e-5 for each in draws)
    assert all(1 < each["band"] <= 6 for each in draws)
    assert all(-1 <= each["stage"] <= 0 for each in draws)
    assert all((each["crop"] >= 0).all() for each in draws)


def test_random_motion_has_the_deviation_it_was_asked_for():
    settings = {"diaphragm": 0, "jitter": 3.0}
    values = []
    for seed in range(60):
        control = drawn(seed, **settings)["local"][0]
        for _ in range(3):  # at the places between the control points
            knots = np.arange(control.shape[0] + 4) - 3.0
            control = np.moveaxis(BSpline(knots, control, 3)(np.arange(control.shape[0] - 3) + 0.4), 0, 2)
        values.append(control)
    # The deviation is uniform from 0 to 3 mm: 1.73 mm in the square mean, 1.1 times that along A.
    deviation = np.sqrt(np.mean([np.square(each).mean((0, 1, 2)) for each in values], axis=0))
    np.testing.assert_allclose(deviation, (1.73, 1.9, 1.73), rtol=0.2)


def test_unknown_and_impossible_settings_are_errors():
    with pytest.raises(ValidationError):
        BreathingPrior(diafragm=3)
    with pytest.raises(ValidationError):
        BreathingPrior(diaphragm=-1)
