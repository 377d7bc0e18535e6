"""What is no finite number is refused by name, from Python as from files, and never spreads in silence."""

import nibabel
import numpy as np
import pytest

import regzoo
from regzoo import metrics
from regzoo.errors import InvalidError
from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform

GRID = Grid((6, 5, 4), np.eye(4))
VALUES = np.random.default_rng(0).random(GRID.shape).astype("float32")
HOLE = np.where(VALUES[1, 1, 1] == VALUES, np.nan, VALUES)
FIELD = Transform.from_field(np.random.default_rng(1).random((*GRID.shape, 3)) * 0.3, GRID)
MATRIX = Transform.linear(np.diag([1.1, 1, 1, 1]))
POINTS = [
    ([[1, 2, 3], [np.nan, 1, 1]], "expected finite coordinates, received NaN or infinite ones"),
    ([[np.inf, 0, 0]], "expected finite coordinates"),
    ([[True, False, True]], "expected numbers of mm, .* received type bool"),
    ([["a", "b", "c"]], "expected numbers of mm, .* received type <U1"),
    ([[1j, 0, 0]], ".*received type complex128"),
    ([[1, 2], [1, 2, 3]], ".*received rows of different lengths"),
    (None, ".*received type object"),
    ([1, 2, 3], r"expected shape \(N, 3\), received \(3,\)"),
]

both_kinds = pytest.mark.parametrize("transform", [FIELD, MATRIX], ids=["field", "matrix"])


@pytest.mark.parametrize(("points", "message"), POINTS, ids=str)
@both_kinds
def test_points_of_a_transform(transform, points, message):
    for mapped in (transform.apply_points, transform.invert_points):
        with pytest.raises(InvalidError, match=f"^points: {message}"):
            mapped(points)


@pytest.mark.parametrize(("points", "message"), POINTS, ids=str)
def test_landmarks_and_point_sets(points, message):
    with pytest.raises(InvalidError, match=f"^moving_points: {message}"):
        metrics.tre([[1, 2, 3]], points)
    with pytest.raises(InvalidError, match=f"^fixed: {message}"):
        regzoo.register_points(points, np.eye(3))


@both_kinds
def test_an_image_with_a_hole_is_refused_before_it_is_blended(transform):
    for moving in (Image(HOLE, np.eye(4)), nibabel.Nifti1Image(HOLE, np.eye(4))):
        with pytest.raises(InvalidError, match=r"^moving: expected finite values, received 1 NaN or infinite voxels"):
            transform.apply_image(moving, GRID)
    with pytest.raises(InvalidError, match=r"^moving: expected finite values"):
        transform.apply_labels(Image(HOLE[..., None], np.eye(4)), GRID)
    masks = [Image(each, np.eye(4)) for each in (VALUES > 0.5, (VALUES > 0.5).astype("uint8"))]
    moved = [transform.apply_image(each, GRID).array.astype("float32") for each in masks]
    np.testing.assert_array_equal(*moved)


def test_an_image_with_a_hole_is_not_written(tmp_path):
    with pytest.raises(InvalidError, match=r"^image: expected finite values, received 1 NaN"):
        Image(HOLE, np.eye(4)).save(tmp_path / "x.nii.gz")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (VALUES * 1j, "expected one number per voxel, received type complex64"),
        (np.full(GRID.shape, "a"), "expected one number per voxel, received type <U1"),
        (np.full(GRID.shape, None), "expected one number per voxel, received type object"),
        (nibabel.Nifti1Image(VALUES, np.eye(4)), r"received a nibabel image. regzoo.Image.of\(...\) takes one"),
    ],
    ids=["complex", "words", "objects", "nibabel"],
)
def test_what_is_no_array_of_numbers_is_no_image(array, message):
    with pytest.raises(InvalidError, match=f"^image array: .*{message}"):
        Image(array, np.eye(4))


def test_masks_with_a_hole_are_not_measured():
    mask = np.rint(VALUES)
    for measured in (
        lambda: metrics.hd95(HOLE, mask, (1, 1, 1)),
        lambda: metrics.centroid_distance(mask, HOLE, np.eye(4)),
        lambda: metrics.soft_dice(mask, HOLE),
    ):
        with pytest.raises(InvalidError, match=r"^mask: expected finite values"):
            measured()


@pytest.mark.parametrize("values", ["abc", [[1], [1, 2]], np.full((4, 4), True)], ids=str)
def test_matrices_and_fields(values):
    with pytest.raises(InvalidError, match=r"^matrix: expected a finite"):
        Transform.linear(values)
    with pytest.raises(InvalidError, match=r"^vectors: expected displacements in mm"):
        Transform.from_field(values, GRID)


def test_a_label_map_of_nibabel_is_a_surface_as_its_file_is(tmp_path):
    array = np.zeros((12, 12, 12), "uint8")
    array[3:9, 4:9, 2:7] = 1
    labels = nibabel.Nifti1Image(array, np.eye(4))
    nibabel.save(labels, tmp_path / "x.nii.gz")
    found = [regzoo.register_points(each, each) for each in (tmp_path / "x.nii.gz", labels, Image(array, np.eye(4)))]
    np.testing.assert_array_equal(found[0].fixed, found[1].fixed)
    np.testing.assert_array_equal(found[0].fixed, found[2].fixed)
