import threading
import time

import keras
import numpy as np
import pytest
import tiny_run
from keras import ops
from tensors import array

from regzoo import backend
from regzoo.data.draws import Files, Paired, Unpaired
from regzoo.data.kinds import Examples
from regzoo.data.pair_batches import DrawnBatches
from regzoo.data.reader import Reader
from regzoo.schema.augmentation import Augmentation
from regzoo.training import callbacks
from regzoo.training.batches import Batches
from regzoo.training.developing import developed

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
    data = Batches(Examples(draw, [], augmentation, draw.held.arrays), inputs.spacing, **settings)
    data.start(epoch)
    return data


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(array(one[key]), array(other[key])) for key in one)


def test_a_batch_depends_on_seed_epoch_and_step_alone(blobs):
    data = batches(blobs)
    assert len(data) == 3
    (batch,) = data[1]
    assert {key: value.shape for key, value in batch.items()} == dict.fromkeys(
        ("fixed", "moving", "fixed_labels", "moving_labels"), (2, 16, 16, 16, 1)
    )
    assert {keras.backend.standardize_dtype(value.dtype) for value in batch.values()} == {"float32"}
    data[2], data[0]
    assert same(batch, data[1][0])
    assert same(batch, batches(blobs)[1][0])
    others = data[2], batches(blobs, seed=6)[1], batches(blobs, epoch=1)[1]
    assert not any(np.array_equal(array(batch["fixed"]), array(other["fixed"])) for (other,) in others)


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


def test_an_error_of_the_thread_arrives():
    def lost(random, count):
        raise FileNotFoundError("lost.nii.gz")

    data = Batches(Examples(lost, []), (1, 1, 1), steps=20, batch_size=1, seed=0)
    with pytest.raises(FileNotFoundError, match=r"lost\.nii\.gz"):
        data[0]


def made(*args, **changes):
    return {name: array(each) for name, each in batches(*args, **changes).make(0, 0).items()}


def test_both_sides_of_a_batch_belong_together(blobs):
    """Without augmentation, the labels of each side are the thresholded image of that side."""
    batch = made(blobs, augmentation={})
    for side in ("fixed", "moving"):
        np.testing.assert_array_equal(batch[f"{side}_labels"], batch[side] > 0.5)
    assert not np.array_equal(batch["fixed"], batch["moving"])


def test_fixed_and_moving_have_draws_of_their_own_but_flip_together(blobs):
    same_image = Paired([(blobs[0], blobs[0])])
    batch = made(blobs, augmentation={"flip": {}}, batch_size=12, draw=same_image)
    np.testing.assert_array_equal(batch["fixed"], batch["moving"])
    np.testing.assert_array_equal(batch["fixed_labels"], batch["fixed"] > 0.5)  # no list of labels is needed
    flipped = [not np.array_equal(each, batch["fixed"][0]) for each in batch["fixed"]]
    assert 0 < sum(flipped) < 12
    mirror = np.flip(batch["fixed"][0], 0)
    assert all(
        np.array_equal(each, mirror) for each, is_flipped in zip(batch["fixed"], flipped, strict=True) if is_flipped
    )
    batch = made(blobs, augmentation={"affine": 0.1}, draw=same_image)
    assert not np.allclose(batch["fixed"], batch["moving"])


def test_unlabelled_data(blobs):
    files = [Files(file.image) for file in blobs]
    assert set(batches(files, labels=None)[0][0]) == {"fixed", "moving"}


def test_images_lie_on_the_device_as_bytes_and_a_step_sends_rows_and_seeds(blobs, monkeypatch):
    sent, data = [], batches(blobs)
    send = backend.sent
    monkeypatch.setattr(backend, "sent", lambda drawn: sent.append(drawn) or send(drawn))
    data.make(0, 0)
    assert {name: (each.shape, each.dtype.name) for name, each in sent[0].items()} == {
        "rows": ((4,), "int32"),
        "seeds": ((4,), "int32"),
        "channels": ((4, 1), "int32"),
        "mirror": ((4, 3), "int32"),
    }
    held = data._held
    assert {name: tuple(each.shape) for name, each in held.items()} == dict.fromkeys(held, (4, 16, 16, 16, 1))
    assert {name: keras.backend.standardize_dtype(each.dtype) for name, each in held.items()} == dict.fromkeys(
        ("images", "labels"), "uint8"
    )


