"""What `register`, `candidates` and `evaluate` take from Python, and that a wrong argument is one error by its name."""

import functools

import nibabel
import numpy as np
import pytest
from constant_model import SHIFT
from worlds import AFFINES, affine, around, blobs

import regzoo
from regzoo.errors import RegzooError
from regzoo.hub import store
from regzoo.registration.candidates import misfits
from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform

# A constant model moves by what it was told, however the images lie.
register = functools.partial(regzoo.register, start="world")
GRID = Grid((20, 22, 14), affine(np.diag([1.5, 1.25, 2.0]), (0, 0, 0)))


@pytest.fixture(scope="module")
def images():
    return blobs(GRID), blobs(GRID, seed=1)


@pytest.fixture(scope="module")
def expected(model, images):
    return register(*images, model).moved


@pytest.mark.parametrize("kind", ["file", "text", "nibabel", "array", "float64", "image"])
def test_register_takes_what_is_at_hand(model, images, expected, tmp_path, kind):
    given, more = [], {}
    for name, image in zip(("fixed", "moving"), images, strict=True):
        image.save(tmp_path / f"{name}.nii.gz")
        nifti = nibabel.Nifti1Image(image.array, image.affine)
        file = tmp_path / f"{name}.nii.gz"
        given.append(
            {
                "file": file,
                "text": str(file),
                "nibabel": nifti,
                "array": image.array,
                "float64": image.array.astype("float64"),
                "image": image,
            }[kind]
        )
    if kind in ("array", "float64"):
        more = {"spacing": (1.5, 1.25, 2.0)}
    labels = np.zeros(GRID.shape, bool)
    labels[5:9, 6:12, 3:8] = True
    points = np.array([[3.0, 4, 5], [6, 7, 8]])
    result = register(
        *given, model, fixed_labels=labels, moving_labels=labels, fixed_points=points, moving_points=points, **more
    )
    np.testing.assert_allclose(result.moved.array, expected.array, atol=1e-5)
    assert result.facts["scores"]["after"]["tre"]["mean"] == pytest.approx(np.linalg.norm(SHIFT), abs=1e-4)
    assert 0 < result.facts["scores"]["after"]["dice"][1] < 1


