"""The error that is expected: what it is gathered from, how it becomes millimetres, and what the verdict says."""

import json

import nibabel
import numpy as np
import pytest
from calibrated import calibrate, calibration
from command_line import run
from constant_model import SHAPE, SPACING, constant_model
from worlds import AFFINES, affine, blobs

import regzoo
from regzoo.errors import InvalidError
from regzoo.hub import cards
from regzoo.registration.expected.evidence import Asked, evidence, lncc_residual
from regzoo.registration.expected.expectation import expected, forest_mean
from regzoo.registration.expected.passes import Remembered, differences, remaining
from regzoo.registration.expected.verdict import verdict
from regzoo.registration.network import NetworkPair, asked_again
from regzoo.registration.scores import Side
from regzoo.schema.calibration import Calibration, Forest
from regzoo.schema.result import ImageResult
from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform

CUBE = (20, 24, 14)


def spot(middle, shape=CUBE):
    places = np.moveaxis(np.indices(shape), 0, -1)
    return np.exp(-((places - middle) ** 2).sum(-1) / 12)[None, ..., None].astype("float32")


def centre(image):
    weight = np.maximum(image[0, ..., 0] - 0.3, 0)  # above the noise
    return np.array([(weight * each).sum() / weight.sum() for each in np.indices(weight.shape)])


def centres(batch):
    """A network that always finds where the spots lie."""
    shift = centre(batch["moving"]) - centre(batch["fixed"])
    return {"ddf": np.broadcast_to(shift.astype("float32"), (1, *batch["fixed"].shape[1:-1], 3)).copy()}


def still(shift):
    """A network that gives the same shift in voxels whatever it is shown."""
    return lambda batch: {"ddf": np.broadcast_to(np.float32(shift), (1, *batch["fixed"].shape[1:-1], 3)).copy()}


# ---- asking again


def test_a_network_that_is_right_agrees_with_itself():
    batch = {"fixed": spot((9, 11, 6)), "moving": spot((11, 10, 7))}
    changed, back = differences(batch, centres(batch)["ddf"], centres, axis=0)
    assert np.abs(back).max() < 0.01
    assert np.abs(changed[0, 9, 11, 6]).max() < 0.2  # of a voxel; the noise moves centres a little
    # A shift is no turn: away from the spot it must differ.
    assert np.linalg.norm(changed[0, 9, 23, 6]) == pytest.approx(np.radians(7) * 12 * np.sqrt(2 / 3), rel=0.1)
    assert np.abs(remaining(batch, centres(batch)["ddf"], centres)).max() < 0.05


def test_a_network_that_does_not_look_differs_by_what_was_changed():
    batch = {"fixed": spot((9, 11, 6)), "moving": spot((11, 10, 7))}
    predict = still((1.5, 0.5, -1.5))
    ddf = predict(batch)["ddf"]
    changed, back = differences(batch, ddf, predict, axis=1)
    # From there it leads to the middle, about which the image was turned.
    np.testing.assert_allclose(changed[0, 8, 11, 8], 0.05 * np.array(CUBE), atol=1e-5)
    np.testing.assert_allclose(back[0, 3, 4, 5], (3.0, 0.0, -3.0), atol=1e-5)  # along axis 1 mirrored, and so undone
    np.testing.assert_allclose(remaining(batch, ddf, predict), ddf)


def test_what_remains_is_found_on_the_moved_image():
    batch = {"fixed": spot((9, 11, 6)), "moving": spot((13, 11, 6))}
    left = remaining(batch, still((3.0, 0, 0))(batch)["ddf"], centres)
    np.testing.assert_allclose(left[0, 9, 11, 6], (1.0, 0, 0), atol=0.05)


def test_the_same_question_is_asked_once():
    asked = []
    network = Remembered(lambda batch: asked.append(1) or centres(batch))
    batch = {"fixed": spot((9, 11, 6)), "moving": spot((11, 10, 7))}
    assert network(batch) is network({name: array.copy() for name, array in batch.items()})
    network(batch | {"moving": batch["fixed"]})
    assert len(asked) == 2


