"""Pairs of files as batches: which labels they have, and in which channels."""

import numpy as np
import pytest
import worlds
from tensors import array

from regzoo.data.draws import Files, Paired, Unpaired
from regzoo.data.pair_batches import DrawnBatches, left_right
from regzoo.data.reader import Reader
from regzoo.errors import InvalidError
from regzoo.schema.augmentation import Augmentation, FlipAugmentation
from regzoo.schema.inputs import InputConfig
from regzoo.training.developing import developed
from regzoo.world.images import Grid, Image

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


def made(fixed, moving, values, labels="all", seed=0, flip=None, memory=2**31):
    draw = DrawnBatches(Reader(CONFIG, values), Paired([(fixed, moving)]), labels, flip, memory)
    found = developed(draw(np.random.default_rng(seed), 1), draw.held.arrays, Augmentation(), (1, 1, 1))
    return {name: array(each) for name, each in found.items()}


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
def test_only_what_both_images_have_is_compared(tmp_path, fixed, moving, expected):
    files = write(tmp_path, "f", fixed), write(tmp_path, "m", moving)
    batch = made(*files, (1, 2, 3, 4))
    assert batch["fixed_labels"].shape == (1, *SHAPE, 4)
    assert labels_of(batch) == [expected, expected]
    assert labels_of(made(*files, (1, 2, 3, 4)[::-1])) == [{3 - label for label in expected}] * 2
    seen = set()
    for step in range(12):
        batch = made(*files, (1, 2, 3, 4), "one", step)
        assert batch["moving_labels"].shape == (1, *SHAPE, 1)
        first, second = labels_of(batch)
        assert first == second == ({0} if expected else set())
        seen.add(tuple(np.asarray(batch[f"{side}_labels"]).tobytes() for side in ("fixed", "moving")))
    assert len(seen) == max(1, len(expected))


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
    for step in range(40):
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
    values = [
        [float(batch[f"{side}_labels"][..., channel].max()) for channel in (0, 1)] for side in ("fixed", "moving")
    ]
    np.testing.assert_allclose(values, [[0.25, 1], [0.5, 0.75]], atol=1 / 510)


def test_mirrored_labels_are_exchanged(tmp_path):
    files = write(tmp_path, "f", [1, 2, 3]), write(tmp_path, "m", [1, 2, 3])
    plain = made(*files, (1, 2, 3))
    flip = FlipAugmentation(probability=1, swap=[(1, 3)])
    flipped = made(*files, (1, 2, 3), flip=flip)
    for side in ("fixed_labels", "moving_labels"):
        np.testing.assert_array_equal(flipped[side], np.flip(plain[side], 1)[..., [2, 1, 0]])
    np.testing.assert_array_equal(flipped["fixed"], np.flip(plain["fixed"], 1))
    with pytest.raises(InvalidError, match=r"augmentation\.flip\.swap: expected labels among \(1, 2\), received 3"):
        made(*files, (1, 2), flip=flip)
    assert set(made(*files, (1, 2), None, flip=flip)) == {"fixed", "moving"}


def test_a_partly_labelled_set_keeps_one_form(tmp_path):
    """Keras compiles a step for one set of keys and shapes."""
    files = [write(tmp_path, "a", {1: 1, 2: 1}), write(tmp_path, "b", None), write(tmp_path, "c", [2])]
    reader = Reader(CONFIG, (1, 2))
    for labels, count in (("all", 2), ("one", 1)):
        draw, random = DrawnBatches(reader, Unpaired(files), labels), np.random.default_rng(0)
        shapes = {tuple((key, value.shape) for key, value in draw(random, 2).items()) for _ in range(12)}
        (shape,) = shapes
        assert dict(shape) == {"seeds": (4,), "rows": (4,), "channels": (4, count)}
        assert draw.held.arrays["soft"].shape == (3, *SHAPE, 2)


