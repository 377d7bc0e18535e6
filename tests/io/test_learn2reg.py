"""Learn2Reg's displacement fields: its scores, written anew by its formulas, are those of the transform."""

import nibabel
import numpy as np
import pytest
from scipy import ndimage
from worlds import AFFINES, affine, blobs, rotation, waves

from regzoo.world.images import Grid, Image
from regzoo.world.jacobians import spread
from regzoo.world.transforms import Transform

SHAPE = (24, 18, 20)
TURN = affine(rotation(0.02, -0.03, 0.05), (2, -1, 0.5))


def saved(folder, name):
    """Returns a transform on a grid, and the displacements as Learn2Reg reads the file that is written of it."""
    grid = Grid(SHAPE, AFFINES[name])
    transform = Transform.from_field(waves(grid, 2.0), grid).then(Transform.linear(TURN))
    transform.save(folder / "disp_0001_0002.nii.gz", form="learn2reg")
    return transform, grid, nibabel.load(folder / "disp_0001_0002.nii.gz").get_fdata()


def warped(moving, voxels):
    identity = np.meshgrid(*map(np.arange, voxels.shape[:3]), indexing="ij")
    return ndimage.map_coordinates(moving, identity + voxels.transpose(3, 0, 1, 2), order=0)


def dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def sdlogj(voxels):
    """Its own: derivatives by [-1/2, 0, 1/2], two voxels of the border cut, log of the determinant plus 3."""
    slopes = np.empty((3, 3, *voxels.shape[:3]))
    for axis in range(3):
        weights = np.array([-0.5, 0, 0.5]).reshape(np.roll([3, 1, 1], axis))
        for component in range(3):
            slopes[axis, component] = ndimage.correlate(voxels[..., component], weights, mode="constant")
    jacobian = (slopes + np.eye(3)[..., None, None, None])[..., 2:-2, 2:-2, 2:-2]
    determinant = np.linalg.det(np.moveaxis(jacobian, (0, 1), (-2, -1)))
    return np.log(np.clip(determinant + 3, 1e-9, 1e9)).std()


@pytest.mark.parametrize("name", ["LAS", "anisotropic", "permuted", "oblique"])
def test_its_scores_are_those_of_the_transform(tmp_path, name):
    transform, grid, voxels = saved(tmp_path, name)
    # At the border, what leads beyond the outermost voxels' centres is nothing to Learn2Reg, and to us the voxel.
    inner = np.pad(np.ones(np.array(SHAPE) - 2, bool), 1)
    labels = Image((4 * blobs(grid).array * inner).astype("uint8"), grid.affine)
    ours = transform.apply_labels(labels, grid).array
    theirs = warped(labels.array.astype(float), voxels)
    assert (ours != theirs).mean() < 1e-3  # a voxel may lie on the border of two
    for label in (1, 2, 3):
        before = dice(ours == label, labels.array == label)
        assert dice(ours == label, theirs == label) > 0.995 > before
    assert sdlogj(voxels) == pytest.approx(spread(transform.jacobian_determinant(grid))["sdlogj_l2r"], rel=1e-3)
    assert sdlogj(voxels) > 0.005


def test_its_landmarks_in_voxels_go_where_the_transform_leads(tmp_path):
    transform, grid, voxels = saved(tmp_path, "oblique")
    fixed = np.random.default_rng(0).integers(2, np.array(SHAPE) - 2, (30, 3))
    there = fixed + np.stack([ndimage.map_coordinates(voxels[..., axis], fixed.T) for axis in range(3)], axis=1)
    moved = transform.apply_points(fixed @ grid.affine[:3, :3].T + grid.affine[:3, 3])
    np.testing.assert_allclose(there @ grid.affine[:3, :3].T + grid.affine[:3, 3], moved, atol=1e-3)


def test_a_shift_of_two_voxels_is_two(tmp_path):
    grid = Grid(SHAPE, AFFINES["permuted"])
    shift = grid.affine[:3, :3] @ (0, 2, 0)
    Transform.linear(affine(np.eye(3), shift)).save(tmp_path / "d.nii.gz", grid, form="learn2reg")
    voxels = nibabel.load(tmp_path / "d.nii.gz").get_fdata()
    np.testing.assert_allclose(voxels, np.broadcast_to((0, 2, 0), (*SHAPE, 3)), atol=1e-5)
