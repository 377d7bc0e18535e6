"""Every kind of ITK's transforms, in every file that holds it, leads where SimpleITK says; damaged ones are refused."""

import re

import ants
import h5py
import numpy as np
import pytest
import scipy.io
import SimpleITK as sitk
from worlds import affine, rotation

from regzoo.errors import InvalidError
from regzoo.world.images import Grid
from regzoo.world.transforms import Transform

FLIP = np.array([-1, -1, 1.0])
CENTRE, SHIFT, AXIS = (1.0, -2.0, 3.0), (4.0, -5.0, 6.0), (0.3, -0.5, 0.8)


def turned(kind, **settings):
    transform = kind()
    for name, value in settings.items():  # first, for ITK computes no new offset after them
        getattr(transform, f"Set{name}")(value)
    transform.SetRotation(AXIS, 0.7)
    transform.SetCenter(CENTRE)
    if kind is not sitk.VersorTransform:
        transform.SetTranslation(SHIFT)
    return transform


def euler(zyx=False):
    transform = sitk.Euler3DTransform(CENTRE, 0.3, -0.5, 0.8, SHIFT)
    transform.SetComputeZYX(zyx)
    return transform


def linear():
    transform = sitk.AffineTransform(3)
    transform.SetMatrix((1.1, 0.1, 0, 0, 0.9, 0.05, 0.02, 0, 1))
    transform.SetTranslation(SHIFT)
    transform.SetCenter(CENTRE)
    return transform


def scale():
    transform = sitk.ScaleTransform(3, (1.1, 0.8, 1.3))
    transform.SetCenter(CENTRE)
    return transform


def spline(size=4.0, mesh=(3, 5, 4)):
    transform = sitk.BSplineTransform(3, 3)
    transform.SetTransformDomainOrigin((-30, -20, 10))
    transform.SetTransformDomainPhysicalDimensions((60, 50, 45))
    transform.SetTransformDomainDirection(rotation(0.3, -0.2, 0.5).ravel())
    transform.SetTransformDomainMeshSize(mesh)
    count = len(transform.GetParameters())
    transform.SetParameters((size * np.random.default_rng(0).normal(size=count)).tolist())
    return transform


def field_image(pixel=sitk.sitkVectorFloat64):
    vectors = 3 * np.random.default_rng(1).normal(size=(6, 7, 8, 3))
    image = sitk.Cast(sitk.GetImageFromArray(vectors, isVector=True), pixel)
    image.SetOrigin((-20, -10, 5))
    image.SetSpacing((9, 7, 8))
    image.SetDirection((rotation(-0.2, 0.3, 0.1) * (1, -1, 1)).ravel())
    return image


def field():
    return sitk.DisplacementFieldTransform(field_image())


SCALES, SKEWS = (1.1, 0.8, 1.3), (0.01, -0.02, 0.03, 0.04, -0.05, 0.06)
LINEAR = {
    "affine": linear,
    "euler": euler,
    "euler of z, y, x": lambda: euler(zyx=True),
    "versor": lambda: turned(sitk.VersorTransform),
    "rigid": lambda: turned(sitk.VersorRigid3DTransform),
    "similarity": lambda: turned(sitk.Similarity3DTransform, Scale=1.2),
    "scaled": lambda: turned(sitk.ScaleVersor3DTransform, Scale=SCALES),
    "skewed": lambda: turned(sitk.ScaleSkewVersor3DTransform, Scale=SCALES, Skew=SKEWS),
    "composed": lambda: turned(sitk.ComposeScaleSkewVersor3DTransform, Scale=SCALES, Skew=SKEWS[:3]),
    "scale": scale,
    "translation": lambda: sitk.TranslationTransform(3, SHIFT),
}
OTHERS = {"spline": spline, "composite": lambda: sitk.CompositeTransform([linear(), spline(), euler(), scale()])}
POINTS = np.random.default_rng(2).uniform(-70, 70, (400, 3))


def expected(transform, points=POINTS):
    return np.array([transform.TransformPoint((point * FLIP).tolist()) for point in points]) * FLIP


def inside(transform, seed=3):
    """Returns points of RAS in the domain of a B-spline."""
    origin, size = transform.GetTransformDomainOrigin(), transform.GetTransformDomainPhysicalDimensions()
    shares = np.random.default_rng(seed).random((200, 3))
    axes = np.reshape(transform.GetTransformDomainDirection(), (3, 3)) * size
    return (shares @ axes.T + origin) * FLIP


