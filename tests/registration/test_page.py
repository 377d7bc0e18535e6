"""The page of a registration: what it carries, what it says, and in a browser what it shows."""

import base64
import dataclasses
import io
import json
import re
import zlib

import browser as browsers
import numpy as np
import pytest
from matplotlib.image import imread
from registered import FOUND, facts, result
from worlds import AFFINES, affine, blobs, rotation

from regzoo.registration.report.layers import coarser, layers
from regzoo.registration.report.page import page
from regzoo.registration.report.shown import Shown
from regzoo.schema.card import Card
from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform

SHAPE = (20, 24, 14)


def unpacked(text, shape, kind=np.uint8):
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), kind).reshape(shape, order="F")


def written(found, folder):
    page(Shown(found), folder / "report.html")
    return folder / "report.html"


def card(**changes):
    files = [{"path": name, "sha256": "0" * 64, "bytes": 1} for name in ("config.json", "model.safetensors")]
    inputs = {"spacing": (1.0, 1.0, 1.0), "shape": (32, 32, 32)}
    return Card(**{"name": "some-mr-dvf", "version": "3", "files": files, "input": inputs} | changes)


# ---- what it carries


def test_intensities_come_back_within_a_hundredth_of_their_range():
    found = result(Grid(SHAPE, AFFINES["oblique"]))
    packed = layers(Shown(found))
    for name, image in (("fixed", found.fixed), ("before", found.moving), ("after", found.moved)):
        layer = packed["images"][name]
        shown = np.array(layer["levels"])[unpacked(layer["data"], SHAPE)]
        np.testing.assert_allclose(shown, image.array, atol=0.01 * np.ptp(image.array))


def test_one_voxel_that_outshines_all_hides_nothing():
    found = result(Grid(SHAPE, np.eye(4)))
    ordinary = found.fixed.array.copy()
    found.fixed.array[3, 4, 5] = 1e5
    layer = layers(Shown(found))["images"]["fixed"]
    shown = np.array(layer["levels"])[unpacked(layer["data"], SHAPE)]
    assert shown[3, 4, 5] == pytest.approx(1e5)
    ordinary[3, 4, 5] = 1
    most = ordinary < np.percentile(ordinary, 99.8)
    np.testing.assert_allclose(shown[most], ordinary[most], atol=0.01)


def test_ct_keeps_fine_steps_where_there_is_tissue():
    random = np.random.default_rng(0)
    tissue = random.normal(40, 20, SHAPE)
    tissue[:2] = -1000
    tissue[2] = random.uniform(200, 3000, SHAPE[1:])  # bone and metal
    found = dataclasses.replace(result(Grid(SHAPE, np.eye(4))), fixed=Image(tissue.astype(np.float32), np.eye(4)))
    layer = layers(Shown(found))["images"]["fixed"]
    shown = np.array(layer["levels"])[unpacked(layer["data"], SHAPE)]
    soft = slice(3, None)
    assert np.abs(shown - tissue)[soft].mean() < 2  # HU; equal steps would be 16 HU wide


def test_labels_the_field_and_volume_come_back():
    grid = Grid(SHAPE, AFFINES["LAS"])
    found = result(grid)
    found.fixed_labels.array[:4, :4, :4] = 200
    packed = layers(Shown(found))
    assert packed["labels"]["values"] == [1, 200]
    values = np.array([0, *packed["labels"]["values"]])
    for name, labels in (("fixed", found.fixed_labels), ("before", found.moving_labels), ("after", found.moved_labels)):
        np.testing.assert_array_equal(values[unpacked(packed["labels"][name], SHAPE)], labels.array)
    field = packed["field"]
    vectors = unpacked(field["data"], (*field["shape"], 3), np.int16) * field["unit"]
    np.testing.assert_allclose(vectors, np.broadcast_to(FOUND, vectors.shape), atol=1e-3)
    assert field["longest"] == pytest.approx(np.linalg.norm(FOUND), abs=1e-3)
    volume = packed["maps"]["volume"]
    assert np.array(volume["levels"])[unpacked(volume["data"], SHAPE)] == pytest.approx(1, abs=0.01)


