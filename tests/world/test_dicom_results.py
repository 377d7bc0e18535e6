"""DICOM that is written, read by a reader made from the standard's words: same places, same points, right people."""

import re
import shutil
import subprocess
from types import SimpleNamespace

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from command_line import run
from dicom_series import frames_of, write
from worlds import AFFINES, affine, rotation, waves

from regzoo.errors import InvalidError
from regzoo.world.dicom_results import DicomResult
from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform

FLIP = np.array([-1, -1, 1.0])
TURN = rotation(0.1, -0.2, 0.15)
LINEAR = {
    "RIGID": TURN,
    "RIGID_SCALE": np.linalg.inv(TURN * (1.1, 0.9, 1.2)),
    "AFFINE": TURN @ [[1.1, 0.1, 0], [0, 0.9, 0], [0, 0.05, 1]],
}
SHIFTED = affine(TURN, (3, -4, 5))
CT = "1.2.840.10008.5.1.4.1.1.2"


def of_frame(uid, **more):
    def change(number, data):
        data.FrameOfReferenceUID = uid
        for name, value in more.items():
            setattr(data, name, value)

    return change


@pytest.fixture(scope="module", params=["axial", "oblique", "sagittal", "feet first"])
def pair(request, tmp_path_factory):
    """A fixed and a moving series of one patient, each in a study and a frame of reference of its own."""
    home = tmp_path_factory.mktemp("pair")
    birth = {"PatientBirthDate": "19610203", "StudyInstanceUID": "1.2.9", "SeriesDescription": "Thorax"}
    fixed = write(home / "fixed", request.param, "1.2.3.4", of_frame("1.2.33", PatientPosition="HFS"))
    moving = write(home / "moving", "coronal", "1.2.3.5", of_frame("1.2.44", **birth))
    return SimpleNamespace(fixed=fixed, moving=moving, grid=Grid.read(fixed), image=Image.read(moving), home=home)


def written(pair, transform, folder, fixed=None):
    moved = transform.apply_image(pair.image, pair.grid, outside=float(pair.image.array.min()))
    DicomResult(folder, fixed or pair.fixed, pair.grid, pair.image).save(moved, transform)
    return moved, folder


def by_the_standard(file, points):
    """Maps points of the fixed image, RAS mm, to the moving one: C.20.2.1.1, or C.20.3.1.1 at the grid's own points."""
    data, lps = pydicom.dcmread(file), points * FLIP
    if data.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.1":
        (item,) = [each for each in data.RegistrationSequence if each.FrameOfReferenceUID != data.FrameOfReferenceUID]
        source_to_registered = matrix_of(item.MatrixRegistrationSequence[0].MatrixSequence[0])
        return times(np.linalg.inv(source_to_registered), lps) * FLIP
    (item,) = data.DeformableRegistrationSequence
    (grid,) = item.DeformableRegistrationGridSequence
    row, column = (np.array([float(v) for v in grid.ImageOrientationPatient[i : i + 3]]) for i in (0, 3))
    depth = np.array([row[1] * column[2] - row[2] * column[1], row[2] * column[0] - row[0] * column[2], 0])
    depth[2] = row[0] * column[1] - row[1] * column[0]
    columns, rows, planes = grid.GridDimensions
    start, step = np.array([float(each) for each in grid.ImagePositionPatient]), np.array(grid.GridResolution)
    ijk = np.stack([(lps - start) @ each / s for each, s in zip((row, column, depth), step, strict=True)], axis=-1)
    near = np.rint(ijk).astype(int)
    assert np.abs(ijk - near).max() < 1e-4  # the points are the grid's
    assert ((near >= 0) & (near < (columns, rows, planes))).all()
    numbers = np.frombuffer(grid.VectorGridData, "<f4")
    place = 3 * (near[:, 0] + columns * (near[:, 1] + rows * near[:, 2]))
    assert len(numbers) == 3 * columns * rows * planes
    offsets = np.stack([numbers[place + c] for c in range(3)], axis=-1)
    before, after = (
        matrix_of(item[key].value[0]) if key in item else np.eye(4)
        for key in ("PreDeformationMatrixRegistrationSequence", "PostDeformationMatrixRegistrationSequence")
    )
    return times(after, times(before, lps) + offsets) * FLIP


