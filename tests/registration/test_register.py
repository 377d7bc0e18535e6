import functools

import numpy as np
import pytest
from boxed_anatomy import anatomy, boxes, picture_of
from constant_model import SHAPE, SHIFT, SPACING, constant_model
from worlds import AFFINES, affine, around

import regzoo
from regzoo.errors import InvalidError, MissingError
from regzoo.models import build
from regzoo.registration.candidates import candidates, misfits
from regzoo.registration.scores import doubts
from regzoo.schema.card import DataSource
from regzoo.world.images import Grid, Image

pytestmark = pytest.mark.backend
# A constant model moves by what it was told, however the images lie.
register = functools.partial(regzoo.register, start="world")

WORLDS = [
    ("RAS", "LPS"),
    ("LAS", "oblique"),
    ("LPS", "anisotropic"),
    ("anisotropic", "permuted"),
    ("permuted", "RAS"),
    ("oblique", "LAS"),
]


@pytest.fixture(scope="module")
def noisy(tmp_path_factory):
    return regzoo.load(constant_model(tmp_path_factory.mktemp("zoo") / "noisy", noise=2.0))


def pair(fixed_name="oblique", moving_name="LAS", away=(0, 0, 0)):
    """A fixed image, and a moving one on other axes that shows the same SHIFT further on, and `away`."""
    fixed = Grid((20, 22, 14), AFFINES[fixed_name])
    moving = around(fixed, moving_name, margin=8)
    image = picture_of(moving)
    there = moving.affine.copy()
    there[:3, 3] += away
    return picture_of(fixed, SHIFT), Image(image.array, there)


def inside(image, points):
    voxels = (points - image.affine[:3, 3]) @ np.linalg.inv(image.affine[:3, :3]).T
    return ((voxels >= 0) & (voxels <= np.array(image.shape) - 1)).all(-1)


@pytest.mark.parametrize("alignment", ["world", "center"])
@pytest.mark.parametrize(("fixed_name", "moving_name"), WORLDS)
def test_known_shift_in_every_orientation(model, fixed_name, moving_name, alignment):
    fixed, moving = pair(fixed_name, moving_name)
    start = np.zeros(3)
    if alignment == "center":  # the centres are 370 mm apart, and what is to be found lies centre on centre
        start = np.array([300.0, -200.0, 80.0])
        there = moving.affine.copy()
        there[:3, 3] += start + fixed.grid.centre - moving.grid.centre
        moving = Image(anatomy(Grid(moving.shape, there).coordinates() - start).astype(np.float32), there)
    result = register(fixed, moving, model, start=alignment)
    assert result.facts["start"] == alignment
    assert result.transform.grid.same_as(fixed.grid)
    assert result.moved.grid.same_as(fixed.grid)
    points = fixed.grid.coordinates()[::5, ::6, ::4].reshape(-1, 3)
    np.testing.assert_allclose(result.start.apply_points(points), points + start, atol=1e-6)
    np.testing.assert_allclose(result.transform.apply_points(points), points + start + SHIFT, atol=1e-4)
    seen = inside(moving, fixed.grid.coordinates() + start + SHIFT)
    assert seen.mean() > 0.6
    assert np.abs(result.moved.array - fixed.array)[seen].max() <= 1e-3 * np.ptp(fixed.array)
    before, after = (result.facts["scores"][when]["ncc"] for when in ("before", "after"))
    assert before < 0.9999 < after
    still = dict.fromkeys(("folds", "folded_volume", "sdlogj", "sdlogj_l2r"), 0) | {"min": 1, "max": 1}
    assert result.facts["jacobian"] == pytest.approx(still, abs=1e-4)


def with_axes(folder, axes):
    """The constant model with another order of axes, along which its shift of (1.5, -1.6, 0.83) voxels lies now."""
    model = regzoo.load(folder)
    model.card = model.card.model_copy(update={"input": model.card.input.model_copy(update={"axes": axes})})
    return model


def test_the_network_sees_its_own_axes(folder):
    fixed, moving = pair("oblique", "LAS")
    result = register(fixed, moving, with_axes(folder, "PIR"))
    points = fixed.grid.coordinates()[::5, ::6, ::4].reshape(-1, 3)
    np.testing.assert_allclose(result.transform.apply_points(points), points + np.array([2.5, -3, 4]), atol=1e-4)


def test_outside_of_the_moving_image_lies_its_lowest_value(model):
    fixed = Grid((12, 12, 12), AFFINES["RAS"])
    moving = Image(picture_of(fixed).array - 1000, fixed.affine)  # like CT, where 0 is water and not background
    moved = register(picture_of(fixed), moving, model).moved.array
    assert moved.min() == moving.array.min()
    assert moved[-1].max() == moving.array.min()


