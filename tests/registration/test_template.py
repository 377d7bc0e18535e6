"""A template lies in the middle of its images, favours none of them, and has the map from it to each."""

import functools
import json
from types import SimpleNamespace

import numpy as np
import pytest
from command_line import run
from constant_model import SHIFT, constant_model
from worlds import AFFINES, affine, around, blobs, rotation, waves

import regzoo
from regzoo.errors import InvalidError
from regzoo.io import remnants
from regzoo.registration import rounds
from regzoo.registration.averages import KeptMaps, MeanImage, MeanMap, anatomy, field_map, laid
from regzoo.registration.rounds import Study, Subject
from regzoo.registration.scores import Side
from regzoo.registration.template import mirror_of, registering
from regzoo.schema.result import TemplateResult
from regzoo.schema.strict import validate
from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform

GRID = Grid((20, 30, 16), AFFINES["permuted"])
STILL = Transform.identity()


def shifted(by):
    return Transform.linear(affine(np.eye(3), by))


def ball(grid, middle, width=3.0):
    """A ball around a place in mm."""
    away = grid.coordinates() - middle
    return Image(np.exp(-(away**2).sum(-1) / (2 * width**2)).astype("float32"), grid.affine)


def mass(image):
    """The centre of mass in mm, (3,)."""
    return np.average(image.grid.coordinates().reshape(-1, 3), axis=0, weights=image.array.ravel())


def by_mass(fixed, moving):
    """A registration of balls that is never wrong."""
    return Transform.linear(affine(np.eye(3), mass(moving) - mass(fixed)), fixed.grid)


def study(tmp_path, subjects, find, grid=GRID, **options):
    options = {"mirror": None, "matched": False} | options

    def register(fixed, moving):
        return SimpleNamespace(transform=find(fixed, moving), facts={"warnings": ["Look."]})

    return Study(tuple(subjects), grid, find, register, tmp_path, **options)


# The middle


def test_the_maps_are_brought_to_the_middle_of_the_subjects(tmp_path):
    """Subjects are a base image moved by known fields; the registration to the base knows them."""
    base = blobs(GRID)
    fields = {
        f"s{i}": field_map(waves(GRID, size) + np.float32([1, -2, 0.5]), GRID) for i, size in enumerate((2, -1, 3))
    }
    subjects = [Subject(name, base, STILL) for name in fields]
    answers = iter(fields.values())
    its = study(tmp_path, subjects, lambda fixed, moving: next(answers).within(GRID))
    done = next(rounds.run(its, base, 1, 0.1))
    total = sum(its.kept.of(name).displacement(GRID) for name in fields)
    assert np.abs(total / 3).max() < 5e-3  # mm
    places = GRID.coordinates()[4:-4, 4:-4, 4:-4].reshape(-1, 3)
    middle = np.mean([each.apply_points(places) for each in fields.values()], axis=0)
    assert np.linalg.norm(middle - places, axis=-1).min() > 1  # mm: it is not where the base is
    for name, each in fields.items():
        found = its.kept.of(name).apply_points(middle)
        np.testing.assert_allclose(found, each.apply_points(places), atol=0.05)  # between voxels of 1 to 2 mm
    mean = np.mean([each.displacement(GRID) for each in fields.values()], axis=0)[anatomy(base)]
    assert done.facts["displacement"]["mm"] == pytest.approx(np.linalg.norm(mean, axis=-1).mean(), rel=1e-3)
    assert done.facts["displacement"]["voxels"] == pytest.approx(done.facts["displacement"]["mm"] / 3 ** (1 / 3))


