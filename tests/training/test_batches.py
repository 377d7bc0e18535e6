import threading
import time

import keras
import numpy as np
import pytest
import tiny_run
from keras import ops

from regzoo.data.draws import Files, Paired, Unpaired
from regzoo.data.kinds import Examples
from regzoo.data.pair_batches import DrawnBatches
from regzoo.data.reader import Reader
from regzoo.schema.augmentation import Augmentation
from regzoo.training import callbacks
from regzoo.training.batches import Batches, augmented

pytestmark = pytest.mark.backend

AUGMENTATION = {"affine": 0.1, "flip": {"probability": 0.5}, "noise": 0.02}


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    root = tiny_run.write_data(tmp_path_factory.mktemp("data")) / "blobs"
    return [Files(root / "images" / f"{n}.nii.gz", root / "labels" / f"{n}.nii.gz") for n in tiny_run.TRAIN]


def batches(files, epoch=0, augmentation=AUGMENTATION, labels="all", draw=None, **changes):
    settings = {"steps": 3, "batch_size": 2, "seed": 5} | changes
    inputs, augmentation = tiny_run.recipe().input, Augmentation(**augmentation)
    draw = DrawnBatches(Reader(inputs, (1,)), draw or Unpaired(files), labels, augmentation.flip)
    data = Batches(Examples(draw, [], augmentation), inputs.spacing, **settings)
    data.start(epoch)
    return data


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def test_a_batch_depends_on_seed_epoch_and_step_alone(blobs):
    data = batches(blobs)
    assert len(data) == 3
    (batch,) = data[1]
    assert {key: value.shape for key, value in batch.items()} == dict.fromkeys(
        ("fixed", "moving", "fixed_labels", "moving_labels"), (2, 16, 16, 16, 1)
    )
    assert {value.dtype for value in batch.values()} == {np.dtype("float32")}
    data[2], data[0]
    assert same(batch, data[1][0])
    assert same(batch, batches(blobs)[1][0])
    others = data[2], batches(blobs, seed=6)[1], batches(blobs, epoch=1)[1]
    assert not any(np.array_equal(batch["fixed"], other["fixed"]) for (other,) in others)


def test_a_batch_made_ahead_is_the_one_that_is_made_at_once(blobs):
    data = batches(blobs)
    for epoch in (0, 1, 4):  # the third does not follow on the second
        data.start(epoch)
        for step in range(3):
            assert same(data[step][0], batches(blobs).make(epoch, step))


def test_a_resumed_run_sees_what_a_continued_one_would_have_seen(blobs):
    continued = batches(blobs)
    for epoch in range(3):
        continued.start(epoch)
        continued[0], continued[2]
    assert same(continued[1][0], batches(blobs, epoch=2)[1][0])


class Slow(keras.Model):
    """Notes the batches that it is trained on; a step takes a while."""

    def __init__(self):
        super().__init__()
        self.scale, self.seen, self.busy = self.add_weight(shape=(), name="scale"), [], []

    def call(self, inputs):
        return self.scale * ops.mean(inputs["fixed"])

    def train_step(self, *arguments):
        start = time.monotonic()
        data = arguments[-1]
        self.seen.append({key: ops.convert_to_numpy(value) for key, value in data[0].items()})
        time.sleep(0.15)
        self.busy.append((start, time.monotonic()))
        logs = {"loss": ops.zeros(())}
        return (logs, arguments[0]) if len(arguments) > 1 else logs


@pytest.mark.parametrize("delay", [0.0, 0.05])
def test_fit_gets_every_epochs_own_batches_and_loads_while_it_trains(blobs, monkeypatch, delay):
    made, make = [], Batches.make

    def slow(self, epoch, step):
        start = time.monotonic()
        time.sleep(delay)
        batch = make(self, epoch, step)
        made.append((epoch, step, start, time.monotonic(), threading.current_thread()))
        return batch

    monkeypatch.setattr(Batches, "make", slow)
    data, model = batches(blobs), Slow()
    model.compile(run_eagerly=True)
    start = keras.callbacks.LambdaCallback(on_epoch_begin=data.start)
    model.fit(data, shuffle=False, initial_epoch=1, epochs=4, verbose=0, callbacks=[start])
    monkeypatch.undo()
    expected = [batches(blobs).make(epoch, step) for epoch in (1, 2, 3) for step in range(3)]
    assert len(model.seen) == 9
    assert all(same(one, other) for one, other in zip(model.seen, expected, strict=True))
    assert threading.main_thread() not in {thread for *_, thread in made}
    overlapping = sum(any(start < stop and begin < end for begin, stop in model.busy) for _, _, start, end, _ in made)
    assert overlapping >= 5


