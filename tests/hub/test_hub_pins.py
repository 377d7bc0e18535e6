"""What a model from a hub leads to names the commit, even after its branch has moved on."""

import hashlib

import hub_server
import numpy as np
import pytest
import tiny_run
from constant_model import SHAPE, SPACING, constant_model

import regzoo
from regzoo import hub
from regzoo.hub import cards
from regzoo.schema.recipe import Recipe
from regzoo.training import parents
from regzoo.training.finetune import finetune
from regzoo.world.images import Image

NAME, REPO = "hf://lab/constant-ddf", "lab/constant-ddf"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A hub whose `main` has two commits: a shift of 4 mm, which was pulled, and one of 2 mm."""
    monkeypatch.setenv("REGZOO_ZOO", str(tmp_path / "zoo"))
    monkeypatch.setenv("REGZOO_CACHE", str(tmp_path / "cache"))
    with hub_server.running() as running:
        monkeypatch.setenv("REGZOO_HUB", f"{running.url}/lab")
        running.old = running.commit(REPO, constant_model(tmp_path / "old", (4.0, 0.0, 0.0)))
        hub.pull(NAME)
        running.new = running.commit(REPO, constant_model(tmp_path / "new", (2.0, 0.0, 0.0)))
        running.pins = {
            commit: f"{NAME}@{commit}:{hashlib.sha256(files['model.safetensors']).hexdigest()}"
            for commit, files in running.commits[REPO].items()
        }
        yield running


def shift_of(result):
    """The displacement along the first axis at the image's centre, mm."""
    return float((result.transform.apply_points(np.zeros((1, 3))))[0, 0])


def test_a_result(server):
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = -np.multiply(SPACING, np.subtract(SHAPE, 1)) / 2
    image = Image(np.random.default_rng(0).random(SHAPE).astype("float32"), affine)
    result = regzoo.register(image, image, NAME)
    assert result.facts["model"]["source"] == server.pins[server.old]
    assert shift_of(result) == pytest.approx(4, abs=1e-3)
    hub.pull(NAME)
    again = regzoo.register(image, image, f"{NAME}@{server.old}")
    assert (again.facts["model"]["source"], shift_of(again)) == (server.pins[server.old], shift_of(result))
    moved = regzoo.register(image, image, NAME)
    assert moved.facts["model"]["source"] == server.pins[server.new]
    assert shift_of(moved) == pytest.approx(2, abs=1e-3)


@pytest.mark.slow
def test_a_run_keeps_the_commit_that_it_began_with(server, tmp_path):
    home = tiny_run.write_data(tmp_path / "data")
    recipe = tiny_run.recipe(
        name="child", parent=NAME, model=None, input=None, training={"steps": 1, "warmup": 0, "steps_per_epoch": 1}
    )
    run = finetune(recipe, tmp_path / "run", home)
    pinned = server.pins[server.old]
    assert Recipe.read(run / "recipe.yaml").parent == pinned
    assert cards.read(run).training["parent"] == pinned
    hub.pull(NAME)
    assert finetune(recipe, tmp_path / "run", home) == run  # the finished run, whatever the branch is now
    assert Recipe.read(run / "recipe.yaml").parent == pinned
    other = finetune(recipe, tmp_path / "other", home)
    assert Recipe.read(other / "recipe.yaml").parent == server.pins[server.new]


def test_a_run_that_was_pinned_to_a_commit_alone_goes_on_with_it(server, tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    old = f"{NAME}@{server.old}"
    tiny_run.recipe(name="child", parent=old, model=None, input=None).write(tmp_path / "run" / "recipe.yaml")
    for parent in (NAME, old):
        recipe = tiny_run.recipe(name="child", parent=parent, model=None, input=None)
        assert parents.pinned(recipe, tmp_path / "run").parent == old
        assert parents.pinned(recipe, tmp_path / "new").parent == server.pins[server.old]
    tiny_run.recipe(name="child", parent=server.pins[server.old], model=None, input=None).write(
        tmp_path / "run" / "recipe.yaml"
    )
    for parent in (NAME, old, server.pins[server.old]):  # however its recipe names it
        recipe = tiny_run.recipe(name="child", parent=parent, model=None, input=None)
        assert parents.pinned(recipe, tmp_path / "run").parent == server.pins[server.old]
    # Also where the hub has other weights under that commit by now, which are then found out.
    server.commits[REPO][server.old] = server.commits[REPO][server.new]
    monkeypatch.setenv("REGZOO_CACHE", str(tmp_path / "fresh"))
    for parent in (NAME, old):
        recipe = tiny_run.recipe(name="child", parent=parent, model=None, input=None)
        assert parents.pinned(recipe, tmp_path / "run").parent == server.pins[server.old]
    with pytest.raises(hub.DamagedError, match="Who pinned it had another model"):
        finetune(recipe, tmp_path / "run", tiny_run.write_data(tmp_path / "data"))