def matrix_of(item):
    return np.array([float(each) for each in item.FrameOfReferenceTransformationMatrix]).reshape(4, 4)


def times(matrix, points):
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def transforms(pair):
    """Returns transforms that bring the middle of one image near that of the other."""
    grid, field = pair.grid, Transform.from_field(waves(pair.grid), pair.grid)
    found = {
        kind: Transform.linear(affine(linear, pair.image.grid.centre - linear @ grid.centre + (1, -1, 0.5)))
        for kind, linear in LINEAR.items()
    }
    both = Transform((*field.steps, *found["AFFINE"].steps), grid)
    return found | {"field": field, "field and matrix": both}


KINDS = ("RIGID", "RIGID_SCALE", "AFFINE", "field", "field and matrix")


@pytest.mark.parametrize("kind", KINDS)
def test_the_transform_leads_where_the_standard_says(pair, tmp_path, kind):
    transform = transforms(pair)[kind]
    file = written(pair, transform, tmp_path / "out")[1] / "transform.dcm"
    points = pair.grid.coordinates().reshape(-1, 3)
    expected = transform.apply_points(points)
    assert np.linalg.norm(expected - points, axis=1).mean() > 1
    np.testing.assert_allclose(by_the_standard(file, points), expected, atol=1e-3)
    again = Transform.load(file)
    np.testing.assert_allclose(again.apply_points(points), expected, atol=1e-3)
    between = points[:-1] + 0.3 * np.diff(points, axis=0)
    np.testing.assert_allclose(again.apply_points(between), transform.apply_points(between), atol=1e-3)
    data = pydicom.dcmread(file)
    assert (data.Modality, data.FrameOfReferenceUID, data.StudyInstanceUID) == ("REG", "1.2.33", "1.2.9")
    if kind.isupper():
        item = data.RegistrationSequence[1].MatrixRegistrationSequence[0].MatrixSequence[0]
        assert item.FrameOfReferenceTransformationMatrixType == kind


def test_the_series_lies_on_the_fixed_image_and_is_the_moving_patient_s(pair, tmp_path):
    moved, folder = written(pair, transforms(pair)["RIGID"], tmp_path / "out")
    again = Image.read(folder / "moved")
    assert again.grid.same_as(pair.grid)
    assert np.abs(again.array - moved.array).max() <= 0.5
    assert len(np.unique(again.array)) > 50
    theirs = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder / "moved")))
    for index in ((0, 0, 0), (6, 5, 4), (2, 5, 1)):
        x, y, z = theirs.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose((again.affine @ (*index, 1))[:3], (-x, -y, z), atol=1e-6)
        assert theirs[index] == again.array[index]
    slices = [pydicom.dcmread(file) for file in sorted((folder / "moved").iterdir())]
    source = {str(pydicom.dcmread(file).SOPInstanceUID) for file in pair.moving.iterdir()}
    assert len({each.SOPInstanceUID for each in slices} | source) == 10
    assert len({each.SeriesInstanceUID for each in slices}) == 1
    for each in slices:
        told = (each.PatientName, each.PatientID, each.PatientBirthDate, each.StudyInstanceUID)
        assert told == ("Doe^Jane", "4711", "19610203", "1.2.9")
        assert (each.FrameOfReferenceUID, each.PatientPosition, each.SOPClassUID) == ("1.2.33", "HFS", CT)
        assert each.ImageType == ["DERIVED", "SECONDARY", "AXIAL"]
        assert each.SeriesDescription == "Registered by regzoo: Thorax"
        assert {item.ReferencedSOPInstanceUID for item in each.SourceImageSequence} == source
    assert slices[0].SeriesInstanceUID not in ("1.2.3.4", "1.2.3.5")


