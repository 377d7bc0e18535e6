"""`Image.of`: what a user has at hand becomes the image that a file of it would be, or one error."""

import nibabel
import numpy as np
import pytest
from worlds import AFFINES, affine, rotation

from regzoo.errors import InvalidError, MissingError, RegzooError
from regzoo.world.images import Image

SHAPE = (5, 6, 7)
OBLIQUE = affine(rotation(0.3, -0.2, 0.5) * (1.2, 1.7, 2.1), (-10, -22, 2))


def values(kind="float32"):
    return (np.random.default_rng(0).random(SHAPE) * 100).astype(kind)


def written(image, path):
    nibabel.save(image, path)
    return Image.read(path)


@pytest.mark.parametrize("kind", ["float32", "float64", "int16", "uint8", ">f4"])
@pytest.mark.parametrize("name", AFFINES)
def test_a_nibabel_image_is_the_image_of_its_file(tmp_path, name, kind):
    image = nibabel.Nifti1Image(values(kind), AFFINES[name])
    found = Image.of(image)
    again = written(image, tmp_path / "x.nii.gz")
    assert found.grid.same_as(again.grid)
    assert found.array.dtype == again.array.dtype == np.float32
    np.testing.assert_array_equal(found.array, again.array)


@pytest.mark.parametrize("sform", [0, 1, 4])
@pytest.mark.parametrize("qform", [0, 1, 2])
@pytest.mark.parametrize("update", [True, False])
def test_forms_of_a_nibabel_image_give_the_geometry_of_its_file(tmp_path, sform, qform, update):
    """Whichever form is set after the image was made, and whether or not `affine` follows it."""
    image = nibabel.Nifti1Image(values(), AFFINES["LPS"])
    image.set_sform(OBLIQUE, sform, update_affine=update)
    image.set_qform(AFFINES["anisotropic"], qform, update_affine=update)
    again = written(image, tmp_path / "x.nii")
    np.testing.assert_allclose(Image.of(image).affine, again.affine, atol=1e-5)
    read = nibabel.load(tmp_path / "x.nii")  # and once more from the file's own forms
    np.testing.assert_allclose(Image.of(read).affine, again.affine, atol=1e-5)


def test_a_header_in_metres_counts_in_millimetres():
    image = nibabel.Nifti1Image(values(), np.diag([0.001, 0.002, 0.003, 1]))
    image.header.set_xyzt_units("meter")
    np.testing.assert_allclose(Image.of(image).spacing, (1, 2, 3), rtol=1e-6)


def test_an_array_with_spacing_or_an_affine():
    array = values("int16")
    found = Image.of(array, spacing=(1, 2, 3))
    np.testing.assert_array_equal(found.affine, np.diag([1, 2, 3, 1]))
    np.testing.assert_array_equal(found.array, array.astype("float32"))
    assert found.array.dtype == np.float32
    np.testing.assert_array_equal(Image.of(array, affine=OBLIQUE).affine, OBLIQUE)
    flat = Image.of(array[:, :, 0], spacing=(1, 2))
    assert flat.shape == (5, 6, 1)
    np.testing.assert_array_equal(flat.spacing, (1, 2, 1))


def test_other_types_become_those_that_a_file_gives():
    bools = values() > 50
    found = Image.of(bools, spacing=(1, 1, 1))
    assert found.array.dtype == np.float32
    np.testing.assert_array_equal(found.array, bools)
    labels = Image.of(bools, labels=True, spacing=(1, 1, 1))
    assert labels.array.dtype == np.uint8
    whole = np.rint(values("float64") / 20)
    assert Image.of(whole, labels=True, affine=OBLIQUE).array.dtype == np.uint8
    assert Image.of(Image(whole, OBLIQUE), labels=True).array.dtype == np.uint8


def test_an_image_stays_what_it_is():
    for kind in ("float32", "float64"):
        image = Image(values(kind), OBLIQUE)
        assert Image.of(image) is image
    labels = Image(values("uint8"), OBLIQUE)
    assert Image.of(labels, labels=True) is labels
    for channels in (1, 2):  # one channel a label, of whole numbers or not
        soft = Image(np.zeros((*SHAPE, channels), "float32"), OBLIQUE)
        assert Image.of(soft, labels=True) is soft


@pytest.mark.parametrize(
    ("source", "given", "message"),
    [
        (values(), {}, r"^x: expected an array with one of spacing and affine, received neither. Pass spacing="),
        (values(), {"spacing": (1, 1, 1), "affine": np.eye(4)}, "^x: expected an array with one of .* received both"),
        (values(), {"spacing": (1, 0, 1)}, r"^spacing: expected three numbers of mm above 0, received \(1, 0, 1\)"),
        (values(), {"spacing": 1.5}, "^spacing: expected three numbers"),
        (values(), {"spacing": "abc"}, "^spacing: expected three numbers"),
        (values(), {"affine": np.eye(3)}, r"^x affine: expected a finite \(4, 4\) matrix"),
        (values(), {"affine": np.zeros((4, 4))}, "^x affine: expected a matrix that can be inverted"),
        (Image(values(), OBLIQUE), {"spacing": (1, 1, 1)}, "^spacing: expected none, for x is no array"),
        (nibabel.Nifti1Image(values(), OBLIQUE), {"affine": OBLIQUE}, "^affine: expected none, for x is no array"),
        ([[1, 2], [3, 4]], {}, r"^x: expected a path, an Image, a nibabel image or an array, received a builtins.list"),
        (None, {}, "^x: expected a path, an Image, .* received a builtins.NoneType"),
        (np.full(SHAPE, np.nan, "float32"), {"spacing": (1, 1, 1)}, "^x: expected finite values, received 210 NaN"),
        (Image(np.full(SHAPE, np.inf), OBLIQUE), {}, "^x: expected finite values, received 210 NaN"),
        (Image(np.ones(SHAPE), OBLIQUE), {}, "^x: expected an image, received the same value, 1, everywhere"),
        (nibabel.Nifti1Image(np.ones(SHAPE), OBLIQUE), {}, "^x: expected an image, received the same value"),
        (values("complex64"), {"spacing": (1, 1, 1)}, "^x: expected one number per voxel, received type complex64"),
        (np.full(SHAPE, "a"), {"spacing": (1, 1, 1)}, "^x: expected one number per voxel"),
        (values()[..., None] * np.ones(3), {"spacing": (1, 1, 1)}, "^x has 4 dimensions"),
        (np.zeros((0, 3, 3)), {"spacing": (1, 1, 1)}, "^x has 3 dimensions"),
        ("nowhere.nii", {"spacing": (1, 1, 1)}, "^spacing: expected none, for x is no array"),
    ],
    ids=str,
)
def test_what_is_no_image_is_refused_by_name(source, given, message):
    with pytest.raises(InvalidError, match=message):
        Image.of(source, "x", **given)


def test_labels_between_integers_are_refused_and_a_missing_file_is():
    with pytest.raises(InvalidError, match=r"^x: expected integer labels"):
        Image.of(Image(values(), OBLIQUE), "x", labels=True)
    with pytest.raises(MissingError, match="does not exist"):
        Image.of("nowhere.nii", "x")
    with pytest.raises(RegzooError, match="image array: expected shape"):
        Image([[1, 2]], np.eye(4))
