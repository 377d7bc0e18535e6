"""DICOM files of several frames: each voxel where SimpleITK and highdicom say it is, rescaled frame by frame."""

import sys

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_series import COLUMNS, COUNT, ORIGIN, ROWS, SPACING, STEP, WORLDS, frames_of, voxels, write
from pydicom.dataset import Dataset

from regzoo.errors import InvalidError, MissingError
from regzoo.io.provenance import provenance
from regzoo.world.images import Grid, Image

SHUFFLED = (3, 0, 4, 1, 2)


def save(data, file):
    data.save_as(file, enforce_file_format=True)
    return file


def by_highdicom(file):
    """Returns array (i, j, k) and affine in RAS, of which k may run the other way."""
    volume = highdicom.imread(file).get_volume()
    back = np.eye(4)[[2, 1, 0, 3]]  # its axes are slices, rows, columns
    return volume.array.T, np.diag([-1, -1, 1, 1]) @ volume.affine @ back


def check_known_places(image, world):
    along, down, up = WORLDS[world]
    for i, j, number in ((0, 0, 0), (6, 5, 4), (2, 5, 1), (6, 0, 3)):
        place = (ORIGIN + i * SPACING[1] * along + j * SPACING[0] * down + number * STEP * up) * (-1, -1, 1)
        at = (np.linalg.inv(image.affine) @ (*place, 1))[:3]
        np.testing.assert_allclose(at, np.rint(at), atol=1e-6)
        assert image.array[tuple(np.rint(at).astype(int))] == 2 * int(voxels()[number, j, i]) - 1024


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("world", WORLDS)
def test_each_voxel_of_a_frame_lies_where_simpleitk_and_the_header_say(tmp_path, world, shared):
    order = range(COUNT)
    if np.linalg.det(WORLDS[world]) < 0:  # which SimpleITK has along the normal
        order = order[::-1]
    image = Image.read(save(frames_of(order, world, shared), tmp_path / "ct.dcm"))
    assert (image.shape, image.remark) == ((COLUMNS, ROWS, COUNT), "")
    check_known_places(image, world)
    theirs = sitk.ReadImage(tmp_path / "ct.dcm")
    for index in ((0, 0, 0), (6, 5, 4), (2, 5, 1)):
        x, y, z = theirs.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose((image.affine @ (*index, 1))[:3], (-x, -y, z), atol=1e-4)
        assert image.array[index] == theirs[index]
    assert Grid.read(tmp_path / "ct.dcm").same_as(image.grid)


@pytest.mark.parametrize("world", WORLDS)
def test_frames_stand_in_the_order_of_their_places(tmp_path, world):
    image = Image.read(save(frames_of(SHUFFLED, world), tmp_path / "IM0001"))  # as archives name it
    check_known_places(image, world)
    array, affine = by_highdicom(tmp_path / "IM0001")
    ours, theirs = (np.linalg.inv(each) for each in (image.affine, affine))
    for index in ((0, 0, 0), (6, 5, 4), (2, 5, 1)):
        place = image.affine @ (*index, 1)
        at = tuple(np.rint(theirs @ place).astype(int)[:3])
        np.testing.assert_allclose((ours @ affine @ (*at, 1))[:3], index, atol=1e-5)
        assert image.array[index] == array[at]


def test_each_frame_has_its_own_rescaling(tmp_path):
    image = Image.read(save(frames_of(SHUFFLED, slopes={2: 0.5}), tmp_path / "ct.dcm"))
    np.testing.assert_allclose(image.array[:, :, 2], voxels()[2].T * 0.5 - 1024)
    np.testing.assert_allclose(image.array[:, :, 1], voxels()[1].T * 2.0 - 1024)
    whole = save(frames_of(SHUFFLED), tmp_path / "labels.dcm")
    labels = Image.read(whole, labels=True).array
    assert labels.dtype.kind == "i"
    np.testing.assert_array_equal(labels, Image.read(whole).array)


