import contextlib
import dataclasses
import itertools
import os
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from worlds import AFFINES, SLOPE, affine, around, blobs, ramp, rotation, waves

from regzoo.errors import InvalidError, MissingError
from regzoo.io.landmarks import read_points
from regzoo.world.images import Grid, Image
from regzoo.world.metrics import dice, tre
from regzoo.world.resampling import resample
from regzoo.world.steps import Field, Linear
from regzoo.world.transforms import Transform

DATA = Path(os.environ.get("REGZOO_DATA", Path(__file__).parents[3] / "shared" / "data"))
SHAPE = (9, 7, 8)
MATRIX = affine(rotation(0.1, 0.15, -0.2) * (1.05, 0.95, 1.1), (3, -2, 1.5))
FOLLOWING = affine(rotation(-0.2, 0.1, 0.1) * (0.9, 1.1, 1.0), (-4, 1, 2))
WORLDS = list(itertools.permutations(AFFINES, 2))
worlds = pytest.mark.parametrize(("fixed", "moving"), WORLDS)
names = pytest.mark.parametrize("name", AFFINES)


def fixed_grid(name, shape=SHAPE):
    return Grid(shape, AFFINES[name])


def waving(grid, size=3.0):
    """A field on a grid of other axes that covers `grid`, and the same field as a Transform."""
    wide = around(grid, "oblique", margin=20)
    return Transform.from_field(waves(wide, size), wide)


def ramp_of(points):
    return points @ SLOPE + 5


class TestPoints:
    def test_steps(self):
        points = np.random.default_rng(0).normal(size=(6, 3)) * 5
        np.testing.assert_array_equal(Transform.identity().apply_points(points), points)
        expected = np.stack([(MATRIX @ [*p, 1])[:3] for p in points])
        np.testing.assert_allclose(Transform.linear(MATRIX).apply_points(points), expected)
        both = Transform.linear(MATRIX).then(Transform.linear(FOLLOWING))
        np.testing.assert_allclose(both.apply_points(points), np.stack([(FOLLOWING @ [*p, 1])[:3] for p in expected]))
        np.testing.assert_allclose(both.matrix, FOLLOWING @ MATRIX)

    @names
    def test_field_is_linear_in_the_world_between_voxels(self, name):
        grid = fixed_grid(name)
        slopes = np.array([[0.1, 0.02, -0.05], [0.03, -0.1, 0.04], [0.06, 0.07, 0.08]])
        transform = Transform.from_field(grid.coordinates() @ slopes.T + (1, 2, 3), grid)
        points = np.array([(AFFINES[name] @ [*index, 1])[:3] for index in [(0.3, 5.2, 6.9), (7.7, 0.1, 3.5)]])
        np.testing.assert_allclose(transform.apply_points(points), points + points @ slopes.T + (1, 2, 3), atol=1e-5)

    def test_beyond_its_grid_a_field_ends_and_a_network_s_goes_on(self):
        grid = Grid((3, 2, 2), np.diag([2.0, 1, 1, 1]))
        vectors = np.zeros((3, 2, 2, 3))
        vectors[2, :, :, 1] = 5
        points = np.array([[4, 0, 0], [4.9, 1.4, 0], [5.1, 0, 0], [400, 0, 0], [3, 0, 0], [-9, 0, 0]])
        moved = Transform.from_field(vectors, grid).apply_points(points)
        np.testing.assert_allclose(moved - points, np.outer([5, 5, 0, 0, 2.5, 0], (0, 1, 0)))
        ddf = np.zeros((3, 2, 2, 3))
        ddf[2, :, :, 1] = 5
        moved = Transform.from_voxel_ddf(ddf, grid).apply_points(points)
        np.testing.assert_allclose(moved - points, np.outer([5, 5, 5, 5, 2.5, 0], (0, 1, 0)))

    @names
    def test_beyond_the_fixed_image_its_matrix_goes_on(self, name):
        """A network sees the middle of the fixed image: its edge goes on to the image's border, and not further."""
        fixed, seen = around(fixed_grid(name), name, margin=6), fixed_grid(name)
        ddf = np.full((*SHAPE, 3), 0.5)
        whole = Transform.from_voxel_ddf(ddf, seen).then(Transform.linear(MATRIX))
        transform = whole.within(fixed)
        near, far = fixed.box() * 0.999 + fixed.box().mean(0) * 0.001, fixed.box() * 3 - fixed.box().mean(0) * 2
        shift = seen.affine[:3, :3] @ np.full(3, 0.5)
        np.testing.assert_allclose(
            transform.apply_points(near), (near + shift) @ MATRIX[:3, :3].T + MATRIX[:3, 3], atol=1e-5
        )
        np.testing.assert_allclose(transform.apply_points(far), far @ MATRIX[:3, :3].T + MATRIX[:3, 3], atol=1e-5)
        assert transform.covers(near).all()
        assert not transform.covers(far).any()
        assert whole.covers(far).all()
        for back in (transform.invert_points, transform.inverse().apply_points):
            np.testing.assert_allclose(back(transform.apply_points(near)), near, atol=2e-3)
            np.testing.assert_allclose(back(transform.apply_points(far)), far, atol=1e-4)
        assert not transform.inverse().covers(transform.apply_points(far)).any()

    def test_voxels_become_millimetres(self):
        ddf = np.zeros((*SHAPE, 3))
        ddf[..., 1] = 2
        for name, shift in {
            "RAS": (0, 3, 0),
            "LPS": (0, -3, 0),
            "anisotropic": (0, -2.5, 0),
            "permuted": (0, 0, 2),
        }.items():
            transform = Transform.from_voxel_ddf(ddf, fixed_grid(name))
            np.testing.assert_allclose(transform.apply_points(np.zeros((1, 3))), [shift], atol=1e-6)

    @names
    def test_voxel_ddf_moves_voxels_by_voxels(self, name):
        grid = fixed_grid(name)
        ddf = np.broadcast_to([1.0, -2.0, 3.0], (*SHAPE, 3))
        moved = Transform.from_voxel_ddf(ddf, grid).apply_points(grid.coordinates()[:-1, 2:, :-3].reshape(-1, 3))
        np.testing.assert_allclose(moved, grid.coordinates()[1:, :-2, 3:].reshape(-1, 3), atol=1e-5)

    def test_then_is_the_following_one_last(self):
        field = waving(fixed_grid("LPS"))
        points = fixed_grid("LPS").coordinates().reshape(-1, 3)
        both = Transform.linear(MATRIX, fixed_grid("RAS")).then(field)
        expected = field.apply_points(Transform.linear(MATRIX).apply_points(points))
        np.testing.assert_allclose(both.apply_points(points), expected)
        assert both.grid.same_as(fixed_grid("RAS"))
        assert both.matrix is None

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: Linear(np.eye(3)), r"matrix: expected a finite \(4, 4\) matrix"),
            (lambda: Linear(np.ones((4, 4))), "last row 0 0 0 1"),
            (
                lambda: Field(np.zeros((2, 3, 4, 3)), Grid((4, 3, 2), np.eye(4))),
                r"vectors: expected shape \(4, 3, 2, 3\)",
            ),
            (lambda: Field(np.full((2, 3, 4, 3), np.nan), Grid((2, 3, 4), np.eye(4))), "finite displacements"),
            (lambda: Transform.identity().apply_points(np.zeros((4, 2))), r"points: expected shape \(N, 3\)"),
            (lambda: Transform.linear(np.diag([1, 0, 1, 1.0])).inverse(), "one that can be inverted"),
        ],
    )
    def test_refuses(self, make, message):
        with pytest.raises(InvalidError, match=message):
            make()


