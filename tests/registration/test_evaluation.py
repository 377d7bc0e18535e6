import csv
import json

import numpy as np
import pytest
from constant_model import constant_model
from scored_pairs import scored_pairs

import regzoo
from regzoo.errors import InvalidError
from regzoo.hub import cards
from regzoo.registration.evaluation import Evaluation
from regzoo.world.images import Image

pytestmark = pytest.mark.backend


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return scored_pairs(tmp_path_factory.mktemp("evaluation"))


@pytest.fixture(scope="module")
def found(home):
    seen = []
    model = regzoo.load(home / "model")
    found = regzoo.evaluate(model, home / "set" / "pairs.csv", progress=lambda *state: seen.append(state))
    assert [state[:2] for state in seen] == [(1, 2), (2, 2)]
    assert seen[1][2] is found.rows[1]
    return found


def test_rows(found):
    labelled, landmarked = found.rows
    assert found.model == {"name": "constant-ddf", "version": "3"}
    assert (labelled["fixed"], labelled["moving"]) == ("fixed.nii.gz", "moving.nii.gz")
    assert (landmarked["fixed"], landmarked["moving"]) == ("moving.nii.gz", "fixed.nii.gz")
    assert labelled["dice_1_before"] == 1 / 4
    assert labelled["dice_1_after"] == 3 / 4
    assert (labelled["hd95_1_before"], labelled["hd95_1_after"]) == (6, 2)
    assert (labelled["centroid_1_before"], labelled["centroid_1_after"]) == (6, 2)
    assert labelled["centroid_5_before"] == 0
    assert labelled["centroid_before"] == 3
    assert labelled["dice_5_before"] == 1
    assert labelled["dice_5_after"] == 0  # moved from voxels 2 and 3 to 0 and 1
    assert labelled["dice_before"] == 5 / 8
    assert labelled["dice_after"] == 3 / 8
    assert (labelled["dice_forward_after"], labelled["dice_inverse_after"]) == (3 / 8, 3 / 8)
    assert (labelled["hd95_before"], labelled["hd95_after"]) == ((6 + 0) / 2, (2 + 4) / 2)
    assert labelled["inverse_residual"] <= 0.01
    assert "tre_after" not in labelled
    assert "dice_after" not in landmarked
    assert landmarked["tre_before"] == pytest.approx(8)
    assert landmarked["tre_after"] == pytest.approx(4, abs=1e-5)
    assert landmarked["tre_inverse_after"] == pytest.approx(4, abs=0.01)
    assert labelled["folds"] == landmarked["folds"] == 0
    assert {"ncc_before", "ncc_after", "sdlogj", "network_seconds", "warp_seconds"} <= set(landmarked)


def test_summary(found):
    summary = found.summary()
    assert summary["dice_1_after"] == {"mean": 0.75, "sd": 0, "median": 0.75, "count": 1}
    assert summary["tre_after"]["count"] == 1
    values = [row["ncc_after"] for row in found.rows]
    expected = {"mean": sum(values) / 2, "sd": abs(values[0] - values[1]) / 2, "median": sum(values) / 2, "count": 2}
    assert summary["ncc_after"] == pytest.approx(expected)
    assert not {"fixed", "moving"} & set(summary)


def test_figures_that_are_no_number_do_not_count():
    found = Evaluation({}, ({"hd95": 2.0, "x": np.nan}, {"hd95": np.nan, "x": np.nan}, {"hd95": 4.0}))
    assert found.summary() == {
        "hd95": {"mean": 3.0, "sd": 1.0, "median": 3.0, "count": 2},
        "x": {"mean": None, "sd": None, "median": None, "count": 0},
    }


def test_files(found, tmp_path):
    folder = found.save(tmp_path / "a" / "scores")
    assert {path.name for path in folder.iterdir()} == {"scores.csv", "summary.json"}
    with (folder / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["fixed"] for row in rows] == ["fixed.nii.gz", "moving.nii.gz"]
    assert [row["dice_1_after"] for row in rows] == ["0.75", ""]
    facts = json.loads((folder / "summary.json").read_text())
    assert facts == {"model": found.model, "pairs": 2, "summary": found.summary(), "verdicts": {"look": 2}}


