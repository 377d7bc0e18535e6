import numpy as np
import pytest
import tiny_run
import worlds

from regzoo.checks import InvalidError
from regzoo.config import InputConfig
from regzoo.images import Grid, Image
from regzoo.pairs import (
    Batches,
    Files,
    Placed,
    Reader,
    augment,
    label_values,
    own_grid,
    paired,
    place,
    read_labelled,
    unpaired,
)

pytestmark = pytest.mark.backend

LOW, HIGH = -60.0, 60.0
WINDOW = {"name": "window", "low": LOW, "high": HIGH}
SPACING, SHAPE = (2.0, 1.5, 2.5), (8, 10, 6)


def inputs(**changes):
    return InputConfig(**{"spacing": SPACING, "shape": SHAPE, "intensity": WINDOW} | changes)


def world(grid):
    """The world position of every voxel, without the code under test."""
    return np.moveaxis(np.indices(grid.shape), 0, -1) @ grid.affine[:3, :3].T + grid.affine[:3, 3]


def ramp(grid):
    """What a normalised `worlds.ramp` shows on a grid."""
    return (world(grid) @ worlds.SLOPE + 5 - LOW) / (HIGH - LOW)


def source(name, offset=(0, 0, 0)):
    """A ramp with the axes of worlds.AFFINES[name], large enough for the network's grid, and labels 3 and 5 in it."""
    affine = worlds.AFFINES[name].copy()
    affine[:3, 3] += offset
    size = np.ceil(40 / np.linalg.norm(affine[:3, :3], axis=0)).astype(int)
    grid = Grid(tuple(size), affine)
    labels = np.where(world(grid)[..., 1] > world(grid)[..., 1].mean(), 5, 3).astype("uint8")
    return worlds.ramp(grid), Image(labels, affine)


def save(folder, name, image, labels):
    image.save(folder / f"{name}.nii.gz")
    labels.save(folder / f"{name}_labels.nii.gz")
    return Files(folder / f"{name}.nii.gz", folder / f"{name}_labels.nii.gz")


