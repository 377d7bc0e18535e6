"""Which networks a config may ask for: what does not go together is refused by its path, before anything is built."""

import pytest

from regzoo.errors import InvalidError
from regzoo.schema.inputs import FEATURES_LIMIT, InputConfig
from regzoo.schema.networks import ModelConfig
from regzoo.schema.strict import validate

PYRAMID = {"name": "pyramid"}
SMALL = {"name": "unet", "channels": [2, 3, 4]}
AFFINE = {"backbone": {"name": "global"}, "output": {"name": "affine"}}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"backbone": {"name": "global"}}, "backbone: expected .*, received global"),
        (
            {"backbone": PYRAMID, "output": {"name": "affine"}},
            "backbone: expected global for the output affine, received pyramid",
        ),
        (AFFINE | {"passes": 2}, "passes: expected 1, unless the output is "),
        (AFFINE | {"descriptor": "mind"}, "descriptor: expected none, unless the output is "),
        (AFFINE | {"flow": True}, "flow: expected none, unless the output is "),
        (
            {"backbone": SMALL, "output": {"name": "conditional"}, "shrink": 2},
            "shrink: expected 1, since a conditional",
        ),
        ({"backbone": SMALL, "output": {"name": "ddf", "level": 2}}, "output.level must be below 2"),
        (
            {"backbone": SMALL | {"extract_levels": [2]}, "output": {"name": "ffd", "spacing": 5.0}},
            "goes with the outputs ddf and dvf",
        ),
        ({"backbone": SMALL | {"extract_levels": [0, 3]}, "output": {"name": "ddf", "level": 0}}, "to 2, received 3"),
        ({"backbone": SMALL, "output": {"name": "dvf", "steps": [1, 2, 3]}}, "output.steps: expected one number"),
        (
            {"backbone": PYRAMID, "output": {"name": "dvf", "steps": [1, 2]}},
            r"output.steps: expected \d numbers, not 2",
        ),
        ({"backbone": PYRAMID, "flow": True}, "flow: expected false, since the backbone pyramid"),
        ({"backbone": PYRAMID, "output": {"name": "dvf", "symmetric": True}}, "output.symmetric: expected false"),
        ({"backbone": PYRAMID | {"halvings": [4, 4]}}, "backbone.halvings: expected 3 numbers, received 2"),
        ({"backbone": {"name": "unet", "channels": [512] * 7}}, "channels: expected a network of at most"),
        (
            {"before": [{"backbone": SMALL, "output": {"name": "ddf", "level": 0}}]} | AFFINE,
            "before: an output .* must be the first",
        ),
        ({"before": [AFFINE], "backbone": SMALL, "output": {"name": "conditional"}}, "before: a conditional output"),
        ({"before": [AFFINE | {"dims": 2}]}, r"before\[0\].dims: unknown key"),
        ({"before": [AFFINE | {"output": {"name": "conditional"}}]}, r"before\[0\].output.name: expected"),
        ({"output": {"name": "ffd", "spacing": 0.0}}, "output.spacing"),
        ({"dims": 1}, "dims: expected 2 or 3, received 1"),
    ],
)
def test_what_does_not_go_together_is_refused_by_its_path(value, message):
    with pytest.raises(InvalidError, match=message):
        validate(ModelConfig, value, "config.json")


def test_a_config_comes_back_from_its_json():
    config = ModelConfig.model_validate(
        {"before": [AFFINE], "backbone": SMALL, "output": {"name": "ffd", "spacing": 5.0}}
    )
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config
    assert [each.output.name for each in config.row] == ["affine", "ffd"]


def test_channels_shown_are_counted():
    plain = ModelConfig.model_validate({"backbone": SMALL, "output": {"name": "dvf", "level": 0}})
    more = ModelConfig.model_validate(
        {"backbone": SMALL, "output": {"name": "dvf", "level": 0}, "flow": True, "descriptor": "mind"}
    )
    assert (plain.inputs(3), more.inputs(3), more.inputs(2)) == (2, 2 * 12 + 3, 2 * 4 + 2)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"shape": (8, 8)}, "spacing and shape: expected as many values"),
        ({"shape": (8, 8, 3)}, "shape.*greater than or equal to 4"),
        ({"shape": (8, 8, 8), "spacing": (1, 0, 1)}, "spacing.*greater than 0.01"),
        ({"shape": (8, 8, 8), "axes": "RAA"}, "axes: expected one of R and L, one of A and P, one of S and I"),
        ({"shape": (8, 8), "spacing": (1, 1), "axes": "LPS"}, "axes: a 2-D grid has the image's own axes"),
        ({"shape": (8, 8), "spacing": (1, 1), "around": "lungs"}, "around: a grid around the lungs has three axes"),
        ({"shape": (8, 8, 8), "axes": "LPS", "around": "lungs"}, "around: a grid around the lungs has three axes"),
        ({"shape": (8, 8), "spacing": (1, 1), "around": "extent"}, "around: a grid that fits an image"),
        ({"shape": (8, 8, 8), "intensity": {"name": "percentiles", "low": 60}}, "intensity.*low"),
        ({"shape": (8, 8, 8), "intensity": {"name": "window", "low": 0}}, "intensity.*high"),
    ],
)
def test_a_grid_that_no_network_has_is_refused_by_its_path(value, message):
    with pytest.raises(InvalidError, match=message):
        validate(InputConfig, value, "card")


def test_a_grid_goes_with_its_network():
    config = ModelConfig.model_validate({"backbone": SMALL, "output": {"name": "dvf", "level": 0}, "shrink": 4})
    InputConfig(shape=(13, 16, 16)).check(config)
    with pytest.raises(InvalidError, match=r"expected 3 values, as model\.dims says"):
        InputConfig(shape=(16, 16), spacing=(1, 1)).check(config)
    with pytest.raises(InvalidError, match="expected more than 12 voxels along each axis, since shrink is 4"):
        InputConfig(shape=(12, 16, 16)).check(config)
    plain = ModelConfig()
    largest = int((FEATURES_LIMIT / plain.widest(3)) ** (1 / 3))
    InputConfig(shape=(largest,) * 3).check(plain)
    with pytest.raises(InvalidError, match=r"expected at most \d+ voxels with 16 channels on the finest level"):
        InputConfig(shape=(largest + 2,) * 3).check(plain)
