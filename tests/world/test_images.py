import contextlib
import gzip
import itertools
import os
import struct
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import h5py
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from worlds import AFFINES, SLOPE, affine, around, ramp

from regzoo.errors import InvalidError, MissingError
from regzoo.schema.inputs import PercentileIntensity, WindowIntensity
from regzoo.world.images import Grid, Image, check_beside, overlap_gap
from regzoo.world.resampling import normalise, resample
from regzoo.world.transforms import Transform

SHAPE = (7, 9, 6)
SHEARED = affine([[1, 0.4, 0], [0, 2, 0], [0, 0.3, 1.5]], (3, 4, 5))
pairs = pytest.mark.parametrize(("a", "b"), list(itertools.product(AFFINES, AFFINES)))


def noise(shape=SHAPE, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def write(path, array, matrix=None, **header):
    matrix = AFFINES["oblique"] if matrix is None else matrix
    start = nibabel.Nifti1Header(endianness=">" if array.dtype.byteorder == ">" else "<")
    file = nibabel.Nifti1Image(array, matrix, start, dtype=array.dtype)
    for key, value in header.items():
        file.header[key] = value
    nibabel.save(file, path)
    return path


class TestGrid:
    @pytest.mark.parametrize("name", AFFINES)
    def test_coordinates_are_affine_times_index(self, name):
        grid = Grid(SHAPE, AFFINES[name])
        for index in [(0, 0, 0), (6, 0, 0), (0, 8, 0), (0, 0, 5), (3, 7, 2)]:
            expected = (AFFINES[name] @ [*index, 1])[:3]
            np.testing.assert_allclose(grid.coordinates()[index], expected, atol=1e-12)
            np.testing.assert_allclose(
                grid.coordinates(2, 5)[min(index[0], 2), 7, 2], (AFFINES[name] @ [2 + min(index[0], 2), 7, 2, 1])[:3]
            )
        assert grid.coordinates().shape == (*SHAPE, 3)

    def test_centre_is_a_voxel(self):
        grid = Grid((4, 5, 1), affine(np.diag([2.0, -3.0, 1.0]), (10, 20, 30)))
        np.testing.assert_array_equal(grid.centre, [12, 14, 30])

    def test_box_goes_to_the_voxels_edges(self):
        box = Grid((4, 5, 2), affine(np.diag([2.0, -3.0, 1.0]), (10, 20, 30))).box()
        assert box.shape == (8, 3)
        np.testing.assert_array_equal(box.min(0), [9, 6.5, 29.5])
        np.testing.assert_array_equal(box.max(0), [17, 21.5, 31.5])

    @pytest.mark.parametrize("name", AFFINES)
    def test_centre_and_box_in_every_orientation(self, name):
        grid = Grid(SHAPE, AFFINES[name])
        np.testing.assert_allclose(grid.centre, (AFFINES[name] @ [3, 4, 2, 1])[:3])
        np.testing.assert_allclose(grid.box()[0], (AFFINES[name] @ [-0.5, -0.5, -0.5, 1])[:3])
        np.testing.assert_allclose(grid.box()[-1], (AFFINES[name] @ [6.5, 8.5, 5.5, 1])[:3])

    def test_spacing_is_per_axis(self):
        np.testing.assert_allclose(Grid(SHAPE, AFFINES["oblique"]).spacing, [1.2, 1.7, 2.1])
        np.testing.assert_allclose(Grid(SHAPE, AFFINES["permuted"]).spacing, [1.5, 1.0, 2.0])

    def test_same_as(self):
        grid = Grid(SHAPE, AFFINES["oblique"])
        nudge = affine(np.zeros((3, 3)), (1e-5, 0, 0)) - np.diag([0, 0, 0, 1.0])
        assert grid.same_as(Grid(SHAPE, grid.affine + nudge))
        assert not grid.same_as(Grid(SHAPE, grid.affine + 100 * nudge))
        assert not grid.same_as(Grid((7, 9, 5), grid.affine))

    @pytest.mark.parametrize(
        ("shape", "matrix", "message"),
        [
            ((3, 4), np.eye(4), r"grid shape: expected three positive sizes, received \(3, 4\)"),
            ((3, 4, 0), np.eye(4), "three positive sizes"),
            ((3, 4, 5), np.eye(3), "affine: expected a finite"),
            ((3, 4, 5), np.full((4, 4), np.nan), "affine: expected a finite"),
            ((3, 4, 5), np.diag([1, 0, 1, 1.0]), "affine: expected a matrix that can be inverted"),
            ((3, 4, 5), affine([[1, 1, 0], [1, 1, 0], [0, 0, 1]], 0), "can be inverted"),
        ],
    )
    def test_refuses(self, shape, matrix, message):
        with pytest.raises(InvalidError, match=message):
            Grid(shape, matrix)


class TestResample:
    @pytest.mark.parametrize("antialias", [False, True])
    @pairs
    def test_ramp(self, a, b, antialias):
        target = Grid((5, 4, 6), AFFINES[a])
        image = ramp(around(target, b))
        result = resample(image, target, antialias=antialias)
        np.testing.assert_allclose(result.array, target.coordinates() @ SLOPE + 5, atol=1e-4)
        np.testing.assert_array_equal(result.affine, target.affine)

    def test_float32_is_accurate_to_a_ten_thousandth_of_a_voxel(self):
        target = Grid((5, 4, 6), AFFINES["oblique"])
        wide = around(target, "anisotropic", margin=40)
        image = Image(ramp(wide).array.astype(np.float32), wide.affine)
        assert np.abs(resample(image, target).array - (target.coordinates() @ SLOPE + 5)).max() < 1e-4

    @pytest.mark.parametrize("outside", [0.0, -7.0, "edge"])
    @pytest.mark.parametrize("order", [0, 1])
    @pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
    def test_flips_and_permutations_copy_bit_by_bit(self, axes, order, outside):
        image = Image(noise(), AFFINES["oblique"])
        # Target voxel t reads image voxel sign * t + shift of a permuted axis: a crop on one side, a pad on the other.
        signs, shift, shape = np.array([1, -1, 1]), np.array([2, 5, -3]), (5, 8, 7)
        turn = np.zeros((4, 4))
        turn[3, 3] = 1
        for t, s in enumerate(axes):
            turn[s, t] = signs[s]
        turn[:3, 3] = shift + 3e-5
        result = resample(image, Grid(shape, AFFINES["oblique"] @ turn), order=order, outside=outside).array
        for index in np.ndindex(shape):
            source = np.rint(turn @ [*index, 1])[:3].astype(int)
            inside = ((source >= 0) & (source < SHAPE)).all()
            near = tuple(np.clip(source, 0, np.array(SHAPE) - 1))
            assert result[index] == (image.array[near] if inside or outside == "edge" else outside)
        assert result.dtype == np.float32

    def test_copy_of_channels_and_integers(self):
        labels = Image(np.arange(7 * 9 * 6, dtype=np.int16).reshape(SHAPE), AFFINES["LAS"])
        moved = resample(
            labels, Grid((3, 3, 3), affine(np.diag([1.5] * 3), labels.grid.coordinates()[4, 2, 1])), order=0
        )
        np.testing.assert_array_equal(moved.array, labels.array[4:1:-1, 2:5, 1:4])
        assert moved.array.dtype == np.int16
        soft = Image(noise((*SHAPE, 2)), AFFINES["LAS"])
        np.testing.assert_array_equal(resample(soft, soft.grid).array, soft.array)

    def test_outside_is_blended_linearly(self):
        image = Image(np.full((3, 4, 5), 8, np.float32), np.eye(4))
        target = Grid((3, 4, 5), affine(np.eye(3), (0.25, 0, 0)))
        np.testing.assert_allclose(resample(image, target).array[:, 2, 2], [8, 8, 6])
        np.testing.assert_allclose(resample(image, target, outside=4.0).array[:, 2, 2], [8, 8, 7])
        np.testing.assert_allclose(resample(image, target, outside="edge").array[:, 2, 2], [8, 8, 8])

    def test_nearest_rounds_and_keeps_the_type(self):
        image = Image(np.arange(1, 5, dtype=np.uint16).reshape(4, 1, 1), np.eye(4))
        target = Grid((5, 1, 1), affine(np.eye(3), (-0.7, 0.2, -0.3)))
        result = resample(image, target, order=0).array
        np.testing.assert_array_equal(result.ravel(), [0, 1, 2, 3, 4])
        assert result.dtype == np.uint16

    def test_integers_resample_linearly_to_floats(self):
        image = Image(np.array([0, 1, 2, 3], np.uint8).reshape(4, 1, 1), np.eye(4))
        result = resample(image, Grid((3, 1, 1), affine(np.eye(3), (0.5, 0, 0)))).array
        np.testing.assert_allclose(result.ravel(), [0.5, 1.5, 2.5])

    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_smoothing_has_the_published_width_along_the_coarse_axis_only(self, axis):
        shape = [21, 23, 25]
        array = np.zeros(shape, np.float32)
        array[10, 11, 12] = 1
        step = np.ones(3)
        step[axis] = 3
        image = Image(array, AFFINES["oblique"])
        # read the smoothed impulse at the image's voxels by shifting the coarse grid
        values = []
        for shift in range(3):
            origin = np.eye(4)
            origin[axis, 3] = shift
            size = [*shape]
            size[axis] = 7
            grid = Grid(size, AFFINES["oblique"] @ origin @ np.diag([*step, 1]))
            values.append(resample(image, grid).array)
        line = np.stack(values, axis + 1).reshape([21 if a == axis else n for a, n in enumerate(shape)])
        along = line.sum(tuple({0, 1, 2} - {axis}))
        place = np.arange(along.size) - (10, 11, 12)[axis]
        assert along.sum() == pytest.approx(1, abs=1e-4)
        assert (along * place**2).sum() == pytest.approx((3**2 - 1) / (8 * np.log(2)), rel=0.02)
        assert (line > 1e-7).sum() == (along > 1e-7).sum()

    def test_smoothing_does_not_depend_on_the_order_of_the_targets_axes(self):
        image = Image(noise((12, 10, 11)), AFFINES["oblique"])
        grid = Grid((4, 10, 5), AFFINES["oblique"] @ np.diag([3, 1, 2, 1]))
        turned = Grid((5, 4, 10), grid.affine[:, [2, 0, 1, 3]])
        expected = resample(image, grid).array.transpose(2, 0, 1)
        np.testing.assert_allclose(resample(image, turned).array, expected, atol=1e-6)

    def test_smoothing_of_voxels_of_a_nanometre_ends(self):
        random = np.random.default_rng(0)
        tiny = Image(random.random((40, 40, 40)).astype("float32"), np.diag([1e-6, 1e-6, 1e-6, 1.0]))
        started = time.process_time()
        found = resample(tiny, Grid((3, 3, 3), np.diag([1.0, 1.0, 1.0, 1.0])), outside="edge")
        assert time.process_time() - started < 5  # hours, with a kernel of as many voxels as a millimetre has
        assert np.abs(found.array - 0.5).max() < 0.2

    def test_no_smoothing_onto_finer_or_equal_steps_or_on_request(self):
        image = Image(noise(), AFFINES["RAS"])
        finer = Grid((13, 9, 6), AFFINES["RAS"] @ np.diag([0.5, 1, 1, 1]))
        np.testing.assert_array_equal(resample(image, finer).array, resample(image, finer, antialias=False).array)
        coarser = Grid((4, 9, 6), AFFINES["RAS"] @ np.diag([2, 1, 1, 1]))
        np.testing.assert_array_equal(resample(image, coarser, antialias=False).array, image.array[::2])
        np.testing.assert_array_equal(resample(image, coarser, order=0).array, image.array[::2])
        assert np.abs(resample(image, coarser).array - image.array[::2]).max() > 0.1


class TestNormalise:
    def test_percentiles(self):
        array = np.random.default_rng(0).permutation(np.arange(101.0)).reshape(101, 1, 1)
        result = normalise(array, PercentileIntensity(low=10, high=90))
        np.testing.assert_allclose(result, np.clip((array - 10) / 80, 0, 1), atol=1e-6)
        assert result.dtype == np.float32

    def test_window(self):
        result = normalise(np.array([-2000, -1000, -400, 200, 900]), WindowIntensity(low=-1000, high=200))
        np.testing.assert_allclose(result, [0, 0, 0.5, 1, 1], atol=1e-6)

    def test_refuses_equal_bounds(self):
        array = np.zeros(1000)
        array[0] = 9
        with pytest.raises(
            InvalidError, match="intensities: expected percentiles 1 and 99 that differ, received 0 and 0"
        ):
            normalise(array, PercentileIntensity())
        with pytest.raises(InvalidError, match="window 5 and 5 that differ"):
            normalise(array, SimpleNamespace(name="window", low=5, high=5))


def test_overlap_gap():
    a = Grid((10, 10, 10), np.eye(4))
    assert overlap_gap(a, Grid((4, 4, 4), affine(np.eye(3), (9, 0, 0)))) == 0
    assert overlap_gap(a, Grid((4, 4, 4), affine(np.eye(3), (13, 0, 0)))) == pytest.approx(3)
    assert overlap_gap(a, Grid((4, 4, 4), affine(-np.eye(3), (-4, 5, -5)))) == pytest.approx(5)
    assert overlap_gap(Grid((4, 4, 4), affine(np.eye(3), (13, 14, 0))), a) == pytest.approx(5)


class TestRead:
    @pytest.mark.parametrize("kind", ["<i2", ">i2", "u1", "<f8", ">f4", "<i4", "<u2"])
    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
    def test_types(self, tmp_path, kind, suffix):
        array = np.random.default_rng(0).integers(0, 200, SHAPE).astype(kind)
        image = Image.read(write(tmp_path / f"a{suffix}", array))
        assert image.array.dtype == np.dtype("float32")
        np.testing.assert_array_equal(image.array, array.astype(np.float32))
        np.testing.assert_allclose(image.affine, AFFINES["oblique"], atol=1e-6)

    def test_big_endian_files_are_big_endian(self, tmp_path):
        path = write(tmp_path / "a.nii", noise().astype(">i4"))
        assert path.read_bytes()[:4] == (348).to_bytes(4, "big")

    def test_slope_and_intercept(self, tmp_path):
        array = np.random.default_rng(0).integers(-500, 500, SHAPE).astype(np.int16)
        path = write(tmp_path / "a.nii", array)
        data = bytearray(path.read_bytes())
        data[112:120] = np.array([0.5, -1000], "<f4").tobytes()  # scl_slope, scl_inter
        path.write_bytes(data)
        np.testing.assert_allclose(Image.read(path).array, array * 0.5 - 1000)
        with pytest.raises(InvalidError, match=r"a.nii: expected integer labels, received values between"):
            Image.read(path, labels=True)

    @pytest.mark.parametrize(
        ("one", "kind", "label"),
        [(1.0000001, "f8", 1), (0.9999, "f4", 1), (1 + 2**-23, "f4", 1), (7014.9999, "f8", 7015), (-0.0004, "f4", 0)],
    )
    def test_labels_that_are_integers_but_for_rounding(self, tmp_path, one, kind, label):
        there = np.random.default_rng(0).random(SHAPE) > 0.5
        found = Image.read(write(tmp_path / "a.nii", np.where(there, one, 2).astype(kind)), labels=True).array
        np.testing.assert_array_equal(found, np.where(there, label, 2))
        assert found.dtype.kind in "iu"

    def test_labels_that_nibabel_scaled(self, tmp_path):
        labels = np.zeros(SHAPE)
        labels[1:], labels[3:] = 1, 3
        file = nibabel.Nifti1Image(labels, np.eye(4))
        file.set_data_dtype("u1")
        nibabel.save(file, tmp_path / "a.nii.gz")
        assert nibabel.load(tmp_path / "a.nii.gz").header["scl_slope"] not in (0, 1)
        np.testing.assert_array_equal(Image.read(tmp_path / "a.nii.gz", labels=True).array, labels)

    def test_labels_between_integers_are_refused_with_the_digits_that_show_it(self, tmp_path):
        path = write(tmp_path / "a.nii", np.where(noise() > 0, 123456.998, 2.0))
        with pytest.raises(InvalidError, match=r"received values between integers such as 123456\.998\."):
            Image.read(path, labels=True)

    def test_one_volume_of_a_series_that_is_too_long_to_be_read_whole(self, tmp_path):
        shape = (104, 90, 72, 1200)
        header = nibabel.Nifti1Header()
        header.set_data_dtype("i2")
        header.set_data_shape(shape)
        header.set_sform(np.diag([2, 2, 2, 1]), 1)
        header["vox_offset"], header["magic"] = 352, b"n+1"
        volume = np.arange(np.prod(shape[:3])).astype("i2")
        with (tmp_path / "series.nii").open("wb") as file:
            header.write_to(file)
            file.truncate(352 + 2 * int(np.prod(shape)))  # holes take no place on the disk
            file.seek(352 + 7 * volume.nbytes)
            volume.tofile(file)
        found = Image.read(tmp_path / "series.nii", volume=7).array
        np.testing.assert_array_equal(found.ravel(order="F"), volume)

    def test_one_volume_of_a_series_takes_the_memory_of_one(self, tmp_path):
        array = np.random.default_rng(0).integers(0, 9, (20, 20, 20, 100)).astype("i2")
        data = bytearray(write(tmp_path / "a.nii", array, np.eye(4)).read_bytes())
        data[112:120] = np.array([0.5, 3], "<f4").tobytes()  # scl_slope, scl_inter: all of it would be 6 MB
        for name, content in (("b.nii", data), ("b.nii.gz", gzip.compress(data))):
            (tmp_path / name).write_bytes(content)
            tracemalloc.start()
            found = Image.read(tmp_path / name, volume=7).array
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            np.testing.assert_array_equal(found, array[..., 7] * 0.5 + 3)
            assert peak < 3 * 2**20

    def test_a_gzip_by_another_name_is_read_and_a_folder_is_not(self, tmp_path):
        path = write(tmp_path / "a.nii.gz", noise())
        expected = Image.read(path).array
        path.rename(tmp_path / "b.nii")
        np.testing.assert_array_equal(Image.read(tmp_path / "b.nii").array, expected)
        write(tmp_path / "c.nii", noise()).rename(tmp_path / "d.nii.gz")
        np.testing.assert_array_equal(Image.read(tmp_path / "d.nii.gz").array, expected)
        (tmp_path / "dicom").mkdir()
        with pytest.raises(InvalidError, match="DICOM series, received a folder without"):
            Image.read(tmp_path / "dicom")
        with pytest.raises(InvalidError, match="expected a file, received a folder"):
            Transform.load(tmp_path / "dicom")

    def test_labels(self, tmp_path):
        labels = np.random.default_rng(0).integers(0, 40_000, SHAPE)
        exact = Image.read(write(tmp_path / "a.nii", labels.astype(">i4")), labels=True).array
        np.testing.assert_array_equal(exact, labels)
        assert exact.dtype == np.dtype("int32")
        assert exact.dtype.isnative
        floats = Image.read(write(tmp_path / "b.nii", labels.astype(np.float32)), labels=True).array
        np.testing.assert_array_equal(floats, labels)
        assert floats.dtype == np.uint16
        wide = 2**24 + 1 + labels
        np.testing.assert_array_equal(
            Image.read(write(tmp_path / "c.nii", wide.astype(np.int32)), labels=True).array, wide
        )

    def test_soft_labels(self, tmp_path):
        soft = np.random.default_rng(0).random((*SHAPE, 3)).astype(np.float32)
        image = Image.read(write(tmp_path / "a.nii.gz", soft), labels=True)
        np.testing.assert_array_equal(image.array, soft)
        assert (image.shape, image.channels) == (SHAPE, 3)
        one = Image.read(write(tmp_path / "b.nii.gz", soft[..., :1]), labels=True)
        np.testing.assert_array_equal(one.array, soft[..., :1])

    def test_label_maps_one_after_another_are_no_channels(self, tmp_path):
        maps = np.random.default_rng(0).integers(0, 4, (*SHAPE, 3)).astype(np.uint8)
        path = write(tmp_path / "series.nii.gz", maps)
        with pytest.raises(InvalidError, match=r"series\.nii\.gz: .*received values from 0 to 3\. Of a series"):
            Image.read(path, labels=True)
        np.testing.assert_array_equal(Image.read(path, labels=True, volume=1).array, maps[..., 1])
        masks = (maps > 1).astype(np.uint8)
        found = Image.read(write(tmp_path / "masks.nii.gz", masks), labels=True)
        np.testing.assert_array_equal(found.array, masks)
        with pytest.raises(InvalidError, match="divide masks of 0 and 255 by 255"):
            Image.read(write(tmp_path / "masks.nii.gz", masks * 255), labels=True)

    def test_volume(self, tmp_path):
        array = noise((*SHAPE, 3))
        path = write(tmp_path / "cine.nii.gz", array)
        np.testing.assert_array_equal(Image.read(path, volume=2).array, array[..., 2])
        labels = write(tmp_path / "l.nii.gz", np.arange(7 * 9 * 6 * 3, dtype=np.int16).reshape(*SHAPE, 3))
        image = Image.read(labels, labels=True, volume=1)
        assert (image.array[0, 0, 0], image.channels) == (1, None)
        with pytest.raises(InvalidError) as error:
            Image.read(path)
        assert (
            str(error.value)
            == "cine.nii.gz has 4 dimensions (7, 9, 6, 3). Expected 3; choose one volume with --volume "
            "(register: --fixed-volume, --moving-volume)."
        )
        for volume in (3, -1):
            with pytest.raises(InvalidError, match=r"volume of cine.nii.gz: expected 0 to the last volume"):
                Image.read(path, volume=volume)

    def test_other_numbers_of_axes(self, tmp_path):
        flat = noise((7, 9))
        image = Image.read(write(tmp_path / "a.nii", flat, AFFINES["anisotropic"]))
        np.testing.assert_array_equal(image.array, flat[:, :, None])
        np.testing.assert_allclose(image.affine, AFFINES["anisotropic"])
        trailing = noise((*SHAPE, 1, 1))
        np.testing.assert_array_equal(Image.read(write(tmp_path / "b.nii", trailing)).array, trailing[..., 0, 0])
        with pytest.raises(InvalidError, match=r"c.nii has 5 dimensions \(7, 9, 6, 1, 3\). Expected 3.$"):
            Image.read(write(tmp_path / "c.nii", noise((*SHAPE, 1, 3))))

    def test_slice_written_by_itk(self, tmp_path):
        sitk.WriteImage(sitk.GetImageFromArray(noise((9, 7))), str(tmp_path / "a.nii.gz"))
        assert Image.read(tmp_path / "a.nii.gz").shape == (7, 9, 1)

    @pytest.mark.parametrize(("unit", "factor"), [("meter", 1000), ("mm", 1), ("micron", 0.001), ("unknown", 1)])
    def test_units(self, tmp_path, unit, factor):
        file = nibabel.Nifti1Image(noise(), AFFINES["oblique"])
        file.header.set_xyzt_units(unit)
        nibabel.save(file, tmp_path / "a.nii")
        np.testing.assert_allclose(
            Image.read(tmp_path / "a.nii").spacing, np.array([1.2, 1.7, 2.1]) * factor, rtol=1e-6
        )

    @pytest.mark.parametrize("name", ["a.mgz", "a.img"])
    def test_other_formats(self, tmp_path, name):
        array = noise()
        maker = nibabel.MGHImage if name.endswith("mgz") else nibabel.Nifti1Pair
        nibabel.save(maker(array, AFFINES["oblique"]), tmp_path / name)
        image = Image.read(tmp_path / name)
        np.testing.assert_array_equal(image.array, array)
        np.testing.assert_allclose(image.affine, AFFINES["oblique"], atol=1e-5)

    def test_missing(self, tmp_path):
        with pytest.raises(MissingError, match=r"gone.nii does not exist\.$"):
            Image.read(tmp_path / "gone.nii")

    @pytest.mark.parametrize("keep", [0, 100, 351, 600, -60, -40])
    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
    @pytest.mark.parametrize("labels", [False, True])
    def test_truncated(self, tmp_path, keep, suffix, labels):
        path = write(tmp_path / f"a{suffix}", noise((17, 9, 6)))
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(InvalidError, match="is not a readable image, or it is damaged: ") as error:
            Image.read(path, labels=labels)
        assert "\n" not in str(error.value)

    def test_not_an_image(self, tmp_path):
        for name, content in {
            "a.nii": b"hello" * 100,
            "a.nii.gz": b"hello" * 100,
            "b.nii.gz": gzip.compress(b"\0" * 1000),
        }.items():
            (tmp_path / name).write_bytes(content)
            with pytest.raises(InvalidError, match=f"^{name} is not a readable image"):
                Image.read(tmp_path / name)
        for name in ("a.txt", "a.bmp", "a.gii", "a.mnc", "a.BRIK", "a"):
            (tmp_path / name).write_bytes(b"hello")
            with pytest.raises(InvalidError, match=rf"^{name}: expected an image in one of \.nii, .* NIfTI first\.$"):
                Image.read(tmp_path / name)

    def test_hostile_size(self, tmp_path):
        path = write(tmp_path / "a.nii.gz", noise())
        data = bytearray(gzip.decompress(path.read_bytes()))
        data[42:48] = np.array([32767, 32767, 32767], "<i2").tobytes()
        path.write_bytes(gzip.compress(data))
        with pytest.raises(InvalidError, match=r"is not a readable image|expected at most 268435456 voxels"):
            Image.read(path)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_not_finite(self, tmp_path, value):
        array = noise()
        array[1, 2, 3] = value
        path = write(tmp_path / "a.nii", array)
        with pytest.raises(InvalidError, match=r"a.nii: expected finite values, received 1 NaN or infinite voxels"):
            Image.read(path)
        with pytest.raises(InvalidError, match="finite labels"):
            Image.read(path, labels=True)

    def test_too_large_for_float32(self, tmp_path):
        with pytest.raises(InvalidError, match="378 NaN or infinite"):
            Image.read(write(tmp_path / "a.nii", np.full(SHAPE, 1e300)))

    def test_constant(self, tmp_path):
        path = write(tmp_path / "a.nii", np.full(SHAPE, 4, np.int16))
        with pytest.raises(InvalidError, match=r"a.nii: expected an image, received the same value, 4, everywhere"):
            Image.read(path)
        assert (Image.read(path, labels=True).array == 4).all()

    def test_singular_affine(self, tmp_path):
        path = write(tmp_path / "a.nii", noise())
        data = bytearray(path.read_bytes())
        data[280:296] = bytes(16)  # srow_x
        path.write_bytes(data)
        with pytest.raises(
            InvalidError, match=r"^a.nii affine: expected a matrix that can be inverted, received spacing"
        ):
            Image.read(path)

    def test_rgb_and_complex(self, tmp_path):
        colour = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
        with pytest.raises(InvalidError, match=r"a.nii: expected one number per voxel, received RGB"):
            Image.read(write(tmp_path / "a.nii", colour))
        with pytest.raises(InvalidError, match="received type complex64"):
            Image.read(write(tmp_path / "b.nii", noise().astype(np.complex64)))


class TestSave:
    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
    @pytest.mark.parametrize("name", AFFINES)
    def test_itk_sees_the_same_places_and_values(self, tmp_path, name, suffix):
        image = Image(noise(), AFFINES[name])
        path = tmp_path / "new" / f"a{suffix}"
        image.save(path)
        seen = sitk.ReadImage(str(path))
        for index in [(0, 0, 0), (6, 8, 5), (1, 7, 3)]:
            point = np.array(seen.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)
            np.testing.assert_allclose(point, image.grid.coordinates()[index], atol=1e-4)
            assert seen.GetPixel(index) == image.array[index]
        again = Image.read(path)
        np.testing.assert_array_equal(again.array, image.array)
        assert again.grid.same_as(image.grid)
        assert [p.name for p in path.parent.iterdir()] == [path.name]

    @pytest.mark.parametrize("name", AFFINES)
    def test_both_header_forms(self, tmp_path, name):
        Image(noise(), AFFINES[name]).save(tmp_path / "a.nii")
        header = nibabel.load(tmp_path / "a.nii").header
        for matrix, code in (header.get_sform(coded=True), header.get_qform(coded=True)):
            np.testing.assert_allclose(matrix, AFFINES[name], atol=1e-5)
            assert code == 1
        assert header.get_xyzt_units()[0] == "mm"
        assert header.get_data_dtype() == np.float32

    def test_shear_goes_into_the_sform_only(self, tmp_path):
        Image(noise(), SHEARED).save(tmp_path / "a.nii")
        header = nibabel.load(tmp_path / "a.nii").header
        assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 0)
        np.testing.assert_allclose(Image.read(tmp_path / "a.nii").affine, SHEARED, atol=1e-6)

    @pytest.mark.parametrize(
        ("low", "high", "kind"),
        [(0, 255, "u1"), (0, 256, "i2"), (-1, 5, "i1"), (0, 40000, "u2"), (-1, 40000, "i4"), (0, 2**40, "i8")],
    )
    def test_labels_in_the_smallest_type(self, tmp_path, low, high, kind):
        labels = np.full(SHAPE, low)
        labels[1, 2, 3] = high
        Image(labels, np.eye(4)).save(tmp_path / "a.nii.gz")
        file = nibabel.load(tmp_path / "a.nii.gz")
        assert file.get_data_dtype() == np.dtype(kind)
        np.testing.assert_array_equal(Image.read(tmp_path / "a.nii.gz", labels=True).array, labels)

    def test_mask(self, tmp_path):
        Image(noise() > 0, np.eye(4)).save(tmp_path / "a.nii")
        np.testing.assert_array_equal(Image.read(tmp_path / "a.nii", labels=True).array, noise() > 0)

    def test_other_suffix(self, tmp_path):
        with pytest.raises(InvalidError, match=r"path: expected a name ending in .nii or .nii.gz"):
            Image(noise(), np.eye(4)).save(tmp_path / "a.png")
        assert not list(tmp_path.iterdir())

    def test_failure_leaves_the_old_file(self, tmp_path, monkeypatch):
        path = write(tmp_path / "a.nii", noise())
        before = path.read_bytes()
        monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            Image(noise(seed=1), np.eye(4)).save(path)
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == ["a.nii"]


