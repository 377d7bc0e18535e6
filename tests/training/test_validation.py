"""How good a model is while it trains."""

import numpy as np
import pytest

from regzoo.data.draws import Files
from regzoo.data.pair_batches import ReadBatches
from regzoo.data.reader import Reader
from regzoo.errors import InvalidError
from regzoo.schema.inputs import InputConfig
from regzoo.training.validation import Validation
from regzoo.world.images import Image

pytestmark = pytest.mark.backend


class Shift:
    """In the place of a model: moves everything by one voxel along the first axis."""

    has_field = True

    def predict_on_batch(self, batch):
        return {
            "ddf": np.concatenate([np.ones_like(batch["fixed"]), np.zeros_like(batch["fixed"]).repeat(2, -1)], axis=-1)
        }


def placed(tmp_path, name, labels):
    """A file of random intensities and one of labels."""
    image = np.random.default_rng(0).random((6, 5, 4)).astype("float32")
    Image(image, np.eye(4)).save(tmp_path / f"{name}.nii.gz")
    if labels is not None:
        Image(labels, np.eye(4)).save(tmp_path / f"{name}_labels.nii.gz")
    return Files(tmp_path / f"{name}.nii.gz", None if labels is None else tmp_path / f"{name}_labels.nii.gz")


def score(tmp_path, *pairs):
    """What validation says of pairs of labels, (fixed, moving), moved by `Shift`."""
    config = InputConfig(shape=(6, 5, 4), intensity={"name": "window", "low": 0, "high": 1})
    files = [
        tuple(placed(tmp_path, f"{i}{side}", each) for side, each in enumerate(pair)) for i, pair in enumerate(pairs)
    ]
    return Validation(Shift(), ReadBatches(Reader(config, (1, 2, 3)), files), (1, 1, 1))()


def test_validation_scores_the_labels_that_both_images_have(tmp_path):
    fixed, moving = np.zeros((2, 6, 5, 4), "uint8")
    fixed[1:3, :2, 1] = 1
    moving[2:4, :2, 1] = 1  # is moved onto the fixed one
    fixed[4, 4], moving[4, 4] = 2, 2  # is moved off it
    fixed[0, 4, 3] = 3  # is in one image only
    assert score(tmp_path, (fixed, moving)) == {"valid_dice": 0.5, "valid_folds": 0.0}
    assert score(tmp_path, (fixed, moving), (fixed, None)) == {"valid_dice": 0.5, "valid_folds": 0.0}
    assert set(score(tmp_path, (fixed, None), (None, moving))) == {"valid_ncc", "valid_folds"}
    with pytest.raises(InvalidError, match=r"expected a label that both images of a pair have, received none"):
        score(tmp_path, (fixed * 0 + 9, moving))


class Squeeze:
    """In the place of a model: x stays up to 2 and is x + 2 from 3 on, so that three voxels are drawn into one."""

    has_field = True

    def predict_on_batch(self, batch):
        ddf = np.zeros((*batch["fixed"].shape[:-1], 3), "float32")
        ddf[:, 3:, ..., 0] = 2
        return {"ddf": ddf}


def test_labels_drawn_together_win_one_way_and_lose_the_other():
    """Moving 1 to 4 looks like fixed 1 and 2; of 1 to 4, fixed 1 and 2 come back as 1, 2 and 3 (which is from 2.33)."""
    pair = {name: np.zeros((1, 8, 5, 4, 1), "uint8") for name in ("fixed", "moving", "fixed_labels", "moving_labels")}
    pair["fixed_labels"][:, 1:3], pair["moving_labels"][:, 1:5] = 1, 1
    found = Validation(Squeeze(), [pair], (1, 1, 1))()
    assert found["valid_dice"] == pytest.approx((1 + 2 * 3 / (3 + 4)) / 2)
    assert found["valid_folds"] == 0


def test_folds_are_counted_strictly():
    """Central differences, which skip the voxel itself, see none in a zigzag."""

    class Zigzag(Squeeze):
        def predict_on_batch(self, batch):
            ddf = np.zeros((*batch["fixed"].shape[:-1], 3), "float32")
            ddf[:, 1::2, ..., 0] = 1.5
            return {"ddf": ddf}

    pair = {name: np.ones((1, 8, 5, 4, 1), "float32") for name in ("fixed", "moving")}
    assert Validation(Zigzag(), [pair], (1, 1, 1))()["valid_folds"] > 0.7


def test_validation_cuts_channels_at_a_half_after_they_are_moved(tmp_path):
    fixed, moving = np.zeros((2, 6, 5, 4, 3), "float32")
    fixed[1:3, :2, 1, 0] = 0.5, 0.9  # cut: both
    moving[2:4, :2, 1, 0] = 0.45, 0.6  # moved, then cut: the second only
    fixed[2, 4, :, 2], moving[3, 4, :, 2] = 1, 0.7
    fixed[5, 0, 0, 1] = 1  # in one image only
    assert score(tmp_path, (fixed, moving))["valid_dice"] == pytest.approx((2 / 3 + 1) / 2)
    numbers = np.zeros((6, 5, 4), "uint8")
    numbers[3, 4] = 3
    assert score(tmp_path, (fixed, numbers))["valid_dice"] == pytest.approx(1)


def test_a_known_field_is_measured_in_millimetres_inside_the_label():
    class Half:
        has_field = True

        def predict_on_batch(self, batch):
            return {"ddf": np.broadcast_to(np.float32([1, 0, -0.5]), (1, 6, 7, 8, 3))}

    known, inside = np.zeros((1, 6, 7, 8, 3), "float32"), np.zeros((1, 6, 7, 8, 1), "float32")
    inside[:, 2:4] = 1
    known[:, 2] = (1, 0, -0.5)
    batch = {"fixed": inside, "moving": inside, "fixed_labels": inside, "known": known}
    found = Validation(Half(), [batch], (3.0, 1.0, 8.0))()
    assert found == pytest.approx({"valid_tre": 2.5, "valid_tre_p95": 5, "valid_folds": 0})


def test_the_lesser_distance_and_the_larger_overlap_are_better():
    validation = Validation(Shift(), [], (1, 1, 1))
    assert validation.better({"valid_tre": 1.0, "valid_folds": 1.0}, {"valid_tre": 2.0, "valid_folds": 0.0})
    assert not validation.better({"valid_tre": 2.0}, {"valid_tre": 1.0})
    assert validation.better({"valid_dice": 0.6}, {"valid_dice": 0.5, "valid_folds": 0.0})
    assert not validation.better({"valid_ncc": 0.5}, {"valid_ncc": 0.5})
