"""What a result says of itself, and what it leaves in a folder."""

import dataclasses
import datetime
import hashlib
import json

import numpy as np
import pytest
from boxed_anatomy import boxes, picture_of
from constant_model import constant_model

import regzoo
from regzoo import backend
from regzoo.errors import InvalidError
from regzoo.registration.results import Result
from regzoo.schema.result import ImageResult
from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform

pytestmark = pytest.mark.backend


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Boxes 3 voxels of 2 mm apart, of which the model takes 2; label 7 is moved out of the image."""
    folder = tmp_path_factory.mktemp("scored")
    model = constant_model(folder / "model", (4, 0, 0))
    matrix = np.diag([2.0, 1.0, 1.5, 1.0])
    fixed = boxes((3, (5, 2, 2)), (7, (0, 5, 5)))
    moving = boxes((3, (8, 2, 2)))
    moving[:2, 5:, 5:] = 7
    for name, labels in (("fixed", fixed), ("moving", moving)):
        Image(labels, matrix).save(folder / f"{name}_labels.nii.gz")
        Image((labels == 3) + picture_of(Grid(labels.shape, matrix)).array / 100, matrix).save(
            folder / f"{name}.nii.gz"
        )
    (folder / "fixed.csv").write_text("x,y,z\n10,2,3\n20,3,4\n")
    (folder / "moving.csv").write_text("x,y,z\n16,2,3\n30,3,4\n")
    result = regzoo.register(
        folder / "fixed.nii.gz",
        str(folder / "moving.nii.gz"),
        model,
        start="world",
        fixed_labels=folder / "fixed_labels.nii.gz",
        moving_labels=folder / "moving_labels.nii.gz",
        fixed_points=folder / "fixed.csv",
        moving_points=folder / "moving.csv",
    )
    return result, result.save(folder / "a" / "out")


def test_labels_are_moved_by_nearest(scored):
    result, _ = scored
    expected = boxes((3, (6, 2, 2)))
    np.testing.assert_array_equal(result.moved_labels.array, expected)
    assert result.moved_labels.array.dtype.kind in "iu"


def test_scores_by_hand(scored):
    before, after = (scored[0].facts["scores"][when] for when in ("before", "after"))
    assert before["dice"][3] == 1 / 4
    assert after["dice"] == {3: 3 / 4, 7: 0.0}
    assert after["mean_dice"] == 3 / 8
    assert (before["hd95"][3], after["hd95"][3]) == (6.0, 2.0)
    assert np.isnan(after["hd95"][7])
    assert (before["centroid"][3], after["centroid"][3]) == (6.0, 2.0)
    assert np.isnan(after["centroid"][7])
    assert (before["mean_centroid"], after["mean_centroid"]) == (6.0, 2.0)  # of the label that is left
    assert before["tre"] == pytest.approx({"mean": 8, "sd": 2, "max": 10})
    assert after["tre"] == pytest.approx({"mean": 4, "sd": 2, "max": 6}, abs=1e-5)


def test_saved_folder(scored):
    result, folder = scored
    files = {"moved.nii.gz", "moved_labels.nii.gz", "transform.nii.gz", "report.html", "report.png", "result.json"}
    assert {path.name for path in folder.iterdir()} == files
    assert [path.name for path in folder.parent.iterdir()] == ["out"]
    moved = Image.read(folder / "moved.nii.gz")
    assert moved.grid.same_as(result.fixed.grid)
    again = regzoo.Transform.load(folder / "transform.nii.gz").apply_image(
        result.moving, moved.grid, outside=float(result.moving.array.min())
    )
    np.testing.assert_allclose(again.array, moved.array, atol=1e-4 * np.ptp(moved.array))
    np.testing.assert_array_equal(
        Image.read(folder / "moved_labels.nii.gz", labels=True).array, result.moved_labels.array
    )


def test_result_json(scored):
    def refuse(text):
        raise AssertionError(f"{text} is not JSON")

    folder = scored[1]
    facts = json.loads((folder / "result.json").read_text(), parse_constant=refuse)
    digest = hashlib.sha256((folder.parents[1] / "model" / "model.safetensors").read_bytes()).hexdigest()
    source = str(folder.parents[1] / "model")
    expected = {"name": "constant-ddf", "version": "3", "sha256": digest, "backend": backend.NAME, "source": source}
    assert facts["model"] == expected
    assert set(facts["seconds"]) == {"load", "read", "network", "warp", "scores", "picture"}
    assert all(value >= 0 for value in facts["seconds"].values())
    assert facts["start"] == "world"
    assert facts["scores"]["after"]["hd95"] == {"3": 2.0, "7": None}
    assert facts["scores"]["before"]["dice"]["3"] == 0.25
    shares = {"folds", "folded_volume", "squeezed", "stretched"}
    assert set(facts["jacobian"]) == shares | {"sdlogj", "sdlogj_l2r", "min", "max"}
    assert isinstance(facts["warnings"], list)
    assert ImageResult.model_validate(facts).schema_version == 1
    given = {name: f"{name}.nii.gz" for name in ("fixed", "moving", "fixed_labels", "moving_labels")}
    given |= {"fixed_points": "fixed.csv", "moving_points": "moving.csv"}
    files = {name: (folder.parents[1] / file).read_bytes() for name, file in given.items()}
    assert facts["inputs"] == {
        name: {"file": given[name], "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()
    }
    assert facts["versions"] == backend.versions()
    assert (facts["command"], facts["device"]) == (None, backend.device())
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(facts["date"])
    assert 0 <= age.total_seconds() < 3600


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").write_text("mine")
    image = Image(np.random.default_rng(0).random((8, 8, 8)), np.eye(4))
    result = Result(image, image, Transform.linear(np.eye(4), image.grid))
    with pytest.raises(InvalidError, match="out"):
        result.save(tmp_path / "out")


@pytest.mark.slow_under("jax", "tensorflow")
def test_result_json_of_a_method_and_of_images_from_memory(tmp_path):
    image = picture_of(Grid((12, 10, 8), np.diag([2.0, 2.0, 2.0, 1.0])))
    image.save(tmp_path / "moving.nii.gz")
    options = {"fixed_mask": np.ones(image.shape, np.uint8), "iterations": 1, "loss": "ncc"}
    read = Image.read(tmp_path / "moving.nii.gz")
    result = regzoo.register(image, read, method="rigid,ffd", **options)
    facts = json.loads((result.save(tmp_path / "out") / "result.json").read_text())
    ImageResult.model_validate(facts)
    assert [facts[key] for key in ("method", "loss", "backend", "start")] == [
        "rigid,ffd",
        "ncc",
        backend.NAME,
        "center",
    ]
    assert {name: told["file"] for name, told in facts["inputs"].items()} == {"moving": "moving.nii.gz"}


def test_the_page_may_be_left_out(scored, tmp_path):
    result, _ = scored
    result.save(tmp_path)
    result.save(tmp_path, html=False)
    assert {path.name for path in tmp_path.iterdir()} == set(result.files(html=False))
    assert set(result.files()) - set(result.files(html=False)) == {"report.html"}
    assert set(result.files(gif=True)) - set(result.files()) == {"report.gif"}


def test_nothing_of_an_earlier_result_stays(scored, tmp_path):
    result, _ = scored
    result.save(tmp_path, gif=True)
    assert "report.gif" in json.loads((tmp_path / "result.json").read_text())["files"]
    (tmp_path / "mine.txt").touch()
    dataclasses.replace(result, moved_labels=None).save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "mine.txt",
        "moved.nii.gz",
        "transform.nii.gz",
        "report.html",
        "report.png",
        "result.json",
    }