class TestImages:
    @worlds
    def test_ramp_under_a_matrix(self, fixed, moving):
        grid = fixed_grid(fixed)
        moved = Transform.linear(MATRIX).apply_image(ramp(around(grid, moving)), grid)
        expected = ramp_of(np.stack([(MATRIX @ [*p, 1])[:3] for p in grid.coordinates().reshape(-1, 3)]))
        np.testing.assert_allclose(moved.array.ravel(), expected, atol=1e-4)
        np.testing.assert_array_equal(moved.affine, grid.affine)

    @worlds
    def test_ramp_under_a_field_on_the_fixed_grid(self, fixed, moving):
        grid = fixed_grid(fixed)
        moved = Transform.from_field(waves(grid), grid).apply_image(ramp(around(grid, moving)), grid)
        np.testing.assert_allclose(moved.array, ramp_of(grid.coordinates() + waves(grid)), atol=1e-4)
        both = Transform.from_field(waves(grid), grid).then(Transform.linear(MATRIX))
        places = (grid.coordinates() + waves(grid)) @ MATRIX[:3, :3].T + MATRIX[:3, 3]
        moved = both.apply_image(ramp(around(grid, moving, 40)), grid)
        np.testing.assert_allclose(moved.array, ramp_of(places), atol=1e-4)

    @worlds
    def test_ramp_under_a_field_on_another_grid(self, fixed, moving):
        grid, wide = fixed_grid(fixed), around(fixed_grid(fixed), moving)
        slopes = np.array([[0.1, 0.02, -0.05], [0.03, -0.1, 0.04], [0.06, 0.07, 0.08]])
        field = Transform.from_field(wide.coordinates() @ slopes.T + (1, 2, 3), wide)
        moved = field.then(Transform.linear(MATRIX)).apply_image(ramp(around(grid, "permuted", 40)), grid)
        places = grid.coordinates() @ (np.eye(3) + slopes).T + (1, 2, 3)
        np.testing.assert_allclose(moved.array, ramp_of(places @ MATRIX[:3, :3].T + MATRIX[:3, 3]), atol=1e-4)

    @names
    def test_slabs_change_nothing(self, name, monkeypatch):
        grid, image = fixed_grid(name), blobs(around(fixed_grid(name), "LAS"))
        transform = Transform.from_field(waves(grid), grid)
        whole = transform.apply_image(image, grid).array
        jacobian = transform.jacobian_determinant(grid)
        monkeypatch.setattr("regzoo.world.steps._SLAB", 120)
        np.testing.assert_array_equal(transform.apply_image(image, grid).array, whole)
        np.testing.assert_array_equal(transform.jacobian_determinant(grid), jacobian)
        np.testing.assert_allclose(transform.displacement(grid), waves(grid), atol=1e-6)

    def test_on_its_own_grid_a_transform_is_worked_out_once_and_is_the_same(self, monkeypatch):
        grid, image = fixed_grid("oblique"), blobs(around(fixed_grid("oblique"), "LAS"))
        fine = around(grid, "permuted", margin=4)
        steps = (*Transform.from_field(waves(fine), fine).steps, *Transform.linear(MATRIX).steps)
        without, own = Transform(steps), Transform(steps, grid)
        monkeypatch.setattr("regzoo.world.steps._SLAB", 120)
        np.testing.assert_allclose(own.displacement(grid), without.displacement(grid), atol=1e-6)
        np.testing.assert_allclose(
            own.apply_image(image, grid).array, without.apply_image(image, grid).array, atol=1e-5
        )
        np.testing.assert_array_equal(own.jacobian_determinant(grid), without.jacobian_determinant(grid))
        assert own.displacement(grid) is own.displacement(Grid(grid.shape, grid.affine))
        elsewhere = around(grid, "LPS", margin=2)
        np.testing.assert_array_equal(own.displacement(elsewhere), without.displacement(elsewhere))
        vectors = waves(grid)
        Transform.from_field(vectors, grid).displacement(grid)
        vectors[0] = 0  # an array that was given stays its owner's to write

    @names
    @pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
    def test_along_the_axes_of_a_field_its_values_are_those_of_scattered_places(self, name, order, monkeypatch):
        field = Field(waves(fixed_grid(name)), fixed_grid(name))
        between = np.eye(4)
        between[:3, :3] = np.eye(3)[list(order)] * (0.4, -0.7, 1.3)
        between[:3, 3] = np.where(between[:3, :3].sum(1) < 0, 7.6, -0.8)  # some places lie beyond the field's grid
        grid = Grid((14, 12, 10), field.grid.affine @ between)
        expected = (field(grid.coordinates()) - grid.coordinates()).astype("float32")
        monkeypatch.setattr("regzoo.world.steps._SLAB", 300)
        found = field.on(grid)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-6)
        turned = Grid(grid.shape, grid.affine @ affine(rotation(0, 0.01, 0), (0, 0, 0)))
        assert field.on(turned) is None
        expected = (field(turned.coordinates()) - turned.coordinates()).astype("float32")
        np.testing.assert_array_equal(Transform((field,)).displacement(turned), expected)

    def test_a_field_of_one_slice_along_its_axes(self):
        flat = fixed_grid("LAS", (9, 7, 1))
        field = Field(waves(flat), flat)
        grid = Grid((5, 4, 2), flat.affine @ np.diag([1.5, 1.2, 1, 1]))
        expected = field(grid.coordinates()) - grid.coordinates()
        np.testing.assert_allclose(field.on(grid), expected, atol=1e-6)

    def test_whole_voxel_shift_is_a_copy(self):
        moving = blobs(fixed_grid("oblique"))
        shift = affine(np.eye(3), AFFINES["oblique"][:3, :3] @ (2, -1, 3))
        moved = Transform.linear(shift).apply_image(moving, moving.grid).array
        np.testing.assert_array_equal(moved[:-2, 1:, :-3], moving.array[2:, :-1, 3:])
        assert (moved[-2:] == 0).all()
        assert (moved[:, :1] == 0).all()
        np.testing.assert_array_equal(
            Transform.linear(shift).apply_image(moving, moving.grid, outside="edge").array[-1, 1:, 0],
            moving.array[-1, :-1, 3],
        )

    def test_images_of_nibabel_and_none(self):
        grid = fixed_grid("oblique")
        shift, image = Transform.linear(affine(np.eye(3), (2, 0, 0))), blobs(grid)
        labels = Image((image.array > 0.5).astype("uint8"), grid.affine)
        for move, given in ((shift.apply_image, image), (shift.apply_labels, labels)):
            other = nibabel.Nifti1Image(given.array, given.affine)
            np.testing.assert_array_equal(move(other, grid).array, move(given, grid).array)
        with pytest.raises(InvalidError, match=r"^moving: "):
            shift.apply_image(image.array, grid)

    def test_outside_value(self):
        grid = Grid((4, 3, 3), np.eye(4))
        far = Transform.from_field(np.full((4, 3, 3, 3), (1.5, 0, 0)), grid)
        image = Image(np.full((4, 3, 3), 8, np.float32), np.eye(4))
        np.testing.assert_allclose(far.apply_image(image, grid).array[:, 1, 1], [8, 8, 4, 0])
        np.testing.assert_allclose(far.apply_image(image, grid, outside=-8.0).array[:, 1, 1], [8, 8, 0, -8])
        np.testing.assert_allclose(far.apply_image(image, grid, outside="edge").array[:, 1, 1], [8, 8, 8, 8])

    @pytest.mark.parametrize("dense", [False, True])
    def test_labels(self, dense):
        grid = Grid((6, 5, 4), AFFINES["LAS"])
        labels = Image(np.random.default_rng(0).integers(0, 5, (6, 5, 4)).astype(np.int16), AFFINES["LAS"])
        vectors = np.broadcast_to(AFFINES["LAS"][:3, :3] @ (1.3, 0.2, -0.9), (6, 5, 4, 3))
        transform = (
            Transform.from_field(vectors, grid) if dense else Transform.linear(affine(np.eye(3), vectors[0, 0, 0]))
        )
        moved = transform.apply_labels(labels, grid).array
        np.testing.assert_array_equal(moved[:-1, :, 1:], labels.array[1:, :, :-1])
        assert moved.dtype == np.int16
        assert (moved[-1] == 0).all()
        soft = Image((labels.array[..., None] == [1, 2]).astype(np.uint8), labels.affine)
        result = transform.apply_labels(soft, grid).array
        for channel in range(2):
            alone = Image(soft.array[..., channel].astype(np.float32), labels.affine)
            np.testing.assert_allclose(result[..., channel], transform.apply_image(alone, grid).array, atol=1e-6)
        assert 0 < result.max() < 1
        with pytest.raises(
            InvalidError, match="labels: expected integers, or one channel per label, received type float32"
        ):
            transform.apply_labels(blobs(grid), grid)