def test_record(home, tmp_path):
    folder = constant_model(tmp_path / "model", (4, 0, 0))
    lost = {"fixed": "a.nii", "dice_after": 0.0, "dice_before": 0.25, "hd95_1_after": np.nan, "tre_after": np.nan}
    lost["folds"] = 1e-3
    rows = (lost, lost | {"dice_after": 0.5, "hd95_1_after": 2.0, "hd95_1_before": np.nan})
    Evaluation({}, rows).record(folder, "test", "regzoo evaluate x --split test")
    kept = json.loads((folder / "scores.json").read_text())["test"]
    assert kept["pairs"] == 2
    assert kept["rows"][0] == lost | {"hd95_1_after": None, "tre_after": None}
    card = regzoo.load(folder).card  # which verifies the files, too
    assert "scores.json" in [file.path for file in card.files]
    scores = {score.metric: score for score in card.scores}
    assert set(scores) == {"dice", "hd95_1", "folds"}
    assert (scores["folds"].unit, scores["folds"].tolerance, scores["dice"].tolerance) == ("of voxels", 1e-4, 1e-3)
    assert (scores["dice"].value, scores["dice"].sd, scores["dice"].pairs) == (0.25, 0.25, 2)
    assert scores["dice"].baseline == {"unregistered": 0.25}
    assert (scores["hd95_1"].value, scores["hd95_1"].unit, scores["hd95_1"].pairs) == (2.0, "mm", 1)
    assert scores["hd95_1"].baseline == {}
    Evaluation({}, (lost,)).record(folder, "valid", "regzoo evaluate x --split valid")
    metrics = [(score.metric, score.data.split()[0]) for score in regzoo.load(folder).card.scores]
    tested = [("dice", "test"), ("hd95_1", "test"), ("folds", "test")]
    assert metrics == [*tested, ("dice", "valid"), ("folds", "valid")]  # the headline stays
    with pytest.raises(InvalidError, match="refine: expected 0 for figures of a card"):
        Evaluation({"refine": 5}, rows).record(folder, "test", "regzoo evaluate x --split test")


def test_a_card_shows_both_ways_their_mean_first(tmp_path):
    folder = constant_model(tmp_path / "model", (4, 0, 0))
    row = {"dice_after": 0.7, "dice_forward_after": 0.8, "dice_inverse_after": 0.6, "hd95_after": 1.5}
    row |= {"hd95_forward_after": 1.0, "hd95_inverse_after": 2.0, "squeezed": 0.3, "stretched": 0.01, "sdlogj_l2r": 0.1}
    row |= {"folded_volume": 1e-5, "inverse_residual": 0.002, "tre_after": 1.0, "tre_inverse_after": 2.0}
    Evaluation({}, (row,)).record(folder, "test", "regzoo evaluate x --split test")
    scores = {score.metric: score for score in cards.read(folder).scores}
    assert list(scores) == [key.removesuffix("_after") for key in row]
    units = {key: score.unit for key, score in scores.items() if score.unit}
    distances = ("hd95", "hd95_forward", "hd95_inverse", "inverse_residual", "tre", "tre_inverse")
    assert units == dict.fromkeys(distances, "mm") | {
        **dict.fromkeys(("squeezed", "stretched"), "of label voxels"),
        "folded_volume": "of the volume",
    }
    assert [found["agrees"] for found in Evaluation({}, (row,)).check(tuple(scores.values()))] == [True] * len(row)
    (changed,) = Evaluation({}, (row | {"dice_inverse_after": 0.5},)).check([scores["dice_inverse"]])
    assert not changed["agrees"]


def test_figures_of_many_labels_are_not_on_the_card(tmp_path):
    folder = constant_model(tmp_path / "model", (4, 0, 0))
    row = {"dice_after": 0.5, "folds": 0.0} | {f"dice_{label}_after": 0.5 for label in range(1, 18)}
    Evaluation({}, (row,)).record(folder, "test", "regzoo evaluate x --split test")
    assert [score.metric for score in cards.read(folder).scores] == ["dice", "folds"]
    assert json.loads((folder / "scores.json").read_text())["test"]["rows"] == [row]


def test_an_error_names_the_pair(home, tmp_path):
    far = Image.read(home / "set" / "moving.nii.gz")
    Image(far.array, far.affine + np.diag([0, 0, 0], 1) + np.outer([0, 0, 500, 0], [0, 0, 0, 1])).save(
        tmp_path / "far.nii.gz"
    )
    fixed = home / "set" / "fixed.nii.gz"
    (tmp_path / "pairs.csv").write_text(f"fixed,moving\n{fixed},{fixed}\n{fixed},far.nii.gz\n")
    with pytest.raises(InvalidError, match=r"^pair 2, .*far.nii.gz -> .*fixed.nii.gz: fixed and moving do not overlap"):
        regzoo.evaluate(home / "model", tmp_path / "pairs.csv")
