"""Transforms as others read what was written: points within 1e-3 mm and images within 1e-4 of the range."""

import ants
import numpy as np
import pandas
import pytest
import SimpleITK as sitk
from worlds import AFFINES, affine, around, blobs, rotation, waves

from regzoo.errors import InvalidError
from regzoo.world.images import Grid
from regzoo.world.transforms import Transform

NIFTI_NAME, MATRIX_NAME = "regzoo.io.volumes.nifti.save", "regzoo.io.transforms.itk_mat.write"
FLIP = np.array([-1, -1, 1.0])
TURN = affine(rotation(0.2, -0.1, 0.3) * (1.1, 0.95, 1.05), (3, -2, 5))
SHAPE = (14, 12, 10)


def field_and_matrix(name):
    grid = Grid(SHAPE, AFFINES[name])
    return Transform.from_field(waves(grid, 1.5), grid).then(Transform.linear(TURN))


def by_itk(transform, points):
    return np.array([transform.TransformPoint((point * FLIP).tolist()) for point in points]) * FLIP


def by_ants(files, points):
    table = pandas.DataFrame(points * FLIP, columns=[*"xyz"])
    return ants.apply_transforms_to_points(3, table, [str(file) for file in files]).to_numpy()[:, :3] * FLIP


def inside(grid):
    """Returns points between the voxels of a grid."""
    lowest = np.random.default_rng(0).uniform(1, np.array(grid.shape) - 2, (60, 3))
    return lowest @ grid.affine[:3, :3].T + grid.affine[:3, 3]


def test_a_matrix_in_mat_is_read_by_itk_and_ants(tmp_path):
    path, points = tmp_path / "0GenericAffine.mat", 40 * np.random.default_rng(0).normal(size=(50, 3))
    Transform.linear(TURN).save(path)
    expected = points @ TURN[:3, :3].T + TURN[:3, 3]
    theirs = sitk.ReadTransform(path)
    assert theirs.Downcast().GetName() == "AffineTransform"
    np.testing.assert_allclose(by_itk(theirs, points), expected, atol=1e-9)
    np.testing.assert_allclose(by_ants([path], points), expected, atol=1e-3)
    np.testing.assert_allclose(Transform.load(path).apply_points(points), expected, atol=1e-9)
    grid = Grid(SHAPE, AFFINES["oblique"])
    with pytest.raises(InvalidError, match=r"expected a name ending in .*, to write a field, received '.*f\.mat'"):
        Transform.from_field(waves(grid), grid).save(tmp_path / "f.mat")


@pytest.mark.parametrize("name", ["LAS", "anisotropic", "permuted", "oblique"])
def test_the_pair_of_ants_moves_points_and_images_as_the_transform_does(tmp_path, name):
    ours = field_and_matrix(name)
    grid, prefix = ours.grid, tmp_path / "sub-"
    ours.save(prefix, form="ants")
    files = [tmp_path / "sub-1Warp.nii.gz", tmp_path / "sub-0GenericAffine.mat"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*(file.name for file in files), "sub-1InverseWarp.nii.gz"]
    )
    points = inside(grid)
    np.testing.assert_allclose(by_ants(files, points), ours.apply_points(points), atol=1e-3)
    read = Transform.load(files[0]).then(Transform.load(files[1]))
    np.testing.assert_allclose(read.apply_points(points), ours.apply_points(points), atol=1e-4)
    wide = around(grid, "RAS", margin=15)
    blobs(wide).save(tmp_path / "moving.nii.gz")
    blobs(grid).save(tmp_path / "fixed.nii.gz")
    fixed, moving = (ants.image_read(str(tmp_path / f"{each}.nii.gz")) for each in ("fixed", "moving"))
    theirs = ants.apply_transforms(fixed, moving, [str(file) for file in files], interpolator="linear").numpy()
    np.testing.assert_allclose(ours.apply_image(blobs(wide), grid).array, theirs, atol=1e-4)
    assert theirs.std() > 0.03


