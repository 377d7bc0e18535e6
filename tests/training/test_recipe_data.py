"""A kind of data of one's own: a config, an object, one entry."""

from typing import ClassVar, Literal

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import regzoo
from regzoo.cli import app
from regzoo.data.kinds import Examples
from regzoo.data.tables import PairFiles
from regzoo.errors import InvalidError
from regzoo.schema.data import KINDS, DataConfig
from regzoo.schema.recipe import Recipe
from regzoo.schema.registry import Entry
from regzoo.world.images import Image

pytestmark = pytest.mark.backend

SHAPE = (12, 16, 8)


class RampData(DataConfig):
    """Slopes, of which one is shifted against the other."""

    knows_field: ClassVar[bool] = True
    kind: Literal["ramps"]
    voxels: float = 1.0

    def check(self, recipe):
        """Refuses what would change slopes."""
        if recipe.augmentation.gamma:
            raise ValueError("augmentation.gamma: expected 0, or slopes are bent")


class Ramps:
    """Draws them, and has one pair of files to test on."""

    def __init__(self, recipe, home):
        self.data, self.home, self.batches = recipe.data, home / recipe.data.root, 0

    def pairs(self, split):
        return [PairFiles(self.home / f"{split}_fixed.nii.gz", self.home / f"{split}_moving.nii.gz")]

    def examples(self, inputs):
        assert inputs.shape == SHAPE
        return Examples(self._draw, [self._draw(np.random.default_rng(0), 1)])

    def _draw(self, random, count):
        slope = np.broadcast_to(np.linspace(0.2, 0.8, SHAPE[0])[None, :, None, None, None], (count, *SHAPE, 1))
        offset = random.uniform(-self.data.voxels, self.data.voxels, (count, 1, 1, 1, 1)) * 0.6 / (SHAPE[0] - 1)
        known = np.zeros((count, *SHAPE, 3), "float32")
        known[..., :1] = offset * (SHAPE[0] - 1) / 0.6
        return {"fixed": (slope + offset).astype("float32"), "moving": slope.astype("float32"), "known": known}


RECIPE = {
    "name": "ramps",
    "model": {"backbone": {"name": "unet", "channels": [2, 4], "convolutions": 1}, "output": {"name": "ddf"}},
    "input": {"shape": SHAPE, "intensity": {"name": "window", "low": 0, "high": 1}},
    "data": {"kind": "ramps", "voxels": 2},
    "loss": {"known": {"distance": {"weight": 1}}},
    "training": {"steps": 3, "steps_per_epoch": 3, "batch_size": 2},
    "card": {"summary": "Slopes.", "license": "cc0-1.0"},
}


@pytest.mark.slow_under("jax")
def test_a_kind_of_ones_own_trains_and_is_tested(tmp_path, monkeypatch):
    monkeypatch.setitem(KINDS, "ramps", Entry(RampData, Ramps))
    for name in ("fixed", "moving"):
        Image(np.random.default_rng(0).random(SHAPE, "float32"), np.eye(4)).save(tmp_path / f"test_{name}.nii.gz")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(RECIPE | {"input": RECIPE["input"] | {"shape": list(SHAPE)}}))
    run = regzoo.finetune(recipe, tmp_path / "run", tmp_path)
    assert Recipe.read(run / "recipe.yaml") == Recipe.read(recipe)
    header, row = ((run / "log.csv").read_text().splitlines())[:2]
    figures = dict(zip(header.split(","), map(float, row.split(",")), strict=True))
    assert 0 < figures["valid_tre"] < 4
    assert figures["known_distance"] > 0
    output = tmp_path / "scores"
    command = ["evaluate", str(run), "--split", "test", "--data", str(tmp_path), "--output", str(output)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "test_moving.nii.gz" in (output / "scores.csv").read_text()


def test_a_kind_of_ones_own_says_what_it_needs(tmp_path, monkeypatch):
    path = tmp_path / "recipe.yaml"
    base = RECIPE | {"input": RECIPE["input"] | {"shape": list(SHAPE)}}
    path.write_text(yaml.safe_dump(base))
    with pytest.raises(InvalidError, match=r"data\.kind: expected 'unpaired', .* received 'ramps'"):
        Recipe.read(path)
    monkeypatch.setitem(KINDS, "ramps", Entry(RampData, Ramps))
    for change, message in (
        ({"data": {"kind": "ramps", "voxel": 2}}, r"data\.voxel: unknown key\. Did you mean 'voxels'"),
        ({"augmentation": {"gamma": 0.1}}, r"augmentation\.gamma: expected 0, or slopes are bent"),
        ({"data": {"kind": "unpaired"}}, r"loss\.known: expected data\.kind breathing, shapes or ramps"),
    ):
        path.write_text(yaml.safe_dump(base | change))
        with pytest.raises(InvalidError, match=message):
            Recipe.read(path)
