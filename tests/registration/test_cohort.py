"""A cohort: each pair as `register` does it, kept whole, done once; what fails stops nothing."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import run

import regzoo
from regzoo.data.tables import PairFiles
from regzoo.errors import InvalidError
from regzoo.io import remnants
from regzoo.registration.cohort import pair_names
from regzoo.world.images import Image

AFFINE = np.array([[0, 2.0, 0, -9], [-1.5, 0, 0, 4], [0, 0, 1, 7], [0, 0, 0, 1]])
BY = {"method": "rigid", "iterations": 1, "start": "center"}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two boxes in noise, of unequal axes, turned and anisotropic; with labels; a file that is no image; a table."""
    folder, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for name, start in (("a", 3), ("b", 5)):
        labels = np.zeros((12, 10, 8), np.uint8)
        labels[start : start + 4, 3:7, 2:6] = 1
        Image(labels, AFFINE).save(folder / f"{name}_labels.nii.gz")
        Image((4 * labels + random.random(labels.shape)).astype("float32"), AFFINE).save(folder / f"{name}.nii.gz")
    (folder / "broken.nii.gz").write_bytes(b"none")
    (folder / "pairs.csv").write_text(
        "fixed,moving,fixed_labels,moving_labels\n"
        "a.nii.gz,b.nii.gz,a_labels.nii.gz,b_labels.nii.gz\n"
        "a.nii.gz,broken.nii.gz,,\n"
        "b.nii.gz,gone.nii.gz,,\n"
        "b.nii.gz,a.nii.gz,,\n"
    )
    return folder


@pytest.fixture(scope="module")
def first(images):
    """A cohort of four pairs, of which two fail; its rows in the order in which they were told."""
    told = []
    found = regzoo.cohort(images / "pairs.csv", images / "out", progress=told.append, **BY)
    assert told == [*found.rows]
    return found


@pytest.fixture
def again(images, first, tmp_path):
    """Gives what is done again in a copy of that cohort's folder, after a change to it."""
    shutil.copytree(images, tmp_path / "images")
    out = tmp_path / "images" / "out"

    def call(**options):
        before = {path.parent.name: path.read_text() for path in out.glob("*/result.json")}
        regzoo.cohort(tmp_path / "images" / "pairs.csv", out, **(BY | options))
        after = {path.parent.name: path.read_text() for path in out.glob("*/result.json")}
        return sorted(name for name in after if after[name] != before.get(name))

    return call, tmp_path / "images"


def table(folder):
    with (folder / "cohort.tsv").open(encoding="utf-8", newline="") as file:
        return [*csv.DictReader(file, delimiter="\t")]


def test_each_pair_is_what_register_gives(images, first):
    labels = {f"{side}_labels": images / f"{name}_labels.nii.gz" for side, name in (("fixed", "a"), ("moving", "b"))}
    expected = regzoo.register(images / "a.nii.gz", images / "b.nii.gz", **labels, **BY)
    folder = images / "out" / "b_to_a"
    assert {path.name for path in folder.iterdir()} == set(expected.files())
    np.testing.assert_array_equal(Image.read(folder / "moved.nii.gz").array, expected.moved.array)
    facts = json.loads((folder / "result.json").read_text())
    assert facts["scores"]["after"]["mean_dice"] == pytest.approx(expected.facts["scores"]["after"]["mean_dice"])
    assert facts["scores"]["before"]["mean_dice"] == pytest.approx(0.5)  # 2 of 4 slices in common


def test_the_table_has_every_pair_what_failed_and_why(images, first):
    rows = table(images / "out")
    assert [row["pair"] for row in rows] == ["b_to_a", "broken_to_a", "gone_to_b", "a_to_b"]
    assert [row["status"] for row in rows] == ["done", "failed", "failed", "done"]
    assert "broken.nii.gz" in rows[1]["message"]
    assert "gone.nii.gz does not exist" in rows[2]["message"]
    facts = json.loads((images / "out" / "b_to_a" / "result.json").read_text())
    assert float(rows[0]["dice_before"]) == pytest.approx(0.5)
    assert float(rows[0]["dice_after"]) == pytest.approx(facts["scores"]["after"]["mean_dice"])
    assert int(rows[0]["warnings"]) == len(facts["warnings"])
    assert float(rows[0]["seconds"]) == pytest.approx(sum(facts["seconds"].values()), abs=1e-3)
    assert (rows[3]["dice_after"], rows[1]["warnings"], rows[0]["message"]) == ("n/a", "n/a", "n/a")
    assert (images / "out" / "broken_to_a.error.txt").read_text().strip() == rows[1]["message"]


def test_what_is_done_is_left_alone(again):
    call, _ = again
    assert call() == []


def test_another_option_does_all_again(again):
    call, _ = again
    assert call(start="world") == ["a_to_b", "b_to_a"]


