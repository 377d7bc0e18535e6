"""A BIDS dataset registered to a template: names, directions, sessions, failures, and the table of the group."""

import csv
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from constant_model import constant_model

import regzoo
from regzoo.errors import MissingError
from regzoo.io.files import sha256
from regzoo.registration.bids import find_template
from regzoo.world.images import Image

SHIFT = (4, -2, 3)
AFFINE = np.array([[0, 2.0, 0, -9], [-1.5, 0, 0, 4], [0, 0, 1, 7], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A dataset of three subjects, of which one is broken, a template, a model, and what the command told."""
    home, random = tmp_path_factory.mktemp("bids"), np.random.default_rng(0)
    constant_model(home / "model", SHIFT)
    Image(random.random((12, 10, 8)).astype("float32"), AFFINE).save(home / "tpl-Tiny_res-01_T1w.nii.gz")
    image = Image(random.random((13, 11, 8)).astype("float32"), AFFINE)
    for name in ("sub-01/anat/sub-01_run-2_T1w", "sub-02/ses-a/anat/sub-02_ses-a_T1w", "sub-03/anat/sub-03_T1w"):
        path = home / "raw" / f"{name}.nii.gz"
        path.parent.mkdir(parents=True)
        image.save(path)
    path.write_bytes(b"none")
    (home / "raw" / "sub-01" / "anat" / "sub-01_run-2_T1w.json").write_text('{"SkullStripped": true}')
    return home


def call(home, *options):
    where = (str(home / "raw"), str(home / "out"), *options)
    return run("bids", *where, "--template", str(home / "tpl-Tiny_res-01_T1w.nii.gz"), "-m", str(home / "model"))


@pytest.fixture(scope="module")
def told(home):
    return call(home, "participant")


def test_a_subject_that_fails_stops_no_other(told):
    code, out, err = told
    assert code == 1
    assert out == "sub-01_run-2_T1w.nii.gz: done\nsub-02_ses-a_T1w.nii.gz: done\n"
    assert err.startswith("sub-03_T1w.nii.gz: failed: ")


def test_names_and_what_they_hold(home, told):
    folder = home / "out" / "sub-02" / "ses-a" / "anat"
    moved, xfm = "sub-02_ses-a_space-Tiny_desc-moved_T1w", "sub-02_ses-a_from-T1w_to-Tiny_mode-image_xfm"
    names = {f"{moved}.nii.gz", f"{moved}.json", f"{xfm}.h5", f"{xfm}.json"}
    assert {path.name for path in folder.iterdir()} == names
    template = Image.read(home / "tpl-Tiny_res-01_T1w.nii.gz")
    written = Image.read(folder / f"{moved}.nii.gz")
    assert written.grid.same_as(template.grid)
    transform = regzoo.Transform.load(folder / f"{xfm}.h5")
    point = AFFINE[:3, :3] @ [5, 4, 3] + AFFINE[:3, 3]
    np.testing.assert_allclose(transform.apply_points([point])[0] - point, SHIFT, atol=1e-4)
    image = Image.read(home / "raw" / "sub-02" / "ses-a" / "anat" / "sub-02_ses-a_T1w.nii.gz")
    np.testing.assert_allclose(
        written.array, transform.apply_image(image, template.grid, outside=float(image.array.min())).array, atol=1e-5
    )
    facts = json.loads((folder / f"{xfm}.json").read_text())
    assert facts["Sources"] == ["bids:raw:sub-02/ses-a/anat/sub-02_ses-a_T1w.nii.gz"]
    assert (facts["From"], facts["To"]) == ("T1w", "Tiny")
    assert facts["Regzoo"]["inputs"]["moving"]["sha256"] == sha256(image.file)
    about = [json.loads(path.read_text()) for path in sorted((home / "out").rglob("*_desc-moved_T1w.json"))]
    assert [each["SkullStripped"] for each in about] == [True, False]
    description = json.loads((home / "out" / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"] == [{"Name": "regzoo", "Version": regzoo.__version__}]
    assert (home / "out" / "sub-02_ses-a_T1w.html").is_file()


def test_the_table_of_the_group(home, told):
    anat = home / "out" / "sub-01" / "anat"
    given, converted = (anat / f"sub-01_{each}from-T1w_to-Tiny_mode-image_xfm.h5" for each in ("run-2_", "run-9_"))
    assert run("transform", str(given), "-o", str(converted)) == (0, "", "")
    assert converted.with_suffix(".json").is_file()  # of which the table knows no scores
    code, out, _ = run("bids", str(home / "raw"), str(home / "out"), "group")
    assert (code, out) == (0, f"2 images: {home / 'out' / 'group_T1w.tsv'}\n")
    with (home / "out" / "group_T1w.tsv").open(newline="") as file:
        rows = [*csv.DictReader(file, delimiter="\t")]
    assert [row["bids_name"] for row in rows] == ["sub-01_run-2_T1w", "sub-02_ses-a_T1w"]
    assert [row["participant_id"] for row in rows] == ["sub-01", "sub-02"]
    path = home / "out" / "sub-01" / "anat" / "sub-01_run-2_from-T1w_to-Tiny_mode-image_xfm.json"
    scores = json.loads(path.read_text())["Regzoo"]["scores"]
    assert float(rows[0]["ncc_before"]) == pytest.approx(scores["before"]["ncc"])


def test_several_subjects_after_one_option(home, told):
    code, out, _ = call(home, "participant", "--participant-label", "sub-01", "02")
    assert (code, out) == (0, told[1])
    assert call(home, "participant", "02")[0] == 2
    code, _, err = call(home, "participant", "--participant-label", "7")
    assert (code, err) == (1, f"error: {home / 'raw'} has no sub-7. It has: sub-01, sub-02, sub-03.\n")


def test_templates_by_file_and_by_label(home, tmp_path, monkeypatch):
    assert find_template(home / "tpl-Tiny_res-01_T1w.nii.gz", "T1w")[1] == "Tiny"
    (tmp_path / "my-brain 2_T1w.nii.gz").touch()
    assert find_template(tmp_path / "my-brain 2_T1w.nii.gz", "T1w")[1] == "mybrain2"
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(tmp_path))
    path = tmp_path / "tpl-Tiny" / "tpl-Tiny_res-01_T1w.nii.gz"
    path.parent.mkdir()
    path.touch()
    assert find_template("Tiny", "T1w") == (path, "Tiny")
    with pytest.raises(MissingError, match=r"no such file, and no tpl-Tiny_res-01_T2w\.nii\.gz in "):
        find_template(Path("Tiny"), "T2w")


@pytest.mark.skipif(shutil.which("bids-validator-deno") is None, reason="needs pip install bids-validator-deno")
def test_the_validator_of_bids_finds_no_error(home, told):
    assert run("bids", str(home / "raw"), str(home / "out"), "group")[0] == 0
    command = ["bids-validator-deno", str(home / "out"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [each["code"] for each in issues if each["severity"] == "error"] == []
    assert any(each["severity"] == "warning" for each in issues)  # authors: it looked