def test_image_refuses_other_axes():
    with pytest.raises(
        InvalidError, match=r"image array: expected shape \(I, J, K\) or \(I, J, K, C\), received \(3, 4\)"
    ):
        Image(np.zeros((3, 4)), np.eye(4))


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 7), (5, 6, 7, 3)])
def test_the_grid_of_a_file_is_read_without_its_voxels(tmp_path, shape):
    path = tmp_path / "image.nii.gz"
    oblique = AFFINES["oblique"]
    nibabel.save(nibabel.Nifti1Image(np.full(shape, np.nan, np.float32), oblique), path)
    grid = Grid.read(path)
    assert grid.shape == (*shape, 1)[:3]
    np.testing.assert_allclose(grid.affine, oblique, atol=1e-5)


class TestHDF5:
    @pytest.fixture
    def path(self, tmp_path):
        with h5py.File(tmp_path / "set.h5", "w") as file:
            file["image.1"] = noise().astype("int16")
            file["labels"] = np.stack([noise() > 0, noise(seed=1) > 1], axis=-1).astype("uint8")
            file["series"] = noise((7, 9, 6, 2))
            file["slice"] = noise((7, 9))
            file["empty"] = np.zeros(SHAPE, "uint8")
            file["text"] = "no image"
            file["five"] = np.zeros((2, 3, 4, 2, 3))
            file.create_group("nested")["image"] = noise()
        return tmp_path / "set.h5"

    def test_a_dataset_is_an_image_without_geometry(self, path):
        image = Image.read(path / "image.1")
        np.testing.assert_array_equal(image.array, noise().astype("int16"))
        np.testing.assert_array_equal(image.affine, np.eye(4))
        spaced = Image.read(str(path / "image.1"), spacing=(1.5, 2.0, 3.0))
        np.testing.assert_array_equal(spaced.affine, np.diag([1.5, 2, 3, 1]))
        assert Grid.read(path / "image.1").shape == SHAPE
        assert Image.read(path / "slice").shape == (7, 9, 1)
        np.testing.assert_array_equal(Image.read(path / "series", volume=1).array, noise((7, 9, 6, 2))[..., 1])

    def test_labels(self, path):
        labels = Image.read(path / "labels", labels=True)
        assert labels.channels == 2
        np.testing.assert_array_equal(labels.array[..., 1], noise(seed=1) > 1)
        assert Image.read(path / "empty", labels=True).array.dtype == np.uint8

    @pytest.mark.parametrize(
        ("key", "kind", "message"),
        [
            ("none", MissingError, r"set\.h5: no dataset 'none'"),
            ("nested", InvalidError, r"set\.h5: nested: expected an array, received a Group"),
            ("text", InvalidError, r"set\.h5/text: expected one number per voxel, received type object"),
            ("five", InvalidError, r"set\.h5/five has 5 dimensions"),
            ("empty", InvalidError, r"set\.h5/empty: expected an image, received the same value, 0, everywhere"),
            ("series", InvalidError, r"set\.h5/series has 4 dimensions .* choose one volume"),
        ],
    )
    def test_what_is_no_image_is_named(self, path, key, kind, message):
        with pytest.raises(kind, match=message):
            Image.read(path / key)

    def test_a_damaged_file_and_spacing_of_a_file_that_has_its_own(self, path, tmp_path):
        path.write_bytes(path.read_bytes()[:100])
        with pytest.raises(InvalidError, match=r"set\.h5 is not a readable HDF5 file, or it is damaged"):
            Image.read(path / "image.1")
        own = write(tmp_path / "a.nii.gz", noise())
        np.testing.assert_allclose(Image.read(own, spacing=(9, 9, 9)).affine, AFFINES["oblique"], atol=1e-5)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (600, "its header tells of 864000000 bytes, but the file can hold"),
        (1200, "expected at most 268435456 voxels, received 1728000000"),  # zeros of that number fit into 15 MB
    ],
)
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "x.mgz"])
def test_a_header_of_more_voxels_than_the_file_or_memory_holds(tmp_path, name, size, message):
    kind = nibabel.MGHImage if name.endswith("mgz") else nibabel.Nifti1Image
    nibabel.save(kind(np.arange(60, dtype="float32").reshape(3, 4, 5), np.eye(4)), tmp_path / name)
    opener = gzip.open if name.endswith("z") else Path.open
    with opener(tmp_path / name, "rb") as file:
        data = bytearray(file.read())
    at, form = (4, ">3i") if name.endswith("mgz") else (42, "<3h")
    struct.pack_into(form, data, at, size, size, size)
    with opener(tmp_path / name, "wb") as file:
        file.write(data)
    with pytest.raises(InvalidError, match=message):
        Image.read(tmp_path / name)


@pytest.mark.parametrize("name", ["anisotropic", "oblique"])
def test_a_label_map_may_be_a_thousandth_of_a_voxel_away(name):
    image = Image(noise(), AFFINES[name])
    for away, refused in ((9e-4, False), (2e-3, True)):
        shift = AFFINES[name] @ affine(np.eye(3), (away, 0, 0))
        labels = Image(np.ones(SHAPE, "uint8"), shift)
        assert not labels.grid.same_as(image.grid)
        assert image.grid.apart(labels.grid) == pytest.approx(away)
        message = "x: expected the grid, shape .* received another affine, up to 0.002 voxels away"
        with pytest.raises(InvalidError, match=message) if refused else contextlib.nullcontext():
            check_beside("x", labels, image, "the grid")
    spread = Image(np.ones(SHAPE, "uint8"), AFFINES[name] @ np.diag([1 + 3e-4, 1, 1, 1]))  # at the far corner
    assert image.grid.apart(spread.grid) == pytest.approx(3e-4 * (SHAPE[0] - 1))
