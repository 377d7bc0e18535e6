import errno
import gzip
import json
import shutil
import subprocess
import sys

import nibabel
import numpy as np
import pytest
from command_line import process, run
from constant_model import constant_model
from fake_zoo import make_entry
from scored_pairs import RECIPE, scored_pairs
from worlds import AFFINES, blobs

import regzoo
from regzoo import installed
from regzoo.hub import cards
from regzoo.io.landmarks import read_points
from regzoo.registration import demo, results
from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform

backend = pytest.mark.backend
SHIFT = (3.0, 0.0, -1.5)  # whole voxels of AFFINES["RAS"]


@pytest.fixture(scope="session")
def zoo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    constant_model(folder / "constant-ddf", SHIFT)
    constant_model(
        folder / "hippocampus-mr-dvf", (1, 2, -1), name="hippocampus-mr-dvf", alignment="center", shape=(20, 24, 16)
    )
    constant_model(folder / "brain-mr-dvf", (1, 2, -1), name="brain-mr-dvf", alignment="center", shape=(40, 48, 40))
    return folder


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A working folder with a pair, labels, points and a transform; nothing else may be in it after an error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REGZOO_CACHE", str(tmp_path / "nowhere"))
    grid = Grid((16, 18, 14), AFFINES["RAS"])
    moving = blobs(grid)
    there = Transform.linear(np.eye(4) + np.outer([*SHIFT, 0], [0, 0, 0, 1]), grid)
    moving.save("moving.nii.gz")
    there.apply_image(moving, grid).save("fixed.nii.gz")
    labels = Image((moving.array > 0.3).astype("uint8"), grid.affine)
    labels.save("moving_labels.nii.gz")
    there.apply_labels(labels, grid).save("fixed_labels.nii.gz")
    there.save("shift.nii.gz")
    (tmp_path / "points.csv").write_text("x,y,z\n1,2,3\n-4,5,8\n")
    return tmp_path


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return scored_pairs(tmp_path_factory.mktemp("evaluation"))


@pytest.fixture
def bundled(zoo, monkeypatch):
    monkeypatch.setenv("REGZOO_ZOO", str(zoo))


both = pytest.mark.parametrize("call", [run, pytest.param(process, marks=pytest.mark.slow)])


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


REGISTER = ("register", "fixed.nii.gz", "moving.nii.gz", "--model", "constant-ddf")
LABELS = ("--fixed-labels", "fixed_labels.nii.gz", "--moving-labels", "moving_labels.nii.gz")
WARP = ("warp", "moving.nii.gz", "--transform", "shift.nii.gz", "--reference", "fixed.nii.gz", "-o", "x.nii.gz")


