import dataclasses
import struct

import numpy as np
import PIL.Image
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from registered import FOUND, result
from worlds import AFFINES, affine, rotation

from regzoo.registration.report import picture
from regzoo.registration.report.animation import animation
from regzoo.registration.report.planes import Plane, nearest_axes
from regzoo.registration.report.shown import Shown, largest_error
from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform

SIDES = {0: ("A", "P"), 1: ("R", "L"), 2: ("R", "L")}  # normal to the plane -> left and right of the page
LONG = "fixed: spacing 0.4 x 0.4 x 12 mm is far from 1 x 1 x 1 mm, which the model was made for, " * 3


def size(path):
    """Returns width and height in pixels from a PNG file's header."""
    header = path.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    return struct.unpack(">II", header[16:24])


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("normal", [0, 1, 2])
def test_patient_right_anterior_superior_are_where_the_page_says(name, normal):
    grid = Grid((15, 17, 13), AFFINES[name])
    places = grid.coordinates()
    for world, sign in [(world, sign) for world in range(3) if world != normal for sign in (-1, 1)]:
        marker = places[7, 8, 6] + sign * 7.0 * np.eye(3)[world]
        voxel = np.unravel_index(np.linalg.norm(places - marker, axis=-1).argmin(), grid.shape)
        image = Image(np.zeros(grid.shape, np.float32), grid.affine)
        image.array[voxel] = 1
        view = Plane(grid, normal, voxel[nearest_axes(grid)[normal]])
        plane = view.cut(image.array)
        (row,), (column,) = np.nonzero(plane)
        upwards = 1 if normal == 2 else 2  # superior, or anterior in axial planes
        if world == upwards:
            assert (row > (plane.shape[0] - 1) / 2) == (sign > 0)
        else:  # patient right, or anterior in sagittal planes, is on the left
            assert (column < (plane.shape[1] - 1) / 2) == (sign > 0)
        assert (view.left, view.right) == SIDES[normal]
        assert (view.top, view.bottom) == (("A", "P") if normal == 2 else ("S", "I"))
        assert view.extent(grid) == pytest.approx(
            [n * h for n, h in ((plane.shape[1], grid.spacing[view.across]), (plane.shape[0], grid.spacing[view.up]))]
        )


@pytest.mark.parametrize("name", [name for name in AFFINES if name != "oblique"])
def test_the_deformed_grid_bends_towards_where_is_sampled(name):
    grid = Grid((15, 17, 13), AFFINES[name])
    shift = np.array([3.0, -2.0, 0.0])  # mm, to the patient's right and back
    view = Plane(grid, 2, 5)
    voxels = np.broadcast_to(np.linalg.inv(grid.affine[:3, :3]) @ shift, (*grid.shape, 3))
    axes = Figure().add_subplot()
    picture.draw_grid(axes, view, view.cut(voxels), grid)
    line = axes.lines[0]
    assert line.get_xdata()[0] == pytest.approx(-3 / grid.spacing[view.across])
    assert line.get_ydata()[0] == pytest.approx(-2 / grid.spacing[view.up])


def test_lines_of_the_deformed_grid_are_as_far_apart_in_all_views():
    grid = Grid((80, 40, 20), np.diag([1.0, 1.0, 4.0, 1.0]))
    for normal, lines in enumerate((10 + 20, 20 + 20, 20 + 10)):  # 4 mm apart
        axes = Figure().add_subplot()
        view = Plane(grid, normal, 5)
        picture.draw_grid(axes, view, view.cut(np.zeros((*grid.shape, 3))), grid)
        assert len(axes.lines) == lines


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("normal", [0, 1, 2])
def test_what_is_worked_out_on_a_plane_alone_is_cut_as_the_whole(name, normal):
    grid = Grid((9, 7, 8), AFFINES[name])
    view = Plane(grid, normal, 5)
    shown = Shown(result(grid))
    alone = view.alone(grid)
    np.testing.assert_allclose(view.cut(alone.coordinates()), view.cut(grid.coordinates()), atol=1e-9)
    np.testing.assert_allclose(view.cut(shown.before_on(alone).array), view.cut(shown.before.array), atol=1e-6)
    labels = [view.cut(each.array) for each in (shown.labels_before_on(alone), shown.labels_before)]
    np.testing.assert_array_equal(*labels)
    shift = np.linalg.inv(grid.affine[:3, :3]) @ FOUND
    np.testing.assert_allclose(shown.voxel_shift(view), np.broadcast_to(shift, (*labels[0].shape, 3)), atol=1e-5)


