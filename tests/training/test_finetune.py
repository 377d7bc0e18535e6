import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_run
from filelock import FileLock

import regzoo
from regzoo import backend, hub
from regzoo.data.draws import Files
from regzoo.data.reader import Reader
from regzoo.data.tables import PairFiles
from regzoo.errors import InvalidError
from regzoo.hub import cards
from regzoo.models import build, weights
from regzoo.schema.inputs import InputConfig
from regzoo.schema.recipe import Recipe
from regzoo.training import callbacks, parents
from regzoo.training import finetune as training
from regzoo.training.finetune import finetune
from regzoo.world.images import Image

pytestmark = pytest.mark.backend

SMALL = {"name": "unet", "channels": [6, 12, 12], "convolutions": 1}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tiny_run.write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(home, tmp_path_factory):
    """A run of three epochs that nothing interrupted."""
    return finetune(tiny_run.recipe(), tmp_path_factory.mktemp("runs") / "whole", home)


@pytest.fixture
def own_data(home, tmp_path):
    """A copy of the data that a test may change."""
    return Path(shutil.copytree(home, tmp_path / "data"))


def interrupt(monkeypatch, batch, error):
    """Raises an error after so many batches of the next run."""
    count = iter(range(1000))

    def stop(self, number, logs=None):
        if next(count) == batch:
            raise error

    monkeypatch.setattr(callbacks.StopOnNaN, "on_train_batch_end", stop)


