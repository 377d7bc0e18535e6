"""A compressed file is read to the checksum at its end, and told by its first bytes, not by its name."""

import bz2
import gzip

import h5py
import nibabel
import numpy as np
import pytest

from regzoo.errors import InvalidError, RegzooError
from regzoo.io import streams
from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform

AFFINE = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 3, 11], [0, 0, 0, 1]])
ARRAY = np.random.default_rng(0).integers(0, 900, (13, 9, 7)).astype(np.int16)
VECTORS = np.random.default_rng(1).normal(size=(13, 9, 7, 3)).astype(np.float32)
COMPRESS = {".nii.gz": gzip.compress, ".nii.bz2": bz2.compress, ".mgz": gzip.compress, ".img.gz": gzip.compress}


def image(folder, suffix):
    """Writes ARRAY and returns the file that holds its voxels."""
    path = folder / f"a{suffix}"
    kind = {".mgz": nibabel.MGHImage, ".img.gz": nibabel.Nifti1Pair}.get(suffix, nibabel.Nifti1Image)
    nibabel.save(kind(ARRAY, AFFINE), path)
    return path


def readers(path, suffix):
    """What reads a file, with the right result of each."""
    yield lambda: Image.read(path).array, ARRAY
    yield lambda: Image.read(path, labels=True).array, ARRAY
    if suffix != ".img.gz":  # its header lies in another file
        yield lambda: Grid.read(path).affine, AFFINE


def refused_or_right(read, right):
    """Whether what was read is refused; what is read must be right."""
    try:
        value = read()
    except RegzooError:
        return True
    np.testing.assert_allclose(value, right, atol=1e-6)
    return False


@pytest.mark.parametrize("suffix", COMPRESS)
def test_no_flipped_bit_changes_what_is_read(tmp_path, suffix):
    path = image(tmp_path, suffix)
    data, refused, tries = path.read_bytes(), 0, 0
    for at in np.linspace(0, len(data) - 1, 60).astype(int):
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << (at % 8))]) + data[at + 1 :])
        for read, right in readers(path, suffix):
            refused, tries = refused + refused_or_right(read, right), tries + 1
    assert refused > 0.9 * tries  # a few bits, of a time stamp or of padding, mean nothing


def test_no_flipped_bit_changes_a_transform(tmp_path):
    path = tmp_path / "t.nii.gz"
    Transform.from_field(VECTORS, Grid(ARRAY.shape, AFFINE)).save(path)
    data = path.read_bytes()
    for at in np.linspace(12, len(data) - 1, 100).astype(int):
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << (at % 8))]) + data[at + 1 :])
        assert refused_or_right(lambda: Transform.load(path).steps[0].vectors, VECTORS)


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("cut", [1, 2, 4, 5, 8, 9, 40])
def test_a_file_that_is_cut_by_a_few_bytes_is_refused(tmp_path, suffix, cut):
    path = image(tmp_path, suffix)
    path.write_bytes(path.read_bytes()[:-cut])
    for read, _ in readers(path, suffix):
        with pytest.raises(InvalidError, match=r"is not a readable image, or it is damaged"):
            read()


def test_one_volume_is_read_to_the_end_of_the_file_too(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.stack([ARRAY, 2 * ARRAY], axis=-1), AFFINE), tmp_path / "s.nii.gz")
    np.testing.assert_array_equal(Image.read(tmp_path / "s.nii.gz", volume=0).array, ARRAY)
    data = (tmp_path / "s.nii.gz").read_bytes()
    (tmp_path / "s.nii.gz").write_bytes(data[:-20] + bytes([data[-20] ^ 4]) + data[-19:])
    with pytest.raises(InvalidError, match="is not a readable image, or it is damaged"):
        Image.read(tmp_path / "s.nii.gz", volume=0)


@pytest.mark.parametrize(
    ("name", "change"), [("a.nii", gzip.compress), ("a.nii", bz2.compress), ("a.nii.gz", bytes), ("a.nii.bz2", bytes)]
)
def test_the_first_bytes_say_how_a_file_is_compressed(tmp_path, name, change):
    plain = nibabel.Nifti1Image(ARRAY, AFFINE).to_bytes()
    (tmp_path / name).write_bytes(change(plain))
    found = Image.read(tmp_path / name)
    np.testing.assert_array_equal(found.array, ARRAY)
    np.testing.assert_allclose(found.affine, AFFINE)


def test_members_one_after_the_other_are_one_stream(tmp_path):
    plain = nibabel.Nifti1Image(ARRAY, AFFINE).to_bytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(plain[:700]) + gzip.compress(plain[700:]))
    np.testing.assert_array_equal(Image.read(tmp_path / "a.nii.gz").array, ARRAY)


def test_what_goes_on_after_the_voxels_is_refused_without_being_read_to_its_end(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(streams.gzip.GzipFile, "read", _counted(gzip.GzipFile.read, read))
    plain = nibabel.Nifti1Image(ARRAY, AFFINE).to_bytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(plain + bytes(300)))
    np.testing.assert_array_equal(Image.read(tmp_path / "a.nii.gz").array, ARRAY)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(plain + bytes(2**26)))
    read.clear()
    with pytest.raises(InvalidError, match="it goes on after the"):
        Image.read(tmp_path / "a.nii.gz")
    assert sum(read) < 4 * 2**20


def _counted(method, sizes):
    def counted(self, size=-1):
        data = method(self, size)
        sizes.append(len(data))
        return data

    return counted


@pytest.mark.parametrize("checksums", [{"fletcher32": True}, {"fletcher32": True, "compression": "gzip"}])
def test_checksums_of_hdf5_are_compared(tmp_path, checksums):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=ARRAY, chunks=ARRAY.shape, **checksums)
        place = file["x"].id.get_chunk_info(0)
    np.testing.assert_array_equal(Image.read(path / "x").array, ARRAY)
    data = path.read_bytes()
    for at in place.byte_offset + np.linspace(0, place.size - 1, 40).astype(int):
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << (at % 8))]) + data[at + 1 :])
        with pytest.raises(InvalidError, match=r"is not a readable"):
            Image.read(path / "x")
