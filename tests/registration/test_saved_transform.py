"""What a result keeps of its transform: a matrix as a matrix, a field with what goes on beyond it."""

import dataclasses

import numpy as np
import pytest
import SimpleITK as sitk
from worlds import AFFINES, affine, around, blobs, rotation, waves

from regzoo.registration.results import Result
from regzoo.world.images import Grid
from regzoo.world.transforms import Transform

FIXED = Grid((12, 14, 9), AFFINES["oblique"])
TURN = affine(rotation(0.2, -0.1, 0.3), (40, -20, 15))
SEEN = around(FIXED, "RAS", margin=-4)  # a network that sees less than the fixed image
TRANSFORMS = {
    "matrix": Transform.linear(TURN),
    "both": Transform.from_voxel_ddf(waves(SEEN) / SEEN.spacing, SEEN).then(Transform.linear(TURN)),
    "field": Transform.from_voxel_ddf(waves(SEEN) / SEEN.spacing, SEEN),
}


@pytest.fixture(params=TRANSFORMS)
def saved(request, tmp_path):
    transform = TRANSFORMS[request.param].within(FIXED)
    moving = blobs(Grid((20, 20, 20), affine(np.eye(3) * 2, (10, -60, 0))))
    facts = {"method": "rigid", "start": "world", "warnings": [], "scores": {"before": {}, "after": {}}}
    facts |= {"seconds": {}, "jacobian": {"folds": 0.0, "sdlogj": 0.0}}
    moved = transform.apply_image(moving, FIXED)
    result = Result(blobs(FIXED), moving, Transform.identity(FIXED), facts, moved, transform)
    result.save(tmp_path / "out")
    return request.param, result, tmp_path / "out"


def test_a_matrix_is_kept_as_a_matrix_and_a_field_with_what_follows_it(saved):
    kind, result, folder = saved
    exact = {"matrix": "transform.tfm", "both": "transform.h5", "field": "transform.nii.gz"}[kind]
    assert {path.name for path in folder.glob("transform*")} == {"transform.nii.gz", exact}
    again = Transform.load(folder / exact)
    assert (again.matrix is None) == (kind != "matrix")
    # 31 mm and more beyond the fixed image on every side, and inside at its voxels, the file says what the result does.
    beyond = FIXED.box().mean(0) + 4 * (FIXED.box() - FIXED.box().mean(0))
    voxels = FIXED.coordinates().reshape(-1, 3)
    linear = np.eye(4) if kind == "field" else TURN
    np.testing.assert_allclose(again.apply_points(beyond), beyond @ linear[:3, :3].T + linear[:3, 3], atol=1e-4)
    for points in (beyond, voxels):
        np.testing.assert_allclose(again.apply_points(points), result.transform.apply_points(points), atol=1e-4)
    np.testing.assert_allclose(again.invert_points(again.apply_points(beyond)), beyond, atol=1e-4)


def test_itk_reads_the_same_map(saved):
    kind, result, folder = saved
    if kind == "field":
        theirs = sitk.DisplacementFieldTransform(sitk.ReadImage(folder / "transform.nii.gz", sitk.sitkVectorFloat64))
    else:
        theirs = sitk.ReadTransform(folder / ("transform.tfm" if kind == "matrix" else "transform.h5"))
    inner = FIXED.coordinates()[1:-1:3, 1:-1:4, 1:-1:3].reshape(-1, 3)
    beyond = FIXED.box().mean(0) + 4 * (FIXED.box() - FIXED.box().mean(0))
    for points in (inner, beyond):
        expected = [np.array(theirs.TransformPoint((p * (-1, -1, 1)).tolist())) * (-1, -1, 1) for p in points]
        np.testing.assert_allclose(result.transform.apply_points(points), expected, atol=1e-3)


def test_of_an_earlier_transform_nothing_stays(saved):
    kind, result, folder = saved
    other = {"matrix": "both", "both": "field", "field": "matrix"}[kind]
    dataclasses.replace(result, transform=TRANSFORMS[other].within(FIXED)).save(folder)
    exact = {"matrix": "transform.tfm", "both": "transform.h5", "field": "transform.nii.gz"}[other]
    assert {path.name for path in folder.glob("transform*")} == {"transform.nii.gz", exact}