class TestRefused:
    def test_labels_on_another_grid(self, model):
        fixed, moving = pair()
        labels = np.zeros(moving.shape, np.uint8)
        labels[3] = 1
        message = r"fixed_labels: expected the grid of the fixed image, shape \(20, 22, 14\), received shape \("
        with pytest.raises(InvalidError, match=message):
            register(fixed, moving, model, fixed_labels=Image(labels, moving.affine))
        shifted = moving.affine.copy()
        shifted[0, 3] += 1
        with pytest.raises(InvalidError, match=r"moving_labels: .* received another affine"):
            register(fixed, moving, model, moving_labels=Image(labels, shifted))

    def test_boxes_apart(self, model):
        fixed, moving = pair("RAS", "RAS", away=(300, 0, 0))
        gap = moving.grid.box()[:, 0].min() - fixed.grid.box()[:, 0].max()
        with pytest.raises(InvalidError, match=rf"gap {gap:.0f} mm.*start=\"center\" \(--start center\)"):
            register(fixed, moving, model)

    def test_a_start_of_another_name(self, model):
        with pytest.raises(InvalidError, match=r"start: expected one of auto, center, .*, affine, received 'centre'"):
            register(*pair(), model, start="centre")

    def test_the_old_name_of_a_start_gives_the_new_one(self, model):
        for function in (regzoo.register, regzoo.evaluate, regzoo.cohort):
            with pytest.raises(InvalidError, match=r"alignment: expected start=, .* received alignment='center'"):
                function(*pair(), model, alignment="center")

    def test_a_model_without_a_card(self, model):
        from constant_model import CONFIG

        with pytest.raises(InvalidError, match="model with a card"):
            register(*pair(), build(CONFIG))

    def test_a_nearly_constant_image(self, model):
        fixed, moving = pair()
        spot = np.zeros(moving.shape, np.float32)
        spot[0, 0, 0] = 1
        with pytest.raises(InvalidError, match=r"^moving: intensities: .*nearly constant"):
            register(fixed, Image(spot, moving.affine), model)

    def test_what_is_wrong_with_a_file_names_it(self, model, tmp_path):
        fixed, moving = pair()
        spot = np.zeros(moving.shape, np.float32)
        spot[0, 0, 0] = 1
        Image(spot, moving.affine).save(tmp_path / "spot.nii.gz")
        with pytest.raises(InvalidError, match=r"^moving, spot\.nii\.gz: intensities: .*nearly constant"):
            register(fixed, tmp_path / "spot.nii.gz", model)

    def test_missing_files_and_unequal_points(self, model, tmp_path):
        fixed, moving = pair()
        with pytest.raises(MissingError, match=r"nowhere.nii does not exist"):
            register(fixed, "nowhere.nii", model)
        for name, rows in (("a.csv", "1,2,3\n"), ("b.csv", "1,2,3\n" * 2)):
            (tmp_path / name).write_text("x,y,z\n" + rows)
        with pytest.raises(InvalidError, match=r"moving_points: expected 1 landmarks, .* received 2"):
            register(fixed, moving, model, fixed_points=tmp_path / "a.csv", moving_points=tmp_path / "b.csv")


def said(result):
    """Returns the warnings, but for the one of what fitted already: windows of a ramp fit wherever they are moved."""
    return [each for each in result.facts["warnings"] if "fitted at the start" not in each]


