import threading
import time

import keras
import numpy as np
import pytest
import tiny_run
from keras import ops

from regzoo.data.draws import Files, Paired, Unpaired
from regzoo.data.reader import Reader
from regzoo.errors import InvalidError
from regzoo.schema.augmentation import Augmentation
from regzoo.schema.inputs import InputConfig
from regzoo.training.batches import Batches
from regzoo.world.images import Image

pytestmark = pytest.mark.backend

AUGMENTATION = {"affine": 0.1, "flip": {"probability": 0.5}, "noise": 0.02}


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    root = tiny_run.write_data(tmp_path_factory.mktemp("data")) / "blobs"
    return [Files(root / "images" / f"{n}.nii.gz", root / "labels" / f"{n}.nii.gz") for n in tiny_run.TRAIN]


def batches(files, epoch=0, augmentation=AUGMENTATION, **changes):
    settings = {"steps": 3, "batch_size": 2, "seed": 5, "augmentation": Augmentation(**augmentation)} | changes
    data = Batches(Reader(tiny_run.recipe().input, (1,)), Unpaired(files), **settings)
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
    data = batches(blobs, augmentation={"flip": {}}, batch_size=12)
    data.draw = same_image
    batch = data.make(0, 0)
    np.testing.assert_array_equal(batch["fixed"], batch["moving"])
    flipped = [not np.array_equal(each, batch["fixed"][0]) for each in batch["fixed"]]
    assert 0 < sum(flipped) < 12
    mirror = np.flip(batch["fixed"][0], 0)
    assert all(
        np.array_equal(each, mirror) for each, is_flipped in zip(batch["fixed"], flipped, strict=True) if is_flipped
    )
    data.augmentation = Augmentation(affine=0.1)
    batch = data.make(0, 0)
    assert not np.allclose(batch["fixed"], batch["moving"])


def test_unlabelled_data(blobs):
    files = [Files(file.image) for file in blobs]
    assert set(batches(files, labels=None)[0][0]) == {"fixed", "moving"}


# --- labels -----------------------------------------------------------------------------------------------------------

SHAPE = (8, 10, 6)
CONFIG = InputConfig(shape=SHAPE, intensity={"name": "window", "low": 0, "high": 1})


def write(folder, name, labels):
    """A random image; labels: channels as {label: value}, a label map as a list of values, or None."""
    random = np.random.default_rng(sum(map(ord, name)))
    image = random.random(SHAPE).astype("float32")
    Image(image, np.eye(4)).save(folder / f"{name}.nii.gz")
    if labels is None:
        return Files(folder / f"{name}.nii.gz")
    if isinstance(labels, dict):
        array = np.zeros((*SHAPE, max(labels)), "float32")
        for label, value in labels.items():
            array[label : label + 2, 2:5, 1:4, label - 1] = value
    else:
        array = np.zeros(SHAPE, "uint8")
        for place, label in enumerate(labels):
            array[place, 2:5, 1:4] = label
    Image(array, np.eye(4)).save(folder / f"{name}_labels.nii.gz")
    return Files(folder / f"{name}.nii.gz", folder / f"{name}_labels.nii.gz")


def labels_of(batch):
    """The labels, by channel, that each side of the first pair has."""
    return [
        set(np.flatnonzero(batch[f"{side}_labels"][0].any(axis=(0, 1, 2))).tolist()) for side in ("fixed", "moving")
    ]


def made(fixed, moving, values, labels="all", step=0, augmentation=None, **changes):
    settings = {"steps": 3, "batch_size": 1, "seed": 5, "labels": labels} | changes
    data = Batches(Reader(CONFIG, values), Paired([(fixed, moving)]), **settings, augmentation=augmentation)
    return data.make(0, step)


@pytest.mark.parametrize(
    ("fixed", "moving", "expected"),
    [
        ({1: 1, 2: 0.8, 4: 1}, {1: 1, 3: 1, 4: 0.7}, {0, 3}),
        ({1: 1, 2: 0.8, 4: 1}, {1: 1, 2: 1}, {0, 1}),  # another number of channels
        ([2, 4, 1], [4, 2, 9], {1, 3}),
        ([1, 2], {2: 0.6, 3: 1}, {1}),  # value and channel 2 are the same label
        ({1: 1}, {1: 0}, set()),
        ([1], None, set()),
        (None, {1: 1}, set()),
        (None, None, set()),
    ],
)
@pytest.mark.parametrize("augmentation", [None, Augmentation(affine=0.02)])
def test_only_what_both_images_have_is_compared(tmp_path, fixed, moving, expected, augmentation):
    files = write(tmp_path, "f", fixed), write(tmp_path, "m", moving)
    batch = made(*files, (1, 2, 3, 4), augmentation=augmentation)
    assert batch["fixed_labels"].shape == (1, *SHAPE, 4)
    assert labels_of(batch) == [expected, expected]
    assert labels_of(made(*files, (1, 2, 3, 4)[::-1])) == [{3 - label for label in expected}] * 2
    seen = set()
    for step in range(12):
        batch = made(*files, (1, 2, 3, 4), "one", step, augmentation)
        assert batch["moving_labels"].shape == (1, *SHAPE, 1)
        first, second = labels_of(batch)
        assert first == second == ({0} if expected else set())
        sums = tuple(float(batch[f"{side}_labels"].sum()) for side in ("fixed", "moving"))
        seen.add(tuple(round(each, 3) for each in sums))
    assert augmentation is not None or len(seen) == max(1, len(expected)) or isinstance(fixed, list)


