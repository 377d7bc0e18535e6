"""HDF5 files: nothing outside the file is read, and nothing larger than the file can hold."""

import h5py
import numpy as np
import pytest

from regzoo.errors import InvalidError
from regzoo.io import hdf5
from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform

ARRAY = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


@pytest.fixture
def path(tmp_path):
    """A file of arrays that all lie elsewhere."""
    (tmp_path / "secret").write_bytes(ARRAY.tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = ARRAY
    layout = h5py.VirtualLayout(ARRAY.shape, ARRAY.dtype)
    layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "x", ARRAY.shape)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("external", ARRAY.shape, ARRAY.dtype, external=[(str(tmp_path / "secret"), 0, 240)])
        file["link"] = h5py.ExternalLink(tmp_path / "other.h5", "x")
        file["soft"] = h5py.SoftLink("/link")
        file.create_virtual_dataset("virtual", layout)
    return tmp_path / "a.h5"


@pytest.mark.parametrize("key", ["external", "link", "soft", "virtual"])
def test_what_lies_in_another_file_is_refused_by_name(path, key):
    for read in (Image.read, Grid.read):
        with pytest.raises(InvalidError, match=rf"a\.h5: {key}: expected an array in this file, received"):
            read(path / key)
    with h5py.File(path, "a") as file:
        for other in set(file) - {key}:
            del file[other]
    with pytest.raises(InvalidError, match="expected an array in this file"):
        hdf5.keys(path)


@pytest.mark.parametrize("key", ["TransformGroup", "TransformGroup/0", "TransformGroup/0/TransformParameters"])
def test_a_transform_that_lies_in_another_file_is_refused(tmp_path, key):
    Transform.linear(np.diag([1.0, 2, 3, 1])).save(tmp_path / "other.h5")
    Transform.linear(np.eye(4)).save(tmp_path / "t.h5")
    with h5py.File(tmp_path / "t.h5", "a") as file:
        del file[key]
        file[key] = h5py.ExternalLink(tmp_path / "other.h5", key)
    with pytest.raises(InvalidError, match="expected an array in this file, received a link"):
        Transform.load(tmp_path / "t.h5")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"tells of 400000000 bytes, but the file can hold 0 at most"),  # never written
        ({"chunks": (100, 100, 100), "compression": "gzip"}, "but the file can hold 0 at most"),
    ],
)
def test_an_array_that_was_never_written_takes_no_memory(tmp_path, options, message):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (500, 500, 400), "f4", **options)
    for read in (Image.read, Grid.read):
        with pytest.raises(InvalidError, match=message):
            read(tmp_path / "a.h5" / "x")


def test_an_array_that_is_too_large_for_memory_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (3000, 3000, 3000), "u1", chunks=(1, 3000, 3000), compression="gzip")[0] = 1
    with pytest.raises(InvalidError, match="expected at most 268435456 voxels, received 27000000000"):
        Image.read(tmp_path / "a.h5" / "x")


def test_a_field_that_was_never_written_takes_no_memory(tmp_path):
    Transform.from_field(np.ones((4, 5, 6, 3)), Grid((4, 5, 6), np.eye(4))).save(tmp_path / "t.h5")
    with h5py.File(tmp_path / "t.h5", "a") as file:
        group = file["TransformGroup/0"]
        del group["TransformParameters"]
        group.create_dataset("TransformParameters", (3 * 400**3,), "f8")
        group["TransformFixedParameters"][:3] = 400
    with pytest.raises(InvalidError, match=r"TransformParameters is not a readable transform, .* can hold 0 at most"):
        Transform.load(tmp_path / "t.h5")


@pytest.mark.parametrize(
    ("shape", "kind", "message"),
    [
        ((2_000_000_000,), "i1", "one text"),
        ((1,), "S2000000000", "numbers or a text"),
        ((300_000_000,), h5py.string_dtype("ascii"), "one text"),
    ],
)
def test_what_says_the_kind_of_a_transform_is_one_short_text(tmp_path, shape, kind, message):
    for name, place in (("t.h5", "TransformGroup/0/TransformType"), ("t.x5", "TransformChain/0")):
        with h5py.File(tmp_path / name, "w") as file:
            file.attrs["Format"] = "X5"
            file.create_group("TransformGroup/0")
            file.create_dataset(place, shape=shape, dtype=kind)
        with pytest.raises(InvalidError, match=message):
            Transform.load(tmp_path / name)