@pytest.mark.parametrize("name", ["permuted", "oblique", "LPS"])
def test_balls_meet_in_their_middle_wherever_the_first_round_begins(tmp_path, name):
    grid = around(Grid((20, 26, 16), np.diag([1.5, 1.5, 1.5, 1])), name, 4)
    centre = grid.box().mean(0)
    aside = np.array([(3, 1, -2), (-4, 2, 1), (0, -2, 4)])
    images = [ball(grid, centre + each) for each in aside]
    for number, start in enumerate((images[0], images[1])):
        subjects = [Subject(f"s{i}", image, STILL) for i, image in enumerate(images)]
        (tmp_path / str(number)).mkdir()
        its = study(tmp_path / str(number), subjects, by_mass, grid)
        *_, last = rounds.run(its, start, 9, 0.05)
        np.testing.assert_allclose(mass(last.image), centre + aside.mean(0), atol=0.05)
        for subject, image in zip(subjects, images, strict=True):  # from the template to the subject
            place = its.kept.of(subject.name).apply_points(mass(last.image)[None])
            np.testing.assert_allclose(place[0], mass(image), atol=0.05)
        assert last.image.array.max() > 0.85 * images[0].array.max()  # they lie on each other


def test_how_images_lay_at_the_start_does_not_count(tmp_path):
    """Scanners put the second image 300 mm away: the template stays where the first one is."""
    near, far = ball(GRID, GRID.centre), ball(GRID, GRID.centre + np.array((3, 0, 0)))
    moved = affine(np.eye(3), (300, -200, 100)) @ far.affine
    subjects = [Subject("near", near, STILL), Subject("far", Image(far.array, moved), shifted((300, -200, 100)))]
    its = study(tmp_path, subjects, by_mass)
    done = next(rounds.run(its, rounds.plain_mean(its).image(), 1, 0.1))
    np.testing.assert_allclose(mass(done.image), mass(near) + np.array((1.5, 0, 0)), atol=0.05)
    assert done.facts["displacement"]["mm"] < 0.01  # the plain mean is in the middle


def test_the_mean_of_turns_is_a_turn_and_of_fields_their_mean():
    turns = MeanMap(GRID)
    for angle in (0.1, 0.5):
        turns.add(Transform.linear(affine(rotation(0, 0, angle), (0, 0, 0))))
    np.testing.assert_allclose(turns.value().matrix, affine(rotation(0, 0, 0.3), (0, 0, 0)), atol=1e-9)
    fields = MeanMap(GRID)
    for size in (1.0, 3.0):
        fields.add(field_map(waves(GRID, size), GRID))
    np.testing.assert_allclose(fields.value().displacement(GRID), waves(GRID, 2.0), atol=1e-5)
    with pytest.raises(InvalidError, match="turned by half a circle"):
        turns.add(Transform.linear(np.diag([-1.0, -1, 1, 1])))


def test_maps_are_kept_as_they_are(tmp_path):
    kept = KeptMaps(tmp_path / "maps", GRID)
    assert not kept.has("a")
    for found in (shifted((1, 2, 3)), field_map(waves(GRID), GRID)):
        kept.keep("a", found)
        places = GRID.coordinates()[::3, ::4, ::2].reshape(-1, 3)
        np.testing.assert_allclose(kept.of("a").apply_points(places), found.apply_points(places), atol=1e-5)


# When it ends


def test_it_goes_on_until_little_changes(tmp_path):
    subjects = [Subject(f"s{i}", ball(GRID, GRID.centre + np.array((i, 0, 0))), STILL) for i in range(2)]
    done = [*rounds.run(study(tmp_path, subjects, by_mass), subjects[0].source, 9, 0.05)]
    assert done[0].facts["displacement"]["mm"] == pytest.approx(0.5, abs=0.01)
    assert [each.facts["change"] is None for each in done] == [True] + [False] * (len(done) - 1)
    assert [rounds.settled(each.facts, 0.05) for each in done] == [False] * (len(done) - 2) + [True] * 2
    assert [bool(each.doubts) for each in done] == [False] * (len(done) - 1) + [True]
    assert len(done) < 6


@pytest.mark.parametrize(
    ("shift", "change", "is_so"), [(0.09, 0.09, True), (0.3, 0.01, True), (0.01, 0.11, False), (0.01, None, False)]
)
def test_the_change_has_to_be_little_and_what_was_undone_need_not_be(shift, change, is_so):
    assert rounds.settled({"displacement": {"voxels": shift}, "change": change}, 0.1) is is_so


