"""Files are read piece by piece into the type that is kept: the same numbers, and hardly more memory than those."""

import gzip
import tracemalloc

import h5py
import nibabel
import numpy as np
import pytest

from regzoo.errors import InvalidError
from regzoo.io import pieces, reading
from regzoo.world.images import Image
from regzoo.world.transforms import Transform

SHAPE = (60, 130, 140)
AFFINE = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 3, 11], [0, 0, 0, 1]])


def hdf5(path, array, chunks=(1, 130, 140)):
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=array, chunks=chunks and (*chunks, *array.shape[3:]), compression=chunks and 1)
    return path / "x"


def nifti(path, array, slope=None):
    image = nibabel.Nifti1Image(array, AFFINE)
    if slope:
        image.header.set_slope_inter(slope, 0)
        image = nibabel.Nifti1Image(nibabel.arrayproxy.ArrayProxy(raw(path, array), image.header), AFFINE, image.header)
    nibabel.save(image, path)
    return path


def raw(path, array):
    file = path.with_suffix(".raw")
    file.write_bytes(b"\0" * 352 + array.tobytes("F"))
    return file


def field(path, vectors):
    image = nibabel.Nifti1Image(vectors[:, :, :, None], AFFINE)
    image.header.set_intent("vector")
    nibabel.save(image, path)
    return path


def itk_field(path, vectors):
    """A field of double precision in HDF5, which regzoo itself does not write."""
    fixed = [*vectors.shape[:3], 0, 0, 0, 1, 1, 1, *np.eye(3).ravel()]
    with h5py.File(path, "w") as file:
        group = file.create_group("TransformGroup/0")
        group["TransformType"] = np.array([b"DisplacementFieldTransform_double_3_3"])
        group["TransformFixedParameters"] = np.array(fixed, dtype=np.float64)
        parameters = vectors.transpose(2, 1, 0, 3).ravel()
        group.create_dataset("TransformParameters", data=parameters, chunks=(2**15,), compression=1)
    return path


def x5(path, vectors):
    with h5py.File(path, "w") as file:
        file.attrs["Format"] = "X5"
        group = file.create_group("TransformGroup/0")
        group.attrs.update({"Type": "nonlinear", "SubType": "densefield", "Representation": "displacements"})
        group.create_dataset("Transform", data=vectors, chunks=(5, *vectors.shape[1:]), compression=1)
        group["Domain/Size"], group["Domain/Mapping"] = vectors.shape[:3], AFFINE
    return path


def numbers(dtype, most=90):
    return np.random.default_rng(0).integers(0, most, SHAPE).astype(dtype)


CASES = {
    "an image in HDF5": lambda home: (Image.read, hdf5(home / "a.h5", numbers("f8"))),
    "an image in .nii": lambda home: (Image.read, nifti(home / "a.nii", numbers("f8"))),
    "an image in .nii.gz": lambda home: (Image.read, nifti(home / "a.nii.gz", numbers("f8"))),
    "an image with a scale": lambda home: (Image.read, nifti(home / "a.nii.gz", numbers("i2"), 2.5)),
    "labels in HDF5": lambda home: (labels, hdf5(home / "a.h5", numbers("f8"))),
    "labels in .nii.gz": lambda home: (labels, nifti(home / "a.nii.gz", numbers("f8"))),
    "labels up to 300": lambda home: (labels, hdf5(home / "a.h5", np.sort(numbers("f8", 300), axis=0))),
    "labels below 0": lambda home: (labels, hdf5(home / "a.h5", -np.sort(numbers("f8", 300), axis=0))),
    "a field in .nii.gz": lambda home: (Transform.load, field(home / "a.nii.gz", vectors())),
    "a field in ITK's HDF5": lambda home: (Transform.load, itk_field(home / "a.h5", vectors())),
    "a field in X5": lambda home: (Transform.load, x5(home / "a.x5", vectors())),
}


def labels(path):
    return Image.read(path, labels=True)


def vectors():
    return np.random.default_rng(1).normal(size=(40, 50, 60, 3))


def kept(found):
    return found.array.nbytes if isinstance(found, Image) else found.steps[0].steps[0].vectors.nbytes


@pytest.mark.parametrize("case", CASES)
def test_what_is_read_takes_half_as_much_again_at_most(tmp_path, monkeypatch, case):
    monkeypatch.setattr(pieces, "_PIECE", 2**16)
    read, path = CASES[case](tmp_path)
    read(path)  # what is imported on first use
    tracemalloc.start()
    try:
        found = read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * kept(found) + 2**20


def series(shape=(5, 6, 7, 4), dtype=np.int16):
    return np.random.default_rng(2).integers(-500, 500, shape).astype(dtype)


