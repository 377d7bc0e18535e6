"""Two pairs to score a model on, and the model."""

import numpy as np
from constant_model import constant_model

from regzoo.world.images import Image

MATRIX = np.diag([2.0, 1.0, 1.5, 1.0])
RECIPE = """
name: constant-ddf
parent: null
model: {backbone: {name: unet, channels: [2, 2], convolutions: 1}, output: {name: ddf, level: 0}}
input: {spacing: [2, 2.5, 3], shape: [16, 12, 12], alignment: world}
data: {kind: pairs, root: set, train: train.csv, valid: valid.csv, test: pairs.csv}
loss: {image: {ssd: {weight: 1}}}
training: {steps: 1}
"""


def box(start):
    labels = np.zeros((20, 9, 9), np.uint8)
    labels[start : start + 4, 2:6, 2:6] = 1
    labels[2:4, 7:, 7:] = 5  # in both images at the same place
    return labels


def scored_pairs(home):
    """Writes two pairs 6 mm apart, of which the model finds 4; one with labels, one with points."""
    constant_model(home / "model", (4, 0, 0), recipe=RECIPE)
    folder = home / "set"
    folder.mkdir()
    random = np.random.default_rng(0).random((20, 9, 9))
    for name, start in (("fixed", 5), ("moving", 8)):
        Image(box(start), MATRIX).save(folder / f"{name}_labels.nii.gz")
        Image((box(start) + random).astype("float32"), MATRIX).save(folder / f"{name}.nii.gz")
    (folder / "fixed.csv").write_text("x,y,z\n10,2,3\n20,3,4\n")
    (folder / "moving.csv").write_text("x,y,z\n16,2,3\n30,3,4\n")
    (folder / "pairs.csv").write_text(
        "fixed,moving,fixed_labels,moving_labels,fixed_points,moving_points\n"
        "fixed.nii.gz,moving.nii.gz,fixed_labels.nii.gz,moving_labels.nii.gz,,\n"
        "moving.nii.gz,fixed.nii.gz,,,fixed.csv,moving.csv\n"
    )
    Image(random.astype("float32"), MATRIX).save(folder / "third.nii.gz")
    (folder / "train.csv").write_text("fixed,moving\nfixed.nii.gz,third.nii.gz\n")
    (folder / "valid.csv").write_text("fixed,moving\nmoving.nii.gz,third.nii.gz\n")
    return home
