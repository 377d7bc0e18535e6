"""Images that ITK reads: each voxel where SimpleITK says it is; and what is refused of them."""

import os
import re
import struct
import sys
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from command_line import run
from PIL import Image as PIL
from worlds import AFFINES, affine, rotation

from regzoo.errors import InvalidError, MissingError
from regzoo.io.volumes import read_remark
from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform

SHAPE = (5, 4, 3)
WORLDS = {
    **{name: AFFINES[name] for name in ("LPS", "anisotropic", "permuted", "oblique")},
    "left-handed": affine(rotation(0.3, -0.2, 0.4) * (1.5, -1.2, 2.0), (10, -40, 30)),
    "sheared": affine(np.array([[1.5, 0.2, 0], [0, 1.2, 0.3], [0, 0, 2.0]]), (1, 2, 3)),
}
VOXELS = [(0, 0, 0), (4, 3, 2), (1, 3, 0), (4, 0, 1)]


def theirs(grid, seed=0, dtype="int16"):
    """Returns an image of SimpleITK's on a grid of RAS, by SimpleITK's own setters."""
    image = sitk.GetImageFromArray(np.random.default_rng(seed).integers(0, 200, SHAPE[::-1]).astype(dtype))
    spacing = np.linalg.norm(grid[:3, :3], axis=0)
    flip = np.diag([-1, -1, 1])
    image.SetSpacing(spacing)
    image.SetDirection((flip @ grid[:3, :3] / spacing).ravel())
    image.SetOrigin(flip @ grid[:3, 3])
    return image


def write(path, image=None, compress=False):
    sitk.WriteImage(theirs(AFFINES["oblique"]) if image is None else image, path, compress)
    return path


