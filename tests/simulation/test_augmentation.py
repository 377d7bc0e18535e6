import numpy as np
import pytest
from scipy import ndimage
from tensors import array, grid, tensor

from regzoo.ops.fields import bspline_field
from regzoo.schema.augmentation import Augmentation
from regzoo.simulation.augmentation import drawn_places, moved, place_draws, recoloured

pytestmark = pytest.mark.backend

SHAPE, SPACING = (16, 20, 12), (2.0, 1.5, 2.5)
FIELD = {"strength": 4.0, "smoothness": 12.0}


def seeds(count, seed=0):
    return np.random.default_rng(seed).integers(2**31, size=count, dtype="int32")


def changed(stack, seed=0, spacing=None, **settings):
    """Images and labels of a stack (N, *S, 1 + L) after augmentation."""
    spacing, settings = spacing or SPACING[: stack.ndim - 2], Augmentation(**settings)
    drawn = seeds(len(stack), seed)
    where = drawn_places(settings, stack.shape[1:-1], spacing, drawn)
    if where is not None:
        stack = array(moved(stack, where)).clip(0, 1)
    return array(recoloured(stack[..., :1], settings, spacing, drawn)), stack[..., 1:]


def ball(shape=SHAPE, count=1):
    """A soft ball in the middle, shape (count, *shape, 1)."""
    places = (np.moveaxis(np.indices(shape), 0, -1) - (np.array(shape) - 1) / 2) / np.array(shape)
    return np.repeat(np.exp(-20 * (places**2).sum(-1))[None, ..., None], count, axis=0).astype("float32")


def displacement(shape, axis, count, spacing=(1.0, 1.0, 1.0), **settings):
    """Displacement along an axis, (count, *shape), in the unit of spacing, read off a ramp; wrong near the border."""
    size = shape[axis]
    ramp = 0.5 + (np.indices(shape)[axis] - (size - 1) / 2) / (4 * size)
    stack = np.repeat(ramp[None, ..., None], count, axis=0).astype("float32")
    images, _ = changed(stack, spacing=spacing[: len(shape)], **settings)
    return (images[..., 0].astype("float64") - ramp) * 4 * size * spacing[axis]


def test_nothing_is_touched_where_nothing_is_asked_for():
    stack = np.random.default_rng(0).random((2, *SHAPE, 3), dtype="float32")
    images, labels = changed(stack)
    np.testing.assert_array_equal(np.concatenate([images, labels], axis=-1), stack)


@pytest.mark.parametrize("shape", [SHAPE, (18, 14)])
@pytest.mark.parametrize(
    "settings", [{"affine": 0.2}, {"field": FIELD}, {"affine": 0.1, "field": FIELD}, {"rotation": 40, "shift": 3}]
)
def test_labels_go_where_their_image_goes(shape, settings):
    stack = np.repeat(np.random.default_rng(1).random((4, *shape, 1), dtype="float32"), 3, axis=-1)
    images, labels = changed(stack, **settings)
    assert images.shape == (4, *shape, 1)
    np.testing.assert_allclose(labels[..., :1], images, atol=1e-6)
    np.testing.assert_allclose(labels[..., 1:], images, atol=1e-6)
    assert not np.allclose(images[0], stack[0, ..., :1])
    assert images.dtype == labels.dtype == np.float32


def test_every_image_has_a_draw_of_its_own_and_the_same_seed_the_same_draws():
    settings = {"affine": 0.1, "field": FIELD, "gamma": 0.3, "noise": 0.05, "bias": {"strength": 0.3, "smoothness": 20}}
    images, _ = changed(ball(count=3), **settings)
    assert not np.allclose(images[0], images[1])
    np.testing.assert_array_equal(images, changed(ball(count=3), **settings)[0])
    assert not np.allclose(images, changed(ball(count=3), seed=1, **settings)[0])