def test_a_fold_is_told_from_small_volume():
    grid = Grid(SHAPE, np.eye(4))
    vectors = np.zeros((*SHAPE, 3), np.float32)
    vectors[10:, ..., 0] = -4.0  # a jump back
    vectors[..., 2] = -0.8 * np.arange(14)  # a fifth of the volume everywhere
    found = dataclasses.replace(result(grid), transform=Transform.from_field(vectors, grid))
    shown = Shown(found)
    volume = layers(shown)["maps"]["volume"]
    levels = unpacked(volume["data"], SHAPE)
    np.testing.assert_array_equal(levels == 0, shown.volume_change <= 0)
    assert (levels == 0).any()
    assert np.array(volume["levels"])[levels[2, 2, 7]] == pytest.approx(0.2, rel=0.02)


def test_channels_become_numbers():
    grid = Grid(SHAPE, np.eye(4))
    channels = np.zeros((*SHAPE, 3), np.float32)
    channels[:5, ..., 0], channels[8:10, ..., 2] = 0.7, 1.0
    labels = Image(channels, grid.affine)
    found = dataclasses.replace(result(grid), fixed_labels=labels, moving_labels=labels, moved_labels=labels)
    packed = layers(Shown(found))["labels"]
    assert packed["values"] == [1, 3]
    numbers = unpacked(packed["fixed"], SHAPE)
    assert [numbers[index, 3, 3] for index in (2, 6, 9)] == [1, 0, 2]


@pytest.mark.parametrize("name", ["oblique", "permuted"])
def test_a_coarser_grid_lies_within_the_box_and_about_its_middle(name):
    grid = Grid((40, 30, 50), AFFINES[name])
    found = coarser(grid, 3.1)
    assert (found.spacing >= 3.1 - 1e-9).all() or name == "permuted"
    assert found.box().mean(0) == pytest.approx(grid.box().mean(0))
    ends = found.box() @ np.linalg.inv(grid.affine)[:3, :3].T + np.linalg.inv(grid.affine)[:3, 3]
    assert ends.min() >= -0.5 - 1e-6
    assert (ends <= np.array(grid.shape) - 0.5 + 1e-6).all()
    assert coarser(Grid((40, 30, 1), np.eye(4)), 2.0).shape == (20, 15, 1)


@pytest.mark.slow
def test_a_noisy_head_of_a_millimetre_takes_ten_megabytes_at_most(tmp_path):
    shape = (182, 218, 182)
    noise = [np.random.default_rng(seed).normal(size=shape).astype(np.float32) for seed in range(2)]
    fixed, moving = (Image(array, np.eye(4)) for array in noise)
    transform = Transform.from_field(np.ones((*shape, 3), np.float32), fixed.grid)
    found = dataclasses.replace(
        result(Grid((4, 4, 4), np.eye(4)), labels=False),
        fixed=fixed,
        moving=moving,
        moved=transform.apply_image(moving, fixed.grid),
        transform=transform,
        start=Transform.identity(fixed.grid),
    )
    path = written(found, tmp_path)
    assert 5e6 < path.stat().st_size < 10e6
    assert 'id="coarser"' in path.read_text(encoding="utf-8")


def test_the_expected_error_comes_back_in_mm(tmp_path):
    grid = Grid(SHAPE, AFFINES["oblique"])
    error = np.linspace(0.2, 6, SHAPE[1], dtype="float32")[:, None] * np.ones(SHAPE, "float32")
    found = dataclasses.replace(result(grid), error=Image(error, grid.affine))
    layer = layers(Shown(found))["maps"]["error"]
    np.testing.assert_allclose(np.array(layer["levels"])[unpacked(layer["data"], SHAPE)], error, atol=6 / 255)
    found.facts["error"] = {"mean": 1.25, "p95": 3.5, "bound": 2.75, "risk": 0.1, "calibration": "constant-ddf@3"}
    text = written(found, tmp_path).read_text(encoding="utf-8")
    assert "1.2 mm on average, 3.5 mm in the worst twentieth" in text
    assert '<option value="error">' in text
    assert '<option value="error">' not in written(result(grid), tmp_path).read_text(encoding="utf-8")


