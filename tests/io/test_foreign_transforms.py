"""Transforms of FSL, FreeSurfer and NiTransforms lead where these say: known shifts, and NiTransforms itself."""

import itertools

import h5py
import nibabel
import numpy as np
import pytest
from nitransforms import linear, manip, nonlinear
from nitransforms.io import x5
from nitransforms.io.fsl import FSLLinearTransform
from nitransforms.io.lta import FSLinearTransform, FSLinearTransformArray
from worlds import AFFINES, affine, rotation, waves

from regzoo.errors import InvalidError
from regzoo.world.images import Grid
from regzoo.world.transforms import Transform

MATRIX = affine(rotation(0.2, -0.1, 0.3) * (1.1, 0.9, 1.0), (3, -7, 5))
POINTS = np.random.default_rng(0).uniform(-50, 50, (40, 3))
EXPECTED = POINTS @ MATRIX[:3, :3].T + MATRIX[:3, 3]
PAIRS = list(itertools.permutations(("RAS", "LAS", "anisotropic", "permuted", "oblique"), 2))
FIXED_SHAPE, MOVING_SHAPE = (9, 12, 10), (14, 8, 11)


def image(grid):
    return nibabel.Nifti1Image(np.zeros(grid.shape, "uint8"), grid.affine)


@pytest.mark.parametrize("name", ["LAS", "RAS"])
def test_fsl_counts_from_the_moving_to_the_fixed_image_with_l_on_the_right(tmp_path, name):
    # By 3 mm, two voxels, along FSL's x, which runs to the left in both; so R in the fixed image is 3 mm more R there.
    (tmp_path / "t.mat").write_text("1 0 0 3\n0 1 0 0\n0 0 1 -1.5\n0 0 0 1\n")
    grid = Grid(FIXED_SHAPE, AFFINES[name])
    found = Transform.load(tmp_path / "t.mat", fixed=grid, moving=grid)
    np.testing.assert_allclose(found.apply_points(POINTS), POINTS + np.array([3, 0, 1.5]), atol=1e-9)


@pytest.mark.parametrize(("fixed", "moving"), PAIRS)
def test_matrices_of_fsl_are_read_and_written_as_by_nitransforms(tmp_path, fixed, moving):
    fixed, moving = Grid(FIXED_SHAPE, AFFINES[fixed]), Grid(MOVING_SHAPE, AFFINES[moving])
    theirs = FSLLinearTransform.from_ras(MATRIX, moving=image(moving), reference=image(fixed))
    theirs.to_filename(tmp_path / "theirs.mat")
    found = Transform.load(tmp_path / "theirs.mat", fixed=fixed, moving=moving)
    np.testing.assert_allclose(found.apply_points(POINTS), EXPECTED, atol=1e-4)
    Transform.linear(MATRIX).save(tmp_path / "ours.mat", fixed, moving=moving, form="fsl")
    again = FSLLinearTransform.from_filename(tmp_path / "ours.mat").to_ras(moving=image(moving), reference=image(fixed))
    np.testing.assert_allclose(again, MATRIX, atol=1e-4)
    back = Transform.load(tmp_path / "ours.mat", fixed=fixed, moving=moving)
    np.testing.assert_allclose(back.apply_points(POINTS), EXPECTED, atol=1e-8)


def test_a_matrix_of_fsl_without_its_images_is_refused_with_what_to_do(tmp_path):
    path = tmp_path / "t.mat"
    path.write_text("1 0 0 3\n0 1 0 0\n0 0 1 -1.5\n0 0 0 1\n")
    grid = Grid(FIXED_SHAPE, AFFINES["RAS"])
    for given in ({}, {"fixed": grid}, {"moving": grid}):
        with pytest.raises(InvalidError, match=r"^t\.mat: expected both images .* regzoo transform FILE --reference"):
            Transform.load(path, **given)
    for text in ("1 0 0 3\n0 1 0 0\n0 0 1 -1.5\n", "1 2 3\n" * 4, "1 0 0 a\n" * 4, "0 0 0 0\n" * 4, "nan 0 0 0\n" * 4):
        path.write_text(text)
        with pytest.raises(InvalidError, match=r"^t\.mat"):
            Transform.load(path, fixed=grid, moving=grid)
    for given in ({}, {"grid": grid}, {"moving": grid}):
        with pytest.raises(InvalidError, match="expected the voxels of both images"):
            Transform.linear(MATRIX).save(path, **given, form="fsl")


HEAD = "type      = {}\nnxforms   = 1\nmean      = 0.0 0.0 0.0\nsigma     = 1.0\n1 4 4\n"
SHIFTED = "1 0 0 {}\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"