@pytest.mark.parametrize("settings", [{"affine": 0.1}, {"field": FIELD}])
def test_all_corners_are_moved_alike_and_none_on_average(settings):
    count = 400
    for axis in range(3):
        moved, spreads = displacement(SHAPE, axis, count, **settings), []
        for corner in np.ndindex(2, 2, 2):
            at = tuple(np.where(corner, np.array(SHAPE) - 4, 3))
            values = moved[(slice(None), *at)]
            inside = values[np.abs(values) < 3]  # from farther away comes the 0 around the image
            assert len(inside) > 0.95 * count
            assert abs(inside.mean()) < 4 * inside.std() / np.sqrt(len(inside)) + 0.02
            spreads.append(inside.std())
        assert 0.15 < max(spreads) < 1.4 * min(spreads)  # one corner is as good as another


@pytest.mark.parametrize("shape", [SHAPE, (40, 30)])
def test_a_field_is_smooth_bounded_in_mm_and_does_not_fold(shape):
    settings = {"field": {"strength": 0.4 * 12, "smoothness": 12.0}}
    moved = [displacement(shape, axis, 6, SPACING, **settings) for axis in range(len(shape))]
    field = np.stack(moved, axis=-1)[(slice(None), *[slice(3, -3)] * len(shape))]
    assert np.abs(field).max() <= 4.8
    assert np.sqrt((field**2).mean()) / 4.8 == pytest.approx(0.479 ** (len(shape) / 2) / np.sqrt(3), rel=0.25)
    gradients = [
        np.stack(np.gradient(field[..., d], *SPACING[: len(shape)], axis=tuple(range(1, len(shape) + 1))), -1)
        for d in range(len(shape))
    ]
    jacobian = np.stack(gradients, axis=-2) + np.eye(len(shape))
    assert np.linalg.det(jacobian).min() > 0
    assert 0.2 < np.abs(gradients).max() < 1.5