# ---- what it says


def test_a_verdict_stands_before_warnings_and_both_before_pictures_and_scores(tmp_path):
    found = result(Grid(SHAPE, np.eye(4)), warnings=["The field folds at 3.00 % of the voxels."])
    plain = written(found, tmp_path).read_text(encoding="utf-8")
    order = [plain.index(text) for text in ("The field folds at 3.00 %", "<canvas", "Overlap of the labels (Dice)")]
    assert order == sorted(order)
    assert "Verdict" not in plain
    found.facts.update(verdict="failed", reasons=["The images do not overlap."], look_at=["Look first at the left."])
    judged = written(found, tmp_path).read_text(encoding="utf-8")
    said = ("this registration failed", "The images do not overlap.", "Look first at the left.", "3.00 %")
    order = [judged.index(text) for text in said]
    assert order == sorted(order)


def test_without_warnings_it_does_not_say_that_all_is_well(tmp_path):
    text = written(result(Grid(SHAPE, np.eye(4))), tmp_path).read_text(encoding="utf-8")
    told = re.search('<section id="warnings".*?</section>', text, re.DOTALL).group()
    assert "No warnings" in told
    assert "That does not prove that the anatomy fits" in told


def test_limits_command_versions_and_files_with_their_digests(tmp_path):
    about = card(anatomy="lung", limits=("Not for children.", "Not for <b>masses</b> & more."))
    found = dataclasses.replace(result(Grid(SHAPE, np.eye(4))), card=about)
    found.facts["command"] = "regzoo register a.nii.gz b.nii.gz"
    text = written(found, tmp_path).read_text(encoding="utf-8")
    for expected in ("Not for children.", "&lt;b&gt;masses", "regzoo register a.nii.gz", "1" * 64, "2" * 64, "0.1.0"):
        assert expected in text
    for score in ("0.250", "3.000 mm", "0.500", "0.750"):
        assert f'<td class="figure">{score}</td>' in text


@pytest.mark.parametrize(
    ("anatomy", "noted"), [("head and neck", True), ("brain", True), ("any", True), ("", True), ("lung", False)]
)
def test_faces_are_spoken_of_where_an_image_may_show_one(tmp_path, anatomy, noted):
    found = dataclasses.replace(result(Grid(SHAPE, np.eye(4))), card=card(anatomy=anatomy))
    assert ('id="face"' in written(found, tmp_path).read_text(encoding="utf-8")) == noted


def test_names_of_files_are_text_and_no_script(tmp_path):
    found = result(Grid(SHAPE, np.eye(4)))
    evil = '</script><script>alert("x")</script>'
    found.facts["inputs"]["moving"]["file"] = evil
    found.facts["warnings"] = [evil]
    text = written(found, tmp_path).read_text(encoding="utf-8")
    assert evil not in text
    assert "&lt;/script&gt;&lt;script&gt;" in text
    assert text.count("<script") == 2  # the layers and the viewer


# ---- what it shows


@pytest.fixture(scope="module")
def browser():
    path, why = browsers.found()
    if path is None:
        pytest.skip(f"no browser: {why}")
    opened = browsers.Browser(path)
    yield opened
    opened.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Opens the page of a result."""

    def open_(found, **size):
        browser.open(written(found, tmp_path), **size)
        return browser

    yield open_
    assert browser.errors == []
    assert all(url.startswith(("file:///", "data:")) for url in browser.requests), browser.requests
    assert sum(url.startswith("file:") for url in browser.requests) == 1


def greys(browser, plane=-1):
    """Returns the red, green and blue of a plane's canvas, (rows, columns, 3)."""
    url = browser.run(f"regzoo.planes().at({plane}).canvas.toDataURL()")
    image = imread(io.BytesIO(base64.b64decode(url.partition(",")[2])))
    return np.rint(255 * image[..., :3]).astype(int)