@backend
@pytest.mark.usefixtures("bundled")
class TestModels:
    @both
    def test_register(self, files, call):
        code, out, err = call(*REGISTER, "--start", "world", *LABELS, "-o", "a/out")
        assert code == 0, err
        assert {path.name for path in (files / "a/out").iterdir()} == {
            *("moved.nii.gz", "moved_labels.nii.gz", "transform.nii.gz", "report.html", "report.png", "result.json")
        }
        after = {line[: line.index("  ")].strip(): line.split()[-1] for line in out.splitlines() if "dice" in line}
        ways = [after[f"mean dice, by {way}"] for way in ("the map", "its inverse")]
        assert ways[0] == "1.000"
        assert 0.9 < float(ways[1]) < 1  # of the moving label a part lies outside the fixed image
        assert float(after["dice of label 1"]) == pytest.approx((1 + float(ways[1])) / 2, abs=1e-3)
        assert "folds 0.0000 % of voxels" in out
        assert "\nbefore: in scanner coordinates, nothing else moved; correlation: where before and after both" in out
        files = "moved.nii.gz, moved_labels.nii.gz, transform.nii.gz, report.html, report.png, result.json"
        assert err.endswith(f"Written to a/out: {files}\n")
        moved, fixed = Image.read("a/out/moved.nii.gz"), Image.read("fixed.nii.gz")
        assert np.abs(moved.array - fixed.array)[:-2, :, 1:].max() < 1e-3

    def test_register_json(self, files):
        code, out, _ = run(*REGISTER, "--json")
        assert code == 0
        assert json.loads(out) == json.loads((files / "out" / "result.json").read_text())
        assert json.loads(out)["command"] == "regzoo register fixed.nii.gz moving.nii.gz --model constant-ddf --json"

    def test_nothing_of_a_header_that_may_name_a_patient_is_in_a_result(self, files):
        for name in ("fixed", "moving"):
            image = nibabel.load(f"{name}.nii.gz")
            for key in ("descrip", "db_name", "aux_file", "intent_name"):
                image.header[key] = b"DOE^JOHN"
            nibabel.save(image, f"{name}.nii.gz")
            assert b"DOE" in gzip.decompress((files / f"{name}.nii.gz").read_bytes())
        assert run(*REGISTER)[0] == 0
        for path in (files / "out").iterdir():
            data = path.read_bytes()
            assert b"DOE" not in (gzip.decompress(data) if path.suffix == ".gz" else data)

    @both
    def test_evaluate(self, home, files, call):
        pairs = ("--pairs", str(home / "set" / "pairs.csv"))
        code, out, err = call("evaluate", str(home / "model"), *pairs, "-o", "scores")
        assert code == 0, err
        rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
        assert rows["dice_1_after"] == ["0.75", "0", "0.75", "1"]
        assert rows["tre_after"][0] == "4"
        names = {"moving_to_fixed", "fixed_to_moving"}
        written = {"scores.csv", "summary.json", "index.html"}
        assert {path.name for path in (files / "scores").iterdir()} == written | names
        for name in names:
            assert {path.name for path in (files / "scores" / name).iterdir()} == {"report.png", "report.html"}
        text = (files / "scores" / "index.html").read_text(encoding="utf-8")
        assert all(f"{name}/report.html" in text and f"{name}/report.png" in text for name in names)
        assert call("evaluate", str(home / "model"), *pairs, "-o", "bare", "--no-reports")[0] == 0
        assert {path.name for path in (files / "bare").iterdir()} == {"scores.csv", "summary.json"}
        code, _, told = call("evaluate", str(home / "model"), "--check", "--refine", "5")
        assert code == 2
        assert "--refine goes with neither --check nor --record" in told
        assert "1/2 moving.nii.gz -> fixed.nii.gz dice_before 0.625 dice_after 0.375" in err

    def test_evaluate_a_split_of_the_recipe(self, home, files):
        arguments = ("evaluate", str(home / "model"), "--data", str(home), "--json")
        assert json.loads(run(*arguments, "--split", "valid")[1])["pairs"] == 1
        found = json.loads(run(*arguments, "--split", "test")[1])
        assert found["pairs"] == 2
        assert found["summary"]["dice_1_after"]["mean"] == 0.75

    @pytest.mark.slow
    def test_finetune(self, home, files):
        recipe = RECIPE.replace("steps: 1", "steps: 2, steps_per_epoch: 1, batch_size: 1")
        (files / "recipe.yaml").write_text(recipe)
        arguments = ("finetune", "recipe.yaml", "--data", str(home), "-o", "run")
        code, out, _ = run(*arguments)
        assert (code, out) == (0, "run\n")
        code, out, err = process(*arguments)  # all steps are done: nothing is trained
        assert (code, out) == (0, "run\n"), err
        assert regzoo.load("run").card.training["steps"] == 2
        assert json.loads(run(*REGISTER[:3], "--model", "./run", "--json")[1])["model"]["name"] == "constant-ddf"

    @both
    def test_demo(self, files, call):
        code, out, err = call("demo", "-o", "out")
        assert code == 0, err
        assert out.startswith("Real pair: the brain of one person, Colin27 (moving)")
        facts = json.loads((files / "out" / "result.json").read_text())
        before, after = (facts["scores"][when]["ncc"] for when in ("before", "after"))
        assert f"correlation of the images: {before:.3f} before, {after:.3f} after\n" in out
        assert 0.5 < before < 1
        assert facts["command"] == "regzoo demo -o out"
        moved, fixed = Image.read("out/moved.nii.gz"), Image.read(demo.IMAGES / "mni152.nii.gz")
        np.testing.assert_allclose(moved.affine, fixed.affine)
        assert moved.grid.shape == fixed.grid.shape
        assert (files / "out" / "report.png").exists()
        assert (demo.IMAGES / "NOTICE.md").is_file()

    def test_demo_with_data(self, files, monkeypatch):
        # A constant model moves by what it was told, however the images lie.
        monkeypatch.setattr("regzoo.registration.network.found_start", lambda fixed, moving, how, usual: usual)
        for kind, suffix in (("images", ""), ("labels", "_labels")):
            (files / "data/hippocampus-mr" / kind).mkdir(parents=True)
            for name, old in (("one", "moving"), ("two", "fixed")):
                (files / f"{old}{suffix}.nii.gz").rename(files / f"data/hippocampus-mr/{kind}/{name}.nii.gz")
        (files / "data/hippocampus-mr/splits.json").write_text('{"test_pairs": [["one", "two"]]}')
        fixed = Image.read("data/hippocampus-mr/images/two.nii.gz")
        code, out, _ = run("demo", "--data", "data")
        assert code == 0
        assert out.startswith("Real pair: one.nii.gz (moving) to two.nii.gz (fixed)")
        start = Transform.linear(np.eye(4) + np.outer([1, 2, -1, 0], [0, 0, 0, 1]))
        expected = start.apply_image(Image.read("data/hippocampus-mr/images/one.nii.gz"), fixed.grid).array
        assert np.abs(Image.read("out/moved.nii.gz").array - expected)[2:-2, 2:-2, 2:-2].max() < 1e-3

    @pytest.mark.parametrize(
        ("stop", "expected"),
        [
            (OSError(errno.ENOSPC, "No space left on device", "x"), (1, "", "error: x: No space left on device\n")),
            (KeyboardInterrupt(), (130, "", "stopped\n")),
        ],
    )
    def test_nothing_is_left_of_a_result_half_written(self, files, monkeypatch, stop, expected):
        def fail(_, path):
            assert path.with_name("moved.nii.gz").exists()
            path.write_bytes(b"half")
            raise stop

        monkeypatch.setattr(results, "picture", fail)
        before = everything(files)
        assert run(*REGISTER, "-o", "out") == expected
        assert everything(files) == before

    def test_boxes_apart(self, files):
        image = Image.read("moving.nii.gz")
        Image(image.array, image.affine + np.outer([0, 400, 0, 0], [0, 0, 0, 1])).save("far.nii.gz")
        before = everything(files)
        code, out, err = run("register", "fixed.nii.gz", "far.nii.gz", "-m", "constant-ddf", "--start", "world")
        assert (code, out) == (1, "")
        assert err == (
            "error: fixed and moving do not overlap in world space (gap 373 mm). "
            'Check the affines, or pass start="center" (--start center).\n'
        )
        assert everything(files) == before
        assert run("register", "fixed.nii.gz", "far.nii.gz", "-m", "constant-ddf", "--start", "center")[0] == 0

    def test_labels_of_another_shape(self, files):
        Image(np.ones((3, 4, 5), np.uint8), np.eye(4)).save("other.nii.gz")
        before = everything(files)
        code, _, err = run(*REGISTER, "--moving-labels", "other.nii.gz")
        assert (code, err.count("\n")) == (1, 1)
        assert err.startswith("error: moving_labels: expected the grid of the moving image, shape (16, 18, 14)")
        assert everything(files) == before


