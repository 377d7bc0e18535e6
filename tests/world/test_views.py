import numpy as np
import pytest
import worlds
from seen_ramp import SHAPE, SPACING, inputs, ramp, source, world
from worlds import AFFINES, affine

from regzoo.errors import InvalidError
from regzoo.schema.inputs import InputConfig
from regzoo.world.images import Grid, Image
from regzoo.world.resampling import resample
from regzoo.world.views import View, from_batch, own_grid, spatial_field, start_matrix, to_batch, view


def beside(grid, image, labels, values):
    """The view on a grid that is given."""
    return view(image, inputs(alignment="world"), beside=grid, labels=labels, values=values)


def noise(shape=(7, 9, 6), seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("name", worlds.AFFINES)
def test_own_grid_lies_on_the_images_centre_along_ras(name):
    image, _ = source(name)
    grid = own_grid(image, inputs())
    assert grid.shape == SHAPE
    np.testing.assert_allclose(grid.affine[:3, :3], np.diag(SPACING))
    middle = image.affine @ [*((n - 1) // 2 for n in image.shape), 1]
    np.testing.assert_allclose(grid.affine @ [*((n - 1) // 2 for n in SHAPE), 1], middle, atol=1e-9)


@pytest.mark.parametrize("name", worlds.AFFINES)
def test_view_samples_in_the_world(name):
    image, labels = source(name)
    grid = own_grid(image, inputs())
    seen = beside(grid, image, labels, (5, 3, 9))
    channels = seen.channels(range(3))
    assert seen.image.shape == (*SHAPE, 1)
    assert channels.shape == (*SHAPE, 3)
    assert seen.labels.dtype == np.uint8
    np.testing.assert_allclose(seen.image[..., 0], ramp(grid), atol=1e-4)
    # Labels by hand: the nearest voxel's value, away from ties.
    index = (world(grid) - labels.affine[:3, 3]) @ np.linalg.inv(labels.affine[:3, :3]).T
    sure = (np.abs(index - np.floor(index) - 0.5) > 1e-3).all(-1)
    nearest = labels.array[tuple(np.moveaxis(np.rint(index).astype(int), -1, 0))]
    assert sure.mean() > 0.3
    for channel, value in enumerate((5, 3, 9)):
        np.testing.assert_array_equal(channels[sure][:, channel], (nearest == value)[sure])


def test_view_gives_zero_outside_and_clips_inside():
    image = Image(np.full((4, 4, 4), 200.0, "float32"), np.eye(4))
    image.array[1:3] = 20.0
    labels = Image(np.ones((4, 4, 4), "uint8"), np.eye(4))
    grid = Grid((8, 4, 4), worlds.affine(np.eye(3), (-2, 0, 0)))
    seen = beside(grid, image, labels, (1,))
    expected = [0, 0, 1, 80 / 120, 80 / 120, 1, 0, 0]
    np.testing.assert_allclose(seen.image[:, 2, 2, 0], expected, atol=1e-6)
    np.testing.assert_array_equal(seen.labels[:, 2, 2], [0, 0, 1, 1, 1, 1, 0, 0])


def test_view_takes_wanted_channels_linearly_and_leaves_others_empty():
    grid = Grid((12, 10, 9), worlds.affine(np.diag([2.0, 1.5, 2.5]), (-10, -7, -9)))
    steep = np.clip(world(grid) @ (0.03, -0.02, 0.01) + 0.5, 0, 1).astype("float32")
    labels = Image(np.stack([np.zeros(grid.shape, "float32"), steep], axis=-1), grid.affine)
    image = worlds.ramp(grid)
    target = Grid((5, 6, 4), worlds.affine(np.diag([2.0, 1.5, 2.5]), (-5.1, -3.2, -4.4)))
    seen = beside(target, image, labels, (2, 7))
    assert seen.soft
    np.testing.assert_allclose(seen.labels[..., 0], world(target) @ (0.03, -0.02, 0.01) + 0.5, atol=1e-5)
    assert not seen.labels[..., 1].any()
    assert seen.present == {0}
    np.testing.assert_array_equal(seen.channels([1, 0])[..., 1], seen.labels[..., 0])


@pytest.mark.parametrize("values", [(7, 300, 2), tuple(range(1, 300))])
def test_integer_labels_are_never_blended(values):
    """Between 7 and 300 lies no other label, whatever the grid."""
    array = np.where(np.indices((12, 12, 12)).sum(0) % 3, 7, 300).astype("uint16")
    array[:2] = 1000
    image = Image(np.random.default_rng(0).random((12, 12, 12)).astype("float32"), np.eye(4))
    grid = Grid((10, 9, 8), worlds.affine(worlds.rotation(0.1, 0.2, -0.1), (1.3, 0.6, 1.1)))
    seen = beside(grid, image, Image(array, np.eye(4)), values)
    wanted = {values.index(value) for value in (7, 300) if value in values}
    assert seen.present == wanted
    assert seen.labels.dtype == ("uint16" if len(values) > 255 else "uint8")
    assert 0 < (seen.labels > 0).mean() < 1


def test_present_asks_for_half_a_voxel_of_a_channel():
    array = np.zeros((4, 3, 2, 3), "float32")
    array[0, 0, 0] = 0.1, 0.4, 0.5
    array[1, 0, 0, 0] = 0.5
    seen = View(array[..., :1], array, Grid((4, 3, 2), np.eye(4)))
    assert seen.present == {0, 2}
    without = View(array[..., :1], None, seen.grid)
    assert without.present == set()
    assert without.channels([0, 1]).shape == (4, 3, 2, 2)


class TestNetworkGrid:
    @pytest.mark.parametrize("shape", [(8, 8, 8), (7, 10, 12)])
    @pytest.mark.parametrize("name", ["RAS", "LAS", "LPS"])
    def test_equal_spacing_copies_voxels(self, name, shape):
        image = Image(noise(), AFFINES[name])
        grid = own_grid(image, InputConfig(spacing=(1.5, 1.5, 1.5), shape=shape))
        assert grid.shape == shape
        np.testing.assert_allclose(grid.affine[:3, :3], np.diag([1.5] * 3))
        np.testing.assert_allclose(
            grid.coordinates()[tuple((n - 1) // 2 for n in shape)], image.grid.coordinates()[3, 4, 2]
        )
        kept = resample(image, grid).array
        assert set(kept[kept != 0]) <= set(image.array.ravel())
        assert kept[tuple((n - 1) // 2 for n in shape)] == image.array[3, 4, 2]

    def test_spacing_per_axis(self):
        image = Image(noise(), AFFINES["oblique"])
        grid = own_grid(image, InputConfig(spacing=(1, 2, 3), shape=(6, 5, 4)))
        np.testing.assert_allclose(grid.affine[:3, :3], np.diag([1, 2, 3]))
        np.testing.assert_allclose(grid.centre, image.grid.centre)

    def test_axes(self):
        image = Image(noise(), AFFINES["oblique"])
        grid = own_grid(image, InputConfig(spacing=(1, 2, 3), shape=(6, 5, 4), axes="PIR"))
        np.testing.assert_allclose(grid.affine[:3, :3], [[0, 0, 3], [-1, 0, 0], [0, -2, 0]])
        np.testing.assert_allclose(grid.centre, image.grid.centre)


@pytest.mark.parametrize("around", ["image", "extent"])
@pytest.mark.parametrize("name", ["LPS", "permuted", "oblique"])
def test_centre_on_centre_both_views_show_the_middle_of_their_image(name, around):
    fixed, moving = source("anisotropic")[0], source(name, offset=(300, -200, 80))[0]
    config = inputs(around=around, alignment="center", axes="LIA")
    seen = view(fixed, config)
    other = view(moving, config, beside=seen.grid)
    np.testing.assert_allclose(other.grid.affine[:3, :3], seen.grid.affine[:3, :3])
    np.testing.assert_allclose(seen.grid.centre, fixed.grid.centre)
    np.testing.assert_allclose(other.grid.centre, moving.grid.centre)
    matrix = start_matrix(seen.grid, other.grid)
    np.testing.assert_allclose(matrix[:3, 3], moving.grid.centre - fixed.grid.centre, atol=1e-9)
    np.testing.assert_allclose(matrix[:3, :3], np.eye(3), atol=1e-12)
    world_view = view(moving, config.model_copy(update={"alignment": "world"}), beside=seen.grid)
    assert world_view.grid is seen.grid


def test_around_the_extent_the_grid_is_stretched_to_the_fixed_image():
    small = Image(np.random.default_rng(0).random((30, 40, 20), "float32"), np.diag([0.5, 0.5, 1.0, 1.0]))
    config = InputConfig(spacing=(1, 1, 1), shape=(28, 28, 28), around="extent")
    np.testing.assert_allclose(own_grid(small, config).spacing, (20 / 28,) * 3)
    turned = Image(np.transpose(small.array, (2, 0, 1)).copy(), small.affine[:, [2, 0, 1, 3]])
    np.testing.assert_allclose(own_grid(turned, config).spacing, (20 / 28,) * 3)


def test_slices_must_be_as_many_and_run_the_same_way():
    config = InputConfig(spacing=(2, 3), shape=(16, 12))
    stack = worlds.ramp(Grid((20, 24, 5), affine(np.diag([1.5, -1.25, 8.0]), (30, -22, 2))))
    seen = view(stack, config)
    assert seen.grid.shape == (16, 12, 5)
    for other, message in (
        (worlds.ramp(Grid((20, 24, 4), stack.affine)), "slices: expected 5, as the fixed image has, .* received 4"),
        (
            worlds.ramp(Grid((20, 24, 5), affine(worlds.rotation(1.5, 0, 0) @ stack.affine[:3, :3], (0, 0, 0)))),
            "slices: expected the fixed image's direction, within 45 degrees",
        ),
    ):
        with pytest.raises(InvalidError, match=message):
            view(other, config, beside=seen.grid)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_batch_and_back(dims):
    array = np.arange(2 * 3 * 4 * dims, dtype="float32").reshape(2, 3, 4, dims)
    batch = to_batch(array, dims)
    assert batch.shape == ((4, 2, 3, 2) if dims == 2 else (1, 2, 3, 4, 3))
    np.testing.assert_array_equal(from_batch(batch, dims), array)
    field = spatial_field(batch, dims)
    np.testing.assert_array_equal(field[..., :dims], array)
    assert field.shape == (2, 3, 4, 3)
    assert not field[..., dims:].any()