@pytest.mark.parametrize("name", AFFINES)
def test_the_cross_hair_is_where_it_says_in_millimetres(opened, name):
    grid = Grid(SHAPE, AFFINES[name])
    found = result(grid)
    page_ = opened(found)
    index = (13, 5, 9)
    where = grid.affine @ [*index, 1]
    page_.run(f"regzoo.go({(where[:3] + 0.2 * grid.spacing.min()).tolist()})")
    assert page_.run("regzoo.position()") == pytest.approx(where[:3].tolist(), abs=1e-4)
    values = page_.run("regzoo.values()")
    span = 0.01 * float(np.ptp(found.fixed.array))
    assert values["fixed"] == pytest.approx(found.fixed.array[index], abs=span)
    assert values["moving"] == pytest.approx(found.moved.array[index], abs=span)
    assert values["labels"] == {
        "fixed": found.fixed_labels.array[index],
        "moving": found.moved_labels.array[index],
    }
    assert values["displacement"] == pytest.approx(FOUND, abs=0.01)
    x, y, z = (f"{value:.1f}" for value in where[:3])
    assert f"{x}, {y}, {z} mm" in page_.run("document.getElementById('readout').textContent")
    # A press 6 mm further right on the page and 4 mm further down, in every plane.
    steps = {"sagittal": (0, -6, -4), "coronal": (-6, 0, -4), "axial": (-6, -4, 0)}
    linear = grid.affine[:3, :3] / grid.spacing
    for number, plane in enumerate(page_.run("regzoo.planes().map((each) => each.name)")):
        page_.run(f"regzoo.go({where[:3].tolist()})")
        page_.run(
            f"""(() => {{
                const plane = regzoo.planes()[{number}], box = plane.canvas.getBoundingClientRect();
                const mm = {_pixels_per_mm(page_, number)};
                const [x, y] = plane.cross.map((pixel) => (pixel * box.width) / plane.canvas.width);
                const at = {{ clientX: box.left + x + 6 * mm, clientY: box.top + y + 4 * mm }};
                plane.canvas.setPointerCapture = () => {{}};
                plane.canvas.dispatchEvent(new PointerEvent("pointerdown", {{ pointerId: 1, ...at }}));
                plane.canvas.dispatchEvent(new PointerEvent("pointerup", {{ pointerId: 1, ...at }}));
            }})()"""
        )
        # Along the image's own axes, each taken for the patient's axis that it is nearest to.
        nearest = np.array([linear[:, axis] * np.sign(linear[row, axis]) for row, axis in enumerate(_order(grid))]).T
        expected = where[:3] + nearest @ steps[plane]
        apart = np.linalg.inv(grid.affine)[:3, :3] @ (np.array(page_.run("regzoo.position()")) - expected)
        assert np.abs(apart).max() <= 0.5 + 0.05, plane


def _order(grid):
    """Returns the image axis of each patient axis, by hand for the grids of these tests."""
    strength = np.abs(grid.affine[:3, :3] / grid.spacing)
    order = strength.argmax(axis=1)
    assert len(set(order)) == 3
    return order


def _pixels_per_mm(page_, number):
    wide = page_.run(f"regzoo.planes()[{number}].canvas.getBoundingClientRect().width")
    grid = page_.run("JSON.parse(document.getElementById('layers').textContent).grid")
    across = page_.run(f"JSON.parse(document.getElementById('layers').textContent).planes[{number}].across")
    return wide / (grid["shape"][across] * grid["spacing"][across])