def test_differences_are_in_millimetres(tmp_path):
    model = regzoo.load(constant_model(tmp_path / "still", (2.0, 2.5, -3.0)))
    image = blobs(Grid((20, 18, 16), affine(np.diag([-2, -2, 2]), (16, 12, 0))))
    asked = asked_again(NetworkPair(model, Side(image), Side(image), None, {}))
    changed, back = asked.differences
    ends = [slice(n // 2 - 1 - step, n // 2 + 1 - step) for n, step in zip(SHAPE, (1, 1, -1), strict=True)]
    # These eight lead to around the middle, about which the image was turned.
    np.testing.assert_allclose(changed[tuple(ends)].mean((0, 1, 2)), 0.05 * np.array(SHAPE) * SPACING, atol=1e-4)
    np.testing.assert_allclose(back[8, 6, 6], (0.0, 5.0, -6.0), atol=1e-5)  # mirrored along R
    np.testing.assert_allclose(asked.remaining[8, 6, 6], (2.0, 2.5, -3.0), atol=1e-5)


# ---- evidence


@pytest.mark.parametrize("name", AFFINES)
def test_a_known_map_is_told_from_its_start(name):
    grid = Grid((20, 22, 14), AFFINES[name])
    image = blobs(grid)
    turn = np.radians(10)
    linear = 1.1 * np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    middle = grid.box().mean(axis=0)
    start = Transform.linear(affine(np.eye(3), (30, -20, 10)), grid)
    around = affine(linear, middle - linear @ middle)
    found = evidence(Asked(image, image), Transform.linear(around, grid).then(start), start)
    assert found.pair["turn"] == pytest.approx(10, abs=0.01)
    assert found.pair["scale"] == pytest.approx(np.log(1.1), abs=1e-4)
    assert found.pair["bending"] < 1e-3
    assert found.pair["unseen"] > 0.98  # the start leads out of the image
    assert found.pair["stretch"] == pytest.approx(3 * np.log(1.1), abs=1e-3)


def test_disagreement_is_the_root_mean_square_in_mm():
    grid = Grid((20, 22, 14), AFFINES["anisotropic"])
    apart = [np.broadcast_to(np.float32(each), (*grid.shape, 3)) for each in ((3, 0, 0), (0, 0, 4), (0, 0, 0))]
    asked = Asked(blobs(grid), blobs(grid), differences=apart, remaining=apart[1])
    found = evidence(asked, Transform.identity(grid), Transform.identity())
    assert found.pair["disagreement"] == pytest.approx(np.sqrt(25 / 3), rel=1e-5)
    assert found.pair["remaining"] == found.pair["remaining_most"] == pytest.approx(4, rel=1e-5)


def test_images_that_match_leave_nothing_and_others_much():
    one, other = (blobs(Grid((24, 24, 24), np.eye(4)), seed).array for seed in (0, 1))
    assert lncc_residual(one, 0.5 * one + 0.2, 3).max() < 1e-3
    assert lncc_residual(one, other, 3).mean() > 0.5
    assert lncc_residual(one, -one, 3).mean() > 0.9  # dark where the other is bright is no match


# ---- millimetres and words


def evidence_of(mm, where=None, shape=(12, 10, 8), matrix=None):
    grid = Grid(shape, np.diag([2.0, 3, 4, 1]) if matrix is None else matrix)
    image = Image(np.ones(shape, "float32") * np.linspace(0.2, 1, shape[0])[:, None, None], grid.affine)
    apart = np.zeros((*shape, 3), "float32")
    apart[..., 1] = mm
    if where:
        apart[where] *= 3
    return evidence(Asked(image, image, differences=[apart]), Transform.identity(grid), Transform.identity())


def test_evidence_becomes_millimetres():
    found = expected(evidence_of(2.0), calibration())
    assert found.facts["mean"] == pytest.approx(2.0, rel=1e-5)
    assert found.facts["p95"] == pytest.approx(2.0, rel=1e-5)
    assert found.facts["bound"] == pytest.approx(4.0, rel=1e-5)
    assert found.facts["risk"] == pytest.approx(0.2, rel=1e-4)
    np.testing.assert_allclose(found.error.array, 2.0, rtol=1e-5)


def test_the_map_has_the_mean_of_the_pair():
    voxel = calibration().voxel.model_dump() | {"expected": {"x": [0, 100], "y": [0, 30]}}
    found = expected(evidence_of(2.0, where=(slice(0, 4),)), calibration(voxel=voxel))
    assert found.error.array.mean() == pytest.approx(found.facts["mean"], rel=1e-4)
    assert found.error.array[1, 5, 4] == pytest.approx(3 * found.error.array[10, 5, 4], rel=1e-3)


@pytest.mark.parametrize(
    ("mm", "against", "word"),
    [(1.0, (), "good"), (1.0, ("Turned.",), "look"), (3.0, (), "look"), (4.5, (), "look"), (7.0, (), "failed")],
)
def test_verdicts(mm, against, word):
    known = calibration()
    found = verdict(expected(evidence_of(mm), known), known, against)
    assert found["verdict"] == word
    assert found["reasons"][0].startswith(f"Expected error in the anatomy: {mm:.1f} mm on average")
    assert set(against) <= set(found["reasons"])
    said = [text for text in found["reasons"] if "answers that differ by" in text]
    assert len(said) == (word != "good")
    assert all(f"{mm:.1f} mm on average (usual: 0.1 mm)" in text for text in said)
    assert any("Look first" in text for text in found["look_at"]) == (word != "failed")


def test_more_than_5_mm_are_said_to_be_probably_wrong_where_the_verdict_does_not():
    known = calibration(failed_from=1.0)
    for mm in (4.5, 7.0):
        found = verdict(expected(evidence_of(mm), known), known, ())
        assert found["verdict"] == "look"
        assert ("take it as failed" in found["reasons"][1]) == (mm > 5)


def test_nothing_is_good_that_was_never_calibrated():
    found = verdict(None, None, ["Turned."])
    assert found["verdict"] == "look"
    assert "never calibrated" in found["reasons"][0]
    assert found["reasons"][1] == "Turned."


def test_the_worst_place_is_said_in_the_patients_directions():
    matrix = affine(np.diag([-2.0, 3, 4]), (10, -40, -12))
    found = expected(evidence_of(1.0, where=(10, 4, 6), matrix=matrix), calibration())
    i, j, k = np.unravel_index(found.error.array.argmax(), found.error.shape)
    assert (i > 7, j < 9, k > 3) == (True, True, True)
    told = verdict(found, calibration(), ())["look_at"][1]
    assert f"{2 * i - 10} mm left, {40 - 3 * j} mm back, {4 * k - 12} mm up of the origin" in told


# ---- files


def test_tables_that_fall_are_refused():
    values = calibration().model_dump()
    values["pair"]["expected"] = {"x": [0, 1, 2], "y": [0, 2, 1]}
    with pytest.raises(ValueError, match="expected y that rise"):
        Calibration.model_validate(values)
    values = calibration().model_dump()
    values["voxel"]["log"]["tables"] = {"colour": {"x": [0], "y": [0]}}
    with pytest.raises(ValueError, match="received colour"):
        Calibration.model_validate(values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"asks": ["colour", None, None]}, "received colour"),
        ({"below": [0, 0, 0]}, "expected next nodes behind node 0"),
        ({"above": [3, 0, 0]}, "expected next nodes behind node 0, below 3"),
        ({"at": [0.5, 0]}, "of one length"),
    ],
)
def test_trees_that_lead_nowhere_or_round_in_circles_are_refused(changes, message):
    tree = {"asks": ["lncc", None, None], "at": [0.5, 0, 1], "below": [1, 0, 0], "above": [2, 0, 0]}
    values = calibration().model_dump()
    Calibration.model_validate(values | {"risk": {"trees": [tree]}})
    with pytest.raises(ValueError, match=message):
        Calibration.model_validate(values | {"risk": {"trees": [tree | changes]}})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"look_from": 0.7}, "expected look_from up to failed_from"),
        ({"failed_from": 2.0}, "less than or equal to 1"),
        ({"risk": {"trees": [{"asks": [None], "at": [1.5], "below": [0], "above": [0]}]}}, "shares from 0 to 1"),
        ({"voxel": {"expected": {"x": [0], "y": [-5]}}}, "errors from 0 to 10,000 mm"),
        ({"pair": {"bound": {"x": [0, 1], "y": [0, 1e5]}}}, "errors from 0 to 10,000 mm"),
        ({"pair": {"bound": {"x": [0, 1], "y": [0, 1e300]}}}, "less than or equal to 1000000"),
    ],
)
def test_figures_that_mean_nothing_are_refused(change, message):
    values = calibration().model_dump()
    for key, value in change.items():
        values[key] = values[key] | value if key in ("voxel", "pair") else value
    with pytest.raises(ValueError, match=message):
        Calibration.model_validate(values)