def check_same_run(folder, whole):
    """Compares weights, optimiser, best weights and history of two runs."""
    (values, facts), (expected, wanted) = (weights.read(run / "checkpoint.safetensors") for run in (folder, whole))
    assert values.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(values[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
    assert int(values["optimizer/adam/iteration"]) == 6
    for row, other in zip(facts["history"], wanted["history"], strict=True):
        del row["seconds"], other["seconds"]
        assert row == pytest.approx(other, abs=1e-5)
    best, other = (weights.read(run / "model.safetensors")[0] for run in (folder, whole))
    assert all(np.allclose(best[name], other[name], atol=1e-5) for name in other)


def test_a_run_folder_is_a_zoo_entry(whole):
    card = cards.read(whole)
    hub.verify(whole, card)
    assert [file.path for file in card.files] == ["config.json", "model.safetensors", "recipe.yaml", "scores.json"]
    assert (card.name, card.version, card.summary, card.license) == ("tiny-run", "1", "Blobs.", "CC0-1.0")
    facts = card.training
    assert (facts["steps"], facts["seed"], facts["backend"]) == (6, 3, backend.NAME)
    assert facts["hours"] >= 0
    assert set(facts["versions"]) == {"regzoo", "keras", "numpy", backend.NAME}
    scores = json.loads((whole / "scores.json").read_text())["valid"]
    assert scores["epoch"] * 2 == facts["chosen_at_step"]
    model = regzoo.load(whole)
    assert model.card == card
    image = tiny_run.blob((0, 0, 0))[0][None, ..., None] / 300
    ddf = model.predict_on_batch({"fixed": image, "moving": image})["ddf"]
    assert ddf.shape == (1, 16, 16, 16, 3)


def test_the_log_has_a_line_per_epoch_and_tensorboard_the_same(whole):
    rows = tiny_run.read_log(whole)
    terms = ["loss", "image_ssd", "label_dice", "deformation_gradient", "valid_dice", "valid_folds"]
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert set(rows[0]) == {"epoch", "seconds", *terms}
    for row in rows:
        values = {key: float(value) for key, value in row.items()}
        total = values["image_ssd"] + values["label_dice"] + 0.1 * values["deformation_gradient"]
        assert values["loss"] == pytest.approx(total, rel=1e-4)
    events = tiny_run.read_events(whole / "tensorboard")
    logged = {(key, int(row["epoch"])): float(row[key]) for row in rows for key in row}
    assert events == pytest.approx(logged, rel=1e-6)


def test_epochs_within_one_second_keep_their_events(tmp_path, monkeypatch):
    """Event files are named by the second, and a second file of that name would empty the first."""
    checkpoint = callbacks.Checkpoint(tmp_path / "x.safetensors", dict)
    logs = callbacks.Logs(tmp_path, checkpoint)
    monkeypatch.setattr("time.time", lambda: 1e9)
    for epoch in (1, 2):
        checkpoint.history.append({"epoch": epoch, "loss": 0.5})
        logs.on_epoch_end(epoch - 1)
    assert {step for _, step in tiny_run.read_events(tmp_path / "tensorboard")} == {1, 2}


def test_a_finished_run_is_left_alone(whole, home, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    monkeypatch.setattr(training, "build", None)
    assert finetune(tiny_run.recipe(), whole, home) == whole
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_another_recipe_in_the_same_folder_is_refused(whole, home):
    with pytest.raises(InvalidError, match=r"another recipe: its seed is 3, not 4\. Choose another --output"):
        finetune(tiny_run.recipe(seed=4), whole, home)


def test_an_interrupted_run_goes_on_as_if_nothing_had_been(whole, home, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt(patch, 2, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            finetune(tiny_run.recipe(), tmp_path / "run", home)
    assert weights.read(tmp_path / "run" / "checkpoint.safetensors")[1]["epoch"] == 1
    assert not (tmp_path / "run" / "README.md").exists()
    finetune(tiny_run.recipe(), tmp_path / "run", home)
    check_same_run(tmp_path / "run", whole)
    assert len(tiny_run.read_log(tmp_path / "run")) == 3
    assert len({step for _, step in tiny_run.read_events(tmp_path / "run" / "tensorboard")}) == 3


# The second checkpoint is half written when the process dies.
KILLED = """
import os, signal, sys
from regzoo import finetune
from regzoo.models import weights
save, calls = weights.save_file, iter(range(9))
def die(values, path, metadata):
    if next(calls) == 1:
        path.write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    save(values, path, metadata=metadata)
weights.save_file = die
finetune(*sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_run_killed_while_it_writes_a_checkpoint_goes_on_from_the_one_before(whole, home, tmp_path):
    recipe, run = tmp_path / "recipe.yaml", tmp_path / "run"
    tiny_run.recipe().write(recipe)
    command = [sys.executable, "-c", KILLED, str(recipe), str(run), str(home)]
    done = subprocess.run(command, env={**os.environ, "KERAS_BACKEND": backend.NAME}, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert weights.read(run / "checkpoint.safetensors")[1]["epoch"] == 1
    assert list(run.glob(".regzoo-*"))
    finetune(recipe, run, home)
    check_same_run(run, whole)
    assert not list(run.glob(".regzoo-*"))


def test_a_folder_that_another_process_trains_in_is_refused(home, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "Validation", lambda *_: dict)
    (tmp_path / "run").mkdir()
    with (
        FileLock(tmp_path / "run" / ".lock"),
        pytest.raises(InvalidError, match="Another process is training in"),
    ):
        finetune(tiny_run.recipe(), tmp_path / "run", home)


def test_a_loss_that_is_no_number_stops_the_run_before_the_checkpoint_is_touched(home, tmp_path, monkeypatch):
    drawn = training.Batches.__getitem__

    def poisoned(self, step):
        (batch,) = drawn(self, step)
        return ({**batch, "fixed": batch["fixed"] * np.float32(np.nan)} if self.epoch == 1 else batch,)

    monkeypatch.setattr(training.Batches, "__getitem__", poisoned)
    with pytest.raises(InvalidError, match=r"diverged: loss became nan\. .*lower training\.learning_rate"):
        finetune(tiny_run.recipe(), tmp_path / "run", home)
    assert weights.read(tmp_path / "run" / "checkpoint.safetensors")[1]["epoch"] == 1
    assert not {"README.md", "model.safetensors"} & {path.name for path in (tmp_path / "run").iterdir()}


def test_weights_that_are_no_number_never_reach_the_checkpoint(tmp_path):
    model = build(tiny_run.recipe().model)
    model.compile(optimizer=training._optimizer(tiny_run.recipe()))
    model.optimizer.build(model.trainable_variables)
    checkpoint = callbacks.Checkpoint(tmp_path / "x.safetensors", lambda: {"valid_dice": 0.5})
    checkpoint.set_model(model)
    checkpoint.on_epoch_begin(0)
    checkpoint.on_epoch_end(0, {"loss": 1.0})
    kept = (tmp_path / "x.safetensors").read_bytes()
    model.variables[0].assign(np.full(model.variables[0].shape, np.nan, "float32"))
    with pytest.raises(InvalidError, match=r"diverged: model/.*kernel became nan"):
        checkpoint.on_epoch_end(1, {"loss": 1.0})
    assert (tmp_path / "x.safetensors").read_bytes() == kept


def test_training_solves_an_easy_shift(home, tmp_path):
    recipe = tiny_run.recipe(
        model={
            "backbone": {"name": "unet", "channels": [6, 12, 12], "convolutions": 1},
            "output": {"name": "ddf", "level": 1},
        },
        training={"steps": 120, "steps_per_epoch": 40, "batch_size": 2, "learning_rate": 1e-2, "warmup": 5},
        augmentation={},
    )
    folder = finetune(recipe, tmp_path / "run", home)
    rows = tiny_run.read_log(folder)
    before = tiny_run.unregistered_dice(recipe, home)
    assert float(rows[-1]["loss"]) < 0.7 * float(rows[0]["loss"])
    assert max(float(row["valid_dice"]) for row in rows) > before + 0.1


def test_the_weights_of_the_best_epoch_are_published(home, tmp_path, monkeypatch):
    figures, seen = iter((0.0, 0.5, 0.9, 0.2)), []

    def score(self):
        seen.append(weights.arrays(self.model.variables))
        return {"valid_dice": next(figures), "valid_folds": 0.0}

    monkeypatch.setattr(training.Validation, "__call__", score)
    folder = finetune(tiny_run.recipe(), tmp_path / "run", home)
    published, _ = weights.read(folder / "model.safetensors")
    assert all(np.array_equal(published[name], seen[2][name]) for name in published)
    assert not all(np.array_equal(published[name], seen[3][name]) for name in published)
    assert cards.read(folder).training["chosen_at_step"] == 4


no_average = pytest.mark.skipif(backend.NAME == "jax", reason="Keras has no running average there")


@pytest.mark.skipif(backend.NAME != "jax", reason="only JAX has no running average")
def test_a_running_average_is_refused_under_jax(home, tmp_path):
    with pytest.raises(InvalidError, match=r"training\.average: expected 0 under JAX"):
        finetune(tiny_run.recipe(training={"average": 0.7}), tmp_path / "run", home)


@no_average
def test_the_running_average_of_the_weights_is_scored_and_published(home, tmp_path, monkeypatch):
    steps, scored = [], []
    monkeypatch.setattr(
        callbacks.StopOnNaN,
        "on_train_batch_end",
        lambda self, batch, logs=None: steps.append(weights.arrays(self.model.variables)),
    )

    def score(self):
        scored.append(weights.arrays(self.model.variables))
        return {"valid_dice": float(len(scored)), "valid_folds": 0.0}

    monkeypatch.setattr(training.Validation, "__call__", score)
    folder = finetune(tiny_run.recipe(training={"average": 0.7}), tmp_path / "run", home)
    published, _ = weights.read(folder / "model.safetensors")
    assert len(steps) == 6
    for name in steps[-1]:
        average = steps[0][name]
        for step in steps[1:]:
            average = 0.7 * average + 0.3 * step[name]
        np.testing.assert_allclose(published[name], average, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(scored[-1][name], average, atol=1e-5)
    assert any(np.abs(published[name] - last).max() > 1e-3 for name, last in steps[-1].items())


@no_average
def test_a_resumed_average_is_that_of_the_whole_run(home, tmp_path, monkeypatch):
    recipe = tiny_run.recipe(training={"average": 0.7})
    whole = finetune(recipe, tmp_path / "whole", home)
    with monkeypatch.context() as patch:
        interrupt(patch, 3, KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            finetune(recipe, tmp_path / "run", home)
    check_same_run(finetune(recipe, tmp_path / "run", home), whole)


def test_fine_tuning_starts_from_the_parents_weights(whole, home, tmp_path, monkeypatch):
    seen, score = [], training.Validation.__call__

    def spy(self):
        seen.append(weights.arrays(self.model.variables))
        return score(self)

    monkeypatch.setattr(training.Validation, "__call__", spy)
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


def test_networks_of_a_row_start_from_models_of_their_own(whole, home, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(training.Validation, "__call__", lambda self: seen.append(self.model) or {"valid_dice": 0.5})
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


def test_a_run_that_stops_before_its_schedule(home, tmp_path):
    settings = {"steps": 50, "stop_after": 3, "warmup": 0, "steps_per_epoch": 2}
    folder = finetune(tiny_run.recipe(name="short", training=settings), tmp_path / "run", home)
    assert cards.read(folder).training["steps"] == 3
    assert len((folder / "log.csv").read_text().splitlines()) == 1 + 2


def test_given_pairs_without_labels_in_bfloat16_and_a_last_epoch_that_is_not_whole(own_data, tmp_path, monkeypatch):
    steps, count = [], finetune.StopAt.on_train_batch_end

    def spy(self, batch, logs=None):
        steps.append(batch)
        count(self, batch, logs)

    monkeypatch.setattr(finetune.StopAt, "on_train_batch_end", spy)
    tiny_run.write_csv(own_data / "blobs" / "train.csv", [("a", "b"), ("c", "d")], labels=False)
    tiny_run.write_csv(own_data / "blobs" / "valid.csv", [("v", "w")], labels=False)
    precision = "float32" if backend.NAME == "torch" else "mixed_bfloat16"
    settings = {"steps": 3, "steps_per_epoch": 2, "batch_size": 2, "precision": precision}
    recipe = tiny_run.recipe(
        data={"kind": "pairs", "root": "blobs", "train": "train.csv", "valid": "valid.csv"},
        loss={"label": {"dice": {"weight": 0}}},
        training=settings | {"schedule": "constant", "warmup": 0},
    )
    folder = finetune(recipe, tmp_path / "run", own_data)
    assert steps == [0, 1, 0]
    assert cards.read(folder).training["steps"] == 3
    assert int(weights.read(folder / "checkpoint.safetensors")[0]["optimizer/adam/iteration"]) == 3
    values, _ = weights.read(folder / "model.safetensors")
    assert {str(value.dtype) for value in values.values()} == {"float32"}
    rows = tiny_run.read_log(folder)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert "label_dice" not in rows[0]
    assert 0 <= float(rows[0]["valid_ncc"]) <= 1


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("cosine", 0, {0: 1.0, 50: 0.505, 100: 0.01}),
        ("cosine", 20, {0: 0.0, 10: 0.5, 20: 1.0, 60: 0.505, 100: 0.01, 120: 0.01}),
        ("constant", 0, {0: 1.0, 99: 1.0}),
        ("constant", 20, {0: 0.0, 5: 0.25, 20: 1.0, 99: 1.0}),
    ],
)
def test_the_learning_rate_follows_the_recipe(schedule, warmup, expected):
    settings = {"steps": 100, "schedule": schedule, "warmup": warmup, "learning_rate": 2e-3}
    optimizer = training._optimizer(tiny_run.recipe(training=settings))
    for step, share in expected.items():
        optimizer.iterations.assign(step)
        assert float(optimizer.learning_rate) == pytest.approx(share * 2e-3, abs=1e-9)


def test_a_run_that_cannot_be_scored_ends_before_it_starts(home, tmp_path):
    recipe = tiny_run.recipe(data={"label_values": [7]})
    with pytest.raises(InvalidError, match=r"validation data: expected one of the label values \(7,\), received none"):
        finetune(recipe, tmp_path / "run", home)
    assert not (tmp_path / "run").exists()


def test_a_file_that_cannot_be_used_ends_the_run_before_it_starts(own_data, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "Validation", lambda *_: dict)
    shifted = tiny_run.AFFINE + np.array([[0, 0, 0, 4.0]] + [[0] * 4] * 3)
    Image(tiny_run.blob((0, 0, 0))[1], shifted).save(own_data / "blobs" / "labels" / "d.nii.gz")
    with pytest.raises(InvalidError, match=r"labels/d\.nii\.gz: expected the grid of d\.nii\.gz.* another affine"):
        finetune(tiny_run.recipe(), tmp_path / "run", own_data)
    assert not (tmp_path / "run").exists()


PAIRS = {"kind": "pairs", "root": "blobs", "train": "train.csv", "valid": "valid.csv"}


def source(recipe, home):
    return training._read(recipe, recipe.input, None, home)


def write_partly(path, *lines):
    path.write_text("\n".join(["fixed,moving,fixed_labels,moving_labels", *lines]))


def test_images_without_labels_are_refused_only_where_nothing_else_can_be_compared(own_data):
    train = own_data / "blobs" / "train.csv"
    write_partly(
        train, "images/a.nii.gz,images/b.nii.gz,labels/a.nii.gz,labels/b.nii.gz", "images/c.nii.gz,images/d.nii.gz"
    )
    assert len(source(tiny_run.recipe(data=PAIRS), own_data).batches.draw.items) == 4
    with pytest.raises(
        InvalidError, match=r"training data: .*, since no image loss is used, received none for .*c\.nii"
    ):
        source(tiny_run.recipe(data=PAIRS, loss={"image": {}}), own_data)
    write_partly(
        train, "images/a.nii.gz,images/b.nii.gz,labels/a.nii.gz,", "images/c.nii.gz,images/d.nii.gz,,labels/d.nii.gz"
    )
    with pytest.raises(
        InvalidError, match=r"training data: expected a pair with labels, since loss\.label has a weight"
    ):
        source(tiny_run.recipe(data=PAIRS), own_data)
    rows = [f"images/{name}.nii.gz,{'labels/a.nii.gz' if name == 'a' else ''},train" for name in "abc"]
    rows += ["images/v.nii.gz,,valid", "images/w.nii.gz,,valid"]
    (own_data / "blobs" / "all.csv").write_text("\n".join(["image,labels,split", *rows]))
    with pytest.raises(InvalidError, match=r"training data: expected a pair with labels"):
        source(tiny_run.recipe(data={"splits": "all.csv"}), own_data)


def test_pairs_without_labels_train_on_their_images(own_data, tmp_path):
    labelled = "images/a.nii.gz,images/b.nii.gz,labels/a.nii.gz,labels/b.nii.gz"
    write_partly(own_data / "blobs" / "train.csv", labelled, "images/c.nii.gz,images/d.nii.gz")
    write_partly(own_data / "blobs" / "valid.csv", "images/v.nii.gz,images/w.nii.gz", labelled.replace("/b", "/x"))
    recipe = tiny_run.recipe(data=PAIRS | {"label_sampling": "one"}, training={"batch_size": 2})
    rows = tiny_run.read_log(finetune(recipe, tmp_path / "run", own_data))
    assert all(0 < float(row["label_dice"]) < 1 for row in rows)
    assert all(0 < float(row["valid_dice"]) < 1 for row in rows)


def test_label_values_are_found_and_training_labels_left_unread_where_no_loss_needs_them(home):
    found = source(tiny_run.recipe(), home)
    assert found.batches.reader.values == (1,)
    assert found.batches.draw.items[0].labels is not None
    found = source(tiny_run.recipe(loss={"label": {}}), home)
    assert found.batches.reader.values == (1,)
    assert {file.labels for file in found.batches.draw.items} == {None}
    assert found.validation.pairs[0][0].labels is not None


class Shift:
    """In the place of a model: moves everything by one voxel along the first axis."""

    kinds = ("image", "deformation")

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
    return training.Validation(Shift(), Reader(config, (1, 2, 3)), files)()


def test_validation_scores_the_labels_that_both_images_have(tmp_path):
    fixed, moving = np.zeros((2, 6, 5, 4), "uint8")
    fixed[1:3, :2, 1] = 1
    moving[2:4, :2, 1] = 1  # is moved onto the fixed one
    fixed[4, 4], moving[4, 4] = 2, 2  # is moved off it
    fixed[0, 4, 3] = 3  # is in one image only
    assert score(tmp_path, (fixed, moving)) == {"valid_dice": 0.5, "valid_folds": 0.0}
    assert score(tmp_path, (fixed, moving), (fixed, None)) == {"valid_dice": 0.5, "valid_folds": 0.0}
    assert set(score(tmp_path, (fixed, None), (None, moving))) == {"valid_ncc", "valid_folds"}
    with pytest.raises(InvalidError, match=r"expected one of the label values \(1, 2, 3\), received none in any pair"):
        score(tmp_path, (fixed * 0 + 9, moving))


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


@pytest.mark.skipif(backend.NAME != "torch" or backend.device() != "cpu", reason="only torch on a CPU lacks bfloat16")
def test_bfloat16_is_refused_where_it_would_fail_later(home, tmp_path):
    with pytest.raises(InvalidError, match=r"training\.precision: expected float32 under torch on a CPU"):
        finetune(tiny_run.recipe(training={"precision": "mixed_bfloat16"}), tmp_path / "run", home)


def test_a_recipe_in_two_dimensions_trains_on_slices(home, tmp_path):
    recipe = tiny_run.recipe(
        model={"dims": 2, "backbone": SMALL, "output": {"name": "ddf", "level": 1}},
        input={"spacing": [1, 1], "shape": [16, 16], "intensity": {"name": "window", "low": 0, "high": 300}},
        training={"steps": 120, "steps_per_epoch": 40, "batch_size": 4, "learning_rate": 1e-2, "warmup": 5},
        augmentation={},
    )
    rows = tiny_run.read_log(finetune(recipe, tmp_path / "run", home))
    assert float(rows[-1]["loss"]) < 0.8 * float(rows[0]["loss"])
    assert float(rows[-1]["valid_dice"]) > tiny_run.unregistered_dice(recipe, home) + 0.05
    image = Image.read(home / "blobs" / "images" / "v.nii.gz")
    assert regzoo.register(image, image, tmp_path / "run").transform.displacement(image.grid)[..., 2].max() == 0


@pytest.mark.parametrize("output", ["conditional", "affine", "ffd", "dvf, symmetric"])
def test_every_output_trains_by_a_recipe_and_registers(home, tmp_path, output):
    name, _, symmetric = output.partition(", ")
    backbone = {"name": "global" if name == "affine" else "unet", "channels": [2, 4]}
    loss = {"image": {} if name == "conditional" else {"ssd": {}}, "symmetric": bool(symmetric)}
    recipe = tiny_run.recipe(
        model={"backbone": backbone, "output": {"name": name} | ({"level": 0} if name == "dvf" else {})},
        loss=loss | ({"deformation": {}} if name == "conditional" else {}),
    )
    folder = finetune(recipe, tmp_path / "run", home)
    row = tiny_run.read_log(folder)[-1]
    assert ("valid_folds" in row) == (name != "conditional")
    files = {"fixed_labels": "labels/v", "moving_labels": "labels/w"}
    files = {key: home / "blobs" / f"{file}.nii.gz" for key, file in files.items()}
    images = [home / "blobs" / "images" / f"{each}.nii.gz" for each in "vw"]
    scores = regzoo.evaluate(folder, [PairFiles(*images, **files)]).rows[0]
    assert 0 <= scores["dice_after"] <= 1
    assert ("sdlogj" in scores) == (name != "conditional")
