import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from worlds import AFFINES

from regzoo.errors import InvalidError
from regzoo.world import jacobians
from regzoo.world.images import Grid
from regzoo.world.jacobians import central_determinant, folds, spread, statistics
from regzoo.world.transforms import Transform

# What digital-diffeomorphism 1.1.1 (PyPI) says of `field`, by `calc_jacdets_3d` and `calc_jacdets_2d` (voxels with any
# determinant of one-sided differences or of a tetrahedron within a cube <= 0) and by `ndv` and `nda` (volume, area).
# tests/benchmarks/folds.py prints it. In the third column, voxels inside that central differences find.
GOLDEN = [
    ((7, 9, 8), 0.35, 203, 11.352081, 0),
    ((7, 9, 8), 0.8, 478, 285.5616, 40),
    ((12, 11), 0.4, 31, 4.5489435, 0),
    ((12, 11), 0.9, 102, 62.932808, 15),
]


def field(shape, scale):
    """Displacements in voxels that fold in many places, at the borders too."""
    return (scale * np.random.default_rng(3).standard_normal((*shape, len(shape)))).astype(np.float32)


def placed(voxels, affine):
    """The same in mm on a grid of three axes."""
    *shape, dims = voxels.shape
    grid = Grid((*shape, 1)[:3], affine)
    full = np.zeros((*grid.shape, 3), np.float32)
    full[..., :dims] = voxels.reshape(*grid.shape, dims)
    return full @ grid.affine[:3, :3].T, grid


@pytest.mark.parametrize("name", ["RAS", "LPS", "anisotropic", "oblique"])
@pytest.mark.parametrize(("shape", "scale", "count", "volume", "central"), GOLDEN)
def test_folds_as_digital_diffeomorphism_counts(name, shape, scale, count, volume, central):
    vectors, grid = placed(field(shape, scale), AFFINES[name])
    found, voxels = folds(vectors, grid), np.prod(shape)
    assert found["folds"] * voxels == pytest.approx(count, abs=1e-6)
    assert found["folded_volume"] * voxels == pytest.approx(volume, rel=1e-5)
    inside = central_determinant(vectors, grid)[(slice(1, -1),) * len(shape)]
    assert (inside <= 0).sum() == central


def test_a_slice_is_counted_alike_along_whichever_axis_it_is_flat():
    voxels = field((12, 11), 0.4)
    for axis in range(3):
        grid = Grid(np.insert((12, 11), axis, 1), np.diag([2.0, 1.5, 3, 1]))
        full = np.insert(np.expand_dims(voxels, axis), axis, 7.0, axis=-1)  # what leads out of the slice is left out
        found = folds(full * grid.spacing.astype("float32"), grid)
        assert found["folds"] * 132 == pytest.approx(31)
        assert found["folded_volume"] * 132 == pytest.approx(4.5489435)


def test_one_voxel_that_jumps_over_its_neighbour_folds_and_central_differences_do_not_see_it_there():
    vectors = np.zeros((9, 9, 9, 3), np.float32)
    vectors[4, 4, 4, 0] = 2.4
    grid = Grid((9, 9, 9), np.diag([2.0, 1, 1, 1]))
    assert central_determinant(vectors, grid)[4, 4, 4] == 1
    assert (central_determinant(vectors, grid) > 0).all()
    assert folds(vectors, grid)["folds"] > 0


def test_no_folds_where_nothing_folds():
    grid = Grid((6, 5, 4), AFFINES["oblique"])
    stretch = Transform.linear(np.diag([1.5, 0.2, 1, 1])).displacement(grid)
    assert folds(stretch, grid) == {"folds": 0, "folded_volume": 0}
    mirrored = Transform.linear(np.diag([-1.0, 1, 1, 1])).displacement(Grid((6, 5, 4), np.eye(4)))
    found = folds(mirrored, Grid((6, 5, 4), np.eye(4)))
    assert found["folds"] > 0.9
    single = Grid((1, 1, 1), np.eye(4))
    assert folds(np.ones((1, 1, 1, 3), np.float32), single) == {"folds": 0, "folded_volume": 0}
    assert central_determinant(np.ones((1, 1, 1, 3), np.float32), single) == 1