def geometry(which, grid):
    """Returns the text for an image, from the header that nibabel makes for FreeSurfer's own format."""
    header = nibabel.MGHImage(np.zeros(grid.shape, "uint8"), grid.affine).header
    axes = [" ".join(map(repr, map(float, row))) for row in header["Mdc"]]
    lines = [f"{which} volume info", "valid = 1  # volume info valid", f"filename = /data/{which}#1.mgz"]
    lines += ["volume = {} {} {}".format(*grid.shape), "voxelsize = {} {} {}".format(*header["delta"])]
    lines += [f"{name}ras   = {axis}" for name, axis in zip("xyz", axes, strict=True)]
    return "\n".join([*lines, "cras   = {} {} {}".format(*header["Pxyz_c"]), ""])


def lta(kind, rows, fixed, moving):
    tail = "subject fsaverage\nfscale 0.15\n"
    return "# transform file x\n" + HEAD.format(kind) + rows + geometry("src", moving) + geometry("dst", fixed) + tail


def test_freesurfer_counts_from_the_moving_to_the_fixed_image(tmp_path):
    fixed, moving = Grid((10, 12, 14), AFFINES["permuted"]), Grid((10, 12, 14), AFFINES["permuted"])
    (tmp_path / "t.lta").write_text(lta("1 # LINEAR_RAS_TO_RAS", SHIFTED.format(5), fixed, moving))
    np.testing.assert_allclose(Transform.load(tmp_path / "t.lta").apply_points(POINTS), POINTS - np.array([5, 0, 0]))
    # One voxel along i, which runs 1.5 mm to A; moving to fixed, so that fixed points are P of it there.
    (tmp_path / "t.lta").write_text(lta("0 # LINEAR_VOX_TO_VOX", SHIFTED.format(1), fixed, moving))
    found = Transform.load(tmp_path / "t.lta").apply_points(POINTS)
    np.testing.assert_allclose(found, POINTS - np.array([0, 1.5, 0]), atol=1e-5)


@pytest.mark.parametrize(("fixed", "moving"), PAIRS[::3])
def test_an_lta_is_read_and_written_as_by_nitransforms(tmp_path, fixed, moving):
    fixed, moving = Grid(FIXED_SHAPE, AFFINES[fixed]), Grid(MOVING_SHAPE, AFFINES[moving])
    in_voxels = np.linalg.inv(fixed.affine) @ np.linalg.inv(MATRIX) @ moving.affine
    rows = "\n".join(" ".join(map(repr, map(float, row))) for row in in_voxels) + "\n"
    (tmp_path / "voxels.lta").write_text(lta(0, rows, fixed, moving))
    found = Transform.load(tmp_path / "voxels.lta")
    np.testing.assert_allclose(found.apply_points(POINTS), EXPECTED, atol=1e-4)
    theirs = FSLinearTransform.from_ras(MATRIX, moving=image(moving), reference=image(fixed)).to_string()
    (tmp_path / "theirs.lta").write_text(theirs)
    np.testing.assert_allclose(Transform.load(tmp_path / "theirs.lta").matrix, MATRIX, atol=1e-6)
    Transform.linear(MATRIX).save(tmp_path / "ours.lta", fixed, moving=moving)
    text = (tmp_path / "ours.lta").read_text()
    np.testing.assert_allclose(FSLinearTransformArray.from_string(text).to_ras()[0], MATRIX, atol=1e-4)
    inner = FSLinearTransformArray.from_string(text).xforms[0]
    for which, grid in (("src", moving), ("dst", fixed)):
        np.testing.assert_allclose(inner[which].as_affine(), grid.affine, atol=1e-5)
    # As FreeSurfer's own programs take it: in voxels of both images, by what the file says of them.
    voxels = text.replace("type      = 1 # LINEAR_RAS_TO_RAS", "type      = 0")
    rows = np.linalg.inv(fixed.affine) @ np.linalg.inv(MATRIX) @ moving.affine
    old = "\n".join(text.splitlines()[5:9])
    (tmp_path / "again.lta").write_text(
        voxels.replace(old, "\n".join(" ".join(map(repr, map(float, r))) for r in rows))
    )
    np.testing.assert_allclose(Transform.load(tmp_path / "again.lta").apply_points(POINTS), EXPECTED, atol=1e-8)