def test_one_label_is_the_same_label_on_both_sides(tmp_path):
    files = write(tmp_path, "f", [3, 5, 7]), write(tmp_path, "m", [3, 5, 7])
    picked = set()
    for step in range(20):
        batch = made(*files, (3, 5, 7), "one", step)
        np.testing.assert_array_equal(batch["fixed_labels"], batch["moving_labels"])
        (place,) = np.flatnonzero(batch["fixed_labels"][0, ..., 0].any(axis=(1, 2)))
        picked.add(int(place))
    assert picked == {0, 1, 2}


def test_some_labels_are_different_ones(tmp_path):
    files = write(tmp_path, "f", [3, 5, 7]), write(tmp_path, "m", [3, 7, 5])
    picked = set()
    for step in range(20):
        batch = made(*files, (3, 5, 7), 2, step)
        assert batch["fixed_labels"].shape == (1, *SHAPE, 2)
        filled = batch["fixed_labels"][0].any(axis=(1, 2))  # a label lies on one plane of the image
        assert (filled.sum(axis=0) == 1).all()
        picked.add(tuple(filled.argmax(axis=0).tolist()))
    assert len(picked) == 6  # any two, in either order
    batch = made(*files, (3, 5, 7), 5)
    assert batch["fixed_labels"].shape == (1, *SHAPE, 5)
    assert labels_of(batch) == [{0, 1, 2}] * 2


def test_soft_labels_keep_their_values(tmp_path):
    files = write(tmp_path, "f", {1: 0.25, 2: 1}), write(tmp_path, "m", {1: 0.5, 2: 0.75})
    batch = made(*files, (1, 2))
    assert [float(batch["fixed_labels"][..., channel].max()) for channel in (0, 1)] == [0.25, 1]
    assert [float(batch["moving_labels"][..., channel].max()) for channel in (0, 1)] == [0.5, 0.75]


def test_a_label_that_leaves_one_image_leaves_the_pair(tmp_path):
    """The first label lies on the image's border."""
    files = write(tmp_path, "f", [1, 2, 3, 4, 5]), write(tmp_path, "m", [1, 2, 3, 4, 5])
    lost = 0
    for step in range(40):
        batch = made(*files, (1, 2, 3, 4, 5), step=step, augmentation=Augmentation(affine=0.33))
        fixed, moving = labels_of(batch)
        assert fixed == moving
        lost += len(fixed) < 5
    assert lost > 5


def test_mirrored_labels_are_exchanged(tmp_path):
    files = write(tmp_path, "f", [1, 2, 3]), write(tmp_path, "m", [1, 2, 3])
    plain = made(*files, (1, 2, 3))
    flip = Augmentation(flip={"probability": 1, "swap": [[1, 3]]})
    flipped = made(*files, (1, 2, 3), augmentation=flip)
    for side in ("fixed_labels", "moving_labels"):
        np.testing.assert_array_equal(flipped[side], np.flip(plain[side], 1)[..., [2, 1, 0]])
    np.testing.assert_array_equal(flipped["fixed"], np.flip(plain["fixed"], 1))
    with pytest.raises(InvalidError, match=r"augmentation\.flip\.swap: expected labels among \(1, 2\), received 3"):
        made(*files, (1, 2), augmentation=flip)
    assert set(made(*files, (1, 2), None, augmentation=flip)) == {"fixed", "moving"}


def test_a_partly_labelled_set_keeps_one_form(tmp_path):
    """Keras compiles a step for one set of keys and shapes."""
    files = [write(tmp_path, "a", {1: 1}), write(tmp_path, "b", None), write(tmp_path, "c", [2])]
    reader = Reader(CONFIG, (1, 2))
    for labels, count in (("all", 2), ("one", 1)):
        data = Batches(reader, Unpaired(files), steps=12, batch_size=2, seed=0, labels=labels)
        shapes = {tuple((key, value.shape) for key, value in data.make(0, step).items()) for step in range(12)}
        (shape,) = shapes
        assert dict(shape)["fixed_labels"] == (2, *SHAPE, count)
