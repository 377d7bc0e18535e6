"""Heads that are made of label maps, and the training of the network that finds the brain in them."""

import importlib
import json
import sys
from pathlib import Path

import keras
import nibabel
import numpy as np
import pytest

import regzoo
from regzoo import backend

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "head-mr-strip"
SHAPE = (16, 16, 16)


@pytest.fixture
def recipe(monkeypatch):
    """Gives the modules of the recipe by name."""
    monkeypatch.syspath_prepend(str(RECIPE))
    yield importlib.import_module
    for name in ("synthesis", "train"):
        sys.modules.pop(name, None)


@pytest.fixture
def data(tmp_path):
    """Label maps of balls: white matter and cortex, fluid, bone, and all else; 30 voxels of 1.5 mm."""
    folder = tmp_path / "head-labelmaps"
    folder.mkdir()
    away = np.linalg.norm(np.moveaxis(np.indices((30, 30, 30)), 0, -1) - 14.5, axis=-1)
    labels = np.select([away < 6, away < 8, away < 9, away < 10, away < 13], [2, 3, 24, 515, 507], 0)
    for name in ("one", "two", "three"):
        nibabel.save(nibabel.Nifti1Image(labels.astype("int16"), np.diag([1.5] * 3 + [1])), folder / f"{name}.nii.gz")
    splits = {"train": ["one", "two"], "valid": ["three"], "test": []}
    (folder / "splits.json").write_text(json.dumps(splits))
    return folder


def heads_of(recipe, data, monkeypatch, stripped):
    synthesis = recipe("synthesis")
    monkeypatch.setattr(synthesis, "BOX", (32, 32, 32))
    maps, middles = synthesis.read_maps(data, ["one", "two"])
    np.testing.assert_allclose(middles, 14.5)
    return synthesis.Heads(maps, middles, SHAPE, 4.0, stripped)


@pytest.mark.backend
def test_heads_show_brains(recipe, data, monkeypatch):
    heads = heads_of(recipe, data, monkeypatch, stripped=0.0)
    seeds, subjects = np.arange(6, dtype="int32"), np.arange(6, dtype="int32") % 2
    image, brain = (keras.ops.convert_to_numpy(each) for each in backend.inference(heads, seeds, subjects))
    assert image.shape == brain.shape == (6, *SHAPE, 1)
    assert image.min() >= 0
    assert image.max() <= 1
    ball = 4 / 3 * np.pi * (8 * 1.5 / 4) ** 3  # voxels of 4 mm
    whole = brain.sum(axis=(1, 2, 3, 4))
    assert np.median(whole) == pytest.approx(ball, rel=0.4)  # of some, the box cuts a part
    again = keras.ops.convert_to_numpy(backend.inference(heads, seeds, subjects)[0])
    np.testing.assert_array_equal(again, image)
    assert np.abs(image[0] - image[2]).max() > 0.1  # one subject, two seeds


def test_what_was_stripped_is_dark(recipe, data, monkeypatch):
    heads = heads_of(recipe, data, monkeypatch, stripped=1.0)
    seeds = np.arange(8, dtype="int32")
    image, brain = (keras.ops.convert_to_numpy(each) for each in backend.inference(heads, seeds, seeds % 2))
    far = np.stack([keras.ops.convert_to_numpy(each) for each in brain]) == 0
    edge = np.zeros_like(far)
    edge[:, [0, -1]] = True
    assert image[far & edge].max() < 0.2
    assert image[brain > 0.9].mean() > 0.3


@pytest.mark.slow_under("jax", "tensorflow")
def test_a_training_leaves_an_entry(recipe, data, monkeypatch, tmp_path):
    monkeypatch.setattr(recipe("synthesis"), "BOX", (32, 32, 32))
    train = recipe("train")
    monkeypatch.setattr(train, "SHAPE", SHAPE)
    output = tmp_path / "run"
    arguments = [str(data.parent), str(output), "--minutes", "0.05", "--batch", "2", "--steps", "2", "--fours", "1"]
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    train.main()
    model = regzoo.load(output)
    assert (model.card.id, model.card.registers) == ("head-mr-strip@1", False)
    assert model.card.data[0].subjects == 3
    assert model.card.training["steps"] >= 1
    assert "valid_dice" in (output / "log.csv").read_text()
