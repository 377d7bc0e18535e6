import numpy as np
import pytest

from regzoo.errors import InvalidError
from regzoo.world import overlay
from regzoo.world.metrics import soft_dice
from regzoo.world.overlay import at_fractions, compare, point_picture, table

FIXED = np.array([[1, 1, 0, 0], [1, 0, 0, 0]])
MOVED = np.array([[0.9, 0.3, 0.2, 0.0], [0.0, 0.6, 0.0, 0.7]])


def test_colours_and_counts():
    found = compare(FIXED, MOVED)
    assert (found.both, found.moved_only, found.fixed_only) == (1, 2, 2)
    white, green, red, black = (1, 1, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0)
    np.testing.assert_array_equal(found.picture, [[white, red, black, black], [red, green, black, green]])


def test_the_threshold_decides_what_a_soft_label_is():
    found = compare(FIXED, MOVED, threshold=0.1)
    assert (found.both, found.moved_only, found.fixed_only) == (2, 3, 1)


def test_soft_dice_by_hand():
    assert soft_dice(FIXED, MOVED) == pytest.approx(2 * (0.9 + 0.3) / (3 + 2.7))
    assert soft_dice(FIXED, FIXED) == 1
    assert np.isnan(soft_dice(FIXED * 0, FIXED * 0))


def test_slices_at_fractions_lie_in_the_mask():
    mask = np.zeros((5, 40, 6))
    mask[2, 10:31, 3] = 1
    assert at_fractions(mask, 3, axis=1) == [15, 20, 25]
    assert at_fractions(mask * 0, 1, axis=1) == [20]  # the middle of 0 to 39, rounded to even


def test_a_table_has_a_panel_for_every_slice_and_volume():
    ramp = np.arange(4 * 5 * 6.0).reshape(4, 5, 6)
    columns = {"ramp": ramp, "moved minus fixed": ramp - 90, "colours": np.zeros((4, 5, 6, 3))}
    figure = table(columns, [1, 4], axis=1, title="two slices")
    panels = [axes.images[0] for axes in figure.axes]
    assert len(panels) == 6
    np.testing.assert_array_equal(panels[0].get_array(), ramp[:, 1])
    np.testing.assert_array_equal(panels[3].get_array(), ramp[:, 4])
    assert panels[0].get_clim() == (0, 119)
    assert panels[1].get_clim() == (-90, 90)  # white is no difference
    assert figure.get_suptitle() == "two slices"
    assert [axes.get_title() for axes in figure.axes[:2]] == ["ramp", "moved\nminus fixed"]


def test_points_are_drawn_in_mm_with_right_and_front_on_the_left(monkeypatch, tmp_path):
    kept = []
    figure = overlay.Figure
    monkeypatch.setattr(overlay, "Figure", lambda **settings: kept.append(figure(**settings)) or kept[0])
    fixed, moving = np.array([[10.0, 20, 30], [-10, 0, 0]]), np.array([[12.0, 21, 33], [0, 1, 2], [3, 4, 5]])
    point_picture(fixed, moving, moving - 1, tmp_path / "points.png", "icp")
    assert (tmp_path / "points.png").read_bytes()[:4] == b"\x89PNG"
    panels = kept[0].axes
    for panel, (across, up, label) in zip(panels, ((1, 2, "A  <-"), (0, 2, "R  <-"), (0, 1, "R  <-")) * 2, strict=True):
        np.testing.assert_array_equal(panel.lines[0].get_xydata(), fixed[:, [across, up]])
        shown = moving if panel in panels[:3] else moving - 1
        np.testing.assert_array_equal(panel.lines[1].get_xydata(), shown[:, [across, up]])
        assert panel.xaxis_inverted()
        assert not panel.yaxis_inverted()
        assert panel.get_xlabel().startswith(label)
        assert panel.get_ylabel() == f"{'RAS'[up]} (mm)"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compare(FIXED, MOVED.T), r"moved: expected shape \(2, 4\), that of fixed"),
        (lambda: soft_dice(FIXED, MOVED.T), "shape"),
        (lambda: at_fractions(np.ones((2, 2, 2)), 0), "count: expected at least one slice"),
        (lambda: point_picture(FIXED, MOVED, MOVED, "x.png"), r"fixed: expected points, shape \(N, 3\)"),
        (lambda: point_picture(np.ones((4, 3)), np.ones((4, 3)), np.ones((3, 3)), "x.png"), "moved: expected 4 points"),
        (lambda: table({}, [0]), "columns and slices: expected volumes of one shape"),
        (lambda: table({"a": np.ones((3, 3, 3))}, [3]), "slices: expected indices from 0 to 2 along axis 2"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(InvalidError, match=message):
        call()