def test_a_label_is_where_its_image_is_and_whole(blobs):
    """Moved by nearest neighbour, no label is ever there by half; soft ones are."""
    settings = {"affine": 0.2, "field": {"strength": 2, "smoothness": 8}, "flip": {}}
    batch = made(blobs, augmentation=settings, batch_size=6)
    for side in ("fixed", "moving"):
        assert set(np.unique(batch[f"{side}_labels"])) == {0, 1}
        assert (batch[f"{side}_labels"] == (batch[side] > 0.5)).mean() > 0.98


def drawn(planes, **changes):
    """What a batch of one pair with five labels on planes of both images is made of."""
    image = np.random.default_rng(0).integers(1, 256, (2, 8, 10, 6, 1)).astype("uint8")
    return {"images": image, "channels": np.tile(np.arange(1, 6, dtype="int32"), (2, 1)), **planes, **changes}


def planes(soft):
    labels = np.zeros((2, 8, 10, 6, 5 if soft else 1), "uint8")
    for label in range(5):
        labels[:, label, 2:5, 1:4, label * soft] = 255 if soft else label + 1
    return {"soft" if soft else "labels": labels}


@pytest.mark.parametrize("soft", [False, True])
def test_a_label_that_leaves_one_image_leaves_the_pair(soft):
    """The labels are planes of the image, the first on its border."""
    lost = 0
    for seed in range(40):
        seeds = np.array([2 * seed, 2 * seed + 1], "int32")
        found = developed(drawn(planes(soft), seeds=seeds), {}, Augmentation(affine=0.33), (1, 1, 1))
        fixed, moving = (array(found[f"{side}_labels"])[0].any(axis=(0, 1, 2)) for side in ("fixed", "moving"))
        np.testing.assert_array_equal(fixed, moving)
        lost += fixed.sum() < 5
    assert lost > 5


EVERYTHING = {"affine": 0.1, "rotation": 30, "shift": 1, "gamma": 0.2, "contrast": 0.1, "invert": 0.5, "noise": 0.05}
EVERYTHING |= {"field": {"strength": 2, "smoothness": 8, "octaves": 2}, "bias": {"strength": 0.3, "smoothness": 8}}


@pytest.mark.parametrize("soft", [False, True])
def test_a_batch_is_the_same_on_every_backend(soft):
    """Golden sums, which PyTorch gave: no backend draws or moves otherwise."""
    settings = {"seeds": np.array([3, 2**31 - 5], "int32"), "mirror": np.array([[1, 0, 0]] * 2, "int32")}
    batch = developed(drawn(planes(soft), **settings), {}, Augmentation(**EVERYTHING), (1, 2, 1.5))
    ramp = np.arange(8 * 10 * 6).reshape(8, 10, 6, 1) / 480
    found = [float((array(batch[name])[0] * ramp).sum()) for name in sorted(batch)]
    np.testing.assert_allclose(found, GOLDEN[soft], rtol=2e-4)


GOLDEN = {
    False: [99.612074, 24.791667, 155.138509, 25.49375],
    True: [99.612074, 25.99734, 155.138509, 23.675061],
}


def test_what_is_drawn_whole_is_left_as_it_is():
    batch = {name: np.full((1, 4, 5, 6, 1), 0.5, "float32") for name in ("fixed", "moving", "fixed_mask")}
    examples = Examples(lambda random, count: batch, [], Augmentation(noise=0.5))
    assert Batches(examples, (1, 1, 1), steps=1, batch_size=1, seed=0).make(0, 0) is batch