class TestJacobian:
    @names
    def test_matrix(self, name):
        jacobian = Transform.linear(MATRIX).jacobian_determinant(fixed_grid(name))
        np.testing.assert_allclose(jacobian, 1.05 * 0.95 * 1.1, rtol=1e-4)
        assert jacobian.shape == SHAPE

    @names
    def test_nonlinear(self, name):
        grid = fixed_grid(name, (5, 6, 7))
        x, y, z = np.moveaxis(grid.coordinates(), -1, 0) / 20
        u = np.stack([y * z, z * x * 2, x * y * 3], axis=-1)  # central differences of bilinear functions are exact
        jacobian = Transform.from_field(20 * u, grid).jacobian_determinant(grid)
        ones = np.ones_like(x)
        rows = [[ones, z, y], [2 * z, ones, 2 * x], [3 * y, 3 * x, ones]]
        expected = np.linalg.det(np.moveaxis(np.array(rows), (0, 1), (-2, -1)))
        inner = (slice(1, -1),) * 3 if name == "oblique" else (slice(None),) * 3
        np.testing.assert_allclose(jacobian[inner], expected[inner], atol=1e-3)

    @names
    def test_mirror_folds(self, name):
        grid = fixed_grid(name)
        jacobian = Transform.linear(np.diag([1, -2.0, 1, 1])).jacobian_determinant(grid)
        np.testing.assert_allclose(jacobian, -2, rtol=1e-4)

    def test_local_fold(self):
        grid = Grid((9, 5, 5), np.diag([2.0, 1, 1, 1]))
        vectors = np.zeros((9, 5, 5, 3))
        vectors[3, :, :, 0], vectors[5, :, :, 0] = 5, -5
        jacobian = Transform.from_field(vectors, grid).jacobian_determinant(grid)[:, 2, 2]
        np.testing.assert_allclose(jacobian, [1, 1, 1 + 5 / 4, 1, 1 - 10 / 4, 1, 1 + 5 / 4, 1, 1], atol=1e-5)

    def test_one_slice(self):
        grid = Grid((6, 5, 1), AFFINES["anisotropic"])
        stretch = np.diag([1.5, 0.8, 1, 1])
        np.testing.assert_allclose(Transform.linear(stretch).jacobian_determinant(grid), 1.2, rtol=1e-5)

    def test_against_itk(self):
        grid = Grid((10, 11, 12), np.diag([1.0, 2, 3, 1]))
        ours = Transform.from_field(waves(grid), grid).jacobian_determinant(grid)
        field = sitk.GetImageFromArray(waves(grid).transpose(2, 1, 0, 3).astype(float), isVector=True)
        field.SetSpacing((1.0, 2.0, 3.0))
        theirs = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field)).transpose(2, 1, 0)
        np.testing.assert_allclose(ours[1:-1, 1:-1, 1:-1], theirs[1:-1, 1:-1, 1:-1], atol=1e-5)