def test_the_change_counts_in_voxels_and_the_doubts_tell_of_whom(tmp_path):
    subjects = [Subject(f"s{i}", ball(GRID, GRID.centre), STILL) for i in range(2)]
    shifts = iter([(0, 0, 0), (0, 0, 0), (0, 0, 4), (0, 0, -2)])
    its = study(tmp_path, subjects, lambda fixed, moving: shifted(next(shifts)))
    done = [*rounds.run(its, subjects[0].source, 2, 0.05)]
    assert done[1].facts["displacement"]["mm"] == pytest.approx(1)
    assert done[1].facts["change"] == pytest.approx(3 / 3 ** (1 / 3))  # mm, in voxels of 3 cubic mm
    assert [each.doubts for each in done] == [[], ["s0: Look.", "s1: Look."]]


# Left and right


@pytest.mark.parametrize("name", ["permuted", "LAS", "anisotropic"])
def test_a_symmetric_template_is_the_middle_of_the_images_and_their_mirror_images(tmp_path, name):
    grid = Grid((36, 30, 26), AFFINES[name])
    middle = grid.box().mean(0)
    images = [ball(grid, middle + np.array((each, 2, 1))) for each in (3, 6)]  # to the right
    subjects = [Subject(f"s{i}", image, STILL) for i, image in enumerate(images)]
    its = study(tmp_path, subjects, by_mass, grid, mirror=mirror_of(grid))
    first, *_, last = rounds.run(its, images[0], 9, 0.05)
    assert first.image.array.max() > 0.75  # one ball, not two
    np.testing.assert_allclose(mass(last.image), middle + np.array((0, 2, 1)), atol=0.05)
    axis = int(np.abs(grid.affine[0, :3]).argmax())  # along R
    np.testing.assert_array_equal(last.image.array, np.flip(last.image.array, axis))
    place = its.kept.of("s1").apply_points(mass(last.image)[None])
    np.testing.assert_allclose(place[0], mass(images[1]), atol=0.05)  # to itself, not to its mirror image


def test_a_grid_that_is_oblique_has_no_mirror_voxels():
    with pytest.raises(InvalidError, match=r"symmetric: expected a grid along R, A and S, .* oblique. Give spacing"):
        mirror_of(Grid((9, 9, 9), AFFINES["oblique"]))


# The average


def test_intensities_are_matched_unless_they_are_to_be_kept():
    image = blobs(GRID)
    other = Image(1000 * image.array - 70, image.affine)
    values = [laid(Side(each), STILL, GRID, matched=True)[0] for each in (image, other)]
    np.testing.assert_allclose(*values, atol=1e-4)
    assert np.percentile(values[0], (1, 99)) == pytest.approx((0, 1), abs=1e-5)
    np.testing.assert_array_equal(laid(Side(other), STILL, GRID, matched=False)[0], other.array)
    with pytest.raises(InvalidError, match="one value alone"):
        laid(Side(Image(np.ones(GRID.shape, "float32"), GRID.affine)), STILL, GRID, matched=True)
    with pytest.raises(InvalidError, match="shows nothing"):
        laid(Side(image), shifted((900, 0, 0)), GRID, matched=True)


def test_a_place_is_the_mean_of_the_images_that_show_it():
    image = blobs(GRID)
    half = Image(image.array[:, :15] + 1, image.affine)
    mean = MeanImage(GRID)
    for each in (image, half):
        mean.add(*laid(Side(each), STILL, GRID, matched=False))
    np.testing.assert_allclose(mean.image().array[:, :15], image.array[:, :15] + 0.5, atol=1e-6)
    np.testing.assert_allclose(mean.image().array[:, 15:], image.array[:, 15:], atol=1e-6)
    np.testing.assert_allclose(mean.spread().array[:, :15], 0.5, atol=1e-5)
    np.testing.assert_allclose(mean.spread().array[:, 15:], 0, atol=1e-5)


