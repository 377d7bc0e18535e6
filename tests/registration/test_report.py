import struct
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from worlds import AFFINES, affine, blobs, rotation

from regzoo.registration import report
from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform

SIDES = {0: ("A", "P"), 1: ("R", "L"), 2: ("R", "L")}  # normal to the plane -> left and right of the page
LONG = "fixed: spacing 0.4 x 0.4 x 12 mm is far from 1 x 1 x 1 mm, which the model was made for, " * 3


def result(grid, labels=True, warnings=()):
    """A registration that found half of a shift by (5, 3, 4) mm."""
    moving = blobs(Grid(grid.shape, grid.affine))
    fixed = Transform.linear(affine(np.eye(3), (5, 3, 4))).apply_image(moving, grid)
    transform = Transform.from_field(np.broadcast_to(np.float32([2.5, 1.5, 2]), (*grid.shape, 3)), grid)
    maps = [Image((image.array > 0.4).astype("uint8"), grid.affine) if labels else None for image in (fixed, moving)]
    score = {"ncc": 0.5, "mean_dice": 0.25, "tre": {"mean": 3.0, "sd": 1.0, "max": 4.0}}
    return SimpleNamespace(
        fixed=fixed,
        moving=moving,
        moved=transform.apply_image(moving, grid),
        transform=transform,
        start=Transform.identity(grid),
        fixed_labels=maps[0],
        moving_labels=maps[1],
        moved_labels=maps[1] and transform.apply_labels(maps[1], grid),
        facts={
            "model": {"name": "constant-ddf", "version": "3"},
            "start": "world",
            "scores": {"before": score, "after": score | {"ncc": 0.75}},
            "jacobian": {"folds": 0.0, "sdlogj": 0.0, "min": 1.0, "max": 1.0},
            "warnings": list(warnings),
        },
    )


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
        order = report._nearest_axes(grid.affine[:3, :3] / grid.spacing)
        view = report._View(image, normal, voxel[order[normal]])
        plane = view.cut(image.array)
        (row,), (column,) = np.nonzero(plane)
        upwards = 1 if normal == 2 else 2  # superior, or anterior in axial planes
        if world == upwards:
            assert (row > (plane.shape[0] - 1) / 2) == (sign > 0)
        else:  # patient right, or anterior in sagittal planes, is on the left
            assert (column < (plane.shape[1] - 1) / 2) == (sign > 0)
        assert (view.left, view.right) == SIDES[normal]
        assert view.extent(grid.shape, grid.spacing) == pytest.approx(
            [n * h for n, h in ((plane.shape[1], grid.spacing[view.across]), (plane.shape[0], grid.spacing[view.up]))]
        )


@pytest.mark.parametrize("name", [name for name in AFFINES if name != "oblique"])
def test_the_deformed_grid_bends_towards_where_is_sampled(name):
    grid = Grid((15, 17, 13), AFFINES[name])
    image = Image(np.zeros(grid.shape, np.float32), grid.affine)
    shift = np.array([3.0, -2.0, 0.0])  # mm, to the patient's right and back
    voxels = np.broadcast_to(np.linalg.inv(grid.affine[:3, :3]) @ shift, (*grid.shape, 3))
    view = report._View(image, 2, 5)
    axes = Figure().add_subplot()
    report._draw_grid(axes, view, voxels, image.spacing)
    line = axes.lines[0]
    assert line.get_xdata()[0] == pytest.approx(-3 / grid.spacing[view.across])
    assert line.get_ydata()[0] == pytest.approx(-2 / grid.spacing[view.up])


def test_lines_of_the_deformed_grid_are_as_far_apart_in_all_views():
    image = Image(np.zeros((80, 40, 20), np.float32), np.diag([1.0, 1.0, 4.0, 1.0]))
    for normal, lines in enumerate((10 + 20, 20 + 20, 20 + 10)):  # 4 mm apart
        axes = Figure().add_subplot()
        report._draw_grid(axes, report._View(image, normal, 5), np.zeros((*image.shape, 3)), image.spacing)
        assert len(axes.lines) == lines


@pytest.mark.parametrize("name", ["LPS", "anisotropic", "oblique"])
@pytest.mark.parametrize("labels", [True, False])
def test_picture(tmp_path, name, labels):
    report.picture(result(Grid((20, 22, 14), AFFINES[name]), labels), tmp_path / "report.png")
    assert size(tmp_path / "report.png")[0] == 720


def test_picture_has_the_planned_size(tmp_path):
    report.picture(result(Grid((20, 30, 40), np.eye(4)), warnings=[LONG]), tmp_path / "report.png")
    lines = 6 + 3  # model, Dice, landmarks, correlation, folds, outlines; the warning on three lines
    height = 0.75 + 0.16 * lines + 0.8 + 7 * (3 + 0.12)  # 40 mm high planes meet the limit of 3 inches a row
    assert size(tmp_path / "report.png") == (720, int(height * 90))


def test_long_warnings_wrap():
    lines = report._caption(result(Grid((4, 5, 6), np.eye(4)), warnings=[LONG]))
    assert max(map(len, lines)) <= 105
    assert " ".join(line.strip() for line in lines).endswith(f"WARNING: {LONG}".strip())


@pytest.mark.parametrize("shape", [(24, 20, 1), (4, 4, 300)])
def test_flat_and_long_images(tmp_path, shape):
    found = result(Grid(shape, affine(rotation(0, 0, 0.2), (-12, -10, 0))))
    found.fixed_labels.array[: shape[0] // 2] = 1
    report.picture(found, tmp_path / "report.png")
    assert size(tmp_path / "report.png")[1] < 3000


def test_difference_is_drawn_against_the_start(monkeypatch, tmp_path):
    """With the start right and the transform the identity after it, nothing differs and the grid is straight."""
    grid = Grid((12, 14, 10), AFFINES["LAS"])
    found = result(grid, labels=False)
    found.start = found.transform = Transform.linear(affine(np.eye(3), (5, 3, 4)))
    found.moved = found.start.apply_image(found.moving, grid, outside=float(found.moving.array.min()))
    drawn = []
    monkeypatch.setattr(report, "_draw_grid", lambda axes, view, voxels, spacing: drawn.append(voxels))
    show = report._show
    monkeypatch.setattr(
        report, "_show", lambda axes, plane, view, **kw: drawn.append(plane) or show(axes, plane, view, **kw)
    )
    report.picture(found, tmp_path / "report.png")
    images, fields = drawn[:9], drawn[9:]
    for i in range(3):  # for each plane: fixed, moving, moved; then two differences, grid, Jacobian
        fixed, moving, moved = images[3 * i : 3 * i + 3]
        before, after, voxels, jacobian = fields[4 * i : 4 * i + 4]
        np.testing.assert_allclose(moving, moved, atol=1e-6)
        np.testing.assert_allclose(before, moving - fixed, atol=1e-6)
        np.testing.assert_allclose(after, moved - fixed, atol=1e-6)
        assert np.abs(before).max() < 0.2 < np.ptp(fixed)
        assert np.abs(voxels).max() < 1e-5
        assert jacobian == pytest.approx(1, abs=1e-5)