class TestInverse:
    def test_linear_is_exact(self):
        transform = Transform.linear(MATRIX).then(Transform.linear(FOLLOWING))
        np.testing.assert_allclose(transform.inverse().matrix, np.linalg.inv(FOLLOWING @ MATRIX), atol=1e-12)

    @names
    def test_constant_shift_is_exact_and_ends_with_the_grid(self, name):
        grid = fixed_grid(name)
        transform = Transform.from_field(np.full((*SHAPE, 3), (9.0, -4.0, 2.0)), grid)
        inside, beyond = grid.coordinates().reshape(-1, 3), 3 * grid.box() - 2 * grid.box().mean(0)
        np.testing.assert_allclose(transform.inverse().apply_points(inside + np.array((9, -4, 2))), inside, atol=1e-5)
        np.testing.assert_allclose(transform.inverse().apply_points(beyond), beyond, atol=1e-5)
        np.testing.assert_allclose(transform.invert_points(inside + np.array((9, -4, 2))), inside, atol=1e-5)

    @names
    def test_waves(self, name):
        grid = fixed_grid(name, (20, 18, 15))
        transform = Transform.linear(MATRIX).then(waving(grid))
        inverse = transform.inverse()
        points = transform.apply_points(grid.coordinates().reshape(-1, 3))
        distance = np.linalg.norm(inverse.apply_points(points) - grid.coordinates().reshape(-1, 3), axis=-1)
        error = transform.inverse_error(inverse, grid)
        assert error == {"max": pytest.approx(distance.max()), "mean": pytest.approx(distance.mean())}
        assert error["mean"] < 0.02
        assert error["max"] < 0.2
        assert transform.inverse_error(transform, grid)["mean"] > 1

    def test_tolerance_holds_at_voxels(self):
        grid = fixed_grid("oblique", (20, 18, 15))
        transform = Transform.from_field(waves(grid), grid)
        inverse = transform.inverse(tolerance=1e-4)
        voxels = inverse.steps[0].steps[0].grid.coordinates().reshape(-1, 3)
        voxels = voxels[inverse.covers(voxels)]
        assert len(voxels) > 5000
        distance = np.linalg.norm(transform.apply_points(inverse.apply_points(voxels)) - voxels, axis=-1)
        assert distance.max() < 1.2e-4

    def test_strong_expansion_converges(self):
        grid = Grid((41, 3, 3), np.eye(4))
        vectors = np.zeros((41, 3, 3, 3))
        vectors[..., 0] = 1.6 * (grid.coordinates()[..., 0] - 20)  # du/dx = 1.6: undamped iteration diverges
        transform = Transform.from_field(vectors, grid)
        points = np.array([[3.0, 1, 1], [20, 1, 1], [33, 0, 2]])
        expected = np.stack([20 + (points[:, 0] - 20) / 2.6, points[:, 1], points[:, 2]], axis=-1)
        np.testing.assert_allclose(transform.inverse().apply_points(points), expected, atol=2e-3)

    def test_fold_warns(self):
        grid = Grid((21, 3, 3), np.eye(4))
        vectors = np.zeros((21, 3, 3, 3))
        vectors[..., 0] = 6 * np.sin(grid.coordinates()[..., 0])
        with pytest.warns(UserWarning, match=r"inverse: .*% of the places miss the tolerance of 0.001 mm .* folds"):
            Transform.from_field(vectors, grid).inverse(iterations=30)