def test_a_model_that_always_errs_by_one_shift_moves_the_template_and_not_its_maps(model, tmp_path):
    grid = Grid((16, 12, 12), np.diag([2.0, 2.5, 3.0, 1]))
    images = [ball(grid, grid.centre + np.array((each, 0, 0)), 6) for each in (0, 2)]
    made = regzoo.template(images, tmp_path / "out", model, rounds=2, start=images[0])
    voxel = (2 * 2.5 * 3) ** (1 / 3)
    for each in made.facts["rounds"]:
        assert each["displacement"]["voxels"] == pytest.approx(np.linalg.norm(SHIFT) / voxel, abs=1e-3)
    assert made.facts["rounds"][1]["change"] < 1e-3
    for name in made.names:
        np.testing.assert_allclose(made.transform(name).displacement(grid), 0, atol=5e-3)
    assert made.facts["settled"]
    assert "so far errs the registration to an average" in made.facts["warnings"][-1]
    assert made.facts["model"]["name"] == "constant-ddf"
    once = regzoo.template(images, tmp_path / "once", model, rounds=1, start=images[0])
    assert not once.facts["settled"]
    assert "After 1 rounds the template still changes by more than 0.1 voxels" in once.facts["warnings"][-1]


def test_what_finds_a_map_finds_that_of_register(tmp_path):
    grid = Grid((16, 12, 12), affine(rotation(0, 0, 0.1) * (2.0, 2.5, 3.0), (5, 6, 7)))
    model = regzoo.load(constant_model(tmp_path / "model", (1.0, 2.0, 3.0), alignment="center", noise=0.05))
    pair = (
        ball(grid, grid.centre, 6),
        Image(ball(grid, grid.centre, 8).array, affine(np.eye(3), (40, 0, 0)) @ grid.affine),
    )
    options = {"refine": 0, "loss": None, "iterations": None, "start": "center"}
    find, register = registering(model, None, options)
    found, expected = (each.displacement(grid) for each in (find(*pair), register(*pair).transform))
    assert np.ptp(expected, axis=(0, 1, 2)).max() > 0.05  # mm: no constant
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


# The command


