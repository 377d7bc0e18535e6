"""The models that a run starts from."""

import shutil

import numpy as np
import pytest
import tiny_run
from fake_zoo import make_entry

from regzoo import hub
from regzoo.errors import InvalidError
from regzoo.hub import cards
from regzoo.models import weights
from regzoo.schema.recipe import Recipe
from regzoo.training import parents
from regzoo.training.finetune import finetune
from regzoo.training.validation import Validation

pytestmark = pytest.mark.backend


@pytest.mark.slow_under("jax", "tensorflow")
def test_fine_tuning_starts_from_the_parents_weights(whole, home, tmp_path, monkeypatch):
    seen, score = [], Validation.__call__

    def spy(self):
        seen.append(weights.arrays(self.model.variables))
        return score(self)

    monkeypatch.setattr(Validation, "__call__", spy)
    recipe = tiny_run.recipe(
        name="child", parent=str(whole), model=None, input=None, training={"steps": 1, "warmup": 0}
    )
    folder = finetune(recipe, tmp_path / "run", home)
    parent, _ = weights.read(whole / "model.safetensors")
    assert all(np.array_equal(parent[name], seen[0][name]) for name in parent)
    assert any(not np.array_equal(parent[name], seen[1][name]) for name in parent)
    card = cards.read(folder)
    assert card.input == cards.read(whole).input
    assert (card.training["parent"], card.training["steps"]) == (str(whole), 1)
    assert cards.read_config(folder) == cards.read_config(whole)
    other = tiny_run.recipe(
        name="child",
        parent=str(whole),
        model={"backbone": {"name": "unet", "channels": [2, 5]}, "output": {"name": "ddf"}},
    )
    with pytest.raises(InvalidError, match="expected the backbone, output, descriptor and flow of each network of"):
        finetune(other, tmp_path / "other", home)
    assert not (tmp_path / "other").exists()