def itk_transform(path):
    if path.suffix == ".h5":
        return sitk.ReadTransform(str(path))
    return sitk.DisplacementFieldTransform(sitk.ReadImage(str(path), sitk.sitkVectorFloat64))


KINDS = {
    "linear": lambda grid: Transform.linear(MATRIX, grid),
    "field": lambda grid: Transform.from_field(waves(grid), grid),
    "both": lambda grid: dataclasses.replace(waving(grid).then(Transform.linear(MATRIX)), grid=grid),
}
kinds = pytest.mark.parametrize("kind", KINDS)
suffixes = pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".h5"])


class TestFiles:
    @pytest.mark.parametrize("suffix", [".nii.gz", ".h5"])
    @pytest.mark.parametrize("kind", ["field", "both"])
    @pytest.mark.parametrize("name", ["LPS", "oblique"])
    def test_beyond_the_grid_as_itk(self, tmp_path, name, kind, suffix):
        """Points in, around and far from the grid, and on both sides of its border."""
        grid, path = fixed_grid(name), tmp_path / f"t{suffix}"
        KINDS[kind](grid).save(path)
        theirs, ours = itk_transform(path), Transform.load(path)
        random, centre = np.random.default_rng(0), grid.box().mean(0)
        points = np.concatenate([centre + random.normal(size=(300, 3)) * 6, centre + random.normal(size=(20, 3)) * 200])
        near = grid.affine[:3, :3] @ np.full(3, 0.02)  # the border, a fiftieth of a voxel to both sides
        corner = grid.affine[:3, 3] - 25 * near
        points = np.stack([*points, corner + near, corner - near])
        expected = [np.array(theirs.TransformPoint((p * (-1, -1, 1)).tolist())) * (-1, -1, 1) for p in points]
        np.testing.assert_allclose(ours.apply_points(points), expected, atol=1e-3)
        assert 50 < ours.covers(points).sum() < 280

    @suffixes
    @kinds
    @names
    def test_round_trip(self, tmp_path, name, kind, suffix):
        grid, path = fixed_grid(name), tmp_path / "new" / f"t{suffix}"
        transform, moving = KINDS[kind](grid), blobs(around(fixed_grid(name), "LAS"))
        transform.save(path)
        again = Transform.load(path)
        np.testing.assert_allclose(again.displacement(grid), transform.displacement(grid), atol=1e-4)
        moved, expected = (t.apply_image(moving, grid).array for t in (again, transform))
        np.testing.assert_allclose(moved, expected, atol=1e-4)
        assert expected.std() > 0.05
        assert [p.name for p in path.parent.iterdir()] == [path.name]
        assert (again.matrix is None) == (kind != "linear" or suffix != ".h5")
        if again.matrix is None:
            assert again.grid.same_as(grid)

    @pytest.mark.parametrize("suffix", [".nii.gz", ".h5"])
    @kinds
    @pytest.mark.parametrize(("fixed", "moving"), WORLDS[2::4])
    def test_itk_moves_the_image_alike(self, tmp_path, fixed, moving, kind, suffix):
        grid, path = fixed_grid(fixed), tmp_path / f"t{suffix}"
        image, transform = blobs(around(grid, moving)), KINDS[kind](grid)
        transform.save(path)
        image.save(tmp_path / "moving.nii.gz")
        Image(np.zeros(SHAPE), grid.affine).save(tmp_path / "fixed.nii.gz")
        theirs = sitk.Resample(
            sitk.ReadImage(str(tmp_path / "moving.nii.gz")),
            sitk.ReadImage(str(tmp_path / "fixed.nii.gz")),
            itk_transform(path),
        )
        # The moving image reaches 25 mm beyond, so that ITK's rule outside (nothing is blended) plays no part.
        # Its displacement fields are zero outside their grid, by rounding also on the very edge: compare inside.
        inner = (slice(1, -1),) * 3
        ours = transform.apply_image(image, grid).array
        theirs = sitk.GetArrayFromImage(theirs).transpose(2, 1, 0)
        np.testing.assert_allclose(ours[inner], theirs[inner], atol=1e-4)
        assert np.abs(ours - resample(image, grid).array).max() > 0.05

    @pytest.mark.parametrize("suffix", [".nii.gz", ".h5"])
    @kinds
    @pytest.mark.parametrize(("fixed", "moving"), [("LPS", "RAS"), ("oblique", "anisotropic"), ("permuted", "oblique")])
    def test_ants_moves_the_image_alike(self, tmp_path, fixed, moving, kind, suffix):
        ants = pytest.importorskip("ants")
        grid, path = fixed_grid(fixed), tmp_path / f"t{suffix}"
        image, transform = blobs(around(grid, moving)), KINDS[kind](grid)
        transform.save(path)
        image.save(tmp_path / "moving.nii.gz")
        Image(np.zeros(SHAPE), grid.affine).save(tmp_path / "fixed.nii.gz")
        theirs = ants.apply_transforms(
            ants.image_read(str(tmp_path / "fixed.nii.gz")),
            ants.image_read(str(tmp_path / "moving.nii.gz")),
            [str(path)],
        )
        inner = (slice(1, -1),) * 3
        ours = transform.apply_image(image, grid).array
        np.testing.assert_allclose(ours[inner], theirs.numpy()[inner], atol=1e-4)

    @pytest.mark.parametrize("name", ["oblique", "permuted"])
    def test_ants_reads_points(self, tmp_path, name):
        ants = pytest.importorskip("ants")
        for kind in ("linear", "field"):
            transform = KINDS[kind](fixed_grid(name))
            transform.save(tmp_path / "t.h5")
            theirs = ants.read_transform(str(tmp_path / "t.h5"))
            for index in [(3, 4, 5), (6, 2, 1)]:
                point = fixed_grid(name).coordinates()[index]
                mapped = np.array(theirs.apply_to_point(list(point * (-1, -1, 1)))) * (-1, -1, 1)
                np.testing.assert_allclose([mapped], transform.apply_points([point]), atol=1e-4)

    @pytest.mark.parametrize("suffix", [".h5", ".tfm", ".txt"])
    def test_reads_what_itk_writes(self, tmp_path, suffix):
        grid = fixed_grid("oblique")
        KINDS["field"](grid).save(tmp_path / "field.h5")
        linear = sitk.AffineTransform(3)
        linear.SetMatrix(MATRIX[:3, :3].ravel())
        linear.SetTranslation((3, -2, 1))
        linear.SetCenter((10, 20, -5))
        parts = [linear, itk_transform(tmp_path / "field.h5"), sitk.TranslationTransform(3, (1.0, 2.0, 3.0))]
        points = grid.coordinates()[1:-1:3, 1:-1:2, 1:-1:3].reshape(-1, 3)
        for chosen in ([0], [2], [0, 1], [1, 0], [0, 2, 1], [2, 1, 0]):
            whole = parts[chosen[0]]
            if len(chosen) > 1:
                whole = sitk.CompositeTransform(3)
                for index in chosen:
                    whole.AddTransform(parts[index])
            sitk.WriteTransform(whole, str(tmp_path / f"t{suffix}"))
            expected = [np.array(whole.TransformPoint(p * (-1, -1, 1))) * (-1, -1, 1) for p in points]
            mapped = Transform.load(tmp_path / f"t{suffix}").apply_points(points)
            inside = np.ones(len(points), bool)
            if 1 in chosen:  # beyond its grid an ITK field is zero, ours keeps the edge value
                places = points
                for index in chosen[::-1][: chosen[::-1].index(1)]:
                    places = np.array([parts[index].TransformPoint(p * (-1, -1, 1)) for p in places]) * (-1, -1, 1)
                voxels = (places - grid.affine[:3, 3]) @ np.linalg.inv(grid.affine[:3, :3]).T
                inside = ((voxels > 0) & (voxels < np.array(SHAPE) - 1)).all(1)
            assert inside.sum() >= 3
            np.testing.assert_allclose(mapped[inside], np.array(expected)[inside], atol=1e-4)

    def test_reads_both_intents_as_itk_does(self, tmp_path):
        grid = fixed_grid("oblique")
        for code in (1006, 1007):
            KINDS["field"](grid).save(tmp_path / "t.nii")
            data = bytearray((tmp_path / "t.nii").read_bytes())
            data[68:70] = np.array([code], "<i2").tobytes()
            (tmp_path / "t.nii").write_bytes(data)
            point = grid.coordinates()[3, 4, 5]
            expected = np.array(itk_transform(tmp_path / "t.nii").TransformPoint(point * (-1, -1, 1))) * (-1, -1, 1)
            np.testing.assert_allclose(Transform.load(tmp_path / "t.nii").apply_points([point]), [expected], atol=1e-4)

    def test_nifti_header(self, tmp_path):
        grid = fixed_grid("oblique")
        KINDS["field"](grid).save(tmp_path / "t.nii.gz")
        file = nibabel.load(tmp_path / "t.nii.gz")
        assert file.shape == (*SHAPE, 1, 3)
        assert int(file.header["intent_code"]) == 1007
        np.testing.assert_allclose(file.affine, grid.affine, atol=1e-6)
        np.testing.assert_array_equal(file.get_fdata()[:, :, :, 0], waves(grid) * (-1, -1, 1))

    def test_needs_a_grid_for_a_field(self, tmp_path):
        transform = dataclasses.replace(KINDS["field"](fixed_grid("RAS")), grid=None)
        for name in ("t.h5", "t.nii.gz"):
            with pytest.raises(InvalidError, match="grid: expected the fixed image's grid"):
                transform.save(tmp_path / name)
            transform.save(tmp_path / name, fixed_grid("LPS"))
            assert Transform.load(tmp_path / name).grid.same_as(fixed_grid("LPS"))
        Transform.linear(MATRIX).save(tmp_path / "l.h5")
        np.testing.assert_allclose(Transform.load(tmp_path / "l.h5").matrix, MATRIX, atol=1e-12)
        with pytest.raises(
            InvalidError, match=r"expected a name ending in \.nii, \.nii\.gz, \.h5, \.tfm, \.mat, \.lta, \.x5"
        ):
            transform.save(tmp_path / "t.xyz")

    def test_sheared_grid_round_trips(self, tmp_path):
        grid = Grid(SHAPE, affine([[1, 0.4, 0], [0, 2, 0], [0, 0.3, 1.5]], (3, 4, 5)))
        for name, said in (("t.h5", contextlib.nullcontext()), ("t.nii.gz", pytest.warns(match="not at right angles"))):
            KINDS["field"](grid).save(tmp_path / name)
            with said:
                found = Transform.load(tmp_path / name)
            np.testing.assert_allclose(found.displacement(grid), waves(grid), atol=1e-5)

    def test_missing_and_unknown(self, tmp_path):
        with pytest.raises(MissingError, match=r"gone.h5 does not exist"):
            Transform.load(tmp_path / "gone.h5")
        (tmp_path / "t.xfm").write_text("")
        with pytest.raises(InvalidError, match=r"t.xfm: expected a transform in .nii, .nii.gz, .h5, .tfm, "):
            Transform.load(tmp_path / "t.xfm")

    @pytest.mark.parametrize("name", ["t.h5", "t.nii", "t.nii.gz", "t.tfm"])
    @pytest.mark.parametrize("content", [b"", b"garbage" * 200, b"\x89HDF\r\n\x1a\n" + bytes(600), bytes(2000)])
    def test_garbage(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidError, match=f"^{name} is not a readable") as error:
            Transform.load(tmp_path / name)
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".h5"])
    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
    def test_truncated(self, tmp_path, suffix, share):
        KINDS["field"](fixed_grid("LPS")).save(tmp_path / f"t{suffix}")
        data = (tmp_path / f"t{suffix}").read_bytes()
        (tmp_path / f"t{suffix}").write_bytes(data[: int(share * len(data))])
        with pytest.raises(InvalidError, match="is not a readable"):
            Transform.load(tmp_path / f"t{suffix}")

    def test_other_niftis(self, tmp_path):
        blobs(fixed_grid("RAS")).save(tmp_path / "image.nii")
        with pytest.raises(InvalidError, match=r"image.nii: expected a displacement field, shape \(X, Y, Z, 1, 3\)"):
            Transform.load(tmp_path / "image.nii")
        for intent, name, message in [("none", "", "with intent 'none'"), ("vector", "NREG_TRANS", "NiftyReg")]:
            file = nibabel.Nifti1Image(np.zeros((*SHAPE, 1, 3), np.float32), np.eye(4))
            file.header.set_intent(intent, name=name)
            nibabel.save(file, tmp_path / "t.nii")
            with pytest.raises(InvalidError, match=message):
                Transform.load(tmp_path / "t.nii")
        KINDS["field"](fixed_grid("RAS")).save(tmp_path / "nan.nii")
        data = bytearray((tmp_path / "nan.nii").read_bytes())
        data[400:404] = np.array([np.nan], "<f4").tobytes()
        (tmp_path / "nan.nii").write_bytes(data)
        with pytest.raises(InvalidError, match=r"nan.nii: expected finite displacements"):
            Transform.load(tmp_path / "nan.nii")

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            (
                "TransformType",
                ["ThinPlateSplineKernelTransform_double_3_3"],
                "transform: expected one of AffineTransform",
            ),
            ("TransformType", ["AffineTransform_double_2_2"], "received AffineTransform_double_2_2"),
            ("TransformParameters", np.zeros(7), "is not a readable transform"),
            ("TransformParameters", np.full(12, np.nan), "expected a finite"),
            ("TransformFixedParameters", np.zeros(2), "is not a readable transform"),
            ("TransformType", None, "is not a readable transform"),
        ],
    )
    def test_malformed_h5(self, tmp_path, key, value, message):
        Transform.linear(MATRIX).save(tmp_path / "t.h5")
        with h5py.File(tmp_path / "t.h5", "a") as file:
            del file["TransformGroup/0"][key]
            if value is not None:
                kind = {"dtype": h5py.string_dtype()} if isinstance(value, list) else {}
                file["TransformGroup/0"].create_dataset(key, data=value, **kind)
        with pytest.raises(InvalidError, match=message):
            Transform.load(tmp_path / "t.h5")

    def test_empty_files(self, tmp_path):
        with h5py.File(tmp_path / "t.h5", "w") as file:
            file.create_group("TransformGroup")
        (tmp_path / "t.tfm").write_text("#Insight Transform File V1.0\n")
        for name in ("t.h5", "t.tfm"):
            with pytest.raises(InvalidError, match=f"{name}: expected a transform, received a file without any"):
                Transform.load(tmp_path / name)
        (tmp_path / "t.tfm").write_text(
            "#Insight Transform File V1.0\nTransform: AffineTransform_double_3_3\nFixedParameters: 0\n"
        )
        with pytest.raises(InvalidError, match=r"t.tfm is not a readable transform"):
            Transform.load(tmp_path / "t.tfm")

    def test_failure_leaves_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / "t.h5"
        Transform.linear(MATRIX).save(path)
        before = path.read_bytes()
        monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            Transform.linear(FOLLOWING).save(path)
        assert path.read_bytes() == before


