import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from regzoo.errors import InvalidError
from regzoo.simulation.measured import POINTS, REACH, read_motions

MM = np.array([1.75, 1.25, 1.75])


def keypoints(turn=None, shift=(0, 0, 0)):
    """Points of a chest of 250 x 180 x 210 mm, in mm along the file's axes, whose low front end moves up by 20 mm."""
    here = np.random.default_rng(0).uniform((20, 30, 40), (270, 210, 250), (1500, 3))
    depth = np.clip((145 - here[:, 2]) / 105, 0, 1) * np.clip((120 - here[:, 1]) / 90, 0, 1)
    there = here + depth[:, None] * (0, -8, 20)
    if turn is not None:
        there = Rotation.from_euler("x", turn, degrees=True).apply(there)
    return np.hstack([here, there + shift]) / np.tile(MM, 2)


def saved(folder, *tables):
    folder.mkdir()
    for number, table in enumerate(tables):
        np.savetxt(folder / f"case_{number}.csv", table, delimiter=",", fmt="%.3f")
    return folder


def at(field, r, a, s):
    return field[tuple(round((each / REACH + 1) / 2 * (POINTS - 1)) for each in (r, a, s))]


def test_motion_is_along_ras_and_of_size_1(tmp_path):
    (field,) = read_motions(saved(tmp_path / "a", keypoints()))
    assert field.shape == (POINTS, POINTS, POINTS, 3)
    assert field.dtype == np.float32
    front, back = at(field, 0, 0.9, -0.9), at(field, 0, -0.9, -0.9)  # the file's second axis runs to the back
    assert front[2] > 0.7
    assert 0.3 < front[1] / front[2] < 0.5
    assert np.linalg.norm(back) < 0.15
    assert np.linalg.norm(at(field, 0.5, 0.5, 0.8)) < 0.15
    inside = field[(slice(4, -4),) * 3]
    assert 0.8 < np.linalg.norm(inside, axis=-1).max() < 1.3


def test_how_the_patient_lay_is_taken_out(tmp_path):
    plain, turned = read_motions(saved(tmp_path / "a", keypoints(), keypoints(6, (9, -4, 30))))
    inside = (slice(4, -4),) * 3
    assert np.abs(plain - turned)[inside].max() < 0.25  # part of the motion near the spine is taken for a turn


def test_points_that_are_none(tmp_path):
    with pytest.raises(InvalidError, match=r"data\.motions: expected a folder of CSV files"):
        read_motions(tmp_path)
    with pytest.raises(InvalidError, match="expected 50 rows of six numbers or more"):
        read_motions(saved(tmp_path / "few", keypoints()[:20]))
    (saved(tmp_path / "words", keypoints()) / "case_0.csv").write_text("x,y,z,x,y,z\n1,2,3,4,5,6\n")
    with pytest.raises(InvalidError, match="expected rows of six numbers"):
        read_motions(tmp_path / "words")