def test_the_inverse_of_the_pair_undoes_its_field_alone(tmp_path):
    ours = field_and_matrix("oblique")
    ours.save(tmp_path / "s", form="ants")
    there, back = (
        sitk.DisplacementFieldTransform(sitk.ReadImage(tmp_path / f"s1{name}.nii.gz", sitk.sitkVectorFloat64))
        for name in ("Warp", "InverseWarp")
    )
    points = inside(Grid((8, 6, 5), ours.grid.affine @ affine(np.eye(3), (3, 3, 3))))
    moved = by_itk(there, points)
    assert np.linalg.norm(moved - points, axis=1).mean() > 0.5
    np.testing.assert_allclose(by_itk(back, moved), points, atol=0.05)


@pytest.mark.parametrize("failing", [NIFTI_NAME, MATRIX_NAME])
def test_a_pair_that_is_not_written_whole_leaves_no_older_file_beside_new_ones(tmp_path, monkeypatch, failing):
    ours = field_and_matrix("oblique")
    ours.save(tmp_path / "s", form="ants")
    assert len([*tmp_path.iterdir()]) == 3

    def full(*_arguments):
        raise OSError

    monkeypatch.setattr(failing, full)
    with pytest.raises(OSError):  # noqa: PT011 - which has no words
        ours.save(tmp_path / "s", form="ants")
    assert [path.name for path in tmp_path.iterdir()] == (["s1Warp.nii.gz"] if failing == MATRIX_NAME else [])


def test_a_matrix_alone_goes_beside_no_older_field_of_the_prefix(tmp_path):
    field_and_matrix("oblique").save(tmp_path / "s", form="ants")
    before = (tmp_path / "s0GenericAffine.mat").read_bytes()
    with pytest.raises(InvalidError, match=r"prefix: expected one without a field, .* received .*s1Warp\.nii\.gz"):
        Transform.linear(TURN).save(tmp_path / "s", form="ants")
    assert (tmp_path / "s0GenericAffine.mat").read_bytes() == before


def test_a_composite_is_read_by_itk_within_a_thousandth_of_a_millimetre(tmp_path):
    for name in ("LPS", "oblique"):
        ours = field_and_matrix(name)
        ours.save(tmp_path / "both.h5")
        points = inside(ours.grid)
        np.testing.assert_allclose(
            by_itk(sitk.ReadTransform(tmp_path / "both.h5"), points), ours.apply_points(points), atol=1e-3
        )


def test_a_pair_of_a_matrix_alone_has_no_field_and_one_of_a_field_alone_has_the_identity(tmp_path):
    Transform.linear(TURN).save(tmp_path / "m", form="ants")
    assert [path.name for path in tmp_path.iterdir()] == ["m0GenericAffine.mat"]
    grid = Grid(SHAPE, AFFINES["permuted"])
    Transform.from_field(waves(grid, 1.5), grid).save(tmp_path / "f", form="ants")
    np.testing.assert_array_equal(Transform.load(tmp_path / "f0GenericAffine.mat").matrix, np.eye(4))
    np.testing.assert_array_equal(Transform.load(tmp_path / "f1Warp.nii.gz").displacement(grid), waves(grid, 1.5))


def test_no_inverse_is_written_of_what_folds_and_an_older_one_goes(tmp_path):
    grid = Grid(SHAPE, AFFINES["oblique"])
    Transform.from_field(waves(grid, 1.5), grid).save(tmp_path / "f", form="ants")
    assert (tmp_path / "f1InverseWarp.nii.gz").exists()
    vectors = waves(grid, 1.5)
    vectors[5, 5, 5] += 6
    with pytest.warns(UserWarning, match=r"no inverse is written, for the field folds at 0\.\d\d% of its voxels"):
        Transform.from_field(vectors, grid).save(tmp_path / "f", form="ants")
    assert not (tmp_path / "f1InverseWarp.nii.gz").exists()
    np.testing.assert_array_equal(Transform.load(tmp_path / "f1Warp.nii.gz").displacement(grid), vectors)


def test_a_form_that_is_none_is_told():
    with pytest.raises(InvalidError, match=r"Unknown form 'ant'\. Did you mean 'ants'\?"):
        Transform.linear(TURN).save("x", form="ant")