def test_candidates_take_what_is_at_hand(images, tmp_path):
    files = [tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz"]
    for image, file in zip(images, files, strict=True):
        image.save(file)
    expected = [card.name for card, _ in regzoo.candidates(*images)]
    assert [card.name for card, _ in regzoo.candidates(*files)] == expected
    arrays = [image.array for image in images]
    assert [card.name for card, _ in regzoo.candidates(*arrays, spacing=(1.5, 1.25, 2.0))] == expected


def test_one_image_given_twice_is_said(model, images):
    fixed, moving = images
    said = [register(fixed, other, model).facts["warnings"] for other in (fixed, moving)]
    assert ["fixed and moving are the same image." in each for each in said] == [True, False]


def test_a_head_is_no_brain_without_skull():
    card = next(entry.card for entry in regzoo.list() if entry.card.name == "brain-mr-affine")
    grid = Grid((80, 96, 80), affine(np.diag([2.0, 2.0, 2.0]), (-80, -96, -80)))
    places = grid.coordinates()

    def head(size):
        return Image((100 * (np.square(places / size).sum(-1) < 1)).astype("float32"), grid.affine)

    brain, whole = head((64, 82, 64)), head((72, 92, 78))  # 1.4 and 2.2 l
    assert misfits(card, brain, brain) == []
    (said,) = misfits(card, brain, whole)
    assert said.startswith("moving: skull or neck are still there (2.2 l are bright, of a brain at most 2 l)")


def test_evaluate_takes_dicts_whose_keys_are_those_of_the_csv(model, images, tmp_path):
    for name, image in zip(("fixed", "moving"), images, strict=True):
        image.save(tmp_path / f"{name}.nii.gz")
    row = {"fixed": tmp_path / "fixed.nii.gz", "moving": str(tmp_path / "moving.nii.gz"), "fixed_points": None}
    found = regzoo.evaluate(model, [row])
    (tmp_path / "pairs.csv").write_text("fixed,moving\nfixed.nii.gz,moving.nii.gz\n")
    assert found.rows[0]["ncc_after"] == regzoo.evaluate(model, tmp_path / "pairs.csv").rows[0]["ncc_after"]


def test_evaluate_refines_as_register_does(model, images, tmp_path):
    row = {"fixed": tmp_path / "fixed.nii.gz", "moving": tmp_path / "moving.nii.gz"}
    for image, path in zip(images, row.values(), strict=True):
        image.save(path)
    found = regzoo.evaluate(model, [row], refine=2).rows[0]
    assert found["ncc_after"] == register(*images, model=model, refine=2).facts["scores"]["after"]["ncc"]
    assert found["ncc_after"] > regzoo.evaluate(model, [row]).rows[0]["ncc_after"]


WRONG_PAIRS = [
    ([{"fixed": "f.nii"}], "^pair 1: expected a value for 'moving', received fixed"),
    ([{"fixed": "f.nii", "movin": "m.nii"}], "^Unknown key 'movin'. Did you mean 'moving'"),
    ([{"fixed": "f.nii", "moving": 3}], "^pair 1: moving: expected a path, received a int"),
    ([{"fixed": "f.nii", "moving": "m.nii"}], "^pair 1: fixed file f.nii does not exist"),
    (["f.nii"], "^pair 1: expected a dict with the keys fixed, moving"),
    ({"fixed": "f.nii"}, "^pairs: expected a CSV file or a list of dicts, received a dict"),
    (3, "^pairs: expected a CSV file or a list of dicts, received a int"),
    ([], "^pairs: expected at least one pair"),
    ("nowhere.csv", "^nowhere.csv does not exist"),
]


@pytest.mark.parametrize(("pairs", "message"), WRONG_PAIRS, ids=str)
def test_wrong_pairs_are_one_error(model, pairs, message):
    with pytest.raises(RegzooError, match=message):
        regzoo.evaluate(model, pairs)


NAN = np.where(np.indices(GRID.shape).sum(0) == 3, np.nan, 1.0)
WRONG = [
    ({"fixed": NAN, "spacing": (1, 1, 1)}, "^fixed: expected finite values, received 10 NaN"),
    ({"moving": Image(NAN, np.eye(4))}, "^moving: expected finite values"),
    (
        {"fixed": np.ones(GRID.shape)},
        "^fixed: expected an array with one of spacing and affine, received neither. Pass",
    ),
    ({"spacing": (1, 1, 1)}, "^spacing: expected none, for fixed and moving are no arrays"),
    ({"fixed": 3}, "^fixed: expected a path, an Image, a nibabel image or an array, received a builtins.int"),
    ({"fixed": Image(np.random.default_rng(0).random((*GRID.shape, 2)), np.eye(4))}, "^fixed has 4 dimensions"),
    ({"fixed_labels": np.full(GRID.shape, 0.5)}, "^fixed_labels: expected integer labels"),
    ({"moving_labels": np.ones((3, 3, 3), "uint8")}, "^moving_labels: expected the grid of the moving image"),
    ({"fixed_points": np.zeros((2, 2))}, r"^fixed_points: expected shape \(N, 3\)"),
    ({"fixed_points": [[np.nan, 0, 0]]}, "^fixed_points: expected finite coordinates"),
    ({"moving_points": "a,b"}, "a,b does not exist"),
    ({"model": 3}, "^model: expected a name, a folder, hf://owner/repo or a loaded model, received a int"),
    ({"model": None}, "^model and method: expected one of the two, received neither. regzoo.candidates"),
    ({"method": "rigid"}, "^model and method: expected one of the two, received both"),
    ({"model": None, "method": 3}, "^method: expected names such as 'affine,dvf', received 3"),
    ({"model": None, "method": [3]}, "^method: expected names such as"),
    ({"model": None, "method": "rigid", "iterations": 0}, "^iterations: expected a number of steps from 1, received 0"),
    ({"model": None, "method": "rigid", "iterations": "many"}, "^iterations: expected a number of steps from 1"),
    ({"refine": "many"}, "^refine: expected a number of steps from 0, received many"),
    ({"refine": -1}, "^refine: expected a number of steps from 0, received -1"),
    ({"refine": True}, "^refine: expected a number of steps from 0, received True"),
    ({"loss": ["lncc"]}, "^Unknown image loss"),
    ({"loss": "mi"}, "^loss: expected a method or refine, which lower it, received 'mi' with a model alone"),
    (
        {"model": None, "method": "demons", "loss": "mind"},
        "^loss: expected none, or ssd, which demons always compare by",
    ),
    ({"iterations": 5, "refine": 2}, "^iterations: expected a method, whose levels have them, received a model"),
    ({"start": ["world"]}, "^start: expected one of auto, center, world"),
    ({"start": "affine"}, "^start: expected 'auto', .* since the zoo has no affine network for "),
    (
        {"model": None, "method": "rigid", "start": "affine"},
        "^start: expected one of auto, .* received 'affine'",
    ),
    ({"guided": True}, "^guided: expected a method or refine"),
    ({"fixed_mask": np.ones(GRID.shape, "uint8")}, "^masks: expected method, refine or a model of lungs"),
]


@pytest.mark.parametrize(("given", "message"), WRONG, ids=lambda value: str(value)[:60])
def test_a_wrong_argument_is_one_error_by_its_name(model, images, given, message):
    arguments = {"fixed": images[0], "moving": images[1], "model": model} | given
    with pytest.raises(RegzooError, match=message):
        register(**arguments)


def test_wrong_cards_are_refused(images):
    for cards in ("lung-ct-ddf", [3], 3):
        with pytest.raises(RegzooError, match=r"^cards: expected cards of models"):
            regzoo.candidates(*images, cards)
    with pytest.raises(RegzooError, match=r"^moving: expected a path"):
        regzoo.candidates(images[0], 3)


def test_weights_are_hashed_once_and_the_displacement_worked_out_once(folder, monkeypatch, tmp_path):
    """By the command line: a model is found, verified and loaded; its result is scored, drawn and written."""
    from typer.testing import CliRunner

    from regzoo.cli import app

    hashed, worked_out = [], []
    read, sha256, displacement = store.read, store.sha256, Transform._displacement
    monkeypatch.setattr(store, "sha256", lambda path: hashed.append(path.name) or sha256(path))
    monkeypatch.setattr(store, "read", lambda *given, **more: hashed.append(given[2]) or read(*given, **more))
    monkeypatch.setattr(Transform, "_displacement", lambda t, g: worked_out.append(t.matrix) or displacement(t, g))
    files = [str(tmp_path / "fixed.nii.gz"), str(tmp_path / "moving.nii.gz"), str(tmp_path / "labels.nii.gz")]
    fixed, moving = Grid((20, 22, 14), AFFINES["oblique"]), around(Grid((20, 22, 14), AFFINES["oblique"]), "LAS", 8)
    blobs(fixed).save(files[0])
    blobs(moving).save(files[1])
    Image((blobs(moving).array > 0.3).astype("uint8"), moving.affine).save(files[2])
    labels = ["--moving-labels", files[2]]
    done = CliRunner().invoke(app, ["register", *files[:2], "-m", str(folder), *labels, "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert hashed.count("model.safetensors") == 1
    assert sum(matrix is None for matrix in worked_out) == 1


def test_what_a_header_leaves_open_is_a_warning_by_the_image_s_name(model, images, tmp_path):
    image = nibabel.Nifti1Image(images[1].array, GRID.affine)
    image.set_qform(AFFINES["oblique"], 1)
    image.set_sform(GRID.affine, 2)
    nibabel.save(image, tmp_path / "moving.nii.gz")
    warnings = register(images[0], tmp_path / "moving.nii.gz", model).facts["warnings"]
    start = "moving: sform (code 2) and qform (code 1) of the header are up to "
    assert sum(text.startswith(start) for text in warnings) == 1


def test_a_wrong_key_in_a_model_s_input_is_named(model):
    image = np.zeros((1, 16, 12, 12, 1), "float32")
    with pytest.raises(RegzooError, match="inputs: expected a dictionary with 'moving', received fixed, movin"):
        model({"fixed": image, "movin": image})


@pytest.mark.parametrize("name", ["moving", "fixed_labels", "moving_mask", "fixed_points"])
@pytest.mark.parametrize("file", ["gone.nii.gz", "damaged.nii.gz"])
def test_a_file_that_cannot_be_read_is_told_by_its_argument(images, tmp_path, name, file):
    (tmp_path / "damaged.nii.gz").write_bytes(b"no image")
    given = dict(zip(("fixed", "moving"), images, strict=True)) | {name: tmp_path / file}
    with pytest.raises(RegzooError, match=rf"^{name}: .*{file}") as found:
        register(**given, method="rigid")
    assert str(found.value).count(name) == 1
