"""Shipped recipes with DeepReg's settings: they are what its configs are imported as, and they train."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from deepreg_configs import DEMOS
from tiny_run import AFFINE, SIZE, blob

from regzoo.hub import cards
from regzoo.importers.deepreg import translate
from regzoo.schema.recipe import Recipe
from regzoo.world.images import Image

ROOT = Path(__file__).resolve().parents[2] / "recipes" / "deepreg"
SHORT = {"unsupervised": "unsup", "weakly_supervised": "weakly", "combined": "comb"}
FILES = {f"{path.parent.name}/{path.stem}": path for path in sorted(ROOT.glob("*/*.yaml"))}


def config(demo, mode):
    """DeepReg's config of a recipe; of modes that a demo has not, with the other kind's weight 0."""
    value = copy.deepcopy(DEMOS.get(demo) or DEMOS[f"{demo}_{SHORT[mode]}"])
    unused = {"unsupervised": "label", "weakly_supervised": "image"}.get(mode)
    if unused:
        value["train"]["loss"][unused]["weight"] = 0
    return value


def test_every_demo_has_a_recipe():
    names = {name for name in DEMOS if "abdomen" not in name} | {"unpaired_ct_abdomen"}
    assert {key.partition("/")[0] for key in FILES} == names
    assert len(FILES) == 17


@pytest.mark.parametrize("key", FILES)
def test_a_recipe_is_what_deepreg_s_config_is_imported_as(key):
    demo, _, mode = key.partition("/")
    found, value = Recipe.read(FILES[key]), config(demo, mode)
    steps = found.training.steps // value["train"]["epochs"]
    expected = translate(value, found.name, found.input.spacing, steps).recipe
    assert found.name == f"deepreg-{demo}-{mode}".replace("_", "-")
    for part in ("model", "input", "loss", "augmentation", "training"):
        assert getattr(found, part) == getattr(expected, part)
    data, root = found.data.model_dump(), found.data.root
    for split in ("train", "valid", "test"):
        data[split] = tuple(f"{root}/{each}" for each in data[split])
    assert data | {"root": "."} == expected.data.model_dump()


def write_data(home, data):
    """Writes blobs in the layout and the folders of a recipe's data: four images or pairs a split, two a group."""
    shifts = {"a": (-2, 0, 0), "b": (2, 0, 0), "c": (0, 2, 0), "d": (0, -2, 1)}
    names = {"grouped": {"a": "g/1", "b": "g/2", "c": "h/1", "d": "h/2"}}.get(
        data.layout, {name: name for name in shifts}
    )
    sides = {"fixed_": 1, "moving_": -1} if data.layout == "paired" else {"": 1}
    for split in ("train", "valid"):
        for folder in getattr(data, split):
            for name, file in names.items():
                for side, sign in sides.items():
                    image, labels = blob(sign * np.array(shifts[name]))
                    root = home / data.root / folder
                    file = file.replace("/", f"-{split}/")  # a group is in one split only
                    Image(image, AFFINE).save(root / f"{side}images" / f"{file}.nii.gz")
                    if data.labels:
                        Image(labels, AFFINE).save(root / f"{side}labels" / f"{file}.nii.gz")


@pytest.mark.slow
@pytest.mark.parametrize("key", FILES)
def test_a_recipe_trains(key, tmp_path):
    """Two steps on synthetic blobs: a small grid, one pair a batch, narrow features, NIfTI in place of HDF5."""
    import keras

    from regzoo.training.finetune import finetune

    shipped = Recipe.read(FILES[key])
    write_data(tmp_path, shipped.data)
    value = shipped.model_dump(exclude_none=True)
    widest = value["model"]["backbone"]["channels"]
    value["model"]["backbone"]["channels"] = [2 * each // widest[0] for each in widest]  # as written: a minute each
    value["input"] |= {"shape": (SIZE,) * 3, "spacing": (1.0, 1.0, 1.0)}
    value["training"] |= {"steps": 2, "steps_per_epoch": 2, "batch_size": 1}
    value["data"] |= {} if shipped.data.layout == "paired" else {"validation_pairs": 2}
    folder = finetune(Recipe.model_validate(value), tmp_path / "run", tmp_path)
    keras.utils.clear_session()
    scores = json.loads((folder / "scores.json").read_text())["valid"]
    assert np.isfinite(list(scores.values())).all()
    assert cards.read(folder).training["steps"] == 2
    assert cards.read_config(folder).output == shipped.model.output
