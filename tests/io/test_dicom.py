"""Folders of DICOM slices: each voxel where SimpleITK says it is, rescaled; and what is refused of them."""

import json
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from command_line import run
from dicom_series import COLUMNS, COUNT, ORIGIN, ROWS, SPACING, STEP, WORLDS, voxels, write

from regzoo.errors import InvalidError, MissingError
from regzoo.io.volumes import itk
from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform


def drop(*numbers):
    return lambda number, data: False if number in numbers else None


def setting(wanted, **values):
    def change(number, data):
        for name, value in values.items():
            if number == wanted:
                setattr(data, name, value)

    return change


def place(up, aside=0):
    return [*(ORIGIN + np.array([aside, 0, up]))]


def by_simpleitk(folder):
    return sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))


@pytest.mark.parametrize("world", WORLDS)
def test_each_voxel_lies_where_simpleitk_and_the_header_say(tmp_path, world, capfd):
    folder = write(tmp_path / "ct", world)
    (folder / "notes.txt").write_text("no slice")
    image, theirs = Image.read(folder), by_simpleitk(folder)
    assert (image.shape, image.remark) == ((COLUMNS, ROWS, COUNT), "")
    turned = not np.allclose(np.cross(*WORLDS[world][:2]), WORLDS[world][2])  # slices are counted from the other end
    for i, j, k in ((0, 0, 0), (6, 5, 4), (2, 5, 1), (6, 0, 3)):
        x, y, z = theirs.TransformIndexToPhysicalPoint((i, j, k))
        found = (image.affine @ (i, j, k, 1))[:3]
        np.testing.assert_allclose(found, (-x, -y, z), atol=1e-6)
        number = COUNT - 1 - k if turned else k
        along, down, up = WORLDS[world]
        place = ORIGIN + i * SPACING[1] * along + j * SPACING[0] * down + number * STEP * up
        np.testing.assert_allclose(found, place * (-1, -1, 1), atol=1e-6)
        assert image.array[i, j, k] == theirs[i, j, k] == 2 * int(voxels()[number, j, i]) - 1024
    assert Grid.read(folder).same_as(image.grid)
    assert Image.read(folder, labels=True).array.dtype.kind == "i"
    assert capfd.readouterr() == ("", "")


def test_slices_of_a_tilted_gantry_keep_their_places(tmp_path):
    def tilt(number, data):
        data.ImagePositionPatient = [*(ORIGIN + number * np.array([0, 1.5, STEP]))]

    image = Image.read(write(tmp_path / "ct", change=tilt))
    np.testing.assert_allclose(image.affine[:3, 2], (0, -1.5, STEP))


def test_each_slice_has_its_own_rescaling(tmp_path):
    image = Image.read(write(tmp_path / "ct", change=setting(2, RescaleSlope="0.5", RescaleIntercept=7)))
    np.testing.assert_allclose(image.array[:, :, 2], voxels()[2].T * 0.5 + 7)
    np.testing.assert_allclose(image.array[:, :, 1], voxels()[1].T * 2 - 1024)


def test_of_several_series_one_is_chosen(tmp_path):
    folder = write(tmp_path / "scan")
    write(folder, "sagittal", "1.2.3.5", drop(4))
    listed = r"1\.2\.3\.4 \(CT, 5 slices\); 1\.2\.3\.5 \(CT, 4 slices\)"
    message = rf"^scan: expected one DICOM series, received 2\. Choose one as FOLDER/UID: {listed}\.$"
    with pytest.raises(InvalidError, match=message):
        Image.read(folder)
    image = Image.read(folder / "1.2.3.5")
    assert image.shape == (COLUMNS, ROWS, 4)
    assert Image.read(folder / "1.2.3.4").shape == (COLUMNS, ROWS, 5)
    with pytest.raises(MissingError, match=rf"no DICOM series 1\.2\.3\.6\. There are: {listed}\."):
        Image.read(folder / "1.2.3.6")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop(2), r"expected a whole series, received 1 missing slice between 1\.2\.3\.4-\d\.dcm and"),
        (setting(2, ImagePositionPatient=place(STEP)), "expected one slice at each place, received two"),
        (setting(2, ImagePositionPatient=place(2.4 * STEP)), "expected slices in equal steps on one"),
        (setting(2, ImagePositionPatient=place(2 * STEP, 3)), "expected slices in equal steps on one line"),
        (setting(2, ImageOrientationPatient=[0, 1, 0, 0, 0, -1]), "expected slices of one size, orientation and"),
        (setting(2, PixelSpacing=[2.5, 2.5]), "expected slices of one size, orientation and spacing"),
        (setting(2, Rows=3, PixelData=bytes(42)), "expected slices of one size, orientation and spacing"),
        (setting(2, ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "its axes or its spacing are damaged"),
        (setting(2, PixelSpacing=None), r"pixel spacing of .*\.dcm: expected 2 numbers \(0028,0030\), received ''"),
        (setting(2, ImagePositionPatient=None), r"place of .*\.dcm: expected 3 numbers \(0020,0032\), received ''"),
    ],
)
def test_a_series_that_is_no_even_stack_is_refused(tmp_path, change, message):
    with pytest.raises(InvalidError, match=message) as error:
        Image.read(write(tmp_path / "ct", change=change))
    assert "Jane" not in str(error.value)