def test_an_lta_that_is_cut_or_of_another_kind_is_refused(tmp_path):
    grid = Grid(FIXED_SHAPE, AFFINES["oblique"])
    path, sound = tmp_path / "t.lta", lta(0, SHIFTED.format(1), grid, grid)
    for text, message in (
        (sound.replace("type      = 0", "type      = 14"), r"expected one transform of type 1 .*received 1 of type 14"),
        (sound.replace("nxforms   = 1", "nxforms   = 2"), "received 2 of type 0"),
        (sound.replace("valid = 1", "valid = 0"), "expected a valid 'src volume info', for it counts in voxels"),
        (sound.replace("voxelsize = ", "voxelsize = 0 0 0 #"), "expected a 'src volume info' that can be inverted"),
        (sound.replace("1 0 0 1\n", "1 0 0\n"), "is not a readable transform"),
        (sound.replace("1 0 0 1\n", "0 0 0 1\n"), "expected a matrix that can be inverted"),
        (sound.replace("mean", "nonsense\nmean"), "the line 'nonsense' is out of place"),
        (sound.replace("mean", "type = 1\nmean"), "the line 'type = 1' is out of place"),
        ("", "is not a readable transform"),
    ):
        path.write_text(text)
        with pytest.raises(InvalidError, match=message):
            Transform.load(path)
    with pytest.raises(InvalidError, match=r"x\.lta: expected the voxels of both images to be written"):
        Transform.linear(MATRIX).save(tmp_path / "x.lta", grid)


def test_a_matrix_in_x5_is_read_and_written_as_by_nitransforms(tmp_path):
    reference = image(Grid(FIXED_SHAPE, AFFINES["LPS"]))
    linear.Affine(MATRIX, reference=reference).to_filename(tmp_path / "theirs.x5", fmt="X5")
    np.testing.assert_allclose(Transform.load(tmp_path / "theirs.x5").matrix, MATRIX)
    Transform.linear(MATRIX).save(tmp_path / "ours.x5")
    theirs = manip.TransformChain.from_filename(tmp_path / "ours.x5", x5_chain=None)[0]
    np.testing.assert_allclose(theirs.map(POINTS), EXPECTED, atol=1e-4)


@pytest.mark.parametrize("name", ["LPS", "permuted", "oblique"])
def test_a_field_in_x5_is_read_and_written_as_by_nitransforms(tmp_path, name):
    grid = Grid(FIXED_SHAPE, AFFINES[name])
    places, field = grid.coordinates().reshape(-1, 3)[::37], Transform.from_field(waves(grid), grid)
    theirs = nonlinear.DenseFieldTransform(nibabel.Nifti1Image(waves(grid), grid.affine))
    x5.to_filename(tmp_path / "theirs.x5", [theirs.to_x5()])
    found = Transform.load(tmp_path / "theirs.x5")
    assert found.grid.same_as(grid)
    np.testing.assert_allclose(found.apply_points(places), field.apply_points(places), atol=1e-5)
    field.save(tmp_path / "ours.x5")
    again = nonlinear.load(tmp_path / "ours.x5")
    np.testing.assert_allclose(again.map(places), field.apply_points(places), atol=1e-3)


def test_a_chain_in_x5_goes_through_the_field_first(tmp_path):
    grid = Grid(FIXED_SHAPE, AFFINES["oblique"])
    both = Transform.from_field(waves(grid), grid).then(Transform.linear(MATRIX))
    both.save(tmp_path / "ours.x5")
    places = grid.coordinates().reshape(-1, 3)[::37]
    theirs = manip.TransformChain.from_filename(tmp_path / "ours.x5")
    np.testing.assert_allclose(theirs.map(places), both.apply_points(places), atol=1e-3)
    found = Transform.load(tmp_path / "ours.x5")
    np.testing.assert_allclose(found.apply_points(places), both.apply_points(places), atol=1e-4)


def test_an_x5_of_something_else_is_refused(tmp_path):
    path = tmp_path / "t.x5"
    for change, message in (
        (lambda file: file.attrs.update(Format="X6"), "its Format is not X5"),
        (lambda file: file.copy("TransformGroup/0", "TransformGroup/1"), "received 2 transforms and 0 chains"),
        (lambda file: file["TransformGroup/0"].attrs.update(Type="composite"), r"expected a matrix \(linear\) or a"),
        (lambda file: file["TransformGroup/0/Transform"].write_direct(np.full((4, 4), np.nan)), "expected a finite"),
        (lambda file: file.pop("TransformGroup/0/Transform"), "is not a readable transform"),
    ):
        Transform.linear(MATRIX).save(path)
        with h5py.File(path, "a") as file:
            change(file)
        with pytest.raises(InvalidError, match=message):
            Transform.load(path)
    grid = Grid(FIXED_SHAPE, AFFINES["oblique"])
    Transform.from_field(waves(grid), grid).save(path)
    with h5py.File(path, "a") as file:
        file["TransformGroup/0/Domain/Size"][...] = (9, 10, 12)
    with pytest.raises(InvalidError, match="its domain is not that of displacements of shape"):
        Transform.load(path)