@pytest.mark.parametrize("shape", [(7, 9, 8), (12, 11, 1)])
@pytest.mark.parametrize("name", ["LPS", "oblique", "anisotropic"])
def test_a_turn_folds_nothing_and_hides_nothing(name, shape):
    grid = Grid(shape, AFFINES[name])
    turn, scale = np.eye(4), (1.2, 0.9, 1.1) if shape[2] > 1 else (1.0, 1.0, 1.0)
    about = grid.affine[:3, 2] / grid.spacing[2]  # within the slice
    turn[:3, :3] = Rotation.from_rotvec(100 * about, degrees=True).as_matrix() * scale
    still = Transform.linear(turn, grid).displacement(grid)
    assert folds(still, grid)["folds"] > 0.1  # beyond the border, where the displacement of a turn does not stop
    assert folds(still, grid, turn) == {"folds": 0.0, "folded_volume": 0.0}
    voxels = field(shape[: 3 if shape[2] > 1 else 2], 0.6)
    bent = Transform.from_voxel_ddf(
        np.pad(voxels.reshape(*shape, -1), [(0, 0)] * 3 + [(0, 3 - voxels.shape[-1])]), grid
    )
    expected = folds(bent.displacement(grid), grid)
    found = folds(bent.then(Transform.linear(turn, grid)).displacement(grid), grid, turn)
    assert found["folds"] == pytest.approx(expected["folds"], abs=1.5 / np.prod(shape))
    volume = expected["folded_volume"] * np.prod(scale)
    assert found["folded_volume"] == pytest.approx(volume, rel=1e-3)
    assert expected["folds"] > 0.1


@pytest.mark.parametrize("shape", [(7, 9, 8), (12, 11)])
def test_slabs_change_nothing(shape, monkeypatch):
    vectors, grid = placed(field(shape, 0.5), AFFINES["anisotropic"])
    whole = central_determinant(vectors, grid), folds(vectors, grid)
    monkeypatch.setattr(jacobians, "_SLAB", 1)
    np.testing.assert_array_equal(central_determinant(vectors, grid), whole[0])
    assert folds(vectors, grid) == pytest.approx(whole[1])


def test_sdlogj_keeps_what_folds():
    determinant = np.array([1, np.e, np.e**-1, -2, 0, 1])
    logs = [0, 1, -1, np.log(1e-9), np.log(1e-9), 0]
    found = spread(determinant)
    assert found["sdlogj"] == pytest.approx(np.std(logs))
    assert (found["min"], found["max"]) == (-2, pytest.approx(np.e))
    with pytest.raises(InvalidError, match="determinant: expected at least one voxel"):
        spread(np.zeros(0))


def test_sdlogj_of_learn2reg_adds_three_and_cuts_two_voxels():
    determinant = np.full((7, 6, 1), 100.0)
    determinant[2:-2, 2:-2] = [[[1.0], [2.0]], [[-5.0], [1.0]], [[1.0], [1.0]]]
    assert spread(determinant)["sdlogj_l2r"] == pytest.approx(np.std(np.log([4, 5, 1e-9, 4, 4, 4])))


def test_shares_of_label_voxels_that_are_squeezed_and_stretched():
    grid = Grid((12, 5, 5), np.diag([2.0, 1, 3, 1]))
    vectors = np.zeros((12, 5, 5, 3), np.float32)
    places = grid.coordinates()[..., 0]
    vectors[..., 0] = np.where(places < 8, -0.8 * places, np.where(places < 14, -6.4, 2.5 * (places - 14) - 6.4))
    labels = np.zeros((12, 5, 5), np.uint8)
    labels[1:4, 2, 2] = 1  # det 0.2
    labels[9:11, 2, 2] = 5  # det 3.5
    labels[5:6, 2:4, 2] = 2  # det 1
    found = statistics(vectors, grid, labels)
    assert (found["squeezed"], found["stretched"]) == (3 / 7, 2 / 7)
    assert "squeezed" not in statistics(vectors, grid)
    assert np.isnan(statistics(vectors, grid, np.zeros_like(labels))["squeezed"])
