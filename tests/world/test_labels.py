"""Label maps with one channel a label: shares of it, and nothing else."""

import nibabel
import numpy as np
import pytest

from regzoo.errors import InvalidError
from regzoo.registration.scores import Side
from regzoo.registration.sides import stacked
from regzoo.world.images import Image

BALL = (np.square(np.indices((12, 12, 12)) - 6).sum(axis=0) < 16).astype("uint8")
SERIES = np.stack([BALL, np.roll(BALL, 1, axis=0), np.roll(BALL, 2, axis=0)], axis=-1)
LABELS = np.stack([np.roll(BALL, step, axis=1) for step in (-3, 3)], axis=-1)


@pytest.mark.parametrize(
    "array",
    [3 * SERIES, SERIES * [1, 2, 3], 255 * LABELS, 100.0 * LABELS + 0.5, LABELS - 1.0],
    ids=["one value", "a value each", "255", "per cent", "below 0"],
)
def test_channels_that_are_no_shares_are_refused(tmp_path, array):
    nibabel.save(nibabel.Nifti1Image(array.astype("float32"), np.eye(4)), tmp_path / "x.nii.gz")
    message = r"one channel per label, as shares of it from 0 to 1, received values from .* to .*give one volume"
    with pytest.raises(InvalidError, match=f"^x.nii.gz: expected {message}"):
        Image.read(tmp_path / "x.nii.gz", labels=True)
    with pytest.raises(InvalidError, match=f"^image: expected {message}"):
        Image.of(Image(array, np.eye(4)), labels=True)
    one = Image.read(tmp_path / "x.nii.gz", labels=True, volume=2) if array.shape[3] == 3 else None
    assert one is None or one.channels is None


def test_shares_that_splines_made_are_shares():
    soft = Image(LABELS * 1.08 - 0.04, np.eye(4))
    assert Image.of(soft, labels=True) is soft


@pytest.mark.parametrize(("array", "said"), [(SERIES, 1), (LABELS, 0), (SERIES[..., :1], 0), (0 * SERIES, 0)])
def test_a_series_of_one_label_is_spoken_of(array, said):
    labels = Image(array.astype("float32"), np.eye(4))
    found = stacked(Side(labels, labels, None), Side(labels, None, None))
    assert len(found) == said
    assert all(each.startswith("fixed_labels: their 3 volumes lie on each other") for each in found)