CASES = [(name, suffix) for name in LINEAR | OTHERS for suffix in (".tfm", ".txt", ".h5", ".mat")]
CASES.remove(("composite", ".mat"))  # of which ITK loses parts; see below


@pytest.mark.parametrize(("name", "suffix"), CASES)
def test_points_go_where_simpleitk_moves_them(tmp_path, name, suffix):
    theirs = (LINEAR | OTHERS)[name]()
    sitk.WriteTransform(theirs, tmp_path / f"t{suffix}")
    ours = Transform.load(tmp_path / f"t{suffix}")
    np.testing.assert_allclose(ours.apply_points(POINTS), expected(theirs), atol=1e-6)
    assert (ours.matrix is not None) == (name in LINEAR)


@pytest.mark.parametrize("suffix", [".tfm", ".h5", ".mat"])
def test_numbers_of_single_precision_are_read(tmp_path, suffix):
    sitk.WriteTransform(linear(), tmp_path / f"t{suffix}")
    path = tmp_path / f"t{suffix}"
    if suffix == ".h5":
        with h5py.File(path, "a") as file:
            group = file["TransformGroup/0"]
            numbers = group["TransformParameters"][()].astype("f4")
            del group["TransformParameters"], group["TransformType"]
            group["TransformParameters"] = numbers
            group["TransformType"] = np.array([b"AffineTransform_float_3_3"])
    elif suffix == ".mat":
        found = scipy.io.loadmat(path)
        name = "MatrixOffsetTransformBase_float_3_3"
        numbers = {name: found["AffineTransform_double_3_3"].astype("f4"), "fixed": found["fixed"].astype("f4")}
        scipy.io.savemat(path, numbers, format="4")
    else:
        path.write_text(path.read_text().replace("AffineTransform_double", "MatrixOffsetTransformBase_float"))
    np.testing.assert_allclose(Transform.load(path).apply_points(POINTS), expected(linear()), atol=1e-4)


def test_what_ants_writes_as_mat_is_read(tmp_path):
    transform = ants.create_ants_transform("AffineTransform", dimension=3)
    transform.set_parameters([1.1, 0.1, 0, 0, 0.9, 0.05, 0.02, 0, 1, 4, -5, 6])
    transform.set_fixed_parameters(CENTRE)
    ants.write_transform(transform, str(tmp_path / "0GenericAffine.mat"))
    theirs = np.array([transform.apply_to_point((point * FLIP).tolist()) for point in POINTS]) * FLIP
    ours = Transform.load(tmp_path / "0GenericAffine.mat")
    np.testing.assert_allclose(ours.apply_points(POINTS), theirs, atol=1e-4)


@pytest.mark.parametrize("suffix", [".tfm", ".h5"])
def test_a_spline_moves_its_domain_and_nothing_beyond(tmp_path, suffix):
    theirs = spline()
    sitk.WriteTransform(theirs, tmp_path / f"b{suffix}")
    ours, points = Transform.load(tmp_path / f"b{suffix}"), inside(theirs)
    moved = ours.apply_points(points)
    np.testing.assert_allclose(moved, expected(theirs, points), atol=1e-6)
    assert np.linalg.norm(moved - points, axis=1).mean() > 1
    assert ours.covers(points).all()
    assert re.fullmatch(r"<Transform spline>", repr(ours))
    assert re.fullmatch(r"<Spline \(6, 8, 7\), 20 x 10 x 11.25 mm, .* oblique>", repr(ours.steps[0].steps[0]))
    beyond = POINTS[~ours.covers(POINTS)]
    assert len(beyond) > 200
    np.testing.assert_array_equal(ours.apply_points(beyond), beyond)
    np.testing.assert_allclose(expected(theirs, beyond), beyond, atol=1e-9)