@pytest.mark.parametrize("name", ["left-handed", "permuted"])
def test_a_fixed_image_that_is_no_dicom_gives_a_new_frame_of_reference(tmp_path, name):
    grid = Grid((9, 8, 7), AFFINES["permuted" if name == "permuted" else "LAS"])
    assert np.linalg.det(grid.affine) < 0  # which a grid in DICOM cannot be
    moving = write(tmp_path / "moving", "oblique")
    fixed = tmp_path / "fixed.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.arange(504, dtype="float32").reshape(9, 8, 7), grid.affine), fixed)
    pair = SimpleNamespace(fixed=fixed, grid=grid, image=Image.read(moving))
    transform = transforms(pair)["field and matrix"]
    moved, folder = written(pair, transform, tmp_path / "out")
    points = grid.coordinates().reshape(-1, 3)
    np.testing.assert_allclose(
        by_the_standard(folder / "transform.dcm", points), transform.apply_points(points), atol=1e-3
    )
    again = Image.read(folder / "moved")
    at = np.rint(np.linalg.solve(again.affine, np.c_[points, np.ones(len(points))].T)[:3]).astype(int)
    np.testing.assert_allclose(again.array[tuple(at)], moved.array.ravel(), atol=0.5)
    frames = {pydicom.dcmread(file).FrameOfReferenceUID for file in folder.rglob("*.dcm")}
    assert len(frames) == 1
    assert frames.isdisjoint({"1.2.3", "1.2.33"})
    _, folder = written(pair, Transform.linear(SHIFTED), tmp_path / "matrix")
    first, second = pydicom.dcmread(folder / "transform.dcm").RegistrationSequence
    assert "ReferencedImageSequence" not in first
    assert (second.FrameOfReferenceUID, len(second.ReferencedImageSequence)) == ("1.2.3", 5)


def test_numbers_with_fractions_keep_sixteen_bits(tmp_path):
    def halved(number, data):
        data.RescaleSlope, data.Modality, data.SOPClassUID = "0.37", "MR", "1.2.840.10008.5.1.4.1.1.4"

    moving = Image.read(write(tmp_path / "mr", "oblique", change=halved))
    transform = Transform.linear(affine(np.eye(3), (0.4, 0.2, -0.7)))
    moved = transform.apply_image(moving, moving.grid)
    DicomResult(tmp_path / "out", moving.file, moving.grid, moving).save(moved, transform)
    step = np.ptp(moved.array) / 65535
    np.testing.assert_allclose(Image.read(tmp_path / "out" / "moved").array, moved.array, atol=0.6 * step)
    header = pydicom.dcmread(tmp_path / "out" / "moved" / "0001.dcm")
    assert (header.Modality, header.SOPClassUID) == ("MR", "1.2.840.10008.5.1.4.1.1.4")


def test_an_enhanced_image_is_moved_as_slices_are(tmp_path):
    frames_of((3, 0, 4, 1, 2), "sagittal").save_as(tmp_path / "enhanced", enforce_file_format=True)
    moving = Image.read(tmp_path / "enhanced")
    DicomResult(tmp_path / "out", moving.file, moving.grid, moving).save(moving, Transform.linear(np.eye(4)))
    again = Image.read(tmp_path / "out" / "moved")
    np.testing.assert_array_equal(again.array, moving.array)
    assert again.grid.same_as(moving.grid)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy comes with Debian's dicom3tools")
@pytest.mark.parametrize("kind", KINDS)
def test_dciodvfy_finds_no_error(pair, tmp_path, kind):
    folder = written(pair, transforms(pair)[kind], tmp_path / "out")[1]
    for file in (folder / "transform.dcm", folder / "moved" / "0001.dcm"):
        told = subprocess.run(["dciodvfy", file], capture_output=True, text=True, check=False)
        assert not [line for line in (told.stdout + told.stderr).splitlines() if line.startswith("Error")]


def test_a_matrix_before_the_offsets_is_heeded(pair, tmp_path):
    field = transforms(pair)["field and matrix"]
    file = written(pair, field, tmp_path / "out")[1] / "transform.dcm"
    data = pydicom.dcmread(file)
    (item,) = data.DeformableRegistrationSequence
    item.PreDeformationMatrixRegistrationSequence = [pydicom.Dataset()]
    first = item.PreDeformationMatrixRegistrationSequence[0]
    first.FrameOfReferenceTransformationMatrix = [f"{each:.10g}" for each in SHIFTED.ravel()]
    data.save_as(file)
    points = pair.grid.coordinates().reshape(-1, 3)
    found = Transform.load(file).apply_points(points)
    np.testing.assert_allclose(found, by_the_standard(file, points), atol=1e-3)
    assert np.linalg.norm(found - field.apply_points(points), axis=1).mean() > 1