@pytest.mark.parametrize("name", worlds.AFFINES)
def test_own_grid_lies_on_the_images_centre_along_ras(name):
    image, _ = source(name)
    grid = own_grid(image, inputs())
    assert grid.shape == SHAPE
    np.testing.assert_allclose(grid.affine[:3, :3], np.diag(SPACING))
    middle = image.affine @ [*((n - 1) // 2 for n in image.shape), 1]
    np.testing.assert_allclose(grid.affine @ [*((n - 1) // 2 for n in SHAPE), 1], middle, atol=1e-9)


@pytest.mark.parametrize("name", worlds.AFFINES)
def test_place_samples_in_the_world(name):
    image, labels = source(name)
    grid = own_grid(image, inputs())
    placed = place(image, labels, grid, inputs(), (5, 3, 9))
    assert placed.image.shape == (*SHAPE, 1)
    assert placed.labels.shape == (*SHAPE, 3)
    assert placed.labels.dtype == np.uint8
    np.testing.assert_allclose(placed.image[..., 0], ramp(grid), atol=1e-4)
    # Labels by hand: the nearest voxel's value, away from ties.
    index = (world(grid) - labels.affine[:3, 3]) @ np.linalg.inv(labels.affine[:3, :3]).T
    sure = (np.abs(index - np.floor(index) - 0.5) > 1e-3).all(-1)
    nearest = labels.array[tuple(np.moveaxis(np.rint(index).astype(int), -1, 0))]
    assert sure.mean() > 0.3
    for channel, value in enumerate((5, 3, 9)):
        np.testing.assert_array_equal(placed.labels[sure][:, channel], (nearest == value)[sure])


def test_place_gives_zero_outside_and_clips_inside():
    image = Image(np.full((4, 4, 4), 200.0, "float32"), np.eye(4))
    image.array[1:3] = 20.0
    labels = Image(np.ones((4, 4, 4), "uint8"), np.eye(4))
    grid = Grid((8, 4, 4), worlds.affine(np.eye(3), (-2, 0, 0)))
    placed = place(image, labels, grid, inputs(), (1,))
    expected = [0, 0, 1, 80 / 120, 80 / 120, 1, 0, 0]
    np.testing.assert_allclose(placed.image[:, 2, 2, 0], expected, atol=1e-6)
    np.testing.assert_array_equal(placed.labels[:, 2, 2, 0], [0, 0, 1, 1, 1, 1, 0, 0])


@pytest.mark.parametrize("name", ["LPS", "permuted", "oblique"])
@pytest.mark.parametrize("alignment", ["center", "world"])
def test_reader_aligns_the_moving_image(tmp_path, name, alignment):
    fixed, moving = source("RAS"), source(name, offset=(5, -3, 2))
    files = save(tmp_path, "f", *fixed), save(tmp_path, "m", *moving)
    config = inputs(alignment=alignment)
    placed_fixed, placed_moving = Reader(config, (3, 5)).pair(*files)
    grid, moving_grid = own_grid(fixed[0], config), own_grid(moving[0], config)
    if alignment == "world":
        moving_grid = grid
    np.testing.assert_allclose(placed_fixed.image[..., 0], ramp(grid), atol=1e-4)
    inside = placed_moving.labels.any(-1)
    assert inside.mean() > 0.6
    at = np.argwhere(inside)[:: inside.sum() // 50]
    inner = [tuple(i) for i in at if all(0 < i[d] < SHAPE[d] - 1 for d in range(3))]
    found = np.array([placed_moving.image[(*i, 0)] for i in inner])
    np.testing.assert_allclose(found, [ramp(moving_grid)[i] for i in inner], atol=0.02)
    assert placed_moving.grid.same_as(moving_grid)


def test_labels_must_be_one_map_on_the_images_grid(tmp_path):
    image, labels = source("oblique")
    files = save(tmp_path, "x", image, labels)
    read_labelled(files)
    Image(labels.array[:-1], labels.affine).save(files.labels)
    with pytest.raises(InvalidError, match=r"x_labels\.nii\.gz: expected the grid of x\.nii\.gz, .* received shape"):
        read_labelled(files)
    Image(labels.array, np.diag([1.2, 1.7, 2.1, 1])).save(files.labels)
    with pytest.raises(InvalidError, match="received another affine"):
        read_labelled(files)
    Image(np.stack([labels.array] * 2, axis=-1), labels.affine).save(files.labels)
    with pytest.raises(InvalidError, match="expected one label map, received 2 channels"):
        read_labelled(files)


def test_an_image_without_contrast_is_named(tmp_path):
    array = np.zeros((20, 20, 20), "float32")
    array[0, 0, 0] = 1
    Image(array, np.eye(4)).save(tmp_path / "flat.nii.gz")
    reader = Reader(inputs(intensity={"name": "percentiles"}), ())
    with pytest.raises(InvalidError, match=r"flat\.nii\.gz: intensities: expected percentiles 1 and 99 that differ"):
        reader.check([Files(tmp_path / "flat.nii.gz")])


def test_reader_keeps_only_what_fits_in_memory(tmp_path):
    files = [save(tmp_path, name, *source("RAS")) for name in "abc"]
    size = np.prod(SHAPE) * 5
    for memory, kept in ((3 * size, 3), (2.9 * size, 2), (0, 2)):
        reader = Reader(inputs(), (3,), memory=int(memory))
        reader.check(files)
        assert reader._own.cache_info().currsize == kept


def test_label_values(tmp_path):
    image, labels = source("RAS")
    files = [save(tmp_path, "a", image, labels), Files(tmp_path / "a.nii.gz")]
    assert label_values(files) == (3, 5)
    assert label_values(files[1:]) == ()
    Image(labels.array * 0, labels.affine).save(files[0].labels)
    with pytest.raises(InvalidError, match="labels: expected a value other than 0 in one of 1 label maps"):
        label_values(files)


def test_unpaired_draws_all_ordered_pairs_of_two_images_and_no_other():
    files = [Files(name) for name in "abc"]
    random, draw = np.random.default_rng(0), unpaired(files)
    drawn = {(fixed.image, moving.image) for fixed, moving in (draw(random) for _ in range(100))}
    assert drawn == {(a, b) for a in "abc" for b in "abc" if a != b}
    with pytest.raises(InvalidError, match="at least two training images, received 1"):
        unpaired(files[:1])


def test_paired_draws_the_given_pairs_only():
    pairs = [(Files("a"), Files("b")), (Files("c"), Files("b"))]
    random, draw = np.random.default_rng(0), paired(pairs)
    assert {draw(random) for _ in range(30)} == set(pairs)
    with pytest.raises(InvalidError, match="at least one training pair"):
        paired([])


@pytest.fixture(scope="module")
def blobs(tmp_path_factory):
    root = tiny_run.write_data(tmp_path_factory.mktemp("data")) / "blobs"
    return [Files(root / "images" / f"{n}.nii.gz", root / "labels" / f"{n}.nii.gz") for n in tiny_run.TRAIN]


def batches(files, epoch=0, **changes):
    reader = Reader(tiny_run.recipe().input, (1,))
    settings = {"steps": 3, "batch_size": 2, "affine": 0.1, "seed": 5} | changes
    data = Batches(reader, unpaired(files), **settings)
    data.start(epoch)
    return data


def same(one, other):
    return all(np.array_equal(one[key], other[key]) for key in one)


def test_a_batch_depends_on_seed_epoch_and_step_alone(blobs):
    data = batches(blobs)
    assert len(data) == 3
    (batch,) = data[1]
    assert {key: value.shape for key, value in batch.items()} == dict.fromkeys(
        ("fixed", "moving", "fixed_labels", "moving_labels"), (2, 16, 16, 16, 1)
    )
    data[2], data[0]
    assert same(batch, data[1][0])
    assert same(batch, batches(blobs)[1][0])
    others = data[2], batches(blobs, seed=6)[1], batches(blobs, epoch=1)[1]
    assert not any(np.array_equal(batch["fixed"], other["fixed"]) for (other,) in others)


def test_a_resumed_run_sees_what_a_continued_one_would_have_seen(blobs):
    continued = batches(blobs)
    for epoch in range(3):
        continued.start(epoch)
    assert same(continued[1][0], batches(blobs, epoch=2)[1][0])


def test_both_sides_of_a_batch_belong_together(blobs):
    """Without augmentation, the labels of each side are the thresholded image of that side."""
    (batch,) = batches(blobs, affine=0.0)[0]
    for side in ("fixed", "moving"):
        np.testing.assert_array_equal(batch[f"{side}_labels"], batch[side] > 0.5)
    assert not np.array_equal(batch["fixed"], batch["moving"])


def subject(array, labels=True):
    array = array.astype("float32")[..., None]
    return Placed(array, array.astype("uint8") if labels else None, Grid(array.shape[:3], np.eye(4)))


def test_augmentation_moves_image_and_labels_by_the_same_matrix():
    ball = tiny_run.blob((1, 0, -1))[1]
    images, labels = augment([subject(ball)] * 3, 0.2, np.random.default_rng(0))
    np.testing.assert_array_equal(images, labels)
    assert not np.array_equal(images[0], images[1])
    assert not np.array_equal(images[0, ..., 0], ball)


def test_augmentation_is_unbiased_and_about_the_centre():
    ball = tiny_run.blob((0, 0, 0))[0]
    places = np.moveaxis(np.indices(ball.shape), 0, -1).reshape(-1, 3)
    images, labels = augment([subject(ball, labels=False)] * 200, 0.1, np.random.default_rng(0))
    assert labels is None
    weights = images.reshape(200, -1)
    centres = weights @ places / weights.sum(1, keepdims=True)
    np.testing.assert_allclose(centres.mean(0), 7.5, atol=0.15)
    assert (centres.std(0) > 0.3).all()
    assert np.abs(centres - 7.5).max() < 2.0


def test_without_augmentation_nothing_is_touched():
    ball = tiny_run.blob((0, 0, 0))[0]
    images, labels = augment([subject(ball, labels=False)], 0.0, np.random.default_rng(0))
    np.testing.assert_array_equal(images[0, ..., 0], ball)
    assert labels is None


def test_unlabelled_data(blobs):
    files = [Files(file.image) for file in blobs]
    assert set(batches(files)[0][0]) == {"fixed", "moving"}