def test_a_spline_is_undone_and_saved_as_a_field(tmp_path):
    theirs = spline(size=1.5)
    sitk.WriteTransform(theirs, tmp_path / "b.h5")
    ours, points = Transform.load(tmp_path / "b.h5"), inside(theirs)
    centre = points.mean(0)
    points = centre + 0.7 * (points - centre)  # not so near to the border that they are led beyond it
    moved = ours.apply_points(points)
    np.testing.assert_allclose(ours.invert_points(moved), points, atol=2e-3)
    np.testing.assert_allclose(ours.inverse().apply_points(moved), points, atol=0.05)
    grid = Grid((20, 20, 20), affine(np.diag([2, 2, 2]), centre - 20))
    ours.save(tmp_path / "field.nii.gz", grid)
    places = grid.coordinates().reshape(-1, 3)[::97]
    np.testing.assert_allclose(
        Transform.load(tmp_path / "field.nii.gz").apply_points(places), expected(theirs, places), atol=1e-4
    )
    with pytest.raises(InvalidError, match="grid: expected the fixed image's grid"):
        ours.save(tmp_path / "field.h5")


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("pixel", [sitk.sitkVectorFloat64, sitk.sitkVectorFloat32])
@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd"])
def test_a_field_in_an_image_moves_points_as_simpleitk_does(tmp_path, suffix, pixel, compress):
    sitk.WriteImage(field_image(pixel), tmp_path / f"f{suffix}", compress)
    ours = Transform.load(tmp_path / f"f{suffix}")
    points = POINTS / 2 + ours.grid.centre
    moved = ours.apply_points(points)
    np.testing.assert_allclose(moved, expected(field(), points), atol=1e-4)
    assert (np.linalg.norm(moved - points, axis=1) > 0.1).sum() > 100


def test_images_that_are_no_field_are_refused(tmp_path):
    scalar = sitk.GetImageFromArray(np.zeros((4, 5, 6), "float32"))
    sitk.WriteImage(scalar, tmp_path / "scalar.nrrd")
    pairs = sitk.GetImageFromArray(np.zeros((4, 5, 6, 2), "float32"), isVector=True)
    sitk.WriteImage(pairs, tmp_path / "pairs.mha")
    colour = sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), "uint8"), isVector=True)
    sitk.WriteImage(colour, tmp_path / "colour.mha")
    for name in ("scalar.nrrd", "pairs.mha", "colour.mha"):
        with pytest.raises(InvalidError, match=f"^{name}: expected a displacement field, three numbers"):
            Transform.load(tmp_path / name)
    vectors = sitk.GetArrayFromImage(field_image())
    vectors[1, 2, 3, 0] = np.nan
    sitk.WriteImage(sitk.GetImageFromArray(vectors, isVector=True), tmp_path / "nan.mha")
    with pytest.raises(InvalidError, match="expected finite displacements"):
        Transform.load(tmp_path / "nan.mha")


def test_a_damaged_field_in_an_image_is_refused(tmp_path):
    for name, compress in (("raw.mha", False), ("packed.mha", True), ("raw.nrrd", False), ("packed.nrrd", True)):
        sitk.WriteImage(field_image(), tmp_path / name, compress)
        sound = (tmp_path / name).read_bytes()
        changed = [sound[:-100]] + ([sound[:-99] + bytes([sound[-99] ^ 255]) + sound[-98:]] if compress else [])
        for data in changed:
            (tmp_path / name).write_bytes(data)
            with pytest.raises(InvalidError, match=f"^{name} is not a readable transform, or it is damaged"):
                Transform.load(tmp_path / name)
        (tmp_path / name).write_bytes(sound.replace(b"8 7 6\n", b"8 7 9999\n"))
        with pytest.raises(InvalidError, match="its header tells of 13438656 bytes, but the file can hold"):
            Transform.load(tmp_path / name)


def test_a_mat_that_is_damaged_or_holds_something_else_is_refused(tmp_path):
    path = tmp_path / "t.mat"
    sitk.WriteTransform(sitk.CompositeTransform([linear(), euler()]), path)
    with pytest.raises(InvalidError, match=r"t\.mat: expected one transform, received a composite of which some are"):
        Transform.load(path)
    sitk.WriteTransform(linear(), path)
    sound = path.read_bytes()
    for end in range(0, len(sound), 7):
        path.write_bytes(sound[:end])
        with pytest.raises(InvalidError, match="is not a readable transform"):
            Transform.load(path)
    path.write_bytes(sound + sound)
    with pytest.raises(InvalidError, match="is not a readable transform"):
        Transform.load(path)
    name, row = "AffineTransform_double_3_3", np.arange(12.0)[:, None]
    for arrays, message in (
        ({name: row}, "expected a transform and 'fixed'"),
        ({name: row, "fixed": np.zeros((3, 1)), "more": row}, "expected a transform and 'fixed'"),
        ({name: row[:11], "fixed": np.zeros((3, 1))}, "expected 12 parameters and 3 fixed ones"),
        ({name: row + 1j, "fixed": np.zeros((3, 1))}, "expected a row of numbers"),
        ({name: row.reshape(3, 4), "fixed": np.zeros((3, 1))}, "expected a row of numbers"),
        ({name: row * np.nan, "fixed": np.zeros((3, 1))}, "expected a finite"),
        ({"Other_double_3_3": row, "fixed": np.zeros((3, 1))}, "transform: expected one of"),
    ):
        scipy.io.savemat(path, arrays, format="4")
        with pytest.raises(InvalidError, match=message):
            Transform.load(path)