def test_how_long_a_run_waits_for_batches_is_told(blobs, monkeypatch):
    """Batches of the second epoch take 0.3 s from where they are waited for; the 0.15 s of a step are no waiting."""
    make, get, model, asked = Batches.make, Batches.__getitem__, Slow(), []

    def asks(self, step):
        if threading.current_thread() is threading.main_thread():
            asked.append((self.epoch, step))
        return get(self, step)

    def late(self, epoch, step):
        while epoch == 1 and step and (self.epoch, self._begun[0]) != (1, step) and (1, step) not in asked:
            time.sleep(0.005)
        time.sleep(0.3 * epoch)
        return make(self, epoch, step)

    monkeypatch.setattr(Batches, "__getitem__", asks)
    monkeypatch.setattr(Batches, "make", late)
    speed = callbacks.Speed(batches(blobs, augmentation={}))
    model.compile(run_eagerly=True)
    history = model.fit(speed.batches, shuffle=False, epochs=2, verbose=0, callbacks=[speed]).history
    seconds = 3 * 2 / history["pairs_per_second"][1]
    busy = sum(end - start for start, end in model.busy[3:])
    assert 0.6 <= history["waiting"][1] * seconds <= seconds - busy


def test_an_error_of_the_thread_arrives(blobs):
    data = batches([*blobs, Files(blobs[0].image.parent / "lost.nii.gz")], steps=20)
    with pytest.raises(FileNotFoundError, match=r"lost\.nii\.gz"):
        [data[step] for step in range(20)]


def test_both_sides_of_a_batch_belong_together(blobs):
    """Without augmentation, the labels of each side are the thresholded image of that side."""
    (batch,) = batches(blobs, augmentation={})[0]
    for side in ("fixed", "moving"):
        np.testing.assert_array_equal(batch[f"{side}_labels"], batch[side] > 0.5)
    assert not np.array_equal(batch["fixed"], batch["moving"])


def test_fixed_and_moving_have_draws_of_their_own_but_flip_together(blobs):
    same_image = Paired([(blobs[0], blobs[0])])
    batch = batches(blobs, augmentation={"flip": {}}, batch_size=12, draw=same_image).make(0, 0)
    np.testing.assert_array_equal(batch["fixed"], batch["moving"])
    np.testing.assert_array_equal(batch["fixed_labels"], batch["fixed"] > 0.5)  # no list of labels is needed
    flipped = [not np.array_equal(each, batch["fixed"][0]) for each in batch["fixed"]]
    assert 0 < sum(flipped) < 12
    mirror = np.flip(batch["fixed"][0], 0)
    assert all(
        np.array_equal(each, mirror) for each, is_flipped in zip(batch["fixed"], flipped, strict=True) if is_flipped
    )
    batch = batches(blobs, augmentation={"affine": 0.1}, draw=same_image).make(0, 0)
    assert not np.allclose(batch["fixed"], batch["moving"])


def test_unlabelled_data(blobs):
    files = [Files(file.image) for file in blobs]
    assert set(batches(files, labels=None)[0][0]) == {"fixed", "moving"}


def test_a_label_that_leaves_one_image_leaves_the_pair():
    """The labels are planes of the image, the first on its border."""
    labels = np.zeros((1, 8, 10, 6, 5), "float32")
    for label in range(5):
        labels[0, label, 2:5, 1:4, label] = 1
    image = np.random.default_rng(0).random((1, 8, 10, 6, 1), dtype="float32")
    batch = {"fixed": image, "moving": image, "fixed_labels": labels, "moving_labels": labels.copy()}
    lost = 0
    for seed in range(40):
        found = augmented(batch, Augmentation(affine=0.33), (1, 1, 1), np.random.default_rng(seed))
        fixed, moving = (found[f"{side}_labels"][0].any(axis=(0, 1, 2)) for side in ("fixed", "moving"))
        np.testing.assert_array_equal(fixed, moving)
        lost += fixed.sum() < 5
    assert lost > 5


def test_what_is_known_of_a_pair_stays_with_it(blobs):
    batch = {name: np.full((1, 4, 5, 6, 1), 0.5, "float32") for name in ("fixed", "moving", "fixed_mask")}
    found = augmented(batch, Augmentation(noise=0.5), (1, 1, 1), np.random.default_rng(0))
    assert found.keys() == batch.keys()
    assert found["fixed_mask"] is batch["fixed_mask"]
    assert not np.allclose(found["fixed"], found["moving"])
    assert augmented(batch, Augmentation(flip={}), (1, 1, 1), np.random.default_rng(0)) is batch
