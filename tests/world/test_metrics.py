import itertools

import numpy as np
import pytest

from regzoo.errors import InvalidError, MissingError
from regzoo.io.landmarks import read_points, write_points
from regzoo.world.metrics import centroid_distance, centroids, dice, hausdorff95, hd95, jaccard, surfaces, tre
from regzoo.world.outlines import hd95_of_labels
from regzoo.world.transforms import Transform

FIXED = np.array([[0, 1, 1, 1], [2, 2, 0, 0], [3, 0, 0, 7]])
MOVED = np.array([[0, 1, 1, 0], [2, 1, 2, 2], [0, 0, 5, 7]])
SPACING = (0.8, 1.7, 2.5)


def test_dice_against_hand_counts():
    assert dice(FIXED, MOVED) == {1: 2 * 2 / (3 + 3), 2: 2 * 1 / (2 + 3), 3: 0.0, 5: 0.0, 7: 1.0}
    assert dice(FIXED.astype(np.uint8), MOVED.astype(np.int16)) == dice(FIXED, MOVED)


def test_jaccard_against_hand_counts():
    assert jaccard(FIXED, MOVED) == {1: 2 / 4, 2: 1 / 4, 3: 0.0, 5: 0.0, 7: 1.0}


@pytest.mark.parametrize("metric", [dice, jaccard])
def test_chosen_labels(metric):
    scores = metric(FIXED, MOVED, labels=[7, 4, 0])
    assert list(scores) == [7, 4, 0]
    assert scores[7] == 1
    assert np.isnan(scores[4])
    assert scores[0] == pytest.approx({dice: 2 * 2 / (5 + 4), jaccard: 2 / 7}[metric])
    assert metric(FIXED > 1, FIXED > 1) == {1: 1.0}
    with pytest.raises(InvalidError, match=r"fixed and moved: expected equal shapes, received \(3, 4\) and \(3, 3\)"):
        metric(FIXED, MOVED[:, :3])
    with pytest.raises(InvalidError, match="label map: expected integers, received type float64"):
        metric(FIXED, MOVED.astype(float))


def brute_hd95(a, b, spacing):
    def surface(mask):
        points = []
        for index in zip(*np.nonzero(mask), strict=True):
            for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
                near = list(index)
                near[axis] += step
                outside = not 0 <= near[axis] < mask.shape[axis]
                if mask.shape[axis] > 1 and (outside or not mask[tuple(near)]):
                    points.append(index)
                    break
        return np.array(points) * np.array(spacing)

    distances = np.linalg.norm(surface(a)[:, None] - surface(b)[None], axis=-1)
    return max(np.percentile(distances.min(1), 95), np.percentile(distances.min(0), 95))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(13, 15, 11), (14, 12, 1), (12, 16)])
def test_hd95_against_brute_force(shape, seed):
    random = np.random.default_rng(seed)
    spacing = (0.8, 1.7, 2.5)[: len(shape)]
    places = np.moveaxis(np.indices(shape), 0, -1)
    masks = [
        (
            np.abs(places - random.uniform(3, 8, len(shape)) * (np.array(shape) > 1)) < random.uniform(2, 6, len(shape))
        ).all(-1)
        for _ in range(2)
    ]
    assert hd95(*masks, spacing) == pytest.approx(brute_hd95(*masks, spacing))


def test_hd95_known():
    a = np.zeros((20, 20, 20), bool)
    a[4:8, 4:8, 4:8] = True
    assert hd95(a, a, (1, 1, 1)) == 0
    assert hd95(a, np.roll(a, 6, axis=1), (1, 2.5, 1)) == pytest.approx(15)
    # one stray block of fewer than 5 % of the surface moves the maximum, not the 95th percentile
    b = a.copy()
    b[18, 18, 18] = True
    assert hd95(a, b, (1, 1, 1)) == 0
    # the larger direction counts, whichever mask it starts from
    c = a.copy()
    c[12:15, 12:15, 12:15] = True
    assert hd95(a, c, (1, 1, 1)) == hd95(c, a, (1, 1, 1)) > 8
    assert np.isnan(hd95(a, np.zeros_like(a), (1, 1, 1)))
    assert np.isnan(hd95(np.zeros_like(a), a, (1, 1, 1)))