@pytest.mark.parametrize("labels", [([1, 2, 3], [2, 1]), ({1: 0.75, 2: 1, 3: 1}, [2, 1]), ([1], None)])
@pytest.mark.parametrize("shape", [SHAPE, SHAPE[:2]])
def test_what_does_not_fit_is_streamed_and_gives_the_same_batch(tmp_path, monkeypatch, labels, shape):
    monkeypatch.setitem(globals(), "CONFIG", CONFIG.model_copy(update={"shape": shape, "spacing": (1.0,) * len(shape)}))
    files = [write(tmp_path, name, each) for name, each in zip("fm", labels, strict=True)]
    size = 2 * np.prod(SHAPE) * (1 + (3 if isinstance(labels[0], dict) else 1))
    for memory in (size, size - 1):
        draw = DrawnBatches(Reader(CONFIG, (1, 2, 3)), Paired([tuple(files)]), "one", FlipAugmentation(), memory)
        drawn = draw(np.random.default_rng(0), 2)
        assert (memory == size) == bool(draw.held.arrays) == ("rows" in drawn) == ("images" not in drawn)
    for step in range(4):
        held, streamed = (made(*files, (1, 2, 3), "one", step, FlipAugmentation(), memory) for memory in (size, 0))
        assert held.keys() == streamed.keys()
        assert all(np.array_equal(held[name], streamed[name]) for name in held)
        assert held["fixed"].shape == (1, *shape, 1)


@pytest.mark.parametrize(("labels", "name"), [([[1, 2], [2]], "labels"), ([{1: 0.75, 2: 1}, [2]], "soft")])
@pytest.mark.parametrize("shape", [SHAPE, SHAPE[:2]])
def test_what_is_held_is_held_once(tmp_path, labels, name, shape):
    files = [write(tmp_path, side, each) for side, each in zip("fm", labels, strict=True)]
    reader = Reader(CONFIG.model_copy(update={"shape": shape, "spacing": (1.0,) * len(shape)}), (1, 2))
    before = [reader.own(each) for each in files]
    held = DrawnBatches(reader, Paired([tuple(files)])).held
    for each, seen in zip(files, before, strict=True):
        view, _ = held.views[each]
        assert np.shares_memory(view.image, held.arrays["images"])
        assert np.shares_memory(view.labels, held.arrays[name])
        np.testing.assert_allclose(view.image / 255, seen.image, atol=1 / 510 + 1e-6)
        np.testing.assert_allclose(view.channels((0, 1)), seen.channels((0, 1)), atol=1 / 510 + 1e-6)
        assert view.present == seen.present
        assert view.grid == seen.grid
        assert reader.own(each) is not seen  # what the reader kept of it is gone


def test_images_that_look_different_beside_others_are_streamed(tmp_path):
    files = write(tmp_path, "f", [1]), write(tmp_path, "m", [1])
    reader = Reader(CONFIG.model_copy(update={"alignment": "world"}), (1,))
    draw = DrawnBatches(reader, Paired([files]))
    assert not draw.held.arrays
    drawn = draw(np.random.default_rng(0), 2)
    np.testing.assert_array_equal(drawn["images"][3], np.rint(reader.pair(*files)[1].image * 255))


@pytest.mark.parametrize(
    ("name", "axis"), [("RAS", 0), ("LPS", 0), ("permuted", 2), ("oblique", 0), ("anisotropic", 0)]
)
def test_left_right_is_found_in_the_world(name, axis):
    assert left_right(Grid(SHAPE, worlds.AFFINES[name]), 3) == axis


def test_sagittal_slices_have_no_left_and_right():
    grid = Grid((4, 5, 6), worlds.affine(np.array([[0, 0, 2.0], [1.0, 0, 0], [0, 1.0, 0]]), (0, 0, 0)))
    assert left_right(grid, 3) == 2
    with pytest.raises(InvalidError, match=r"augmentation\.flip: expected images that show left and right"):
        left_right(grid, 2)
