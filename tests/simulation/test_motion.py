import numpy as np
import phantom
import pytest
from pydantic import ValidationError
from scipy.interpolate import BSpline
from scipy.spatial.transform import Rotation

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


def test_some_pairs_hardly_move():
    still, others = ([drawn(seed, still=share, jitter=2) for seed in range(40)] for share in (1, 0))
    assert all(abs(each["diaphragm"]) <= 2 for each in still)
    assert max(np.abs(each["local"]).max() for each in still) < 0.4 * max(
        np.abs(each["local"]).max() for each in others
    )
    shares = [abs(drawn(seed, still=0.5)["diaphragm"]) <= 2 for seed in range(100)]
    assert 0.4 < np.mean(shares) < 0.7


def test_every_second_patient_is_turned_and_shifted_as_far_as_was_asked_for():
    draws = [drawn(seed, rotation=30, travel=25) for seed in range(200)]
    turns = np.array([Rotation.from_matrix(each["lying"]).magnitude() for each in draws])
    assert 0.4 < (turns > 1e-6).mean() < 0.6
    assert np.deg2rad(26) < turns.max() <= np.deg2rad(30) + 1e-6
    travels = np.array([each["travel"] for each in draws])
    assert (np.abs(travels).max(axis=0) > 22).all()
    assert np.abs(travels).max() <= 25
    np.testing.assert_array_equal((travels == 0).all(axis=1), turns < 1e-6)


def test_one_end_of_one_scan_is_cut_in_every_third_pair():
    cuts = np.array([drawn(seed, cut=60, appearance=0)["crop"] for seed in range(300)])
    assert 0.25 < (cuts > 0).any(axis=(1, 2)).mean() < 0.42
    assert (cuts > 0).sum(axis=(1, 2)).max() == 1
    assert ((cuts > 0).mean(axis=0) > 0.04).all()
    assert 50 < cuts.max() <= 60


def test_measured_breathing_is_a_part_of_as_many_pairs_as_was_asked_for():
    shares = np.array([drawn(seed, measured=0.25)["share"] for seed in range(300)])
    assert 0.18 < (shares > 0).mean() < 0.32
    assert 0.3 <= shares[shares > 0].min() < shares.max() <= 1


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