def test_centroid_distance_known():
    a, b = (np.zeros((9, 9, 9)) for _ in range(2))
    a[2:4, 2, 2] = 1  # centre at 2.5, 2, 2
    b[5, 6, 2] = 1
    oblique = np.diag([1, 2, 3, 1.0])[[1, 0, 2, 3]]
    oblique[0, 0] = 0.5  # sheared: (0.5 i + 2 j, i, 3 k)
    assert centroid_distance(a, b, oblique) == pytest.approx(np.hypot(0.5 * 2.5 + 2 * 4, 2.5))
    assert np.isnan(centroid_distance(a, np.zeros_like(a), oblique))
    with pytest.raises(InvalidError, match="shape"):
        centroid_distance(a, b[:3], oblique)


@pytest.mark.parametrize("count", [20, 21, 22, 41])
@pytest.mark.parametrize("far", [1, 2, 3])
def test_hd95_where_a_few_voxels_of_a_surface_are_far(count, far):
    fixed, moved = np.zeros((2, 90, 30))
    fixed[2 * np.arange(count), 2] = 1
    moved[2 * np.arange(count), [2] * (count - far) + [20] * far] = 1
    assert hd95(fixed, moved, (1, 1)) == pytest.approx(brute_hd95(fixed, moved, (1, 1)))


def test_hd95_refuses():
    with pytest.raises(InvalidError, match="equal shapes"):
        hd95(np.ones((3, 3, 3)), np.ones((3, 3, 2)), (1, 1, 1))
    with pytest.raises(InvalidError, match=r"spacing: expected 3 numbers, received \[1.0, 1.0\]"):
        hd95(np.ones((3, 3, 3)), np.ones((3, 3, 3)), (1, 1))


def test_tre_is_from_fixed_to_moving():
    fixed = np.array([[1.0, 2, 3], [4, 5, 6], [0, 0, 0]])
    shift = np.eye(4)
    shift[:3, 3] = (3, -4, 12)
    moving = fixed + np.array([3, -4, 12])
    np.testing.assert_allclose(tre(fixed, moving), 13)
    np.testing.assert_allclose(tre(fixed, moving, Transform.linear(shift)), 0, atol=1e-12)
    moving[1, 2] += 0.5
    np.testing.assert_allclose(tre(fixed, moving, Transform.linear(shift)), [0, 0.5, 0], atol=1e-12)
    with pytest.raises(InvalidError, match="equal shapes"):
        tre(fixed, moving[:2])
    with pytest.raises(InvalidError, match=r"points: expected shape \(N, 3\), received \(3, 2\)"):
        tre(fixed[:, :2], moving[:, :2])