def test_a_piece_is_no_larger_than_its_array(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a", shape=(4, 4, 4), maxshape=(None,) * 3, chunks=(512, 512, 64), compression=1)
    with pytest.raises(InvalidError, match="pieces no larger than the array"), hdf5.opened(tmp_path / "x.h5") as file:
        hdf5.array(file, "a")


@pytest.mark.parametrize("options", [{"compression": "gzip"}, {"fletcher32": True}])
def test_a_piece_that_lies_nowhere_in_the_array_is_refused(tmp_path, options):
    """Its place, of 64 bits in the file's index, is under no checksum."""
    array = np.arange(26 * 32 * 27, dtype=np.float32).reshape(26, 32, 27)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        found = file.create_dataset("x", data=array, chunks=(16, 16, 16), **options)
        size = found.id.get_chunk_info(1).size
    sound = (tmp_path / "a.h5").read_bytes()
    place = np.array([0, 0, 16, 0], "<u8").tobytes()  # the second piece's, as the index tells it
    assert sound.count(place) == 1
    for damaged in ([0, 64, 16, 0], [0, 0, 17, 0], [0, 0, 0, 0]):
        (tmp_path / "a.h5").write_bytes(sound.replace(place, np.array(damaged, "<u8").tobytes()))
        with pytest.raises(InvalidError, match=r"a\.h5"):
            Image.read(tmp_path / "a.h5" / "x")
    assert size > 1000
    (tmp_path / "a.h5").write_bytes(sound)
    np.testing.assert_array_equal(Image.read(tmp_path / "a.h5" / "x").array, array)


@pytest.mark.parametrize("key", ["Size", "Mapping"])
@pytest.mark.parametrize("kind", ["S1000000", np.dtype(("f8", (100_000,))), h5py.vlen_dtype(np.float64)])
def test_a_domain_of_other_than_numbers_is_refused_before_it_is_read(tmp_path, key, kind):
    field = np.zeros((3, 3, 3, 3), np.float32)
    Transform.from_field(field, Grid((3, 3, 3), np.eye(4))).save(tmp_path / "t.x5")
    with h5py.File(tmp_path / "t.x5", "a") as file:
        shape = file["TransformGroup/0/Domain"][key].shape
        del file["TransformGroup/0/Domain"][key]
        file["TransformGroup/0/Domain"].create_dataset(key, shape, kind)
    with pytest.raises(InvalidError, match=r"an array of numbers or a text|not said in numbers"):
        Transform.load(tmp_path / "t.x5")


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("suffix", [".x5", ".h5"])
def test_texts_in_a_damaged_heap_are_refused(tmp_path, suffix, index):
    """HDF5 2.1 never comes back from an object of its heap that takes no room."""
    path = tmp_path / f"a{suffix}"
    Transform.linear(np.diag([1.1, 1, 1, 1])).save(path)
    assert Transform.load(path).matrix[0, 0] == pytest.approx(1.1)
    data = bytearray(path.read_bytes())
    start = data.index(b"GCOL") + 16
    data[start : start + 2] = index.to_bytes(2, "little")
    data[start + 8 : start + 16] = (0 if index == 0 else 2**64 - 16).to_bytes(8, "little")
    path.write_bytes(data)
    with pytest.raises(InvalidError, match=rf"^a\{suffix} is not .*its heap of texts takes \d+ bytes of 4080"):
        Transform.load(path)


def test_a_text_that_says_it_is_huge_takes_no_memory(tmp_path):
    path = tmp_path / "a.h5"
    Transform.linear(np.diag([1.1, 1, 1, 1])).save(path)
    with h5py.File(path) as file:
        place = file["TransformGroup/0/TransformType"].id.get_offset()
    data = path.read_bytes()
    assert int.from_bytes(data[place : place + 4], "little") == len("AffineTransform_double_3_3")
    path.write_bytes(data[:place] + (2**32 - 5).to_bytes(4, "little") + data[place + 4 :])
    with pytest.raises(InvalidError, match="TransformType: expected one text"):
        Transform.load(path)


def test_a_heap_that_is_cut_or_of_another_length(tmp_path):
    path = tmp_path / "a.x5"
    Transform.linear(np.diag([1.1, 1, 1, 1])).save(path)
    data = path.read_bytes()
    start = data.index(b"GCOL") + 8
    path.write_bytes(data[:start] + (2**40).to_bytes(8, "little") + data[start + 8 :])
    with pytest.raises(InvalidError, match=f"its heap of texts has {2**40} bytes"):
        Transform.load(path)