@pytest.mark.data
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA}")
class TestRealData:
    def test_landmarks_of_the_lung(self):
        folder = DATA / "lung-ct" / "popi-4dct"
        fixed, moving = (read_points(folder / f"phase_{phase}_landmarks.csv") for phase in ("10", "60"))
        assert tre(fixed, moving).mean() == pytest.approx(7.23, abs=0.01)
        image = Image.read(folder / "phase_10.nii.gz")
        assert (image.shape, image.array.min() < -900) == ((100, 100, 47), True)
        mask = Image.read(folder / "phase_10_lungmask.nii.gz", labels=True)
        assert mask.grid.same_as(image.grid)
        # landmarks of the lung lie within its box
        voxels = (fixed - image.affine[:3, 3]) @ np.linalg.inv(image.affine[:3, :3]).T
        inside = np.argwhere(mask.array)
        assert ((voxels > inside.min(0) - 2) & (voxels < inside.max(0) + 2)).all()

    def test_transform_brings_labels_back(self):
        path = sorted((DATA / "hippocampus-mr" / "labels").glob("*.nii.gz"))[0]
        labels = Image.read(path, labels=True)
        shift = affine(rotation(0.1, 0.2, 0.1), (2, -3, 1))
        there = Transform.linear(shift).apply_labels(labels, labels.grid)
        back = Transform.linear(shift).inverse().apply_labels(there, labels.grid)
        assert min(dice(labels.array, back.array).values()) > 0.9
        assert max(dice(labels.array, there.array).values()) < 0.8