@pytest.mark.filterwarnings("ignore")
def test_a_legacy_converted_series_is_the_series(tmp_path):
    folder = write(tmp_path / "ct", "oblique")
    slices = [pydicom.dcmread(file) for file in sorted(folder.iterdir())]
    for each in slices:
        for name in ("AccessionNumber", "StudyID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime"):
            setattr(each, name, "")
        each.Manufacturer = "none"
    uids = {"series_instance_uid": highdicom.UID(), "sop_instance_uid": highdicom.UID()}
    made = highdicom.legacy.LegacyConvertedEnhancedCTImage(slices, series_number=3, instance_number=1, **uids)
    made.save_as(tmp_path / "legacy.dcm")
    image, again = Image.read(folder), Image.read(tmp_path / "legacy.dcm")
    np.testing.assert_allclose(again.affine, image.affine, atol=1e-9)
    np.testing.assert_array_equal(again.array, image.array)


def test_a_folder_may_hold_one_and_other_series_and_what_is_no_image(tmp_path):
    folder = write(tmp_path / "scan")
    save(frames_of(SHUFFLED, "oblique"), folder / "enhanced")
    report = frames_of(SHUFFLED)
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    save(report, folder / "report")
    listed = r"1\.2\.3\.4 \(CT, 5 slices\); 1\.2\.3\.9 \(CT, 5 slices\)|1\.2\.3\.9 .*; 1\.2\.3\.4 .*"
    with pytest.raises(InvalidError, match=rf"scan: expected one DICOM series, received 2\. .* FOLDER/UID: ({listed})"):
        Image.read(folder)
    check_known_places(Image.read(folder / "1.2.3.9"), "oblique")
    check_known_places(Image.read(folder / "1.2.3.4"), "axial")


def without(frame, name):
    def change(data):
        del data.PerFrameFunctionalGroupsSequence[frame][name]

    return change


def placed(frame, *place):
    def change(data):
        sequence = data.PerFrameFunctionalGroupsSequence[frame].PlanePositionSequence
        sequence[0].ImagePositionPatient = list(place)

    return change


def turned(data):
    item = Dataset()
    item.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    data.PerFrameFunctionalGroupsSequence[2].PlaneOrientationSequence = [item]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without(1, "PlanePositionSequence"), r"place of ct\.dcm frame 2: expected 3 numbers \(0020,0032\), rec"),
        (placed(2, *ORIGIN), r"one slice at each place, received two at one place \(ct\.dcm frame 1, ct\.dcm frame 3"),
        (placed(4, -30, 20.5, 100.25 + 5 * STEP), "a whole series, received 1 missing slice between ct.dcm frame 4"),
        (turned, "slices of one size, orientation and spacing, received ct.dcm frame 1 and ct.dcm frame 3, which"),
        (lambda data: data.PerFrameFunctionalGroupsSequence.pop(), "the place of each of its 5 frames, .* places of 4"),
    ],
)
def test_frames_that_are_no_even_stack_are_refused(tmp_path, change, message):
    data = frames_of(range(COUNT))
    change(data)
    with pytest.raises(InvalidError, match=message) as error:
        Image.read(save(data, tmp_path / "ct.dcm"))
    assert "Jane" not in str(error.value)


def test_a_file_that_is_cut_is_refused(tmp_path):
    file = save(frames_of(range(COUNT)), tmp_path / "ct.dcm")
    sound = file.read_bytes()
    for end in (-2, -30, len(sound) // 2, 400, 200):
        file.write_bytes(sound[:end])
        with pytest.raises(InvalidError, match=r"^ct\.dcm"):
            Image.read(file)


def test_without_highdicom_the_extra_is_named(tmp_path, monkeypatch):
    file = save(frames_of(range(COUNT)), tmp_path / "ct.dcm")
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(MissingError, match=r"highdicom is not installed\. Run pip install 'regzoo\[dicom\]'"):
        Image.read(file)


def test_a_result_names_the_file(tmp_path):
    file = save(frames_of(range(COUNT)), tmp_path / "ct.dcm")
    assert provenance({"fixed": file}, {}, "cpu")["inputs"]["fixed"]["file"] == "ct.dcm"
