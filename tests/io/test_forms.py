"""Headers that leave the geometry open: what is taken, what ITK takes, and that it is said in words."""

import struct
import warnings

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from worlds import affine, rotation

from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform

PLAIN = affine(np.diag([1.5, 1.2, 2.0]), (-30, -20, -25))
OBLIQUE = affine(rotation(0.3, -0.2, 0.4) * (1.5, 1.2, 2.0), (10, -40, 30))
LPS = np.diag([-1, -1, 1, 1.0])


def write(path, sform, qform, scode, qcode):
    """Writes both forms byte by byte, so that no library makes them agree."""
    array = np.random.default_rng(0).random((5, 6, 7)).astype("float32")
    image = nibabel.Nifti1Image(array, qform)
    image.set_qform(qform, 1)
    image.set_sform(sform, 1, update_affine=False)
    nibabel.save(image, path)
    raw = bytearray(path.read_bytes())
    struct.pack_into("<hh", raw, 252, qcode, scode)
    for row, offset in enumerate((280, 296, 312)):
        struct.pack_into("<ffff", raw, offset, *sform[row])
    quaternion = nibabel.Nifti1Image(array, qform).header
    quaternion.set_qform(qform, 1)
    for offset, key in zip(range(256, 280, 4), ("quatern_b", "quatern_c", "quatern_d"), strict=False):
        struct.pack_into("<f", raw, offset, float(quaternion[key]))
    struct.pack_into("<fff", raw, 268, *qform[:3, 3])
    path.write_bytes(raw)
    return path


def itk_affine(path):
    image = sitk.ReadImage(path)
    found = np.eye(4)
    found[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    found[:3, 3] = image.GetOrigin()
    return LPS @ found


@pytest.mark.parametrize("qcode", [0, 1, 2, 4])
@pytest.mark.parametrize("scode", [0, 1, 2, 4])
@pytest.mark.parametrize("equal", [True, False])
def test_a_remark_says_what_itk_takes(tmp_path, equal, scode, qcode):
    path = write(tmp_path / "x.nii", OBLIQUE, OBLIQUE if equal else PLAIN, scode, qcode)
    image, theirs = Image.read(path), itk_affine(path)
    if scode or qcode:
        np.testing.assert_allclose(image.affine, OBLIQUE if equal or scode else PLAIN, atol=1e-4)
    same = np.allclose(image.affine, theirs, atol=1e-3)
    if equal and (scode or qcode):
        assert image.remark == ""
        assert same
    elif not (scode or qcode):
        assert not same
        assert "no geometry (sform and qform code 0)" in image.remark
        assert "ITK and ANTs take another place" in image.remark
    elif not (scode and qcode):
        assert image.remark == ""
        assert same
    else:
        assert image.remark.startswith(f"sform (code {scode}) and qform (code {qcode}) of the header are up to ")
        assert ("regzoo takes the sform, and so do ITK and ANTs" in image.remark) == same
        assert ("ITK and ANTs take the qform" in image.remark) == np.allclose(theirs, PLAIN, atol=1e-3)
    assert Image.of(nibabel.load(path)).remark == image.remark
    if image.remark:
        assert "regzoo.Image.read(FILE).save(COPY)" in image.remark
        image.save(tmp_path / "copy.nii.gz")
        again = Image.read(tmp_path / "copy.nii.gz")
        assert again.remark == ""
        np.testing.assert_allclose(itk_affine(tmp_path / "copy.nii.gz"), image.affine, atol=1e-3)


def test_rounding_in_a_header_is_no_disagreement(tmp_path):
    other = OBLIQUE.copy()
    other[:3, 3] += 0.02
    assert Image.read(write(tmp_path / "x.nii", OBLIQUE, other, 2, 1)).remark == ""
    other[:3, 3] += 0.2
    assert "up to 0.381 mm apart" in Image.read(write(tmp_path / "x.nii", OBLIQUE, other, 2, 1)).remark


@pytest.mark.parametrize(
    ("place", "kind", "value", "words"),
    [
        (0, "<i", 349, "sizeof_hdr should be 348"),
        (80, "<f", -1.2, "pixdim[1,2,3] should be positive; setting to abs of pixdim values"),
        (252, "<h", 77, "qform_code 77 not valid; setting to 0"),
    ],
)
def test_what_is_mended_of_a_header_is_said_of_its_file(tmp_path, capfd, place, kind, value, words):
    path = write(tmp_path / "x.nii", PLAIN, PLAIN, 1, 1)
    raw = bytearray(path.read_bytes())
    struct.pack_into(kind, raw, place, value)
    path.write_bytes(raw)
    assert f"the header is faulty and was read so: {words}" in Image.read(path).remark
    assert capfd.readouterr().err == ""


def test_a_sheared_header_is_told_of_and_others_are_not(tmp_path):
    sheared = PLAIN @ np.array([[1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    array = np.random.default_rng(0).random((5, 6, 7)).astype("float32")
    for name, geometry, said in (("a", sheared, True), ("b", OBLIQUE, False), ("c", -PLAIN, False)):
        image = nibabel.Nifti1Image(array, geometry)
        image.set_sform(geometry, 1)
        image.header["qform_code"] = 0
        nibabel.save(image, tmp_path / f"{name}.nii")
        assert ("not at right angles" in Image.read(tmp_path / f"{name}.nii").remark) == said
    with pytest.raises(RuntimeError, match="orthonormal"):
        sitk.ReadImage(tmp_path / "a.nii")


@pytest.mark.parametrize(("scode", "qcode", "said"), [(2, 1, "ITK and ANTs take the qform"), (1, 0, None)])
def test_what_the_header_of_a_field_leaves_open_is_told(tmp_path, scode, qcode, said):
    path = tmp_path / "field.nii"
    Transform.from_voxel_ddf(np.zeros((5, 6, 7, 3), "float32"), Grid((5, 6, 7), OBLIQUE)).save(path)
    image = nibabel.load(path)
    image = nibabel.Nifti1Image(np.asarray(image.dataobj), OBLIQUE, image.header)
    image.set_sform(OBLIQUE, scode)
    image.set_qform(PLAIN, qcode)
    nibabel.save(image, path)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        Transform.load(path)
    assert [str(each.message) for each in told if said and said in str(each.message)] == [
        str(each.message) for each in told
    ]
    assert bool(told) == bool(said)