@pytest.mark.parametrize("name", ["RAS", "LAS", "LPS", "permuted", "oblique"])
def test_what_is_at_the_right_front_and_top_lies_where_these_letters_are(opened, name):
    grid = Grid((15, 17, 13), AFFINES[name])
    places = grid.coordinates()
    wanted = places[7, 8, 6] + 5.0
    marker = places.reshape(-1, 3)[np.linalg.norm(places - wanted, axis=-1).argmin()]
    image = Image(np.exp(-((places - marker) ** 2).sum(-1) / 6).astype(np.float32), grid.affine)
    page_ = opened(dataclasses.replace(result(grid, labels=False), fixed=image, moving=image, moved=image))
    page_.run("regzoo.set({mix: 0, window: {fixed: [0, 1], moving: [0, 1]}})")
    page_.run(f"regzoo.go({marker.tolist()})")
    for number, (plane, letters) in enumerate({"sagittal": "APSI", "coronal": "RLSI", "axial": "RLAP"}.items()):
        assert page_.run(f"regzoo.planes()[{number}].name") == plane
        found = page_.run(
            f"""(() => {{
                const figure = document.querySelectorAll(".plane")[{number}], box = figure.getBoundingClientRect();
                return Object.fromEntries([...figure.querySelectorAll(".side")].map((letter) => {{
                    const at = letter.getBoundingClientRect();
                    return [letter.textContent, [(at.left + at.right - box.left - box.right) / box.width,
                        (at.top + at.bottom - box.top - box.bottom) / box.height]];
                }}));
            }})()"""
        )
        assert sorted(found) == sorted(letters)
        shown = greys(page_, number)
        bright = (shown.min(axis=-1) > 150) & (np.ptp(shown, axis=-1) < 10)
        bright[-40:, :120] = False  # the ruler
        rows, columns = np.nonzero(bright)
        spot = 2 * np.array([columns.mean() / shown.shape[1], rows.mean() / shown.shape[0]]) - 1
        for letter, at in found.items():
            axis = int(np.argmax(np.abs(at)))
            assert abs(at[axis]) > 0.8
            assert abs(spot[axis]) > 0.15
            assert (np.sign(spot[axis]) == np.sign(at[axis])) == (letter in "RAS"), f"{letter} in the {plane} plane"


def test_obliqueness_is_said(tmp_path):
    oblique = written(result(Grid(SHAPE, AFFINES["oblique"])), tmp_path).read_text(encoding="utf-8")
    degrees = re.search(r"up to\s+([\d.]+)\s+degrees", oblique)
    assert float(degrees.group(1)) > 20
    assert 'id="oblique"' not in written(result(Grid(SHAPE, AFFINES["permuted"])), tmp_path).read_text(encoding="utf-8")


def test_the_slider_fades_from_the_fixed_to_the_moved_image(opened):
    grid = Grid(SHAPE, np.diag([-2.0, 2.0, 2.0, 1.0]))
    flat = [Image(np.full(SHAPE, value, np.float32), grid.affine) for value in (20, 60, 90)]
    for image in flat:
        image.array[0, 0, 0], image.array[-1, -1, -1] = 0, 100
    found = dataclasses.replace(result(grid, labels=False), fixed=flat[0], moving=flat[1], moved=flat[2])
    page_ = opened(found)
    page_.run("regzoo.set({window: {fixed: [0, 100], moving: [0, 100]}})")
    seen = {}
    for share in (0, 0.5, 1):
        page_.run(
            f"""(() => {{
                const slider = document.getElementById("mix");
                slider.value = {share};
                slider.dispatchEvent(new Event("input"));
            }})()"""
        )
        seen[share] = np.median(greys(page_)) / 255
    assert seen == pytest.approx({0: 0.2, 0.5: 0.55, 1: 0.9}, abs=0.015)
    page_.run("regzoo.set({moving: 'before'})")
    assert np.median(greys(page_)) / 255 == pytest.approx(0.6, abs=0.015)
    page_.run("regzoo.set({mode: 'checkerboard', square: 8})")
    squares = greys(page_)[..., 0] / 255
    assert {0.2, 0.6} <= {round(float(value), 1) for value in np.unique(squares)}
    assert 0.4 < (np.abs(squares - 0.2) < 0.02).mean() / (np.abs(squares - 0.6) < 0.02).mean() < 2.5
    page_.run("regzoo.set({mode: 'difference'})")
    red, _, blue = np.median(greys(page_), axis=(0, 1))
    assert red > blue + 30  # the moving image is brighter
    page_.run("regzoo.set({window: {fixed: [0, 100], moving: [0, 300]}, mode: 'fade', mix: 1})")
    assert np.median(greys(page_)) / 255 == pytest.approx(0.2, abs=0.015)