@pytest.mark.parametrize("axis", range(3))
def test_rotation_and_shift_move_each_image_by_a_draw_of_its_own_in_mm(axis):
    """Read off ramps: the moves of a rotation are orthogonal in mm, and the middle only shifts."""
    shape, count = (21, 25, 19), 40
    moved = displacement(shape, axis, count, SPACING, rotation=8, shift=2.5)
    middle = moved[(slice(None), *[n // 2 for n in shape])]
    assert 1.8 < np.abs(middle).max() <= 2.5 + 1e-3
    ways = np.stack([np.gradient(moved, step, axis=d + 1) for d, step in enumerate(SPACING)], axis=-1)
    row = ways[:, 10, 12, 9] + np.eye(3)[axis]
    np.testing.assert_allclose(np.linalg.norm(row, axis=-1), 1, atol=1e-3)
    assert np.degrees(np.arccos(np.clip(row[:, axis], -1, 1))).max() <= 8 + 0.1
    assert row.std(axis=0).max() > 0.02


def test_octaves_are_fields_in_a_row_each_half_as_strong_and_smooth():
    settings = Augmentation(field={"strength": 8.0, "smoothness": 24.0, "octaves": 2})
    asked = settings, SHAPE, (1.0,) * 3
    both = array(drawn_places(*asked, seeds(1)))[0]
    draws = {name: array(each) for name, each in place_draws(*asked, seeds(1)).items()}
    assert 7 < np.abs(draws["field0"]).max() <= 8
    assert 3.5 < np.abs(draws["field1"]).max() <= 4
    first, second = (
        array(bspline_field(tensor(draws[name]), SHAPE, (step,) * 3))[0] + grid(SHAPE)
        for name, step in (("field0", 24.0), ("field1", 12.0))
    )
    # moved(x) = image(first(second(x))); away from the edges, where the first is only continued.
    expected = np.stack(
        [ndimage.map_coordinates(first[..., d], np.moveaxis(second, -1, 0), order=1, mode="nearest") for d in range(3)],
        -1,
    )
    np.testing.assert_allclose(both[4:-4, 4:-4, 4:-4], expected[4:-4, 4:-4, 4:-4], atol=1e-3)
    assert np.abs(both - first).max() > 0.5


def test_the_image_is_sampled_once_by_the_matrix_of_the_field():
    """`image(A(x + u))`, against scipy: A and u read off by themselves with the same seed."""
    count, scale = 2, 64.0
    places = np.moveaxis(np.indices(SHAPE), 0, -1).astype("float64")
    image = ndimage.gaussian_filter(np.random.default_rng(0).random(SHAPE), 1.5)
    settings = {"affine": 0.05, "field": {"strength": 3.0, "smoothness": 14.0}}
    where = []
    for axis in range(3):
        ramp = places[..., axis] / scale
        both, _ = changed(np.repeat(ramp[None, ..., None], count, axis=0).astype("float32"), **settings)
        where.append(both[..., 0].astype("float64") * scale)
    found, _ = changed(np.repeat(image[None, ..., None], count, axis=0).astype("float32"), **settings)
    for number in range(count):
        coordinates = np.stack([each[number] for each in where])
        expected = ndimage.map_coordinates(image, coordinates, order=1, mode="grid-constant")
        inner = (slice(4, -4),) * 3
        np.testing.assert_allclose(found[number, ..., 0][inner], expected[inner], atol=2e-4)


@pytest.mark.parametrize(
    ("settings", "low", "high"),
    [
        ({"gamma": 0.5}, lambda x: x ** np.exp(0.5), lambda x: x ** np.exp(-0.5)),
        (
            {"contrast": 0.4},
            lambda x: np.where(x > x.mean(), (x - x.mean()) * np.exp(-0.4), (x - x.mean()) * np.exp(0.4)) + x.mean(),
            lambda x: np.where(x > x.mean(), (x - x.mean()) * np.exp(0.4), (x - x.mean()) * np.exp(-0.4)) + x.mean(),
        ),
        ({"bias": {"strength": 0.3, "smoothness": 15}}, lambda x: x * np.exp(-0.3), lambda x: x * np.exp(0.3)),
    ],
)
def test_intensities_stay_within_their_bounds_and_labels_as_they_are(settings, low, high):
    count = 60
    stack = np.concatenate([0.1 + 0.6 * ball(count=count), ball(count=count) > 0.5], axis=-1).astype("float32")
    images, labels = changed(stack, **settings)
    np.testing.assert_array_equal(labels, stack[..., 1:])
    original = stack[0, ..., :1]
    assert (images >= low(original) - 1e-5).all()
    assert (images <= high(original) + 1e-5).all()
    # Draws reach most of the way to both sides, and to each about as often.
    share = (images - original) / np.where(images > original, high(original) - original, original - low(original))
    middle = share[(slice(None), *(size // 2 for size in SHAPE), 0)]
    reach = 0.2 if "bias" in settings else 0.8
    assert middle.min() < -reach
    assert middle.max() > reach
    assert 0.3 < (middle > 0).mean() < 0.7


def test_a_bias_field_is_smooth():
    stack = np.full((3, *SHAPE, 1), 0.5, "float32")
    images, _ = changed(stack, bias={"strength": 0.5, "smoothness": 30})
    logs = np.log(images[..., 0] / 0.5)
    assert logs.std() > 0.03
    steps = [np.abs(np.diff(logs, axis=axis + 1)).max() / spacing for axis, spacing in enumerate(SPACING)]
    assert max(steps) < 2 * 0.5 / 30  # a B-spline's slope is at most the largest step between its control points


def test_noise_has_a_deviation_of_up_to_what_is_asked():
    images, _ = changed(np.full((200, *SHAPE, 1), 0.5, "float32"), noise=0.1)
    deviations = images.std(axis=(1, 2, 3, 4))
    assert deviations.max() < 0.103
    assert deviations.min() < 0.01
    assert deviations.mean() == pytest.approx(0.05, abs=0.01)
    assert abs(images.mean() - 0.5) < 1e-3
    edge, _ = changed(np.zeros((8, *SHAPE, 1), "float32"), noise=1.0)
    assert (edge.min(), edge.max()) == (0, 1)


@pytest.mark.parametrize("shape", [SHAPE, (18, 14)])
def test_crops_leave_a_box_on_every_side_of_which_an_end_may_be_cut(shape):
    spacing = SPACING[: len(shape)]
    images, labels = changed(np.ones((200, *shape, 2), "float32"), crop=6.0)
    assert (labels == 1).all()
    for axis, (length, step) in enumerate(zip(shape, spacing, strict=True)):
        others = tuple(each + 1 for each in range(len(shape) + 1) if each != axis)
        seen = images.max(axis=others)
        first, last = seen.argmax(axis=1), length - 1 - seen[:, ::-1].argmax(axis=1)
        np.testing.assert_array_equal(seen.sum(axis=1), last - first + 1)
        for cut in (first, length - 1 - last):
            assert 0.6 * 6 < cut.max() * step < 6 + step
            assert 0.15 < (cut > 0).mean() < 0.35
        assert not ((first > 0) & (last < length - 1)).any()
    assert len(np.unique(images.sum(axis=tuple(range(1, images.ndim))))) > 10


def test_images_are_inverted_with_a_probability():
    stack = ball(count=200)
    images, _ = changed(stack, invert=0.25)
    inverted = np.isclose(images, 1 - stack, atol=1e-6).all(axis=(1, 2, 3, 4))
    assert inverted.mean() == pytest.approx(0.25, abs=0.1)
    np.testing.assert_array_equal(images[~inverted], stack[~inverted])


def test_two_dimensions():
    stack = np.random.default_rng(0).random((4, 18, 14, 2), dtype="float32")
    settings = {"affine": 0.1, "field": FIELD, "noise": 0.1, "bias": {"strength": 0.2, "smoothness": 9}}
    images, labels = changed(stack, contrast=0.1, gamma=0.1, invert=0.5, **settings)
    assert images.shape == labels.shape == (4, 18, 14, 1)
    assert np.isfinite(images).all()


@pytest.mark.parametrize("shape", [SHAPE, (18, 14)])
def test_numbers_of_labels_are_moved_by_nearest_neighbour(shape):
    """Between 1 and 7 nothing is ever made up."""
    numbers = np.random.default_rng(0).choice(np.array([0, 1, 7], "uint8"), (3, *shape, 1))
    where = drawn_places(Augmentation(affine=0.2, field=FIELD), shape, SPACING[: len(shape)], seeds(3))
    found = array(moved(numbers, where, "nearest"))
    assert found.dtype == np.uint8
    assert set(np.unique(found)) == {0, 1, 7}
    places = np.floor(np.moveaxis(array(where), -1, 0) + 0.5).astype(int)
    inside = np.all((places >= 0) & (places < np.array(shape).reshape(-1, *(1,) * (len(shape) + 1))), axis=0)
    batch = np.arange(3).reshape(-1, *(1,) * len(shape))
    expected = numbers[(batch, *np.where(inside, places, 0), 0)] * inside
    assert (found[..., 0] == expected).mean() > 0.999  # but for a place on the border of two voxels


@pytest.mark.parametrize("largest", [40, 180])
@pytest.mark.parametrize(("shape", "spacing"), [((16, 10), (1.0, 3.0)), ((16, 10, 6), (1.0, 0.5, 3.0))])
def test_rotations_are_about_the_centre_in_mm_to_the_largest_angle(shape, spacing, largest):
    drawn, dims = Augmentation(rotation=largest, shift=6), len(shape)
    matrices = array(place_draws(drawn, shape, spacing, seeds(3000))["matrix"]).astype("float64")
    step = np.array(spacing)
    turns = matrices[..., :-1] * step[:, None] / step
    np.testing.assert_allclose(turns @ turns.swapaxes(1, 2), np.broadcast_to(np.eye(dims), turns.shape), atol=1e-4)
    assert (np.linalg.det(turns) > 0).all()
    trace = np.trace(turns, axis1=1, axis2=2)
    angles = np.degrees(np.arccos(np.clip(trace / 2 if dims == 2 else (trace - 1) / 2, -1, 1)))
    assert 0.985 * largest < angles.max() <= largest + 0.1
    np.testing.assert_allclose(np.percentile(angles, [25, 50, 75]), largest * np.array([1, 2, 3]) / 4, rtol=0.1)
    skew = turns - turns.swapaxes(1, 2)
    about = [skew[:, 1, 0]] if dims == 2 else [skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]]
    assert np.abs(np.mean(about, axis=1)).max() < 0.08  # as often to one side as to the other, about every axis
    np.testing.assert_allclose(np.std(about, axis=1), np.std(about), rtol=0.1)
    centre = (np.array(shape) - 1) / 2
    shifts = (matrices[..., :-1] @ centre + matrices[..., -1] - centre) * step
    assert (np.abs(shifts).max(0) <= 6 + 1e-3).all()
    assert (np.abs(shifts).max(0) > 5.9).all()


def test_an_affine_matrix_moves_a_faces_middle_by_at_most_its_share_of_the_size():
    draws = place_draws(Augmentation(affine=0.2), SHAPE, SPACING, seeds(3000))
    size, centre = np.array(SHAPE), (np.array(SHAPE) - 1) / 2
    matrices = array(draws["matrix"]).astype("float64")
    entries = (matrices[..., :3] - np.eye(3)) * size / size[:, None]
    middle = (matrices[..., :3] @ centre + matrices[..., 3] - centre) / (size / 2)
    for drawn in (entries, middle):
        assert 0.19 < np.abs(drawn).max() <= 0.2 + 1e-4
        np.testing.assert_allclose(drawn.mean(axis=0), 0, atol=0.01)
        np.testing.assert_allclose(drawn.std(axis=0), 0.2 / np.sqrt(3), rtol=0.06)


@pytest.mark.parametrize(("shape", "spacing"), [((16, 10), (1.0, 3.0)), ((16, 10, 6), (1.0, 0.5, 10.0))])
def test_what_a_pair_has_together_turns_scales_and_stretches_both_images_alike(shape, spacing):
    asked = Augmentation(together={"turn": 180, "scale": 0.2, "stretch": 0.5}), shape, spacing
    fixed, moving = seeds(2000), seeds(2000, seed=1)
    matrices = array(place_draws(*asked, np.concatenate([fixed, moving]))["matrix"]).astype("float64")
    np.testing.assert_array_equal(matrices[:2000], matrices[2000:])
    step, centre = np.array(spacing), (np.array(shape) - 1) / 2
    linear = matrices[:2000, :, :-1] * step[:, None] / step
    np.testing.assert_allclose(matrices[..., :-1] @ centre + matrices[..., -1], np.tile(centre, (4000, 1)), atol=1e-4)
    plane = linear[:, :2, :2]
    sizes = np.log(np.linalg.det(plane)) / 2
    assert 0.19 < sizes.max() <= 0.2 + 1e-4
    assert -0.2 - 1e-4 <= sizes.min() < -0.19
    angles = np.degrees(np.arctan2(plane[:, 1, 0], plane[:, 0, 0]))
    np.testing.assert_allclose(np.percentile(angles, [25, 50, 75]), [-90, 0, 90], atol=12)
    np.testing.assert_allclose(plane[:, 0, 0], plane[:, 1, 1], atol=1e-5)
    np.testing.assert_allclose(plane[:, 1, 0], -plane[:, 0, 1], atol=1e-5)
    if len(shape) == 3:
        slices = np.log(linear[:, 2, 2])
        assert -0.5 - 1e-4 <= slices.min() < -0.48  # of the slices a share: there are more of them
        assert slices.max() == 0
        assert 0.45 < (slices == 0).mean() < 0.55
        assert not linear[:, 2, :2].any()
        assert not linear[:, :2, 2].any()


def test_what_a_pair_has_together_comes_before_what_each_image_has_by_itself():
    """As if both had been turned, and then each been moved: the places of one are those of its own, turned."""
    own, together = {"affine": 0.1, "shift": 2}, {"together": {"turn": 90}}
    drawn = np.concatenate([seeds(5), seeds(5, seed=1)])
    both, alone, turn = (
        array(place_draws(Augmentation(**each), SHAPE, SPACING, drawn)["matrix"])
        for each in (own | together, own, together)
    )
    expected = turn[..., :-1] @ alone
    expected[..., -1] += turn[..., -1]
    np.testing.assert_allclose(both, expected, atol=1e-4)


def test_what_a_pair_has_together_must_be_something():
    with pytest.raises(ValueError, match="turn, scale or stretch above 0"):
        Augmentation(together={})