OTHERS = f"{remnants.prefix()}abcdefgh"
"""The temporary folder of a process that lives, such as this one: it may still be written to."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two files of one name in two folders, and one of another: boxes in noise, of other intensities and places."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    paths = [folder / "a" / "brain.nii.gz", folder / "b" / "brain.nii.gz", folder / "c d.nii.gz"]
    for i, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        array = np.zeros((12, 14, 10), "float32")
        array[3 + i : 7 + i, 4:9, 3:7] = 4
        Image((array + random.random(array.shape)) * 10**i, AFFINES["anisotropic"]).save(path)
    return paths


@pytest.fixture(scope="module")
def out(files, tmp_path_factory):
    """What the command made of them, where an earlier one had left a transform; and what it printed."""
    folder = tmp_path_factory.mktemp("template")
    for name in ("old_to_template.h5", "mine.txt", "unfinished.nii.gz"):
        (folder / name).write_text("x")
    (folder / OTHERS).mkdir()
    (folder / "result.json").write_text(json.dumps({"files": {"old_to_template.h5": "", "mine.txt": ""}}))
    command = ["template", *map(str, files), "-o", str(folder), "--method", "rigid", "--moved"]
    return folder, run(*command, "--iterations", "10", "--rounds", "2")


def test_the_command_writes_the_template_and_a_transform_for_each_image(out):
    folder, (code, told, said) = out
    assert code == 0
    names = ["brain", "brain-2", "c-d"]
    of_each = {f"{name}{end}" for name in names for end in ("_to_template.h5", "_moved.nii.gz")}
    assert {path.name for path in folder.iterdir()} == of_each | {
        "template.nii.gz",
        "template.png",
        "result.json",
        "mine.txt",
        OTHERS,
    }
    facts = json.loads((folder / "result.json").read_text())
    validate(TemplateResult, facts, "result.json")
    assert [*facts["inputs"]] == names == [*facts["subjects"]]
    assert facts["command"].startswith("regzoo template ")
    assert (facts["method"], facts["alignment"], facts["start"]) == ("rigid", "center", "mean")
    assert "least alike to the template" in told
    assert f"Written to {folder}: " in said


def test_the_template_is_the_mean_of_what_the_transforms_move(out, files):
    folder, _ = out
    template = Image.read(folder / "template.nii.gz")
    assert template.grid.same_as(Image.read(files[0]).grid)
    total = 0
    for path, name in zip(files, ("brain", "brain-2", "c-d"), strict=True):
        moved = regzoo.Transform.load(folder / f"{name}_to_template.h5").apply_image(Image.read(path), template.grid)
        written = Image.read(folder / f"{name}_moved.nii.gz").array
        total = total + written
        inside = template.array > 0.5
        assert np.corrcoef(moved.array[inside], written[inside])[0, 1] > 0.999
    inside = np.zeros(template.shape, bool)
    inside[3:-3, 3:-3, 2:-2] = True  # which all images show
    np.testing.assert_allclose(template.array[inside], total[inside] / 3, atol=1e-5)
    # The boxes lie at 3, 4 and 5 along an axis of 1 mm: theirs at 4.
    middle = [np.average(np.arange(12), weights=template.array.sum((1, 2)))]
    assert middle[0] == pytest.approx(5.5, abs=0.3)


def test_what_fails_leaves_no_half_a_template(files, tmp_path, monkeypatch):
    monkeypatch.setattr(rounds, "_brought", functools.partial(_failing, rounds._brought))
    options = ["--method", "rigid", "--iterations", "1", "--rounds", "2"]
    code, _, said = run("template", *map(str, files), "-o", str(tmp_path / "out"), *options)
    assert (code, said.splitlines()[-1]) == (1, "error: the second round")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["unfinished.nii.gz"]


def _failing(brought, study, back, inside):
    if (study.work / "kept").exists():
        raise InvalidError("the second round")
    return brought(study, back, inside)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a/brain.nii.gz", "--method", "rigid"], "Give two images or more."),
        (["a/brain.nii.gz", "c d.nii.gz"], "Give one of --model and --method."),
        (["a/brain.nii.gz", "gone.nii.gz", "--method", "rigid"], "gone.nii.gz"),
        (
            ["a/brain.nii.gz", "c d.nii.gz", "--method", "rigid", "--tolerance", "0"],
            "tolerance: expected a number above 0",
        ),
        (
            ["a/brain.nii.gz", "c d.nii.gz", "--method", "rigid", "--spacing", "-1"],
            "spacing: expected a number above 0",
        ),
        (["a/brain.nii.gz", "c d.nii.gz", "--method", "rigid", "--start", "none.nii.gz"], "none.nii.gz"),
    ],
)
def test_what_cannot_be_is_refused(files, arguments, told, tmp_path, monkeypatch):
    monkeypatch.chdir(files[2].parent)
    code, _, said = run("template", *arguments, "-o", str(tmp_path / "out"))
    assert code > 0
    assert told in " ".join(said.replace("│", " ").split())
    assert not (tmp_path / "out" / "result.json").exists()


def test_an_image_that_lies_elsewhere_is_named(files, tmp_path):
    image = Image.read(files[0])
    Image(image.array, affine(np.eye(3), (500, 0, 0)) @ image.affine).save(tmp_path / "far.nii.gz")
    with pytest.raises(InvalidError, match="far: it shows nothing"):
        regzoo.template([*files, tmp_path / "far.nii.gz"], tmp_path / "out", method="rigid", alignment="world")


def test_voxels_along_the_axes_cover_a_grid_that_is_turned():
    grid = Grid((9, 12, 7), AFFINES["oblique"])
    found = grid.upright(2.0)
    np.testing.assert_allclose(found.affine[:3, :3], np.diag([2.0, 2, 2]))
    np.testing.assert_allclose(found.box().mean(0), grid.box().mean(0))
    assert found.covers(grid.box()).all()
    assert (np.ptp(found.box(), axis=0) - np.ptp(grid.box(), axis=0) < 2).all()
    straight = Grid((9, 12, 7), np.diag([2.0, 2, 2, 1]))
    assert straight.upright(2.0).same_as(straight)