def test_edges_of_one_image_lie_where_they_are_on_the_other(opened):
    grid = Grid((32, 32, 32), np.diag([2.0, 2.0, 2.0, 1.0]))
    box = np.zeros(grid.shape, np.float32)
    box[8:20, 6:26, 8:24] = 1
    dark = Image(np.linspace(0, 1e-3, box.size, dtype=np.float32).reshape(box.shape), grid.affine)
    moved = Image(box, grid.affine)
    page_ = opened(dataclasses.replace(result(grid, labels=False), fixed=dark, moving=moved, moved=moved))
    page_.run("regzoo.set({mode: 'edges', window: {fixed: [0, 10], moving: [0, 1]}})")
    shown = greys(page_)
    rows, columns = np.nonzero((shown[..., 0] > 180) & (shown[..., 2] < 80))
    size = shown.shape[0] / 32
    # Column of index i: 31 - i, right of the patient on the left; row of index j: 31 - j.
    assert [columns.min() / size, columns.max() / size] == pytest.approx([31 - 19.5 + 0.5, 31 - 7.5 + 0.5], abs=0.8)
    assert [rows.min() / size, rows.max() / size] == pytest.approx([31 - 25.5 + 0.5, 31 - 5.5 + 0.5], abs=0.8)


def test_keys_move_the_cross_hair_flip_the_images_and_zoom(opened):
    grid = Grid(SHAPE, AFFINES["LPS"])
    page_ = opened(result(grid))
    press = """((key, number) => {
        const canvas = regzoo.planes()[number].canvas;
        canvas.focus();
        canvas.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    })"""
    for key, plane, expected in (
        ("ArrowRight", 2, (-1.5, 0, 0)),  # to the patient's left
        ("ArrowUp", 2, (0, 1.5, 0)),
        ("PageUp", 2, (0, 0, 1.5)),
        ("ArrowLeft", 0, (0, 1.5, 0)),
        ("ArrowDown", 1, (0, 0, -1.5)),
        (".", 0, (1.5, 0, 0)),
    ):
        before = np.array(page_.run("regzoo.position()"))
        page_.run(f"{press}('{key}', {plane})")
        assert np.array(page_.run("regzoo.position()")) - before == pytest.approx(expected), key
    for key, setting, value in (
        (" ", "mix", 0),
        (" ", "mix", 1),
        ("b", "moving", "before"),
        ("g", "grid", True),
        ("l", "labels", "fixed"),
        ("v", "map", "volume"),
        ("x", "edges", "fixed"),
        ("d", "mode", "difference"),
        ("+", "zoom", 1.25),
        ("r", "zoom", 1),
    ):
        page_.run(f"{press}('{key}', 0)")
        assert page_.run(f"regzoo.state().{setting}") == value, key


def every_setting(page_):
    """Draws with every setting and returns how many differ from what the page showed at first."""
    first, changed = greys(page_, 0), []
    choices = [
        {"mix": 1},
        {"mode": "checkerboard", "square": 10},
        {"mode": "difference"},
        {"mode": "edges"},
        {"mode": "edges", "edges": "fixed"},
        {"labels": "off"},
        {"labels": "fixed"},
        {"labels": "moving"},
        {"grid": True},
        {"map": "volume"},
        {"map": "displacement"},
        {"zoom": 3},
    ]
    for choice in choices:
        page_.run(f"document.getElementById('reset').click(), regzoo.set({json.dumps(choice)})")
        shown = greys(page_, 0)
        if (np.abs(shown - first) > 5).mean() > 0.002:
            changed.append(choice)
    return choices, changed


