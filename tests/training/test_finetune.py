import keras
import numpy as np
import pytest
import tiny_run
from keras import ops

import regzoo
from regzoo import backend
from regzoo.data.tables import PairFiles
from regzoo.errors import InvalidError
from regzoo.hub import cards
from regzoo.models import weights
from regzoo.training import callbacks
from regzoo.training import finetune as training
from regzoo.training.finetune import finetune
from regzoo.training.validation import Validation
from regzoo.world.images import Image

pytestmark = pytest.mark.backend

SMALL = {"name": "unet", "channels": [6, 12, 12], "convolutions": 1}


def test_the_log_has_a_line_per_epoch_and_tensorboard_the_same(whole):
    rows = tiny_run.read_log(whole)
    terms = ["loss", "image_ssd", "label_dice", "deformation_gradient", "valid_dice", "valid_folds"]
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    assert set(rows[0]) == {"epoch", "step", "seconds", *terms, "pairs_per_second", "waiting"}
    assert all(float(row["pairs_per_second"]) > 0 <= float(row["waiting"]) < 1 for row in rows)
    for row in rows:
        values = {key: float(value) for key, value in row.items()}
        total = values["image_ssd"] + values["label_dice"] + 0.1 * values["deformation_gradient"]
        assert values["loss"] == pytest.approx(total, rel=1e-4)
    events = tiny_run.read_events(whole / "tensorboard")
    logged = {(key, int(row["epoch"])): float(row[key]) for row in rows for key in row}
    assert events == pytest.approx(logged, rel=1e-6)


@pytest.mark.slow_under("tensorflow")
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


@pytest.mark.slow_under("jax")
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


@pytest.mark.slow_under("tensorflow")
def test_the_weights_of_the_best_epoch_are_published(home, tmp_path, monkeypatch):
    figures, seen = iter((0.0, 0.5, 0.9, 0.2)), []

    def score(self):
        seen.append(weights.arrays(self.model.variables))
        return {"valid_dice": next(figures), "valid_folds": 0.0}

    monkeypatch.setattr(Validation, "__call__", score)
    folder = finetune(tiny_run.recipe(), tmp_path / "run", home)
    published, _ = weights.read(folder / "model.safetensors")
    assert all(np.array_equal(published[name], seen[2][name]) for name in published)
    assert not all(np.array_equal(published[name], seen[3][name]) for name in published)
    assert cards.read(folder).training["chosen_at_step"] == 4


@pytest.mark.slow_under("jax", "tensorflow")
def test_the_running_average_of_the_weights_is_scored_and_published(home, tmp_path, monkeypatch):
    steps, scored = [], []

    def note(self, batch, logs=None):
        steps.append({name: value.copy() for name, value in weights.arrays(self.model.variables).items()})

    monkeypatch.setattr(callbacks.StopOnNaN, "on_train_batch_end", note)

    def score(self):
        scored.append(weights.arrays(self.model.variables))
        return {"valid_dice": float(len(scored)), "valid_folds": 0.0}

    monkeypatch.setattr(Validation, "__call__", score)
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


@pytest.mark.slow_under("jax", "tensorflow")
def test_a_run_that_stops_before_its_schedule(home, tmp_path):
    settings = {"steps": 50, "stop_after": 3, "warmup": 0, "steps_per_epoch": 2}
    folder = finetune(tiny_run.recipe(name="short", training=settings), tmp_path / "run", home)
    assert cards.read(folder).training["steps"] == 3
    assert len((folder / "log.csv").read_text().splitlines()) == 1 + 2


@pytest.mark.slow_under("jax", "tensorflow")
def test_given_pairs_without_labels_in_bfloat16_and_a_last_epoch_that_is_not_whole(own_data, tmp_path, monkeypatch):
    steps, count = [], callbacks.StopOnNaN.on_train_batch_end

    def spy(self, batch, logs=None):
        steps.append(batch)
        count(self, batch, logs)

    monkeypatch.setattr(callbacks.StopOnNaN, "on_train_batch_end", spy)
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
    optimizer = training.optimizer_of(tiny_run.recipe(training=settings))
    for step, share in expected.items():
        optimizer.iterations.assign(step)
        assert float(optimizer.learning_rate) == pytest.approx(share * 2e-3, abs=1e-9)


@pytest.mark.parametrize(("epsilon", "low", "high"), [(1e-7, 0.9e-2, 1.1e-2), (1e-2, 0, 1e-4)])
def test_a_weight_whose_gradient_is_far_below_epsilon_hardly_moves(epsilon, low, high):
    settings = {"steps": 100, "schedule": "constant", "warmup": 0, "learning_rate": 1e-2, "epsilon": epsilon}
    weight = keras.Variable([1.0])
    training.optimizer_of(tiny_run.recipe(training=settings)).apply([ops.convert_to_tensor([1e-4])], [weight])
    assert low < 1 - float(ops.convert_to_numpy(weight)[0]) < high


def test_a_run_that_cannot_be_scored_ends_before_it_starts(home, tmp_path):
    recipe = tiny_run.recipe(data={"label_values": [7]})
    with pytest.raises(InvalidError, match=r"data\.label_values: expected labels that the training images have, .* 7"):
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


def write_partly(path, *lines):
    path.write_text("\n".join(["fixed,moving,fixed_labels,moving_labels", *lines]))


@pytest.mark.slow_under("jax", "tensorflow")
def test_pairs_without_labels_train_on_their_images(own_data, tmp_path):
    labelled = "images/a.nii.gz,images/b.nii.gz,labels/a.nii.gz,labels/b.nii.gz"
    write_partly(own_data / "blobs" / "train.csv", labelled, "images/c.nii.gz,images/d.nii.gz")
    write_partly(own_data / "blobs" / "valid.csv", "images/v.nii.gz,images/w.nii.gz", labelled.replace("/b", "/x"))
    recipe = tiny_run.recipe(data=PAIRS | {"label_sampling": "one"}, training={"batch_size": 2})
    rows = tiny_run.read_log(finetune(recipe, tmp_path / "run", own_data))
    assert all(0 < float(row["label_dice"]) < 1 for row in rows)
    assert all(0 < float(row["valid_dice"]) < 1 for row in rows)


@pytest.mark.skipif(backend.NAME != "torch" or backend.device() != "cpu", reason="only torch on a CPU lacks bfloat16")
def test_bfloat16_is_refused_where_it_would_fail_later(home, tmp_path):
    with pytest.raises(InvalidError, match=r"training\.precision: expected float32 under torch on a CPU"):
        finetune(tiny_run.recipe(training={"precision": "mixed_bfloat16"}), tmp_path / "run", home)


@pytest.mark.slow
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
@pytest.mark.slow
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
