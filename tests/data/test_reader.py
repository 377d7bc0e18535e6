import contextlib
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import worlds
from seen_ramp import SHAPE, WINDOW, inputs, ramp, source

from regzoo.data.draws import Files
from regzoo.data.reader import Reader, label_values, read_labelled
from regzoo.errors import InvalidError
from regzoo.schema.inputs import InputConfig
from regzoo.world.images import Grid, Image
from regzoo.world.views import own_grid


def save(folder, name, image, labels):
    image.save(folder / f"{name}.nii.gz")
    labels.save(folder / f"{name}_labels.nii.gz")
    return Files(folder / f"{name}.nii.gz", folder / f"{name}_labels.nii.gz")


@pytest.mark.parametrize("name", ["LPS", "permuted", "oblique"])
@pytest.mark.parametrize("alignment", ["center", "world"])
def test_reader_aligns_the_moving_image(tmp_path, name, alignment):
    fixed, moving = source("RAS"), source(name, offset=(5, -3, 2))
    files = save(tmp_path, "f", *fixed), save(tmp_path, "m", *moving)
    config = inputs(alignment=alignment)
    seen_fixed, seen_moving = Reader(config, (3, 5)).pair(*files)
    grid, moving_grid = own_grid(fixed[0], config), own_grid(moving[0], config)
    if alignment == "world":
        moving_grid = grid
    np.testing.assert_allclose(seen_fixed.image[..., 0], ramp(grid), atol=1e-4)
    inside = seen_moving.labels > 0
    assert inside.mean() > 0.6
    at = np.argwhere(inside)[:: inside.sum() // 50]
    inner = [tuple(i) for i in at if all(0 < i[d] < SHAPE[d] - 1 for d in range(3))]
    found = np.array([seen_moving.image[(*i, 0)] for i in inner])
    np.testing.assert_allclose(found, [ramp(moving_grid)[i] for i in inner], atol=0.02)
    assert seen_moving.grid.same_as(moving_grid)


def test_labels_must_be_on_the_images_grid_and_channels_in_0_to_1(tmp_path):
    image, labels = source("oblique")
    files = save(tmp_path, "x", image, labels)
    read_labelled(files)
    Image(labels.array[:-1], labels.affine).save(files.labels)
    with pytest.raises(InvalidError, match=r"x_labels\.nii\.gz: expected the grid of x\.nii\.gz, .* received shape"):
        read_labelled(files)
    Image(labels.array, np.diag([1.2, 1.7, 2.1, 1])).save(files.labels)
    with pytest.raises(InvalidError, match="received another affine"):
        read_labelled(files)
    for factor, message in ((1.1, "shares of it from 0 to 1, received values from 3.3 to 5.5"), (0.2, None)):
        channels = np.stack([labels.array] * 2, axis=-1).astype("float32") * factor
        Image(channels, labels.affine).save(files.labels)
        with pytest.raises(InvalidError, match=message) if message else contextlib.nullcontext():
            read_labelled(files)


def test_an_image_without_contrast_is_named(tmp_path):
    array = np.zeros((20, 20, 20), "float32")
    array[0, 0, 0] = 1
    Image(array, np.eye(4)).save(tmp_path / "flat.nii.gz")
    reader = Reader(inputs(intensity={"name": "percentiles"}), ())
    with pytest.raises(InvalidError, match=r"flat\.nii\.gz: intensities: expected percentiles 1 and 99 that differ"):
        reader.own(Files(tmp_path / "flat.nii.gz"))


def test_reader_keeps_only_what_fits_in_memory(tmp_path):
    files = [save(tmp_path, name, *source("RAS")) for name in "abc"]
    size = np.prod(SHAPE) * 5  # float32 image, uint8 label numbers
    for memory, kept in ((3 * size, "abc"), (2.9 * size, "bc"), (size - 1, "")):
        reader = Reader(inputs(), (3,), memory=int(memory))
        [reader.own(each) for each in files]
        assert [key.image.name[0] for (key,) in reader._kept] == list(kept)


def test_what_was_not_used_for_longest_makes_room(tmp_path):
    a, b, c = (save(tmp_path, name, *source("RAS")) for name in "abc")
    reader = Reader(inputs(), (3,), memory=int(2 * np.prod(SHAPE) * 5))
    reader.pair(a, b)
    reader.pair(a, a)
    kept = reader.pair(a, c)[0]
    assert set(reader._kept) == {(a,), (c,)}
    assert reader.pair(a, c)[0] is kept


def test_a_moving_image_on_another_grid_is_kept_for_that_grid(tmp_path):
    a, b = (save(tmp_path, name, *source("RAS", offset)) for name, offset in (("a", (0, 0, 0)), ("b", (5, -3, 2))))
    reader = Reader(inputs(alignment="world"), (3,))
    fixed, moving = reader.pair(a, b)
    assert reader.pair(a, b)[1] is moving
    assert reader.pair(b, b)[1].grid.same_as(reader.pair(b, a)[0].grid)
    assert moving.grid.same_as(fixed.grid)
    assert not np.array_equal(moving.image, reader.pair(b, b)[0].image)


def resident():
    """Resident memory of this process in bytes."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("no /proc/self/statm on this system")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_data_set_larger_than_memory_passes_through(tmp_path):
    shape, count = (40, 48, 32), 200  # 250 kB each, 50 MB in all
    random = np.random.default_rng(0)
    files = [Files(tmp_path / f"{number}.nii.gz") for number in range(count)]
    for each in files:
        Image(random.normal(size=shape).astype("float32"), np.eye(4)).save(each.image)
    config = inputs(spacing=(1, 1, 1), shape=shape)
    seen, used = Reader(config, (), memory=2**31), Reader(config, (), memory=2_000_000)
    for each in files[:20]:
        used.own(each)
    before = resident()
    for each in files:  # and not a list, whose memory the allocator may keep
        used.own(each)
    assert resident() - before < 15e6
    for each in files:
        seen.own(each)
    assert seen._bytes > 40e6  # so that the figure above means something; the heap may reuse what others freed


def test_label_values(tmp_path):
    image, labels = source("RAS")
    files = [save(tmp_path, "a", image, labels), Files(tmp_path / "a.nii.gz")]
    assert label_values(files) == (3, 5)
    assert label_values(files[1:]) == ()
    Image(labels.array * 0, labels.affine).save(files[0].labels)
    with pytest.raises(InvalidError, match="labels: expected a value other than 0 in one of 1 label maps"):
        label_values(files)


def test_label_values_of_channels_count_from_one(tmp_path):
    image, labels = source("RAS")
    channels = np.zeros((*image.shape, 3), "float32")
    channels[..., 2] = 0.25
    Image(channels, labels.affine).save(tmp_path / "soft.nii.gz")
    assert label_values([Files(tmp_path / "x", tmp_path / "soft.nii.gz")]) == (3,)


def test_hdf5_has_the_spacing_that_is_given(tmp_path):
    array = np.random.default_rng(0).random((6, 7, 5)).astype("float32")
    with h5py.File(tmp_path / "images.h5", "w") as file:
        file["a"] = array
        file["b"] = (array > 0.5).astype("uint8")
    files = Files(tmp_path / "images.h5" / "a", tmp_path / "images.h5" / "b", (2.0, 1.5, 2.5))
    image, labels = read_labelled(files)
    np.testing.assert_array_equal(image.array, array)
    np.testing.assert_allclose(image.spacing, (2.0, 1.5, 2.5))
    assert labels.array.dtype == np.uint8
    seen = Reader(inputs(shape=(6, 7, 5), intensity=WINDOW | {"low": 0, "high": 1}), (1,)).pair(files, files)[0]
    np.testing.assert_array_equal(seen.image[..., 0], array)  # the same voxels, so copied
    np.testing.assert_array_equal(seen.labels, array > 0.5)


def test_a_pair_of_other_slices_is_refused_by_name_however_it_was_read(tmp_path):
    config = InputConfig(spacing=(2, 3), shape=(16, 12))
    stack = Grid((20, 24, 5), worlds.affine(np.diag([1.5, -1.25, 8.0]), (30, -22, 2)))
    turned = worlds.affine(worlds.rotation(1.5, 0, 0) @ stack.affine[:3, :3], (0, 0, 0))
    for name, grid in (("a", stack), ("b", Grid((20, 24, 4), stack.affine)), ("c", Grid(stack.shape, turned))):
        worlds.ramp(grid).save(tmp_path / f"{name}.nii.gz")
    a, b, c = (Files(tmp_path / f"{name}.nii.gz") for name in "abc")
    reader = Reader(config, ())
    [reader.own(each) for each in [a, b, c]]  # each alone may be used
    with pytest.raises(InvalidError, match=r"b\.nii\.gz: slices: expected 5, .* received 4"):
        reader.pair(a, b)
    with pytest.raises(InvalidError, match=r"c\.nii\.gz: slices: expected the fixed image's direction"):
        reader.pair(a, c)