def test_every_setting_shows(opened):
    choices, changed = every_setting(opened(result(Grid(SHAPE, AFFINES["anisotropic"])), width=500, ratio=2))
    assert changed == choices


def test_predicted_labels_without_a_transform(opened):
    grid = Grid(SHAPE, AFFINES["LAS"])
    whole = result(grid)
    found = dataclasses.replace(
        whole,
        transform=None,
        moved=None,
        facts={key: value for key, value in facts(transform="none").items() if key != "jacobian"},
    )
    page_ = opened(found)
    _, changed = every_setting(page_)
    assert {"labels": "moving"} in changed
    assert {"grid": True} not in changed
    assert page_.run("[...document.querySelectorAll('[data-needs]')].every((each) => each.hidden)")
    index = tuple(int(each[0]) for each in np.nonzero(found.moved_labels.array))
    page_.run(f"regzoo.go({(grid.affine @ [*index, 1])[:3].tolist()})")
    assert page_.run("regzoo.values().labels.moving") == 1


@pytest.mark.parametrize("normal", [0, 2])
def test_a_slice_is_one_plane(opened, normal):
    shape, spacing = np.roll((1, 20, 24), normal), np.roll((8.0, 1.5, 1.0), normal)
    grid = Grid(tuple(shape), affine(rotation(0, 0, 0.1) * spacing, (-12, -10, 3)))
    page_ = opened(result(grid))
    assert page_.run("regzoo.planes().map((each) => each.name)") == [("sagittal", "coronal", "axial")[normal]]
    assert np.ptp(greys(page_)) > 100
    assert page_.run("regzoo.values().displacement") == pytest.approx(FOUND, abs=0.01)


def test_landmarks_and_their_errors(opened):
    grid = Grid(SHAPE, AFFINES["RAS"])
    points = (grid.affine @ [[10], [8], [7], [1]])[:3].T
    missed = points + np.array([0, 4, 0])
    found = dataclasses.replace(result(grid, labels=False), fixed_points=points, moving_points=missed + FOUND)
    marks = layers(Shown(found))["landmarks"]
    assert marks["before"] == pytest.approx(missed + FOUND, abs=1e-2)
    assert marks["after"] == pytest.approx(missed, abs=1e-2)
    page_ = opened(found)
    page_.run(f"regzoo.go({points[0].tolist()})")
    with_marks = greys(page_)
    page_.run("regzoo.set({landmarks: false})")
    changed = np.abs(with_marks - greys(page_)).max(axis=-1) > 40
    rows, _ = np.nonzero(changed)
    x, y = page_.run("regzoo.planes().at(-1).cross")
    scale = _pixels_per_mm(page_, 2)
    assert rows.max() - y == pytest.approx(6, abs=2)  # the circle's lower end
    assert y - rows.min() == pytest.approx(4 * scale + 6, abs=3)  # the cross, 4 mm to the front
    assert 0 < x < with_marks.shape[1]


def test_a_coarser_page_says_so_and_stays_in_place(opened, monkeypatch):
    monkeypatch.setattr("regzoo.registration.report.layers._MOST_VOXELS", 2000)
    grid = Grid((24, 30, 20), AFFINES["oblique"])
    found = result(grid)
    page_ = opened(found)
    assert "instead of their own" in page_.run("document.getElementById('coarser').textContent")
    where = (grid.affine @ [11, 13, 9, 1])[:3]
    page_.run(f"regzoo.go({where.tolist()})")
    here = np.array(page_.run("regzoo.position()"))
    step = page_.run("JSON.parse(document.getElementById('layers').textContent).grid.spacing")
    assert np.abs(here - where).max() < np.linalg.norm(step) / 2
    index = tuple(np.rint(np.linalg.inv(grid.affine) @ [*here, 1])[:3].astype(int))
    assert page_.run("regzoo.values().fixed") == pytest.approx(found.fixed.array[index], abs=0.15)
    assert blobs(grid).array.shape == found.fixed.shape