@pytest.mark.parametrize("write", [nifti, hdf5])
@pytest.mark.parametrize("size", [1, 64, 2**24])
def test_pieces_of_any_size_make_the_same_image(tmp_path, monkeypatch, write, size):
    monkeypatch.setattr(pieces, "_PIECE", size)
    options = {"chunks": (2, 3, 7)} if write is hdf5 else {}
    path = write(tmp_path / ("a.h5" if write is hdf5 else "a.nii.gz"), series(), **options)
    for volume in range(4):
        np.testing.assert_array_equal(Image.read(path, volume=volume).array, series()[..., volume])
        found = Image.read(path, volume=volume, labels=True).array
        np.testing.assert_array_equal(found, series()[..., volume])
        assert found.dtype == np.int16
    whole = Image.read(path, series=True).array
    np.testing.assert_array_equal(whole, series())
    assert (whole.dtype, whole.flags.f_contiguous) == (np.float32, write is nifti)
    memory = Image.of(series()[..., 1], spacing=(1, 2, 3))
    np.testing.assert_array_equal(memory.array, series()[..., 1])


@pytest.mark.parametrize(
    ("last", "dtype"),
    [(255, "u1"), (-1, "i1"), (256, "i2"), (-129, "i2"), (40_000, "u2"), (-40_000, "i4"), (2**32, "i8"), (2**63, "u8")],
)
@pytest.mark.parametrize("place", [0, -1])
def test_labels_in_floating_point_get_the_smallest_type_wherever_the_largest_is(
    tmp_path, monkeypatch, last, dtype, place
):
    monkeypatch.setattr(pieces, "_PIECE", 64)
    array = np.arange(60, dtype=np.float64).reshape(5, 4, 3) % 7
    array.flat[place] = last
    for path in (hdf5(tmp_path / "a.h5", array, (1, 2, 3)), nifti(tmp_path / "a.nii", array)):
        found = labels(path).array
        np.testing.assert_array_equal(found, array)
        assert found.dtype == np.dtype(dtype)


def test_a_share_of_a_label_is_found_in_any_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "_PIECE", 64)
    array = np.arange(60, dtype=np.float64).reshape(5, 4, 3)
    array[4, 3, 2] += 0.25
    with pytest.raises(InvalidError, match=r"values between integers such as 59\.25"):
        labels(nifti(tmp_path / "a.nii", array))
    found = labels(nifti(tmp_path / "b.nii", array[..., None])).array  # one channel
    np.testing.assert_array_equal(found, array[..., None].astype(np.float32))
    array[4, 3, 2] = np.nan
    for read, words in ((labels, "finite labels"), (Image.read, "finite values, received 1 NaN")):
        with pytest.raises(InvalidError, match=words):
            read(nifti(tmp_path / "a.nii", array))


def test_what_takes_more_memory_than_a_file_may_is_refused_before_it_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "BYTES_LIMIT", 400_000)
    small, large = numbers("u1")[:10, :50], numbers("u1")[:20, :, :]
    for name, array in (("small", small), ("large", large)):
        hdf5(tmp_path / f"{name}.h5", array, None)
        nifti(tmp_path / f"{name}.nii.gz", array)
    for path in (tmp_path / "small.h5" / "x", tmp_path / "small.nii.gz"):
        Image.read(path)
    for path in (tmp_path / "large.h5" / "x", tmp_path / "large.nii.gz"):
        labels(path)  # a byte each
        with pytest.raises(InvalidError, match=r"expected a file that takes at most 400000 bytes of memory, received "):
            Image.read(path)
    with pytest.raises(InvalidError, match="takes at most 400000 bytes"):  # one piece of HDF5 is read whole
        labels(hdf5(tmp_path / "piece.h5", numbers("f8")[:6], (6, 130, 140)))
    for path in (field(tmp_path / "f.nii.gz", vectors()), itk_field(tmp_path / "f.h5", vectors())):
        with pytest.raises(InvalidError, match="takes at most 400000 bytes"):
            Transform.load(path)
    with pytest.raises(InvalidError, match="takes at most 400000 bytes"):
        Transform.load(x5(tmp_path / "f.x5", vectors()))


def test_a_damaged_stream_is_found_out_where_it_is_read_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "_PIECE", 2**12)
    path = nifti(tmp_path / "a.nii", numbers("i2")[:, :20, :20])
    data = bytearray(gzip.compress(path.read_bytes()))
    data[-6] ^= 1  # of the checksum
    (tmp_path / "b.nii.gz").write_bytes(data)
    for read in (Image.read, labels):
        with pytest.raises(InvalidError, match="is not a readable image, or it is damaged"):
            read(tmp_path / "b.nii.gz")