@pytest.mark.parametrize("name", ["RAS", "LPS", "oblique"])
def test_points_are_mapped_back_exactly(name):
    grid = Grid((14, 17, 12), AFFINES[name])
    transform = Transform.from_field(waves(grid, 4.0), grid).then(Transform.linear(affine(np.eye(3) * 1.1, (3, -2, 5))))
    points = np.random.default_rng(3).uniform(grid.box().min(0) + 5, grid.box().max(0) - 5, (50, 3))
    points = points[transform.covers(points)]  # beyond the box others are mapped to the same places
    assert len(points) > 25
    back = transform.invert_points(transform.apply_points(points))
    np.testing.assert_allclose(back, points, atol=2e-3)
    with pytest.raises(InvalidError, match=r"points: expected shape \(N, 3\)"):
        transform.invert_points(points[:, :2])


def test_a_field_of_one_slice_is_read_by_itk_and_comes_back(tmp_path):
    grid = Grid((9, 8, 1), AFFINES["RAS"])
    ddf = np.random.default_rng(0).normal(size=(9, 8, 1, 3))
    field = Transform.from_voxel_ddf(ddf, grid)
    field.save(tmp_path / "transform.nii.gz")
    read = sitk.DisplacementFieldTransform(sitk.ReadImage(str(tmp_path / "transform.nii.gz"), sitk.sitkVectorFloat64))
    points = grid.coordinates()[2:6, 2:6].reshape(-1, 3)
    flip = np.array([-1, -1, 1])
    found = np.array([read.TransformPoint((point * flip).tolist()) for point in points]) * flip
    np.testing.assert_allclose(found, field.apply_points(points), atol=1e-4)
    again = Transform.load(tmp_path / "transform.nii.gz")
    assert again.grid.same_as(grid)
    np.testing.assert_allclose(again.apply_points(points), field.apply_points(points), atol=1e-4)