class TestWarp:
    @both
    def test_image(self, files, call):
        assert call(*WARP) == (0, "", "")
        image, fixed, moving = (Image.read(f"{name}.nii.gz") for name in ("x", "fixed", "moving"))
        np.testing.assert_allclose(image.array[:-2, :, 1:], fixed.array[:-2, :, 1:], atol=1e-5)
        assert (image.array[-2:] == moving.array.min()).all()

    def test_labels(self, files):
        assert run("warp", "moving_labels.nii.gz", "--labels", *WARP[2:]) == (0, "", "")
        maps = [Image.read(f"{name}.nii.gz", labels=True).array for name in ("x", "fixed_labels")]
        np.testing.assert_array_equal(*maps)
        assert "If it is a label map, pass --labels" in run("warp", "moving_labels.nii.gz", *WARP[2:])[2]
        assert "INPUT is a file of points: pass --points" in run("warp", "points.csv", *WARP[2:])[2]

    def test_inverse(self, files):
        code, out, err = run("warp", "fixed.nii.gz", "--inverse", *WARP[2:5], "moving.nii.gz", *WARP[6:])
        assert (code, out) == (0, "")
        assert "of the reference's voxels lie beyond the grid" in err  # what the fixed image does not show
        image, moving = (Image.read(f"{name}.nii.gz").array for name in ("x", "moving"))
        np.testing.assert_allclose(image[2:, :, :-1], moving[2:, :, :-1], atol=1e-5)

    @pytest.mark.parametrize(("option", "sign"), [((), 1), (("--inverse",), -1)])
    def test_points(self, files, option, sign):
        (files / "points.csv").write_text("x,y,z\n1,2,13\n-4,-5,10\n")
        done = run("warp", "points.csv", "--points", *option, "--transform", "shift.nii.gz", "-o", "y.csv")
        assert done == (0, "", "")
        expected = np.array([(1, 2, 13), (-4, -5, 10)]) + sign * np.array(SHIFT)
        np.testing.assert_allclose(read_points("y.csv"), expected, atol=1e-4)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (WARP[:4] + WARP[6:], "--reference is missing: the image whose grid the output gets."),
            ((*WARP, "--points"), "--reference goes with an image or a label map, not with --points."),
        ],
    )
    def test_reference_goes_with_images_only(self, files, arguments, message):
        before = everything(files)
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert message in " ".join(err.split())
        assert everything(files) == before

    @pytest.mark.parametrize(
        ("stop", "expected"),
        [
            (OSError(errno.ENOSPC, "No space left on device"), (1, "", "error: No space left on device\n")),
            (KeyboardInterrupt(), (130, "", "stopped\n")),
        ],
    )
    @pytest.mark.parametrize("old", [b"", b"kept"])
    def test_half_written(self, files, monkeypatch, stop, expected, old):
        def fail(_, path):
            path.write_bytes(b"half")
            raise stop

        if old:
            (files / "x.nii.gz").write_bytes(old)
        monkeypatch.setattr(nibabel, "save", fail)
        before = everything(files)
        assert run(*WARP) == expected
        assert everything(files) == before
        assert not old or (files / "x.nii.gz").read_bytes() == old