def test_labels_of_one_pass_are_those_of_each_alone():
    """Touching labels, one at the border of the image, one of a single voxel, on a sheared grid."""
    random = np.random.default_rng(1)
    maps = [random.integers(0, 5, (9, 8, 7)).repeat(2, 0).astype(np.int16) for _ in range(2)]
    maps[0][maps[0] == 4], maps[1][maps[1] == 3] = 2035, 0
    maps[0][5, 4, 3] = 7
    sheared = np.array([[0.5, 2, 0, 4], [1, 0, 0, -3], [0, 0, 3, 2], [0, 0, 0, 1.0]])
    outlines, centres = (
        [of(each, with_) for each in maps] for of, with_ in ((surfaces, SPACING), (centroids, sheared))
    )
    assert set(outlines[0]) == set(centres[0]) == {1, 2, 3, 7, 2035}
    assert set(outlines[1]) == {1, 2, 4}
    for label in (1, 2):
        masks = [each == label for each in maps]
        assert hausdorff95(*(each[label] for each in outlines)) == pytest.approx(brute_hd95(*masks, SPACING))
        means = [np.append(np.argwhere(mask).mean(0), 1) @ sheared.T for mask in masks]
        np.testing.assert_allclose([each[label] for each in centres], np.array(means)[:, :3])
    np.testing.assert_allclose(outlines[0][7], [np.array([5, 4, 3]) * SPACING])


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), SPACING])
def test_hd95_of_labels_near_and_far_is_that_of_each_alone(spacing):
    """One label hardly moved, one far, one of which some is far, one of a single voxel, one in one map only."""
    fixed, moved = (np.zeros((26, 24, 20), np.int16) for _ in range(2))
    fixed[2:9, 2:9, 2:9], moved[3:10, 2:9, 2:8] = 5, 5
    fixed[12:16, 2:6, 2:6], moved[12:16, 16:22, 12:18] = 600, 600
    fixed[0:5, 12:20, 10:19], moved[0:5, 12:15, 10:19] = 7, 7
    fixed[20, 20, 2], moved[25, 23, 0] = 9, 9
    fixed[23:, :3, 15:] = 4
    found = hd95_of_labels(fixed, moved, spacing)
    assert set(found) == {5, 7, 9, 600}
    for label, value in found.items():
        assert value == pytest.approx(brute_hd95(fixed == label, moved == label, spacing), abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_hd95_of_a_surface_whose_voxels_are_near_and_far(seed):
    """An ellipsoid shifted and turned about: its distances go from 0 to many voxels, and few of them are asked for."""
    random = np.random.default_rng(seed)
    spacing = ((1.0, 1.0, 1.0), SPACING)[seed % 2]
    places = np.moveaxis(np.indices((30, 28, 24)), 0, -1) - (15, 14, 12)
    masks = []
    for middle in (np.zeros(3), random.uniform(-4, 4, 3)):
        turned = (places - middle) @ np.linalg.qr(random.normal(size=(3, 3)))[0] / (9, 6, 3)
        masks.append((turned**2).sum(-1) < 1)
    assert hd95(*masks, spacing) == pytest.approx(brute_hd95(*masks, spacing), abs=1e-9)


class TestPoints:
    def test_round_trip(self, tmp_path):
        points = np.random.default_rng(0).normal(size=(5, 3)) * 100
        write_points(tmp_path / "new" / "p.csv", points)
        assert (tmp_path / "new" / "p.csv").read_text().startswith("x,y,z\n")
        np.testing.assert_allclose(read_points(tmp_path / "new" / "p.csv"), points, atol=5.1e-5)

    def test_other_columns_and_order(self, tmp_path):
        (tmp_path / "p.csv").write_text("\ufeffname, Z,y,x,note\r\na,3,2,1,hello\r\nb,6,5,4,\r\n", encoding="utf-8")
        np.testing.assert_array_equal(read_points(tmp_path / "p.csv"), [[1, 2, 3], [4, 5, 6]])

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "p.csv: expected a header with the columns x,y,z, received an empty file."),
            (b"1,2,3\n", "p.csv: expected a header with the columns x,y,z, received 1,2,3."),
            (b"x,y,z\n", "p.csv: expected at least one landmark, received none."),
            (b"x,y,z\n1,2,3\n1,two,3\n", "p.csv line 3: expected numbers for x,y,z, received ['1', 'two', '3']."),
            (b"x,y,z\n1,2\n", "p.csv line 2: expected numbers for x,y,z, received ['1', '2', '']."),
            (
                b"x,y,z\n1,nan,3\n",
                "p.csv line 2: expected finite numbers for x,y,z, below 1000000 mm, received [1.0, nan, 3.0].",
            ),
        ],
    )
    def test_malformed(self, tmp_path, content, message):
        (tmp_path / "p.csv").write_bytes(content)
        with pytest.raises(InvalidError) as error:
            read_points(tmp_path / "p.csv")
        assert str(error.value) == message

    def test_missing_or_binary(self, tmp_path):
        with pytest.raises(MissingError, match=r"gone.csv does not exist"):
            read_points(tmp_path / "gone.csv")
        (tmp_path / "p.csv").write_bytes(b"x,y,z\n\xff\xfe\x00\n")
        with pytest.raises(InvalidError, match=r"p.csv is not a readable CSV file"):
            read_points(tmp_path / "p.csv")

    def test_refuses_to_write(self, tmp_path):
        for points in (np.zeros((3, 2)), np.full((1, 3), np.nan)):
            with pytest.raises(InvalidError, match="points: expected finite points"):
                write_points(tmp_path / "p.csv", points)
        assert not list(tmp_path.iterdir())