def test_of_channels_that_overlap_the_later_label_lies_on_the_earlier(monkeypatch):
    view, where, painted = Plane(Grid((4, 5, 6), np.eye(4)), 2, 3), np.zeros((5, 4), bool), []
    where[1:3] = True
    monkeypatch.setattr(picture, "show", lambda axes, plane, view: painted.append(plane))
    picture._fill(None, {1: where, 2: where}, view, {1: (1.0, 0, 0), 2: (0, 0, 1.0)})
    below = 0.55 * 0.45  # what shows through
    assert painted[0][1, 0] == pytest.approx([below / (0.55 + below), 0, 0.55 / (0.55 + below), 0.55 + below])
    assert painted[0][0, 0, 3] == 0


@pytest.mark.parametrize("name", ["LPS", "anisotropic", "oblique"])
@pytest.mark.parametrize("labels", [True, False])
def test_picture(tmp_path, name, labels):
    picture.picture(Shown(result(Grid((20, 22, 14), AFFINES[name]), labels)), tmp_path / "report.png")
    assert size(tmp_path / "report.png")[0] == 1000


def test_picture_has_the_planned_size(tmp_path):
    picture.picture(Shown(result(Grid((20, 30, 40), np.eye(4)), warnings=[LONG])), tmp_path / "report.png")
    lines = 6 + 3  # who, three scores, folds, unevenness; the warning on three lines
    height = 0.75 + 0.175 * lines + 1.2 + 7 * (3 + 0.12)  # 40 mm high planes meet the limit of 3 inches a row
    assert size(tmp_path / "report.png") == (1000, int(height * 100))


def test_verdict_and_warnings_stand_before_the_scores_and_wrap():
    found = result(Grid((4, 5, 6), np.eye(4)), warnings=[LONG])
    found.facts.update(verdict="look", reasons=["The images hardly overlap."])
    lines = picture.caption_lines(Shown(found))
    assert max(map(len, lines)) <= 115
    text = " ".join(line.strip() for line in lines)
    order = ["VERDICT: look closely", "hardly overlap", "constant-ddf version 3", f"WARNING: {LONG}".strip(), "(Dice)"]
    places = [text.index(each) for each in order]
    assert places == sorted(places)


def test_the_expected_error_is_a_row_with_a_scale_in_mm(monkeypatch, tmp_path):
    grid = Grid((20, 30, 40), AFFINES["LAS"])
    error = np.linspace(0, 4, 40, dtype="float32") * np.ones(grid.shape, "float32")
    found = dataclasses.replace(result(grid), error=Image(error, grid.affine))
    drawn, bars = [], []
    show, colorbar = picture.show, Figure.colorbar
    monkeypatch.setattr(
        picture, "show", lambda axes, plane, view, **kw: drawn.append((plane, kw)) or show(axes, plane, view, **kw)
    )
    monkeypatch.setattr(Figure, "colorbar", lambda self, image, **kw: bars.append(kw) or colorbar(self, image, **kw))
    picture.picture(Shown(found), tmp_path / "report.png")
    plane, settings = drawn[6]  # of the first plane: three images, two differences, the volume, the error
    assert (plane.min(), plane.max()) == (0, 4)
    assert settings["vmax"] == 5
    assert bars[-1]["label"] == "expected error, mm"
    lines, rows = 6, 8
    assert size(tmp_path / "report.png")[1] == int(100 * (0.75 + 0.175 * lines + 1.2 + rows * (3 + 0.12)))


@pytest.mark.parametrize(("most", "end"), [(0, 5), (4.9, 5), (5, 5), (5.1, 10), (10, 10), (33, 40)])
def test_scales_of_the_expected_error_are_few_so_that_pictures_can_be_compared(most, end):
    assert largest_error(np.full((4, 5, 6), most)) == end


def test_what_is_up_is_said_of_every_plane(monkeypatch, tmp_path):
    titles = []
    monkeypatch.setattr(Axes, "set_title", lambda self, text, **_: titles.append(text))
    picture.picture(Shown(result(Grid((20, 30, 40), AFFINES["LPS"]))), tmp_path / "report.png")
    told = ["sagittal A left, P right, S up", "coronal R left, L right, S up", "axial R left, L right, A up"]
    assert [" ".join(each.split()) for each in titles[:3]] == told