def check_places(image, expected):
    for voxel in VOXELS:
        x, y, z = expected.TransformIndexToPhysicalPoint(voxel)
        np.testing.assert_allclose((image.affine @ (*voxel, 1))[:3], (-x, -y, z), atol=1e-9)
        assert image.array[voxel] == expected.GetPixel(voxel)


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd"])
@pytest.mark.parametrize("world", WORLDS)
def test_each_voxel_lies_where_simpleitk_says(tmp_path, world, suffix, compress):
    path = write(tmp_path / f"a{suffix}", theirs(WORLDS[world]), compress)
    image = Image.read(path)
    assert (image.array.dtype, image.shape, image.remark) == (np.float32, SHAPE, "")
    check_places(image, theirs(WORLDS[world]))
    assert Grid.read(path).same_as(image.grid)
    assert Image.read(path, labels=True).array.dtype == np.int16


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.parametrize("world", WORLDS)
def test_what_is_written_lies_there_for_simpleitk(tmp_path, world, suffix):
    array = np.random.default_rng(1).normal(size=SHAPE).astype("float32")
    Image(array, WORLDS[world]).save(tmp_path / f"a{suffix}")
    check_places(Image(array, WORLDS[world]), sitk.ReadImage(tmp_path / f"a{suffix}"))
    np.testing.assert_allclose(Image.read(tmp_path / f"a{suffix}").affine, WORLDS[world], atol=1e-12)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_labels_are_written_in_the_smallest_type_and_channels_as_a_fourth_axis(tmp_path, suffix):
    labels = np.arange(60).reshape(SHAPE)
    for most, kind in ((199, "uint8"), (300, "int16"), (40000, "uint16")):
        Image(labels * (most // 59), WORLDS["oblique"]).save(tmp_path / f"a{suffix}")
        found = Image.read(tmp_path / f"a{suffix}", labels=True).array
        assert found.dtype == kind
        np.testing.assert_array_equal(found, labels * (most // 59))
    channels = np.random.default_rng(0).random((*SHAPE, 2)).astype("float32")
    Image(channels, WORLDS["oblique"]).save(tmp_path / f"c{suffix}")
    found = Image.read(tmp_path / f"c{suffix}", labels=True)
    np.testing.assert_array_equal(found.array, channels)
    np.testing.assert_allclose(found.affine, WORLDS["oblique"], atol=1e-12)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_a_slice_and_one_volume_of_a_series_are_read(tmp_path, suffix):
    flat = sitk.GetImageFromArray(np.arange(12, dtype="uint8").reshape(3, 4))
    flat.SetSpacing((2, 3))
    flat.SetOrigin((5, -7))
    flat.SetDirection((0, -1, 1, 0))
    image = Image.read(write(tmp_path / f"flat{suffix}", flat))
    assert image.shape == (4, 3, 1)
    x, y = flat.TransformIndexToPhysicalPoint((3, 1))
    np.testing.assert_allclose(image.affine @ (3, 1, 0, 1), (-x, -y, 0, 1))
    assert image.array[3, 1, 0] == flat.GetPixel((3, 1))
    series = sitk.JoinSeries([theirs(WORLDS["oblique"], seed) for seed in range(3)])
    path = write(tmp_path / f"series{suffix}", series)
    with pytest.raises(InvalidError, match=r"has 4 dimensions \(5, 4, 3, 3\).* choose one volume"):
        Image.read(path)
    check_places(Image.read(path, volume=2), theirs(WORLDS["oblique"], 2))


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_vectors_are_refused(tmp_path, suffix):
    vectors = sitk.GetImageFromArray(np.zeros((*SHAPE, 3), "float32"), isVector=True)
    with pytest.raises(InvalidError, match="expected one number per voxel, received RGB or vectors"):
        Image.read(write(tmp_path / f"v{suffix}", vectors))


@pytest.mark.parametrize("space", ["right-anterior-superior", "left-anterior-superior", "LPS"])
def test_the_space_of_nrrd_counts(tmp_path, space):
    rows = ["NRRD0004", "type: uint8", "dimension: 3", f"space: {space}", "sizes: 5 4 3", "encoding: raw"]
    rows += ["space directions: (2,0,0) (0,3,0) (0,0,4)", "space origin: (10,20,30)", 'space units: "mm" "mm" "mm"']
    path = tmp_path / "a.nrrd"
    path.write_bytes("\n".join([*rows, "", ""]).encode() + bytes(range(60)))
    signs = {"right-anterior-superior": (1, 1, 1), "left-anterior-superior": (-1, 1, 1), "LPS": (-1, -1, 1)}[space]
    expected = np.diag([*signs, 1]) @ affine(np.diag([2, 3, 4]), (10, 20, 30))
    np.testing.assert_allclose(Image.read(path).affine, expected)
    path.write_bytes(path.read_bytes().replace(b'"mm" "mm" "mm"', b'"um" "um" "um"'))
    with pytest.raises(InvalidError, match=r"space units of a\.nrrd: expected mm, received um"):
        Image.read(path)


def test_a_header_without_axes_is_remarked(tmp_path):
    path = tmp_path / "a.nrrd"
    rows = ["NRRD0004", "type: uint8", "dimension: 3", "sizes: 5 4 3", "spacings: 2 3 4", "encoding: raw"]
    path.write_bytes("\n".join([*rows, "", ""]).encode() + bytes(range(60)))
    image = Image.read(path)
    assert "does not say in which space it is" in image.remark
    np.testing.assert_allclose(image.affine[:3, :3], np.diag([-2, -3, 4]))
    rows = ["NDims = 3", "DimSize = 5 4 3", "ElementType = MET_UCHAR", "BinaryData = True", "ElementDataFile = LOCAL"]
    (tmp_path / "a.mha").write_bytes("\n".join([*rows, ""]).encode() + bytes(range(60)))
    assert "does not say TransformMatrix" in read_remark(tmp_path / "a.mha")


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd"])
def test_damage_is_refused(tmp_path, suffix, compress, capfd):
    path = write(tmp_path / f"a{suffix}", compress=compress)
    held = next((tmp_path / f"a{each}" for each in (".zraw", ".raw") if (tmp_path / f"a{each}").exists()), path)
    sound = held.read_bytes()
    damaged = {"cut": sound[:-20], "none": sound[:-90]}
    if compress:
        damaged |= {"flipped": sound[:-30] + bytes([sound[-30] ^ 255]) + sound[-29:], "sum": sound[:-2] + b"ab"}
    for data in damaged.values():
        held.write_bytes(data)
        with pytest.raises(InvalidError, match=f"^a{suffix} is not a readable image, or it is damaged: ") as error:
            Image.read(path)
        assert not re.search("Exception|sitk", str(error.value))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_sizes_that_no_file_holds_are_refused_before_memory_is_taken(tmp_path, suffix):
    data = write(tmp_path / f"a{suffix}").read_bytes()
    (tmp_path / f"a{suffix}").write_bytes(data.replace(b"5 4 3\n", b"5 4 30000\n"))
    for read in (Image.read, Grid.read):
        with pytest.raises(InvalidError, match="its header tells of 1200000 bytes, but the file can hold 120 at most"):
            read(tmp_path / f"a{suffix}")
    (tmp_path / f"a{suffix}").write_bytes(data.replace(b"5 4 3\n", b"5000 4000 3000\n"))
    with pytest.raises(InvalidError, match="expected at most 268435456 voxels, received 60000000000"):
        Image.read(tmp_path / f"a{suffix}")


def test_voxels_elsewhere_are_refused(tmp_path):
    path = write(tmp_path / "a.mhd")
    text = path.read_text()
    for name in ("../a.raw", "/etc/passwd", "LIST", "a%02d.raw 1 3 1"):
        path.write_text(text.replace("a.raw", name))
        with pytest.raises(InvalidError, match=r"a\.mhd: expected voxels in one file beside it"):
            Image.read(path)
    path.write_text(text.replace("a.raw", "b.raw"))
    with pytest.raises(InvalidError, match=r"a\.mhd: its voxels, the file b\.raw beside it, do not exist"):
        Image.read(path)
    data = write(tmp_path / "a.nrrd").read_bytes()
    (tmp_path / "a.nrrd").write_bytes(data.replace(b"encoding: raw\n", b"encoding: raw\ndata file: a.raw\n"))
    with pytest.raises(InvalidError, match=r"a\.nrrd: expected voxels in the file itself"):
        Image.read(tmp_path / "a.nrrd")


def test_another_format_under_the_name_is_refused(tmp_path):
    for name in ("a.mha", "a.mhd", "a.nrrd"):
        (tmp_path / name).write_bytes(b"hello" * 100)
        with pytest.raises(InvalidError, match=f"^{name} is not a readable image"):
            Image.read(tmp_path / name)


def test_without_simpleitk_the_extra_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "a.nrrd")
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(MissingError, match=r"SimpleITK is not installed\. Run pip install 'regzoo\[itk\]'"):
        Image.read(path)


def test_warp_reads_and_writes_them(tmp_path):
    path = write(tmp_path / "a.mha")
    matrix = np.eye(4)
    matrix[:3, 3] = WORLDS["oblique"][:3, 0]  # one voxel along i
    Transform.linear(matrix).save(tmp_path / "t.tfm")
    moved = tmp_path / "moved.nrrd"
    words = ("warp", path, "--transform", tmp_path / "t.tfm", "--reference", path, "-o", moved)
    code, _, told = run(*map(str, words))
    assert (code, told) == (0, "")
    expected, found = sitk.GetArrayFromImage(theirs(AFFINES["oblique"])), sitk.ReadImage(moved)
    np.testing.assert_allclose(sitk.GetArrayFromImage(found)[..., :-1], expected[..., 1:], atol=1e-3)
    np.testing.assert_allclose(found.GetOrigin(), theirs(AFFINES["oblique"]).GetOrigin())


@pytest.mark.parametrize("kind", ["uint8", "uint16"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
def test_a_picture_is_a_slice_of_pixels_of_1_mm(tmp_path, suffix, kind):
    pixels = (np.arange(63).reshape(7, 9) * (np.iinfo(kind).max // 63)).astype(kind)
    picture = sitk.GetImageFromArray(pixels)
    picture.SetSpacing((0.2, 0.3))  # which TIFF keeps as resolution, in print
    image = Image.read(write(tmp_path / f"a{suffix}", picture))
    np.testing.assert_array_equal(image.array, pixels.T[:, :, None])
    np.testing.assert_array_equal(image.affine, np.diag([-1, -1, 1, 1]))
    assert "regzoo takes 1 mm a pixel" in image.remark
    labels = Image.read(tmp_path / f"a{suffix}", labels=True).array
    assert labels.dtype == kind
    assert Grid.read(tmp_path / f"a{suffix}").shape == (9, 7, 1)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_colour_is_refused(tmp_path, suffix):
    ramp = np.arange(63, dtype="uint8").reshape(7, 9)
    saved = PIL.fromarray(np.dstack([ramp, ramp + 9, 3 * ramp]))
    colours = {"rgb": saved, "rgba": saved.convert("RGBA"), "palette": saved.quantize(16)}
    colours |= {"la": saved.convert("LA")} if suffix == ".png" else {}
    for name, each in colours.items():
        each.save(tmp_path / f"{name}{suffix}")
        with pytest.raises(InvalidError, match=r"expected one number per voxel, received .* Convert it to grey\.$"):
            Image.read(tmp_path / f"{name}{suffix}")


def test_pages_are_no_picture(tmp_path):
    write(tmp_path / "a.tif", theirs(AFFINES["LPS"], dtype="uint8"))
    with pytest.raises(InvalidError, match=r"a\.tif: expected one picture, received 3 pages"):
        Image.read(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_damaged_picture_is_refused(tmp_path, suffix):
    path, other = tmp_path / f"a{suffix}", tmp_path / f"b{'.tif' if suffix == '.png' else '.png'}"
    PIL.fromarray(np.random.default_rng(0).integers(0, 200, (40, 50)).astype("uint8")).save(path)
    PIL.open(path).save(other)
    for data in (path.read_bytes()[:-200], path.read_bytes()[:20], other.read_bytes()):
        path.write_bytes(data)
        with pytest.raises(InvalidError, match=rf"^a\{suffix} is not a readable image, or it is damaged: "):
            Image.read(path)


@pytest.mark.parametrize("length", ["1", "{less}", "4x", "-5"])
def test_a_metaimage_that_tells_of_fewer_compressed_bytes_is_refused(tmp_path, length):
    """ITK inflates no more than it is told, and leaves the other voxels as they are."""
    path = tmp_path / "a.mha"
    noise = np.random.default_rng(0).integers(0, 200, (20, 20, 20)).astype("int16")
    sitk.WriteImage(sitk.GetImageFromArray(noise), str(path), useCompression=True)
    np.testing.assert_array_equal(Image.read(path).array.T, noise)
    sound = path.read_bytes()
    told = re.search(rb"CompressedDataSize = (\d+)", sound)
    size = int(told[1])
    path.write_bytes(sound.replace(told[0], b"CompressedDataSize = " + length.format(less=size - 1).encode(), 1))
    with pytest.raises(InvalidError, match=r"a\.mha is not a readable image, or it is damaged: "):
        Image.read(path)


@pytest.mark.parametrize("key", [b"CompressedDataSizf", b"CompressedDataSize\x1d"])
def test_a_metaimage_that_does_not_tell_is_refused(tmp_path, capfd, key):
    """ITK then says that it cannot unpack the voxels, and gives others."""
    path = tmp_path / "a.mha"
    sitk.WriteImage(sitk.GetImageFromArray(np.arange(60, dtype="uint8").reshape(3, 4, 5)), path, useCompression=True)
    path.write_bytes(path.read_bytes().replace(b"CompressedDataSize", key, 1))
    with pytest.raises(InvalidError, match=r"a\.mha is not a readable image, or it is damaged: Uncompress failed"):
        Image.read(path)
    assert capfd.readouterr() == ("", "")


def test_a_metaimage_whose_header_is_damaged_has_a_reason_in_one_line(tmp_path, capfd):
    path = tmp_path / "a.mha"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((3, 4, 5), "uint8")), path)
    path.write_bytes(path.read_bytes().replace(b"DimSize", b"DimSiz_", 1))
    with pytest.raises(InvalidError, match=r"it is damaged: DimSize required and not defined\."):
        Image.read(path)
    assert capfd.readouterr() == ("", "")


def test_a_chunk_of_a_png_is_read_to_its_checksum(tmp_path, capfd):
    """Of those that are not pixels, libpng only warns."""
    path = tmp_path / "a.png"
    PIL.fromarray(np.arange(60, dtype="uint8").reshape(6, 10)).save(path, dpi=(100, 100))
    sound = path.read_bytes()
    assert Image.read(path).shape == (10, 6, 1)
    place = sound.index(b"pHYs") + 6
    path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
    with pytest.raises(InvalidError, match=r"a\.png is not a readable image, or it is damaged: .*CRC error"):
        Image.read(path)
    assert capfd.readouterr() == ("", "")


def test_what_itk_mends_of_a_header_is_said_of_its_file(tmp_path, capfd):
    path, pixels = tmp_path / "a.tif", np.arange(60, dtype="uint8").reshape(6, 10)
    PIL.fromarray(pixels).save(path, dpi=(100, 100))
    (tag,) = re.findall(rb"\x1a\x01\x05\x00\x01\x00\x00\x00", path.read_bytes())  # XResolution, one fraction
    path.write_bytes(path.read_bytes().replace(tag, tag[:4] + b"\x07" + tag[5:]))
    image = Image.read(path)
    np.testing.assert_array_equal(image.array[..., 0].T, pixels)
    assert 'ITK says: TIFFFetchNormalTag: Incorrect count for "XResolution"' in image.remark
    assert capfd.readouterr() == ("", "")


def test_pages_that_follow_each_other_without_end_are_refused(tmp_path):
    """Libtiff takes minutes, or never ends, to count them."""
    path = tmp_path / "a.tif"
    PIL.fromarray(np.zeros((6, 10), "uint8")).save(path)
    data = bytearray(path.read_bytes())
    (start,) = struct.unpack("<L", data[4:8])
    (count,) = struct.unpack("<H", data[start : start + 2])
    for place, words in ((start, "its pages have no end"), (2**31, "its directory is cut")):
        struct.pack_into("<L", data, start + 2 + 12 * count, place)
        path.write_bytes(data)
        with pytest.raises(InvalidError, match=words):
            Image.read(path)
    path.write_bytes(data[:4] + bytes(4) + data[8:])
    with pytest.raises(InvalidError, match="it has no page"):
        Image.read(path)


def big_tiff(path, pixels):
    """Writes a TIFF of 64-bit places, one packed strip; returns where that starts and how long it is."""
    (rows, columns), packed = pixels.shape, zlib.compress(pixels.tobytes())
    tags = [(256, 3, columns), (257, 3, rows), (258, 3, 8), (259, 3, 8), (262, 3, 1), (273, 16, 16), (277, 3, 1)]
    tags += [(278, 3, rows), (279, 16, len(packed))]
    head = b"II+\0" + struct.pack("<HHQ", 8, 0, 16 + len(packed))
    entries = b"".join(struct.pack("<HHQQ", tag, kind, 1, value) for tag, kind, value in tags)
    path.write_bytes(head + packed + struct.pack("<Q", len(tags)) + entries + bytes(8))
    return 16, len(packed)


@pytest.mark.parametrize("big", [False, True])
def test_a_strip_of_a_tiff_is_read_to_its_checksum(tmp_path, big):
    """Libtiff does not look at it, and gives other voxels of a damaged strip."""
    path, pixels = tmp_path / "a.tif", np.random.default_rng(0).integers(0, 50, (64, 80)).astype("uint8")
    if big:
        start, size = big_tiff(path, pixels)
    else:
        PIL.fromarray(pixels).save(path, compression="tiff_adobe_deflate")
        with PIL.open(path) as opened:
            (start,), (size,) = opened.tag_v2[273], opened.tag_v2[279]
    np.testing.assert_array_equal(Image.read(path).array[..., 0].T, pixels)
    sound = path.read_bytes()
    for place in np.random.default_rng(1).integers(0, 8 * size, 100):
        data = bytearray(sound)
        data[start + place // 8] ^= 1 << place % 8
        path.write_bytes(data)
        with pytest.raises(InvalidError, match=r"a\.tif is not a readable image, or it is damaged: "):
            Image.read(path)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_a_file_that_cannot_be_written_whole_is_not_left(tmp_path, monkeypatch, suffix):
    path = write(tmp_path / f"a{suffix}")
    before = path.read_bytes()

    def full(image, name, **_settings):
        Path(name).write_bytes(b"half")
        raise RuntimeError("itkMetaImageIO.cxx:1110: ITK ERROR: (0x564a5ad3c9d0)")

    monkeypatch.setattr(sitk, "WriteImage", full)
    with pytest.raises(OSError, match=r"not written whole; is the disk full\?"):
        Image(np.random.default_rng(0).random(SHAPE), WORLDS["oblique"]).save(path)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_what_others_say_meanwhile_is_no_fault_of_the_image_and_is_not_lost(tmp_path, capfd):
    path = write(tmp_path / "a.nrrd")
    end = threading.Event()

    def speak():
        while not end.wait(0.001):
            os.write(2, b"another thread\n")

    thread = threading.Thread(target=speak)
    thread.start()
    try:
        for _ in range(20):
            assert Image.read(path).remark == ""
    finally:
        end.set()
        thread.join()
    assert set(capfd.readouterr().err.splitlines()) == {"another thread"}