class TestWarnings:
    """Each is given once for what it is about, and no other with it."""

    grid = Grid((20, 24, 22), affine(np.diag([1.5, 1.25, 1.5]), (-15, -15, -15)))

    def warnings(self, model, fixed=None, moving=None, **inputs):
        card = model.card
        moving = moving or picture_of(self.grid)
        try:
            model.card = card.model_copy(update={"input": card.input.model_copy(update=inputs)})
            return said(register(fixed or picture_of(self.grid, SHIFT), moving, model))
        finally:
            model.card = card

    def test_none(self, model):
        assert self.warnings(model) == []

    @pytest.mark.parametrize("size", [0.45, 6.5])
    def test_spacing(self, model, size):
        count = round(30 / size)
        coarse = Grid((20, 24, count), affine(np.diag([1.5, 1.25, size]), (-15, -15, -15)))
        (warning,) = self.warnings(model, fixed=picture_of(coarse, SHIFT))
        assert warning.startswith(f"fixed: spacing 1.5 x 1.25 x {size} mm is far from 2 x 2.5 x 3 mm")

    def test_wide(self, model):
        wide = Grid((20, 24, 44), self.grid.affine)
        (warning,) = self.warnings(model, moving=picture_of(wide))
        assert warning.startswith("moving: size 30 x 30 x 66 mm, while constant-ddf sees 32 x 30 x 36 mm")

    def test_wide_along_the_network_s_own_axes(self, folder):
        wide = picture_of(Grid((20, 24, 34), self.grid.affine))
        (warning,) = misfits(with_axes(folder, "SRP").card, picture_of(self.grid), wide)
        assert warning.startswith("moving: size 51 x 30 x 30 mm, while constant-ddf sees 32 x 30 x 36 mm")

    def test_narrow(self, model):
        narrow = Grid((20, 8, 22), self.grid.affine)
        (warning,) = self.warnings(model, fixed=picture_of(narrow, SHIFT))
        assert warning.startswith("fixed: size 30 x 10 x 33 mm is far less than the 32 x 30 x 36 mm")

    def test_how_many_slices_a_stack_has_varies(self, model):
        inputs = model.card.input.model_copy(update={"shape": (20, 24, 18), "spacing": (1.5, 1.25, 6.0)})
        card = model.card.model_copy(update={"input": inputs})
        flat, narrow = (picture_of(Grid((size, 24, 4), np.diag([1.5, 1.25, 6, 1]))) for size in (20, 7))
        assert misfits(card, flat, flat) == []
        (warning,) = misfits(card, flat, narrow)
        assert warning.startswith("moving: size 10 x 30 x 24 mm is far less than the 30 x 30 x 108 mm")
        (warning,) = misfits(card, picture_of(Grid((20, 24, 3), flat.affine)), flat)
        assert warning.startswith("fixed: size 30 x 30 x 18 mm is far less than the 30 x 30 x 108 mm")

    def test_an_axis_twice_as_coarse_is_no_stack_of_slices(self, model):
        inputs = model.card.input.model_copy(update={"shape": (15, 15, 30), "spacing": (2.0, 2.0, 1.0)})
        card = model.card.model_copy(update={"input": inputs})
        whole, narrow = (picture_of(Grid((size, 15, 30), np.diag([2, 2, 1, 1]))) for size in (15, 5))
        (warning,) = misfits(card, whole, narrow)
        assert warning.startswith("moving: size 10 x 30 x 30 mm is far less than the 30 x 30 x 30 mm")

    @pytest.mark.parametrize(
        ("modality", "offset", "amiss"),
        [("CT", 0, 2), ("MR (T1)", 0, 0), ("MR (T1)", -500, 2), ("CT", -500, 0), ("US", 0, 0)],
    )
    def test_modality(self, model, modality, offset, amiss):
        images = [Image(picture_of(self.grid).array + offset, self.grid.affine)] * 2
        found = misfits(model.card.model_copy(update={"modality": modality}), *images)
        assert len(found) == amiss
        assert all(
            f"look like {'MR' if offset == 0 else 'CT'}, while constant-ddf was made for" in text for text in found
        )

    def test_candidates_that_fit_come_first(self, model):
        good = model.card.model_copy(update={"name": "good", "modality": "MR"})
        bad = model.card.model_copy(update={"name": "bad", "modality": "CT"})
        found = candidates(picture_of(self.grid), picture_of(self.grid), [bad, good])
        assert [(card.name, len(against)) for card, against in found] == [("good", 0), ("bad", 2)]
        general = good.model_copy(update={"name": "anything", "anatomy": "any"})
        found = candidates(picture_of(self.grid), picture_of(self.grid), [general, bad, good])
        assert [card.name for card, _ in found] == ["good", "anything", "bad"]
        one = good.model_copy(update={"name": "one", "data": (DataSource(name="x", license="y", subjects=1),)})
        found = candidates(picture_of(self.grid), picture_of(self.grid), [one, general, bad, good])
        assert [card.name for card, _ in found] == ["good", "anything", "one", "bad"]
        inputs = good.input.model_copy(update={"around": "lungs"})
        looks = good.model_copy(update={"name": "looks", "anatomy": "lung", "input": inputs})
        found = candidates(picture_of(self.grid), picture_of(self.grid), [good, general, looks])
        assert [card.name for card, _ in found] == ["looks", "good", "anything"]
        assert "hippocampus-mr-dvf" in {
            card.name for card, _ in candidates(picture_of(self.grid), picture_of(self.grid))
        }

    def test_parts_of_another_size_are_not_the_same_part(self, model):
        inputs = model.card.input.model_copy(update={"around": "extent"})
        card = model.card.model_copy(update={"modality": "any", "input": inputs})
        fixed = picture_of(self.grid)
        for factor, count in ((1.9, 0), (2.1, 1)):
            moving = Image(fixed.array, fixed.affine @ np.diag([1, factor, 1, 1]))
            assert len(misfits(card, fixed, moving)) == len(misfits(card, moving, fixed)) == count

    def test_folds(self, noisy):
        warnings = self.warnings(noisy, moving=picture_of(self.grid, SHIFT))
        (folds,) = [text for text in warnings if "folds" in text]
        assert float(folds.split()[4]) > 0.1
        assert any("stretches strongly" in text for text in warnings)
        assert len(warnings) <= 4  # noise makes the images less alike, too, and they are one image

    def test_unscored(self, model):
        fixed, moving = picture_of(self.grid, SHIFT), picture_of(self.grid)
        one, two = (
            Image((fixed.array > level).astype(np.uint8) + extra, fixed.affine) for level, extra in ((0, 0), (0, 5))
        )
        (alone,) = said(register(fixed, moving, model, fixed_labels=two))
        assert alone.startswith("fixed_labels were given without moving_labels")
        (differ,) = said(register(fixed, moving, model, fixed_labels=two, moving_labels=one))
        assert differ == "Labels in one of the two maps only, not scored: 1, 6."

    def test_correlation(self, model):
        same, warning = self.warnings(model, moving=picture_of(self.grid, SHIFT))
        assert same == "fixed and moving are the same image."
        assert "correlate less" in warning

    @pytest.mark.parametrize(("one_contrast", "after", "doubted"), [(True, 0.3, 1), (False, 0.3, 0), (True, -0.7, 0)])
    def test_correlation_of_either_sign_counts_unless_contrasts_differ(self, one_contrast, after, doubted):
        found = doubts({"before": {"ncc": 0.5}, "after": {"ncc": after}}, {"folds": 0, "sdlogj": 0}, one_contrast)
        assert len(found) == doubted

    def test_labels(self, model):
        fixed, moving = picture_of(self.grid, SHIFT), picture_of(self.grid, SHIFT)
        labels = Image(boxes((1, (4, 4, 4)), (2, (10, 10, 4)), shape=self.grid.shape), self.grid.affine)
        warnings = register(fixed, moving, model, fixed_labels=labels, moving_labels=labels).facts["warnings"]
        assert any(text.startswith("The labels overlap less after") and "1.000 to 0." in text for text in warnings)

    def test_a_label_that_is_lost(self, tmp_path):
        far = regzoo.load(constant_model(tmp_path / "far", (0, 12, 0)))
        image = picture_of(self.grid)
        labels = Image(boxes((1, (4, 4, 4)), (2, (10, 10, 4)), shape=self.grid.shape), self.grid.affine)
        warnings = register(image, image, far, fixed_labels=labels, moving_labels=labels).facts["warnings"]
        assert "Labels that overlapped before and do not any more: 1, 2." in warnings

    def test_landmarks(self, model, tmp_path):
        points = tmp_path / "points.csv"
        points.write_text("x,y,z\n0,0,10\n1,2,9\n")
        image = picture_of(self.grid)
        warnings = register(image, image, model, fixed_points=points, moving_points=points).facts["warnings"]
        assert "The landmarks lie further apart after the registration than before." in warnings
        points.write_text("x,y,z\n0,0,10\n1,2,90\n")
        warnings = register(image, image, model, fixed_points=points, moving_points=points).facts["warnings"]
        assert "1 of 2 fixed landmarks lie beyond the fixed image, where no field moves them." in warnings

    def test_nothing_left(self, tmp_path):
        far = regzoo.load(constant_model(tmp_path / "far", (0, 90, 0)))
        (warning,) = self.warnings(far)
        assert "nothing of the moving image is in view" in warning