def test_a_few_labels_are_outlined_and_of_many_the_largest_are_filled(monkeypatch):
    grid = Grid((24, 20, 6), np.eye(4))
    many = np.zeros(grid.shape, np.int16)
    for value in range(1, 12):
        many[2 * value : 2 * value + 1 + (value > 2), : 4 + value] = 100 * value
    labels = Image(many, grid.affine)
    found = dataclasses.replace(result(grid), fixed_labels=labels, moving_labels=labels, moved_labels=labels)
    shown = Shown(found)
    regions = picture.filled_regions(shown)
    assert list(regions) == [400, 500, 600, 700, 800, 900, 1000, 1100]
    assert len(set(regions.values())) == 8
    assert picture.filled_regions(Shown(result(grid))) == {}
    assert "Of 11 labels, the 8 largest are shown." in picture.caption_lines(shown)
    drawn = []
    monkeypatch.setattr(picture, "show", lambda axes, plane, view: drawn.append(plane))
    monkeypatch.setattr(picture, "_outline", lambda *_: pytest.fail("many labels were outlined"))
    plane = Plane(grid, 2, 3)
    picture.draw_labels(np.arange(3), plane, shown, regions)
    first = drawn[0]
    for value, colour in regions.items():
        where = plane.cut(many == value)
        np.testing.assert_allclose(first[where], np.broadcast_to([*colour, 0.55], (where.sum(), 4)))
    np.testing.assert_array_equal(first[..., 3] > 0, plane.cut(np.isin(many, list(regions))))
    assert len(drawn) == 3


def test_the_legend_names_the_colours(tmp_path):
    figure = Figure(figsize=(6, 6))
    shown = Shown(result(Grid((12, 14, 10), np.eye(4))))
    picture.draw_legend(figure, shown, {})
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told == ["labels of the fixed image", "labels of the moving image"]
    picture.draw_legend(figure, shown, {4: (1, 0, 0), 9: (0, 1, 0)})
    assert [text.get_text() for text in figure.legends[1].get_texts()] == ["label 4", "label 9"]
    assert [each.get_facecolor()[:3] for each in figure.legends[1].get_patches()] == [(1, 0, 0), (0, 1, 0)]


@pytest.mark.parametrize("shape", [(24, 20, 1), (4, 4, 300)])
def test_flat_and_long_images(tmp_path, shape):
    found = result(Grid(shape, affine(rotation(0, 0, 0.2), (-12, -10, 0))))
    found.fixed_labels.array[: shape[0] // 2] = 1
    picture.picture(Shown(found), tmp_path / "report.png")
    assert size(tmp_path / "report.png")[1] < 3000


def test_difference_is_drawn_against_the_start(monkeypatch, tmp_path):
    """With the start right and the transform the identity after it, nothing differs and the grid is straight."""
    grid = Grid((12, 14, 10), AFFINES["LAS"])
    found = result(grid, labels=False)
    right = Transform.linear(affine(np.eye(3), (5, 3, 4)))
    moved = right.apply_image(found.moving, grid, outside=float(found.moving.array.min()))
    found = dataclasses.replace(found, start=right, transform=right, moved=moved)
    drawn = []
    monkeypatch.setattr(picture, "draw_grid", lambda axes, view, shift, grid: drawn.append(shift))
    show = picture.show
    monkeypatch.setattr(
        picture, "show", lambda axes, plane, view, **kw: drawn.append(plane) or show(axes, plane, view, **kw)
    )
    picture.picture(Shown(found), tmp_path / "report.png")
    for i in range(3):  # for each plane: fixed, moving, moved; then two differences, grid, Jacobian
        fixed, moving, moved, before, after, voxels, jacobian = drawn[7 * i : 7 * i + 7]
        np.testing.assert_allclose(moving, moved, atol=1e-6)
        np.testing.assert_allclose(before, moving - fixed, atol=1e-6)
        np.testing.assert_allclose(after, moved - fixed, atol=1e-6)
        assert np.abs(before).max() < 0.2 < np.ptp(fixed)
        assert np.abs(voxels).max() < 1e-5
        assert jacobian == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("with_transform", [True, False])
def test_the_animation_shows_the_fixed_and_the_moving_image_in_turn(tmp_path, with_transform):
    grid = Grid((24, 20, 1), AFFINES["LAS"])
    right, dark = (Image(np.zeros(grid.shape, np.float32), grid.affine) for _ in range(2))
    right.array[grid.coordinates()[..., 0] > grid.centre[0]] = 1
    left = Image(1 - right.array, grid.affine)
    moved = {"moving": dark, "moved": left} if with_transform else {"moving": left, "moved": None, "transform": None}
    shown = Shown(dataclasses.replace(result(grid, labels=False), fixed=right, **moved))
    shown.__dict__["window"] = {"fixed": (0, 1), "moving": (0, 1)}
    animation(shown, tmp_path / "report.gif")
    with PIL.Image.open(tmp_path / "report.gif") as file:
        frames = []
        for number in range(file.n_frames):
            file.seek(number)
            frames.append(np.asarray(file.convert("L"), float))
    assert len(frames) == 2
    change = frames[0] - frames[1]
    # The patient's right is on the page's left: bright there first, then on the other side.
    assert np.nonzero(change > 200)[1].mean() < np.nonzero(change < -200)[1].mean() - 100
    assert min((change > 200).mean(), (change < -200).mean()) > 0.05