def test_frames_colour_and_folders_without_slices_are_refused(tmp_path):
    frames = setting(2, NumberOfFrames=2, PixelData=voxels()[:2].tobytes())
    told = "expected the place of each of its 2 frames, as enhanced CT and MR tell them, received the places of 0"
    with pytest.raises(InvalidError, match=told):
        Image.read(write(tmp_path / "frames", change=frames))
    colour = {
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "RGB",
        "PlanarConfiguration": 0,
        "PixelData": bytes(126),
    }
    colour |= {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "PixelRepresentation": 0}
    with pytest.raises(InvalidError, match="expected slices of one size, orientation and spacing"):
        Image.read(write(tmp_path / "mixed", change=setting(2, **colour)))
    with pytest.raises(InvalidError, match="expected one number per voxel, received RGB"):
        Image.read(write(tmp_path / "colour", change=lambda number, data: setting(number, **colour)(number, data)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        InvalidError, match=r"empty: expected .* the slices of a DICOM series, received a folder without"
    ):
        Image.read(tmp_path / "empty")
    with pytest.raises(MissingError, match=r"2020\.01 does not exist\.$"):
        Image.read(tmp_path / "empty" / "2020.01")


def test_a_slice_that_is_cut_is_refused(tmp_path):
    folder = write(tmp_path / "ct")
    file = next(folder.iterdir())
    sound = file.read_bytes()
    for end in (-2, -30, -84, 400, 200):
        file.write_bytes(sound[:end])
        with pytest.raises(InvalidError, match=r"^1\.2\.3\.4-\d\.dcm is no readable slice\. Mend it, or take it out"):
            Image.read(folder)


@pytest.mark.parametrize(
    ("place", "instead"),
    [
        (b"\x02\x00\x01\x00OB\0\0\x02\0\0\0", b"\x02\x00\x01\x00OB\0\0\xf0\xff\xff\x7f"),
        (b"\x02\x00\x01\x00OB", b"\x02\x00\x01\x00UK"),
        (b"\x02\x00\x00\x00UL\x04\0", b"\x02\x00\x00\x00UL\xf0\x7f"),
        (b"\x10\x00\x10\x00PN\x08\0", b"\x10\x00\x10\x00UN\0\0\xf0\xff\xff\x7f"),
        (
            b"\x10\x00\x10\x00PN\x08\0Doe^Jane",
            b"\x10\x00\x10\x00SQ\0\0\x14\0\0\0\xfe\xff\x00\xe0\x0c\0\0\0\x10\x00\x10\x00UN\0\0\xf0\xff\xff\x7f",
        ),
        (b"\xe0\x7f\x10\x00OW\0\0", b"\xe0\x7f\x10\x00OW\0\0\x04\0\0\0abcd\xe1\x7f\x10\x00OW\0\0\xf0\xff\xff\x7f"),
    ],
    ids=[
        "of the meta data",
        "of a kind that none is",
        "of all meta data",
        "of the data",
        "of a sequence",
        "after pixels",
    ],
)
def test_a_length_that_is_none_is_refused_before_memory_is_taken(tmp_path, monkeypatch, place, instead):
    folder = write(tmp_path / "ct")
    monkeypatch.setattr(itk, "opened_by", None)  # GDCM asks for as many bytes as a length tells
    for file in folder.iterdir():
        sound = file.read_bytes()
        assert place in sound
        file.write_bytes(sound.replace(place, instead))
    with pytest.raises(InvalidError, match=r"is no readable slice"):
        Image.read(folder)


def test_one_slice_is_as_thick_as_it_says(tmp_path):
    assert Image.read(write(tmp_path / "ct", change=drop(1, 2, 3, 4))).spacing[2] == 9


def test_without_simpleitk_the_extra_is_named(tmp_path, monkeypatch):
    folder = write(tmp_path / "ct")
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(MissingError, match=r"SimpleITK is not installed\. Run pip install 'regzoo\[itk\]'"):
        Image.read(folder)


def test_a_result_names_no_patient_and_its_dicom_does(tmp_path):
    folder, out, series = write(tmp_path / "ct"), tmp_path / "out", tmp_path / "series"
    options = ("--method", "rigid", "--iterations", "1", "-o", str(out), "--dicom", str(series))
    code, _, told = run("register", str(folder), str(folder), *options)
    assert code == 0
    assert told.endswith(f"Written to {series}, with all that names the patient: moved, transform.dcm\n")
    assert json.loads((out / "result.json").read_text())["inputs"]["fixed"]["file"] == "ct"
    for file in out.iterdir():
        assert not {each for each in (b"Doe^Jane", b"4711") if each in file.read_bytes()}
    assert len([*(series / "moved").iterdir()]) == COUNT
    for file in (series / "transform.dcm", *(series / "moved").iterdir()):
        assert {each for each in (b"Doe^Jane", b"4711") if each in file.read_bytes()} == {b"Doe^Jane", b"4711"}
    moved = Image.read(out / "moved.nii.gz")
    assert moved.grid.same_as(Grid.read(series / "moved"))
    assert np.abs(Image.read(series / "moved").array - moved.array).max() <= 0.5
    ours, theirs = (Transform.load(each).matrix for each in (out / "transform.tfm", series / "transform.dcm"))
    np.testing.assert_allclose(theirs, ours, atol=1e-9)
    told = run("register", str(folder), str(folder), *options)[2]
    assert "expected a folder that is new or empty, received one that holds something" in told
    told = run("register", str(folder), str(folder), *options[:-1], str(out))[2]
    assert "--dicom names another folder than --output." in told