def save(path, array):
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)


SOUND = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
BAD = [
    ((*REGISTER[:2], "nowhere.nii.gz", *REGISTER[3:]), "nowhere.nii.gz does not exist."),
    ((*REGISTER[:2], "4d.nii.gz", *REGISTER[3:]), "4d.nii.gz has 4 dimensions (3, 4, 5, 2). Expected 3; choose one "),
    ((*REGISTER[:2], "nan.nii.gz", *REGISTER[3:]), "nan.nii.gz: expected finite values, received 1 NaN or infinite"),
    ((*REGISTER[:2], "constant.nii.gz", *REGISTER[3:]), "constant.nii.gz: expected an image, received the same value"),
    ((*REGISTER[:2], "text.nii.gz", *REGISTER[3:]), "text.nii.gz is not a readable image, or it is damaged"),
    ((*REGISTER[:4], "constant-dff"), "Unknown model 'constant-dff'. Did you mean 'constant-ddf'? All names: regzoo"),
    ((*REGISTER[:4], "./flipped"), "constant-ddf is damaged: model.safetensors has sha256 "),
    (("evaluate", "constant-ddf", "--pairs", "nowhere.csv"), "nowhere.csv does not exist."),
    (("evaluate", "constant-ddf", "--pairs", "pairs.csv"), "pairs.csv, line 2: moving file lost.nii does not exist."),
    (("finetune", "recipe.yaml"), "recipe.yaml: training.stps: unknown key. Did you mean 'steps'?"),
    ((*WARP[:3], "text.nii.gz", *WARP[4:]), "text.nii.gz is not a readable transform, or it is damaged"),
    ((*WARP[:3], "moving.nii.gz", *WARP[4:]), "moving.nii.gz: expected a displacement field, shape (X, Y, Z, 1, 3)"),
    (("warp", "text.nii.gz", "--points", *WARP[2:4], "-o", "y.csv"), "text.nii.gz: expected a header with the columns"),
    (("warp", "bad.csv", "--points", *WARP[2:4], "-o", "y.csv"), "bad.csv line 2: expected numbers for x,y,z"),
    (("warp", "fixed.nii.gz", "--labels", *WARP[2:]), "fixed.nii.gz: expected integer labels, received values between"),
    ((*WARP[:-1], "x.png"), "path: expected a name ending in .nii or .nii.gz or .mha or .nrrd, received 'x.png'."),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_one_line_and_leaves_nothing(files, monkeypatch, arguments, message):
    make_entry(files / "zoo" / "constant-ddf", name="constant-ddf")
    make_entry(files / "flipped", name="constant-ddf")
    (files / "flipped" / "model.safetensors").write_bytes(b"weighus")
    monkeypatch.setenv("REGZOO_ZOO", str(files / "zoo"))
    nan = SOUND.copy()
    nan[1, 1, 1] = np.nan
    save("4d.nii.gz", np.stack([SOUND] * 2, -1))
    save("nan.nii.gz", nan)
    save("constant.nii.gz", np.ones_like(SOUND))
    for name, text in (
        ("text.nii.gz", "not an image"),
        ("bad.csv", "x,y,z\n1,two,3\n"),
        ("pairs.csv", "fixed,moving\nfixed.nii.gz,lost.nii\n"),
        ("recipe.yaml", RECIPE.replace("steps: 1", "stps: 1")),
    ):
        (files / name).write_text(text)
    before = everything(files)
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    assert everything(files) == before


BENEATH = ("-o", "fixed.nii.gz/out")
UNWRITABLE = [
    (*REGISTER, *BENEATH),
    ("demo", *BENEATH),
    ("evaluate", "constant-ddf", "--pairs", "nowhere.csv", *BENEATH),
    ("finetune", "recipe.yaml", *BENEATH),
    ("export", "constant-ddf", *BENEATH),
    ("register-points", "nowhere.csv", "nowhere.csv", *BENEATH),
    ("warp", "nowhere.nii.gz", *WARP[2:6], *BENEATH),
    ("warp", "nowhere.csv", "--points", *WARP[2:4], *BENEATH),
    ("import", "voxelmorph", "nowhere.h5", *BENEATH),
    ("recipe", "import", "nowhere.yaml", *BENEATH),
]


@pytest.mark.parametrize("arguments", UNWRITABLE, ids=lambda arguments: " ".join(arguments[:2]))
def test_what_cannot_be_written_is_found_out_before_the_work(files, monkeypatch, arguments):
    make_entry(files / "zoo" / "constant-ddf", name="constant-ddf")
    monkeypatch.setenv("REGZOO_ZOO", str(files / "zoo"))
    for name in ("register", "evaluate", "finetune"):
        monkeypatch.setattr(regzoo, name, None, raising=False)
    (files / "recipe.yaml").write_text(RECIPE)
    before = everything(files)
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith("error: 'fixed.nii.gz/out' cannot be written (")
    assert err.endswith("). Choose another place.\n")
    assert everything(files) == before


def test_names_of_landmarks_are_kept(files):
    (files / "named.csv").write_text("label,x,y,z\nAC,1,2,13\nPC,-4,-5,10\n")
    assert run("warp", "named.csv", "--points", *WARP[2:4], "-o", "y.csv") == (0, "", "")
    assert (files / "y.csv").read_text() == "x,y,z,label\n4.0000,2.0000,11.5000,AC\n-1.0000,-5.0000,8.5000,PC\n"


def test_a_backend_that_is_not_installed(files, monkeypatch):
    def fail(*_, **__):
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")

    make_entry(files / "zoo" / "constant-ddf", name="constant-ddf")
    monkeypatch.setenv("REGZOO_ZOO", str(files / "zoo"))
    monkeypatch.setattr(regzoo, "register", fail, raising=False)
    code, _, err = run(*REGISTER)
    assert code == 1
    assert err == f"error: tensorflow is not installed. {installed.ADVICE}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["register", "--help"],
        ["finetune", "--help"],
        WARP,
        ["evaluate", "constant-ddf", "--pairs", "nope.csv"],
        (*REGISTER[:4], "nope"),
        (*REGISTER[:2], "nope", *REGISTER[3:]),
    ],
)
def test_keras_stays_out(files, arguments):
    make_entry(files / "zoo" / "constant-ddf", name="constant-ddf")
    code = (
        "import os, sys\nos.environ['REGZOO_ZOO'] = 'zoo'\nfrom regzoo.cli import app\n"
        f"app({list(arguments)!r}, standalone_mode=False)\n"
        "print([name for name in ('keras', 'tensorflow', 'torch', 'jax') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True)
    assert done.stdout.endswith("[]\n")


def test_register_without_a_model_tells_which_there_are(files, bundled):
    code, out, err = run("register", "fixed.nii.gz", "moving.nii.gz")
    assert code == 2
    assert "hippocampus-mr-dvf" in out
    assert "not as in training" in out
    assert "--model NAME" in err
    assert not (files / "out").exists()


@backend
def test_evaluate_check(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(home / "model", "model")
    code, _, err = run("evaluate", "model", "--check", "--data", str(home))
    assert (code, err) == (
        1,
        "error: constant-ddf: its scores' command: expected regzoo evaluate NAME --split SPLIT, received None.\n",
    )
    assert run("evaluate", "model", "--split", "test", "--data", str(home), "--record")[0] == 0
    code, out, _ = run("evaluate", "model", "--check", "--data", str(home))
    assert code == 0
    assert "tre" in out
    assert "differs" not in out
    card = cards.read("model")
    wrong = card.scores[0].model_copy(update={"value": card.scores[0].value + 0.0011})
    cards.write("model", card.model_copy(update={"scores": (wrong, *card.scores[1:])}), "x")
    code, out, _ = run("evaluate", "model", "--check", "--data", str(home), "--json")
    assert code == 1
    assert [row["agrees"] for row in json.loads(out)].count(False) == 1
    assert run("evaluate", "model", "--check", "--split", "test")[0] == 2