def test_a_registration_without_a_suffix_is_told_by_what_it_is(pair, tmp_path):
    folder = written(pair, Transform.linear(SHIFTED), tmp_path / "out")[1]
    file = (folder / "transform.dcm").rename(folder / "RE000001")
    np.testing.assert_allclose(Transform.load(file).matrix, SHIFTED, atol=1e-9)
    with pytest.raises(InvalidError, match=r"0001\.dcm: expected a Spatial Registration or a Deformable .* CT Image"):
        Transform.load(folder / "moved" / "0001.dcm")
    told = r"received '.*x\.dcm'\. --dicom of register and warp writes DICOM\."
    with pytest.raises(InvalidError, match=told):
        Transform.linear(SHIFTED).save(tmp_path / "x.dcm")
    with pytest.raises(InvalidError, match=told):
        pair.image.save(tmp_path / "x.dcm")


def second_matrix(data):
    sequence = data.RegistrationSequence[1].MatrixRegistrationSequence[0].MatrixSequence
    sequence.append(sequence[0])


def in_row(*values):
    def change(data):
        item = data.RegistrationSequence[1].MatrixRegistrationSequence[0].MatrixSequence[0]
        item.FrameOfReferenceTransformationMatrix = list(values)

    return change


def in_grid(**values):
    def change(data):
        for name, value in values.items():
            setattr(data.DeformableRegistrationSequence[0].DeformableRegistrationGridSequence[0], name, value)

    return change


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("RIGID", second_matrix, "one matrix, received 2 to be multiplied"),
        ("RIGID", lambda data: data.RegistrationSequence.append(data.RegistrationSequence[1]), "one registration, rec"),
        ("RIGID", in_row(*range(15)), "a matrix of four rows, the last one 0 0 0 1"),
        ("RIGID", in_row(*[0] * 15, 1), "a matrix that can be inverted"),
        ("field", in_grid(GridDimensions=[7, 6, 6]), "damaged: expected 3024 bytes of vectors, received 2520"),
        ("field", in_grid(GridDimensions=[7, 6, 2**30]), "at most 268435456 voxels"),
        ("field", in_grid(GridResolution=[1, 0, 1]), "damaged: expected three sizes"),
        ("field", in_grid(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), "damaged: the axes of its grid"),
        ("field", in_grid(VectorGridData=np.full(630, np.nan, "<f4").tobytes()), "finite displacements, received NaN"),
    ],
)
def test_damaged_registrations_are_refused(pair, tmp_path, kind, change, message):
    file = written(pair, transforms(pair)[kind], tmp_path / "out")[1] / "transform.dcm"
    data = pydicom.dcmread(file)
    change(data)
    data.save_as(file)
    with pytest.raises(InvalidError, match=message) as error:
        Transform.load(file)
    assert "Jane" not in str(error.value)


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "without lengths"])
def test_a_registration_that_is_cut_is_refused(pair, tmp_path, syntax):
    transform = transforms(pair)["field"]
    file = written(pair, transform, tmp_path / "out")[1] / "transform.dcm"
    data = pydicom.dcmread(file)
    if syntax == "implicit":
        data.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
    for element in data.iterall() if syntax == "without lengths" else ():
        if element.VR == "SQ":
            element.is_undefined_length = element.value.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
    data.save_as(file, implicit_vr=syntax == "implicit", little_endian=True)
    sound, points = file.read_bytes(), pair.grid.coordinates().reshape(-1, 3)
    np.testing.assert_allclose(Transform.load(file).apply_points(points), transform.apply_points(points), atol=1e-3)
    for end in (-1, -9, -30, -400, len(sound) // 2, 200):
        file.write_bytes(sound[:end])
        with pytest.raises(InvalidError, match=r"transform\.dcm"):
            Transform.load(file)


@pytest.mark.parametrize(
    "other", [{"PatientID": "4712"}, {"PatientID": "", "PatientName": "Doe^John"}, {"IssuerOfPatientID": "elsewhere"}]
)
def test_two_people_are_refused(tmp_path, other):
    here = {"PatientID": other["PatientID"] and "4711"} if "PatientID" in other else {"IssuerOfPatientID": "here"}
    fixed = write(tmp_path / "fixed", change=of_frame("1.2.33", **here))
    moving = Image.read(write(tmp_path / "moving", change=of_frame("1.2.44", **other)))
    with pytest.raises(
        InvalidError, match="--dicom: expected two images of one patient, received those of two"
    ) as told:
        DicomResult(tmp_path / "out", fixed, Grid.read(fixed), moving)
    assert not re.search("Jane|John|471", str(told.value))
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_dicom_is_refused_before_the_work(tmp_path):
    series = write(tmp_path / "ct")
    image, grid = Image.read(series), Grid.read(series)
    nifti = tmp_path / "moving.nii.gz"
    image.save(nifti)
    for moving, received in ((Image.read(nifti), "moving.nii.gz"), (Image(image.array, image.affine), "none")):
        with pytest.raises(InvalidError, match=f"--dicom: the moving image: expected DICOM, received {received}"):
            DicomResult(tmp_path / "out", series, grid, moving)
    with pytest.raises(InvalidError, match="a folder that is new or empty, received one that holds something"):
        DicomResult(series, series, grid, image)
    pet = Image.read(write(tmp_path / "pt", change=of_frame("1.2.3", Modality="PT")))
    with pytest.raises(InvalidError, match="--dicom: the moving image: expected CT or MR, received PT"):
        DicomResult(tmp_path / "out", series, grid, pet)
    nowhere = Image.read(
        write(tmp_path / "nowhere", change=lambda number, data: data.__delattr__("FrameOfReferenceUID"))
    )
    with pytest.raises(InvalidError, match="moving: expected DICOM with a FrameOfReferenceUID, received none"):
        DicomResult(tmp_path / "out", series, grid, nowhere)
    sheared = Grid(grid.shape, grid.affine @ affine([[1, 0.1, 0], [0, 1, 0], [0, 0, 1]], (0, 0, 0)))
    with pytest.raises(InvalidError, match="--dicom: the fixed image: expected rows and columns at right angles"):
        DicomResult(tmp_path / "out", None, sheared, image)
    tilted = Grid(grid.shape, grid.affine @ affine([[1, 0, 0.1], [0, 1, 0], [0, 0, 1]], (0, 0, 0)))
    place = DicomResult(tmp_path / "out", None, tilted, image)
    with pytest.raises(InvalidError, match="the grid of a field: expected axes at right angles, received a sheared"):
        place.save(image, Transform.from_field(waves(tilted), tilted))
    with pytest.raises(InvalidError, match="a conditional model gives no transform"):
        place.save(image, None)
    assert not (tmp_path / "out").exists()


def test_a_tilted_series_keeps_its_slices_in_place(tmp_path):
    image = Image.read(write(tmp_path / "ct"))
    tilted = Grid(image.shape, image.affine @ affine([[1, 0, 0.1], [0, 1, 0], [0, 0, 1]], (0, 0, 0)))
    DicomResult(tmp_path / "out", None, tilted, image).save(
        Image(image.array, tilted.affine), Transform.linear(SHIFTED)
    )
    assert Grid.read(tmp_path / "out" / "moved").same_as(tilted)


def test_warp_writes_dicom_and_takes_registrations(pair, tmp_path, monkeypatch):
    monkeypatch.chdir(pair.home)
    moved, folder = written(pair, transforms(pair)["field and matrix"], tmp_path / "out")
    files = ("warp", "moving", "--transform", str(folder / "transform.dcm"), "--reference", "fixed")
    code, out, told = run(*files, "-o", str(tmp_path / "moved.nii.gz"), "--dicom", str(tmp_path / "again"))
    assert (code, out) == (0, "")
    assert told == f"Written to {tmp_path / 'again'}, with all that names the patient: moved, transform.dcm\n"
    np.testing.assert_allclose(Image.read(tmp_path / "moved.nii.gz").array, moved.array, atol=0.02)
    np.testing.assert_array_equal(Image.read(tmp_path / "again" / "moved").array, Image.read(folder / "moved").array)
    assert run(*files, "--dicom", str(tmp_path / "alone"))[0] == 0
    wrong = ("warp", "fixed", "--transform", str(folder / "transform.dcm"), "--reference", "moving")
    told = run(*wrong, "-o", str(tmp_path / "wrong.nii.gz"))[2]
    assert "warning: transform.dcm leads from another frame of reference than that of moving. If it leads the" in told
    assert "-o is missing: the file to write." in run(*files)[2]
    assert "--dicom goes with an image" in run(*files, "--labels", "--dicom", "x")[2]
    code, out, _ = run("transform", str(folder / "transform.dcm"))
    assert code == 0
    assert out.startswith("step 1    field on (7, 6, 5)")
    assert "step 2    matrix" in out