def test_a_changed_input_or_a_damaged_file_does_that_pair_again(again):
    call, images = again
    moved = images / "out" / "a_to_b" / "moved.nii.gz"
    moved.write_bytes(moved.read_bytes()[:-9])
    assert call() == ["a_to_b"]
    labels = Image.read(images / "b_labels.nii.gz", labels=True)
    Image(np.roll(labels.array, 1, 1), labels.affine).save(images / "b_labels.nii.gz")
    assert call() == ["b_to_a"]


def test_a_pair_that_failed_is_tried_again_and_what_was_killed_is_swept_away(again):
    call, images = again
    shutil.copy(images / "a.nii.gz", images / "gone.nii.gz")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    killed = [remnants.prefix(name).replace(f"-{os.getpid()}-", f"-{dead.pid}-") for name in ("a_to_b", "broken_to_a")]
    left = [images / "out" / f"{each}abcd_123" for each in (*killed, remnants.prefix("a_to_b"))]
    for folder in left:
        folder.mkdir()
    assert call() == ["gone_to_b"]
    assert not (images / "out" / "gone_to_b.error.txt").exists()
    # Nobody finishes the first; the pair of the second is not whole, and the last is of a process that lives.
    assert [folder.exists() for folder in left] == [False, True, True]


def test_a_method_that_is_none_is_refused_before_any_pair(images, tmp_path):
    with pytest.raises(InvalidError, match="Unknown method 'none'"):
        regzoo.cohort(images / "pairs.csv", tmp_path / "out", method="rigid,none")
    assert not (tmp_path / "out").exists()


def test_one_row_at_a_time_and_then_the_table(images, tmp_path):
    call = ("cohort", str(images / "pairs.csv"), "-o", str(tmp_path / "out"), "--method", "rigid", "--iterations", "1")
    code, out, err = run(*call, "--index", "2")
    assert (code, out) == (1, "1 failed\n")
    assert err.startswith("error: broken_to_a: ")
    code, out, err = run(*call, "--index", "4")
    assert (code, out) == (0, "1 done\n")
    assert not (tmp_path / "out" / "cohort.tsv").exists()
    code, out, err = run(*call, "--collect")
    assert (code, out) == (1, "2 missing, 1 failed, 1 done; 1 of them before\n")
    assert [row["status"] for row in table(tmp_path / "out")] == ["missing", "failed", "missing", "done"]
    for index in ("0", "5"):
        assert run(*call, "--index", index)[::2] == (
            1,
            f"error: index: expected a pair from 1 to 4, received {index}. The first line below the header is 1.\n",
        )


def test_a_model_is_loaded_once_and_known_by_its_weights(images, folder, tmp_path, monkeypatch):
    pairs = [{"fixed": images / f"{a}.nii.gz", "moving": images / f"{b}.nii.gz"} for a, b in ("ab", "ba")]
    loaded, load = [], regzoo.models.zoo.load
    monkeypatch.setattr("regzoo.models.zoo.load", lambda name: loaded.append(type(name).__name__) or load(name))
    for expected in (0, 2):
        found = regzoo.cohort(pairs, tmp_path / "out", folder)
        assert (found.counts(), found.kept) == ({"done": 2}, expected)
        assert loaded.count("Entry") == 1
    facts = json.loads((tmp_path / "out" / "a_to_b" / "result.json").read_text())
    facts["model"]["sha256"] = "0" * 64
    (tmp_path / "out" / "a_to_b" / "result.json").write_text(json.dumps(facts))
    assert regzoo.cohort(pairs, tmp_path / "out", folder).kept == 1


def test_names_of_pairs_are_folders_everywhere_and_differ():
    files = [("x/T1.nii.gz", "y/t1.nii.gz"), ("y/t1.nii.gz", "z/T1.nii.gz"), ("a/b: c?.mha", "scans.h5/é"), ("A", "a")]
    files += [("A", "a"), ("A", "a-2"), ("A", "a-2")]
    names = pair_names([PairFiles(fixed=Path(fixed), moving=Path(moving)) for moving, fixed in files])
    assert names == ["T1_to_t1", "t1_to_T1-2", "b-c_to_image", "A_to_a", "A_to_a-2", "A_to_a-2-2", "A_to_a-2-3"]


def test_a_wrong_option_is_told_once(images, tmp_path):
    with pytest.raises(InvalidError, match="refine"):
        regzoo.cohort(images / "pairs.csv", tmp_path / "out", method="rigid", refine=-1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", [{"scores": "x"}, {"seconds": 3}, {"warnings": {}}, {"files": {}}, {"model": []}])
def test_a_result_that_is_none_is_made_again(images, tmp_path, change):
    pairs, out = [{"fixed": images / "a.nii.gz", "moving": images / "b.nii.gz"}], tmp_path / "out"
    given = {"method": "rigid", "iterations": 1}
    (row,) = regzoo.cohort(pairs, out, **given).rows
    listing = out / row["pair"] / "result.json"
    listing.write_text(json.dumps(json.loads(listing.read_text()) | change))
    found = regzoo.cohort(pairs, out, **given)
    assert (found.kept, found.counts()) == (0, {"done": 1})
    assert regzoo.cohort(pairs, out, **given).kept == 1