def test_a_forest_says_the_mean_of_its_trees():
    one = {"asks": ["lncc", "mind", None, None, None], "at": [0.5, 2, 10, 20, 30]}
    one |= {"below": [1, 2, 0, 0, 0], "above": [4, 3, 0, 0, 0]}
    other = {"asks": [None], "at": [4], "below": [0], "above": [0]}
    forest = Forest.model_validate({"trees": [one, other]})
    ends = {(0.5, 2): 10, (0.4, 2.1): 20, (0.6, 0): 30}
    for (lncc, mind), end in ends.items():
        assert forest_mean(forest, {"lncc": lncc, "mind": mind}) == (end + 4) / 2


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A blob and itself moved by 2.5 mm to the left; a model that finds it, calibrated, and one that is not."""
    folder = tmp_path_factory.mktemp("pair")
    grid = Grid((20, 18, 16), AFFINES["oblique"])
    moving = blobs(grid)
    moving.save(folder / "moving.nii.gz")
    Transform.linear(affine(np.eye(3), (-2.5, 0, 0))).apply_image(moving, grid).save(folder / "fixed.nii.gz")
    calibrate(constant_model(folder / "model", (-2.5, 0, 0)))
    constant_model(folder / "plain", (-2.5, 0, 0))
    return folder


@pytest.mark.backend
def test_register_says_how_far_off_it_is(pair, tmp_path):
    result = regzoo.register(pair / "fixed.nii.gz", pair / "moving.nii.gz", pair / "model")
    result.save(tmp_path)
    facts = ImageResult.model_validate_json((tmp_path / "result.json").read_text(encoding="utf-8"))
    error = Image.read(tmp_path / "error.nii.gz")
    assert error.grid.same_as(Image.read(pair / "fixed.nii.gz").grid)
    # The constant model never follows a change: shifted, it differs by a twentieth of its view, 1.6, 1.5 and 1.8 mm.
    assert 1 < facts.error.mean < 5
    assert error.array.min() > 0
    assert facts.error.calibration == "constant-ddf@3"
    assert facts.verdict == json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))["verdict"]
    assert facts.done.startswith("constant-ddf version 3 registered moving.nii.gz to fixed.nii.gz")
    assert facts.not_for[-1] == "No diagnosis or treatment may rest on it alone."
    assert "error" in facts.seconds
    assert "network" in facts.seconds


def test_four_more_passes_at_most(pair):
    model = regzoo.load(pair / "model")
    passes, predict = [], model.predict_on_batch
    model.predict_on_batch = lambda batch: passes.append(1) or predict(batch)
    regzoo.register(pair / "fixed.nii.gz", pair / "moving.nii.gz", model, error=False)
    without = len(passes)
    regzoo.register(pair / "fixed.nii.gz", pair / "moving.nii.gz", model)
    assert len(passes) - without <= 1 + 4


def test_without_a_calibration_or_unasked_there_is_no_map(pair, tmp_path):
    plain = regzoo.register(pair / "fixed.nii.gz", pair / "moving.nii.gz", pair / "plain")
    assert (plain.facts["verdict"], plain.error) == ("look", None)
    assert "error" not in plain.facts
    method = regzoo.register(pair / "fixed.nii.gz", pair / "moving.nii.gz", method="rigid", iterations=1)
    assert method.facts["verdict"] == "look"
    unasked = regzoo.register(pair / "fixed.nii.gz", pair / "moving.nii.gz", pair / "model", error=False)
    assert "verdict" not in unasked.facts
    assert unasked.error is None
    unasked.save(tmp_path)
    assert not (tmp_path / "error.nii.gz").exists()


def test_a_calibration_that_is_not_the_listed_one_is_refused(pair, tmp_path):
    model = calibrate(constant_model(tmp_path / "model"))
    text = (model / "error.json").read_text()
    (model / "error.json").write_text(text.replace('"cases": 10', '"cases": 11'))
    with pytest.raises(InvalidError, match=r"damaged: error\.json"):
        regzoo.load(model)
    assert regzoo.load(pair / "plain").calibration is None
    assert "error.json" in [file.path for file in cards.read(pair / "model").files]


def test_exit_code_3_hangs_on_the_verdict(pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = ("register", str(pair / "fixed.nii.gz"), str(pair / "moving.nii.gz"), "-o", "out")
    code, out, _ = run(*files, "-m", str(pair / "plain"), "--fail-on", "failed")
    assert code == 0
    assert "VERDICT: look: look closely." in out
    assert "never calibrated" in out
    code, _, _ = run(*files, "-m", str(pair / "plain"), "--fail-on", "look")
    assert code == 3
    assert (tmp_path / "out" / "result.json").exists()
    failing = calibrate(constant_model(tmp_path / "failing"), failed_from=0, look_from=0)
    code, out, _ = run(*files, "-m", str(failing), "--fail-on", "failed")
    assert code == 3
    assert "VERDICT: failed: this registration failed." in out
    code, _, err = run(*files, "-m", str(failing), "--no-error", "--fail-on", "failed")
    assert code == 2
    assert "Give one of" in err
    code, out, _ = run(*files, "-m", str(failing), "--no-error")
    assert (code, "VERDICT" in out) == (0, False)


def test_cohorts_have_verdicts_and_sort_by_them(pair, tmp_path):
    records = [{"fixed": pair / "fixed.nii.gz", "moving": pair / f"{name}.nii.gz"} for name in ("moving", "fixed")]
    found = regzoo.cohort(records, tmp_path / "out", pair / "model")
    assert [row["verdict"] for row in found.rows] == [row["verdict"] for row in found.rows if row["error"] > 0]
    text = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "Expected error: " in text
    again = regzoo.cohort(records, tmp_path / "out", pair / "model")
    assert again.kept == 2
    assert nibabel.load(tmp_path / "out" / "moving_to_fixed" / "error.nii.gz").shape == (20, 18, 16)


def test_evaluate_has_verdicts_sorts_by_them_and_exits_by_them(pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = ["fixed,moving", *(f"{pair / 'fixed.nii.gz'},{pair / name}.nii.gz" for name in ("fixed", "moving"))]
    (tmp_path / "pairs.csv").write_text("\n".join(lines), encoding="utf-8")
    files = ("evaluate", str(pair / "model"), "--pairs", "pairs.csv", "-o", "scores")
    code, out, _ = run(*files)
    assert code == 0
    assert "verdicts: 2 " in out
    rows = (tmp_path / "scores" / "scores.csv").read_text(encoding="utf-8").splitlines()
    assert {"error", "error_bound", "verdict"} <= set(rows[0].split(","))
    summary = json.loads((tmp_path / "scores" / "summary.json").read_text(encoding="utf-8"))
    assert sum(summary["verdicts"].values()) == 2
    assert "Expected error: " in (tmp_path / "scores" / "index.html").read_text(encoding="utf-8")
    failing = calibrate(constant_model(tmp_path / "failing"), failed_from=0, look_from=0)
    found = run("evaluate", str(failing), *files[2:], "--no-reports", "--fail-on", "failed")
    assert (found[0], "verdicts: 2 failed" in found[1]) == (3, True)
    code, out, _ = run("evaluate", str(failing), *files[2:], "--no-reports", "--no-error")
    assert (code, "verdicts" in out) == (0, False)
    code, _, err = run("evaluate", str(failing), "--check", "--fail-on", "look")
    assert (code, "give no verdicts" in err) == (2, True)