@pytest.mark.slow
def test_networks_of_a_row_start_from_models_of_their_own(whole, home, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(Validation, "__call__", lambda self: seen.append(self.model) or {"valid_dice": 0.5})
    network = cards.read_config(whole).model_dump(mode="json", exclude={"before", "dims"})
    recipe = tiny_run.recipe(
        name="row",
        parent=[str(whole), None],
        model={"before": [network], **network},
        training={"steps": 1, "warmup": 0, "learning_rate": 1e-30},
    )
    folder = finetune(recipe, tmp_path / "run", home)
    parent, found = weights.read(whole / "model.safetensors")[0], weights.read(folder / "model.safetensors")[0]
    first, second = ({name: found[f"stage{i}/{name}"] for name in parent} for i in (0, 1))
    assert all(np.array_equal(parent[name], first[name]) for name in parent)
    assert any(not np.array_equal(parent[name], second[name]) for name in parent)
    # The row is a model to start from too: by its last network, or by one that is named.
    for i, (names, theirs) in enumerate((((None, str(folder)), second), ((f"{folder}#0", None), first))):
        again = recipe.model_copy(update={"name": "again", "parent": names})
        other = weights.read(finetune(again, tmp_path / f"again{i}", home) / "model.safetensors")[0]
        assert all(np.allclose(theirs[name], other[f"stage{1 - i}/{name}"], rtol=0, atol=1e-20) for name in parent)
    none = recipe.model_copy(update={"name": "none", "parent": (None, f"{folder}#2")})
    with pytest.raises(InvalidError, match=r"parent\[1\]: expected a network of 0 to 1 after #"):
        finetune(none, tmp_path / "none", home)
    assert cards.read(folder).training["parent"] == [str(whole), None]
    kept = Recipe.read(folder / cards.RECIPE)
    assert parents.pinned(kept, folder) == kept
    pinned = kept.model_copy(update={"parent": ("brain-mr-dvf@1", str(whole))})
    pinned.write(tmp_path / cards.RECIPE)
    asked = kept.model_copy(update={"parent": ("brain-mr-dvf", str(whole))})
    assert parents.pinned(asked, tmp_path) == pinned
    numbered = kept.model_copy(update={"parent": ("brain-mr-dvf#0", str(whole))})
    assert parents.pinned(numbered, tmp_path).parent[0] == hub.pin("brain-mr-dvf") + "#0"
    with pytest.raises(ValueError, match="parent: expected 2 names, one for each network"):
        tiny_run.recipe(name="row", parent=[str(whole)], model={"before": [network], **network})
    with pytest.raises(ValueError, match=r"parent: expected a list where a network is named by its place"):
        tiny_run.recipe(name="row", parent="brain-mr-dvf#0")


@pytest.mark.slow
def test_frozen_networks_keep_the_weights_of_their_parent(whole, home, tmp_path):
    network = cards.read_config(whole).model_dump(mode="json", exclude={"before", "dims"})
    settings = {"steps": 2, "warmup": 0, "steps_per_epoch": 2, "learning_rate": 1e-2, "frozen": [0]}
    row = {"name": "row", "model": {"before": [network], **network}}
    recipe = tiny_run.recipe(parent=[str(whole), str(whole)], training=settings, **row)
    found = weights.read(finetune(recipe, tmp_path / "run", home) / "model.safetensors")[0]
    parent = weights.read(whole / "model.safetensors")[0]
    assert all(np.array_equal(parent[name], found[f"stage0/{name}"]) for name in parent)
    assert any(not np.array_equal(parent[name], found[f"stage1/{name}"]) for name in parent)
    wrongs = (
        ((None, str(whole)), (0,), "networks that start from a parent, received 0"),
        (recipe.parent, (0, 1), "fewer places than the row has networks"),
        (recipe.parent, (2,), "places in a row of 2, from 0, received 2"),
    )
    for start, frozen, message in wrongs:
        trained = recipe.training.model_copy(update={"frozen": frozen})
        wrong = recipe.model_copy(update={"name": "wrong", "parent": start, "training": trained})
        with pytest.raises(InvalidError, match=rf"training\.frozen: expected {message}"):
            finetune(wrong, tmp_path / "wrong", home)


@pytest.mark.slow
def test_a_network_that_was_trained_symmetric_stays_so(whole, home, tmp_path):
    config = cards.read_config(whole)
    both = config.model_dump(mode="json") | {"output": {"name": "dvf", "level": 0, "symmetric": True}}
    one = both | {"output": {"name": "dvf", "level": 0}}
    steps = {"steps": 1, "warmup": 0, "steps_per_epoch": 1}
    grown = finetune(tiny_run.recipe(name="one", model=one, training=steps), tmp_path / "one", home)
    child = tiny_run.recipe(name="both", model=both, training=steps, parent=str(grown))
    grown = finetune(child, tmp_path / "both", home)
    assert cards.read_config(grown).output.symmetric
    with pytest.raises(InvalidError, match=r"model\.output\.symmetric: expected true, as the parent"):
        finetune(tiny_run.recipe(name="back", model=one, training=steps, parent=str(grown)), tmp_path / "back", home)


def test_a_licence_that_a_parent_does_not_allow_is_told_of(tmp_path):
    folder = str(make_entry(tmp_path / "parent", license="cc-by-sa-4.0"))
    for parent in (folder, [f"{folder}#0"]):
        recipe = tiny_run.recipe(parent=parent, card={"license": "cc-by-4.0"})
        assert parents.licence_doubts(recipe) == [
            f"card.license: expected for the parent {folder} cc-by-sa-4.0, or a later version of it, "
            "by which it is shared alike, received cc-by-4.0. It cannot be pushed so."
        ]
        assert parents.licence_doubts(tiny_run.recipe(parent=parent, card={"license": "cc-by-sa-4.0"})) == []
        assert parents.licence_doubts(tiny_run.recipe(parent=parent, card={})) == []


@pytest.mark.slow_under("tensorflow")
def test_a_run_says_so_and_goes_on(whole, home, tmp_path, capsys):
    text = (whole / "README.md").read_text(encoding="utf-8")
    shutil.copytree(whole, tmp_path / "parent")
    (tmp_path / "parent" / "README.md").write_text(text.replace("CC0-1.0", "cc-by-sa-4.0"), encoding="utf-8")
    settings = {"steps": 1, "warmup": 0, "steps_per_epoch": 1}
    recipe = tiny_run.recipe(name="child", parent=str(tmp_path / "parent"), model=None, input=None, training=settings)
    finetune(recipe, tmp_path / "run", home, quiet=True)
    assert "warning: card.license: expected for the parent" in capsys.readouterr().err
