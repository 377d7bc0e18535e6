"""Models of masks: entries like the others, which register nothing."""

import keras
import numpy as np
import pytest
from bright_mask import CONFIG, bright_mask

import regzoo
from regzoo import hub
from regzoo.errors import RegzooError
from regzoo.models import build
from regzoo.models.export import export
from regzoo.schema.inputs import InputConfig
from regzoo.schema.networks import ModelConfig

INPUT = {"shape": (8, 12, 10), "spacing": (4.0, 4.0, 4.0)}


@pytest.mark.backend
def test_a_mask_is_above_zero_where_its_image_is_bright(tmp_path):
    model = regzoo.load(bright_mask(tmp_path / "bright-mask", above=0.6))
    image = np.random.default_rng(0).random((1, 9, 12, 10, 1)).astype("float32")  # 9: no multiple of 2
    found = keras.ops.convert_to_numpy(model.predict_on_batch({"image": image})["mask"])
    assert found.shape == image.shape
    np.testing.assert_array_equal(found > 0, image > 0.6)


def test_a_mask_is_saved_exported_and_verified_as_the_others_are(tmp_path):
    model = build(CONFIG, INPUT["spacing"])
    model.head.bias.assign([0.5])
    folder = regzoo.save(model, tmp_path / "mine-mask", {"name": "mine-mask", "input": INPUT})
    loaded = regzoo.load(folder)
    assert not loaded.card.registers
    assert loaded.card.pipeline_tag == "image-segmentation"
    hub.verify(folder, loaded.card)
    image = np.random.default_rng(0).random((1, 8, 12, 10, 1)).astype("float32")
    wanted = keras.ops.convert_to_numpy(model({"image": image})["mask"])
    again = keras.saving.load_model(export(folder, tmp_path / "mine.keras", "keras"))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(again({"image": image})["mask"]), wanted, atol=1e-5)


def test_a_card_that_says_it_registers_is_refused(tmp_path):
    folder = bright_mask(tmp_path / "bright-mask")
    card = (folder / "README.md").read_text()
    (folder / "README.md").write_text(card.replace("image-segmentation", "image-to-image"))
    with pytest.raises(RegzooError, match=r"pipeline_tag: expected another, of the output mask"):
        regzoo.load(folder)


@pytest.mark.parametrize("inputs", [{}, {"image": np.zeros((8, 8, 8))}, [1]])
def test_what_is_no_image_is_refused(inputs):
    with pytest.raises(RegzooError, match="image"):
        build(CONFIG)(inputs)


def test_only_a_model_of_volumes_with_a_field_is_shown_brains_alone():
    with pytest.raises(ValueError, match="strip: expected none"):
        InputConfig(shape=(32, 32), spacing=(1, 1), strip="bright-mask")
    config = ModelConfig.model_validate({"output": {"name": "conditional"}})
    with pytest.raises(RegzooError, match=r"input\.strip: expected none"):
        InputConfig(shape=(32, 32, 32), strip="bright-mask").check(config)