@pytest.mark.parametrize(
    ("kind", "parameters", "fixed", "message"),
    [
        ("VersorTransform", "0.8 0.8 0.3", "0 0 0", "expected a versor of length 1 at most"),
        ("VersorTransform", "0.1 0.2", "0 0 0", "expected 3 parameters and 3 fixed ones"),
        ("VersorRigid3DTransform", "0 0 0 1 2", "0 0 0", "expected 6 parameters and 3 fixed ones"),
        ("Similarity3DTransform", "0 0 0 1 2 3", "0 0 0", "expected 7 parameters and 3 fixed ones"),
        ("Euler3DTransform", "0 0 0 1 2", "0 0 0 0", "expected 6 parameters and 4 fixed ones"),
        ("Euler3DTransform", "0 0 0 1 2 3", "0 0", "expected 6 parameters and 4 fixed ones"),
        ("ScaleVersor3DTransform", "0 0 0 1 2 3", "0 0 0", "expected 9 parameters and 3 fixed ones"),
        ("ScaleSkewVersor3DTransform", "0 0 0 1 2 3", "0 0 0", "expected 15 parameters and 3 fixed ones"),
        ("ComposeScaleSkewVersor3DTransform", "0 0 0 1 2 3", "0 0 0", "expected 12 parameters and 3 fixed ones"),
        ("ScaleTransform", "1 1", "0 0 0", "expected 3 parameters and 3 fixed ones"),
        ("ScaleTransform", "1 1 nan", "0 0 0", "expected a finite"),
        ("BSplineTransform", "0 0 0", "3 4 4 0 0 0 1 1 1 1 0 0 0 1 0 0 0 1", "expected 144 parameters and 18"),
        ("BSplineTransform", "0 " * 144, "3 4 4 0 0 0 1 1 1 1 0 0 0 1 0 0 0 1", "expected four coefficients or more"),
        ("BSplineTransform", "nan " * 192, "4 4 4 0 0 0 1 1 1 1 0 0 0 1 0 0 0 1", "expected finite displacements"),
        ("BSplineTransform", "0 " * 192, "4 4 4 0 0 0 0 1 1 1 0 0 0 1 0 0 0 1", "expected a matrix that can be inv"),
    ],
)
def test_numbers_that_are_none_of_a_kind_are_refused(tmp_path, kind, parameters, fixed, message):
    lines = ("#Insight Transform File V1.0", f"Transform: {kind}_double_3_3", f"Parameters: {parameters}")
    (tmp_path / "t.tfm").write_text("\n".join([*lines, f"FixedParameters: {fixed}", ""]))
    with pytest.raises(InvalidError, match=message):
        Transform.load(tmp_path / "t.tfm")


def test_an_euler_transform_of_older_files_is_read(tmp_path):
    sitk.WriteTransform(euler(), tmp_path / "t.tfm")
    text = (tmp_path / "t.tfm").read_text()
    (tmp_path / "t.tfm").write_text(text.replace("FixedParameters: 1 -2 3 0", "FixedParameters: 1 -2 3"))
    np.testing.assert_allclose(Transform.load(tmp_path / "t.tfm").apply_points(POINTS), expected(euler()), atol=1e-9)


def test_splines_of_another_degree_are_refused(tmp_path):
    sitk.WriteTransform(sitk.BSplineTransform(3, 2), tmp_path / "t.tfm")
    with pytest.raises(InvalidError, match=r"transform: expected one of .* received BSplineTransform_double_3_3_2"):
        Transform.load(tmp_path / "t.tfm")