def test_folder_file_and_loaded_model_give_the_same(model, folder, tmp_path):
    fixed, moving = pair()
    fixed.save(tmp_path / "fixed.nii.gz")
    moving.save(tmp_path / "moving.nii.gz")
    loaded = register(fixed, moving, model)
    read = register(tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz", folder)
    np.testing.assert_allclose(read.moved.array, loaded.moved.array, atol=1e-4 * np.ptp(fixed.array))
    assert read.facts["model"] == loaded.facts["model"]


def test_the_network_sees_the_card_s_grid_and_intensities(model, monkeypatch):
    seen = {}
    fixed, moving = pair()
    monkeypatch.setattr(
        model,
        "predict_on_batch",
        lambda batch: type(model).predict_on_batch(model, seen.setdefault("first", batch) and batch),
    )
    register(fixed, moving, model)
    axes = [(np.arange(n) - (n - 1) // 2) * h for n, h in zip(SHAPE, SPACING, strict=True)]
    places = np.stack(np.meshgrid(*axes, indexing="ij"), -1) + fixed.grid.centre
    for image, values, shift in ((fixed, seen["first"]["fixed"], SHIFT), (moving, seen["first"]["moving"], 0)):
        assert values.shape == (1, *SHAPE, 1)
        low, high = np.percentile(image.array, [1, 99])
        expected = np.clip((anatomy(places + shift) - low) / (high - low), 0, 1)
        within = inside(image, places)
        assert within.mean() > 0.3
        assert np.abs(values[0, ..., 0] - expected)[within].max() < 0.02
