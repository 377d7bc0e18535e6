"""Every image is a closed form f: the moving one shows f(y), the fixed one f(T(x)), so that T is to be found."""

from typing import get_args

import numpy as np
import pytest
from worlds import AFFINES, affine, around, rotation

import regzoo
from regzoo.classical import METHODS, Guidance, optimise, refine
from regzoo.classical.pyramid import level_grid
from regzoo.errors import InvalidError
from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform

GRID = Grid((24, 22, 20), AFFINES["oblique"])
MIDDLE = GRID.box().mean(0)


def blobs(points):
    random = np.random.default_rng(1)
    values = np.zeros(points.shape[:-1])
    for _ in range(40):
        away = points - MIDDLE - random.uniform(-18, 18, 3)
        values += random.uniform(0.3, 1) * np.exp(-(away**2).sum(-1) / random.uniform(15, 60))
    return values.astype("float32")


def pair(truth, moving_name="LPS"):
    moving = around(GRID, moving_name, margin=6)
    return Image(blobs(truth(GRID.coordinates())), GRID.affine), Image(blobs(moving.coordinates()), moving.affine)


def rigid(points):
    return (points - MIDDLE) @ rotation(0.06, -0.04, 0.08).T + MIDDLE + (2.0, -1.5, 1.0)


def bent(points):
    x, y, z = np.moveaxis(points - MIDDLE, -1, 0)
    return points + 2.5 * np.stack([np.sin(y / 12), np.cos(z / 13), np.sin(x / 14)], axis=-1)


def error(transform, truth):
    """Returns the mean distance in mm from the truth, 3 voxels inside the fixed image."""
    places = GRID.coordinates()[3:-3, 3:-3, 3:-3].reshape(-1, 3)
    return np.linalg.norm(transform.apply_points(places) - truth(places), axis=-1).mean()


@pytest.mark.backend
@pytest.mark.parametrize(("name", "world"), [("rigid", "LPS"), ("affine", "permuted")])
def test_finds_a_rigid_motion(name, world):
    fixed, moving = pair(rigid, world)
    found, (done,) = optimise(fixed, moving, Transform.identity(), [name], Guidance(loss="ncc"))
    assert error(Transform.identity(), rigid) > 2.5
    assert error(found, rigid) < 0.25
    assert found.matrix is not None
    assert found.grid.same_as(GRID)
    assert done["method"] == name
    assert done["levels"][-1]["after"] < 0.03


def test_similarity_has_one_scale():
    def grown(points):
        return MIDDLE + 1.1 * (rigid(points) - MIDDLE)

    found, _ = optimise(*pair(grown), Transform.identity(), ["similarity"], Guidance(loss="ncc"))
    assert error(found, grown) < 0.3
    np.testing.assert_allclose(np.linalg.svd(found.matrix[:3, :3])[1], 1.1, atol=0.02)


@pytest.mark.parametrize(
    "name",
    [
        "convex",
        pytest.param("ddf", marks=pytest.mark.slow),
        pytest.param("ffd", marks=[pytest.mark.backend, pytest.mark.slow]),
        pytest.param("dvf", marks=[pytest.mark.backend, pytest.mark.slow]),
        pytest.param("demons", marks=pytest.mark.backend),
    ],
)
def test_finds_a_smooth_field(name):
    fixed, moving = pair(bent, "LAS")
    found, (done,) = optimise(fixed, moving, Transform.identity(), [name], Guidance(iterations=60))
    assert error(Transform.identity(), bent) > 2
    assert error(found, bent) < {"convex": 1.4, "demons": 2.1}.get(name, 0.7)  # flat places do not move demons
    assert done["levels"][-1]["after"] < 0.8 * done["levels"][0]["before"]
    assert (found.jacobian_determinant(GRID) > 0).all()


@pytest.mark.backend
@pytest.mark.parametrize("name", ["dvf", "ffd"])
def test_a_field_takes_steps(name):
    _, (done,) = optimise(*pair(bent), Transform.identity(), [name], Guidance(iterations=3))
    assert done["levels"][0]["after"] < done["levels"][0]["before"]


@pytest.mark.slow
def test_methods_go_on_from_each_other_and_from_a_start():
    def far(points):
        return bent(points) + np.array([30.0, 0, 0])

    def picture(grid):
        return Image(blobs(grid.coordinates() - (30.0, 0, 0)), grid.affine)

    fixed, _ = pair(bent)
    start = np.eye(4)
    start[0, 3] = 30
    there = around(Grid(GRID.shape, start @ GRID.affine), "LPS", margin=6)
    found, done = optimise(fixed, picture(there), Transform.linear(start), ["rigid", "dvf", "affine"])
    assert [each["method"] for each in done] == ["rigid", "dvf", "affine"]
    assert error(found, far) < 0.8


def test_a_mask_of_less_than_a_hundredth_of_the_image_is_an_image():
    places = Grid((40, 40, 40), np.eye(4)).coordinates()
    fixed, moving = (
        Image((np.linalg.norm(places - 20 - shift, axis=-1) < 4).astype("float32"), np.eye(4))
        for shift in (0, (2, -1, 1))
    )
    assert 0 < fixed.array.mean() < 0.009
    found, _ = optimise(fixed, moving, Transform.identity(), ["rigid"], Guidance(loss="ssd"))
    np.testing.assert_allclose(found.apply_points(np.array([[20.0, 20, 20]])), [[22, 19, 21]], atol=0.2)
    with pytest.raises(InvalidError, match="nearly constant"):
        optimise(fixed, Image(np.ones((40, 40, 40), "float32"), np.eye(4)), Transform.identity(), ["rigid"])


@pytest.mark.slow
def test_a_flat_image_has_two_dimensions():
    flat = np.array([1, 1, 0])
    grid = Grid((40, 36, 1), AFFINES["LAS"])
    moving = Grid((44, 40, 1), AFFINES["LAS"])

    def shown(points):
        return (np.sin(points[..., 0] / 5) * np.cos(points[..., 1] / 6) + np.sin(points[..., 1] / 9)).astype("float32")

    fixed = Image(shown(grid.coordinates() + flat * (2.0, -1.0, 0)), grid.affine)
    found, _ = optimise(fixed, Image(shown(moving.coordinates()), moving.affine), Transform.identity(), ["dvf"])
    moved = found.displacement(grid)[8:-8, 8:-8]
    np.testing.assert_allclose(moved.reshape(-1, 3).mean(0), (2, -1, 0), atol=0.3)


@pytest.mark.slow
def test_what_a_mask_leaves_out_does_not_count():
    fixed, moving = pair(rigid)
    places = fixed.grid.coordinates()
    outside = np.linalg.norm(places - MIDDLE - (0, 0, 10), axis=-1) < 14
    misleading = blobs(rigid(places) + np.array([7.0, -6.0, 4.0]))
    spoilt = Image(np.where(outside, misleading, fixed.array).astype("float32"), fixed.affine)
    mask = Image((~outside).astype("uint8"), fixed.affine)
    # Not by LNCC, whose windows see half their width beyond the mask.
    found, _ = optimise(spoilt, moving, Transform.identity(), ["rigid"], Guidance(loss="ncc", fixed_mask=mask))
    bare, _ = optimise(spoilt, moving, Transform.identity(), ["rigid"], Guidance(loss="ncc"))
    assert error(found, rigid) < 0.6
    assert error(bare, rigid) > 2 * error(found, rigid)


def test_a_mask_leaves_the_field_as_stiff_as_it_is():
    """The image loss is a mean over the mask, and that of the field one over the whole image."""
    fixed, moving = pair(rigid)
    small = Image((np.linalg.norm(GRID.coordinates() - MIDDLE, axis=-1) < 9).astype("uint8"), GRID.affine)
    away = Transform.linear(affine(np.eye(3) * 1.5, -0.5 * MIDDLE))
    weights = [
        METHODS["dvf"].run._deformation(Guidance(**masks).pair(fixed, moving, Transform.identity()), given)["gradient"][
            "weight"
        ]
        for masks, given in (({}, None), ({"fixed_mask": small}, None), ({"moving_mask": small}, away))
    ]
    assert 0 < small.array.mean() < 0.15
    moved = away.apply_image(Image(small.array.astype("float32"), small.affine), GRID).array.mean()
    assert moved < 0.9 * small.array.mean()
    np.testing.assert_allclose(weights, [1, 1 / small.array.mean(), 1 / max(moved, 1e-3)], rtol=1e-5)


@pytest.mark.parametrize("turned", [np.pi / 2, 0.5])
def test_a_slice_in_another_plane_that_fits_is_left_alone(turned):
    """Its header lies in another plane, which no field in the fixed slice's voxels can tell."""
    places = np.stack(np.meshgrid(np.arange(32), np.arange(32), indexing="ij"), axis=-1)
    array = sum(np.exp(-((places - each) ** 2).sum(-1) / 18) for each in ((9, 14), (20, 11), (17, 23)))[..., None]
    plane = affine(rotation(turned, 0, 0) * (1.5, 1.5, 4.0), (-20, 12, 30))
    fixed, moving = Image(array.astype("float32"), np.diag([1.5, 1.5, 4, 1])), Image(array.astype("float32"), plane)
    still = Transform.from_voxel_ddf(np.zeros((32, 32, 1, 3), "float32"), fixed.grid)
    start = still.then(Transform.linear(plane @ np.linalg.inv(fixed.affine)))
    found, level = refine(fixed, moving, start, Guidance(iterations=5))
    assert level["before"] < 1e-3
    np.testing.assert_allclose(found.apply_image(moving, fixed.grid, outside="edge").array, fixed.array, atol=0.01)


@pytest.mark.parametrize("loss", ["mi", "nmi", "ncc", pytest.param("mind", marks=pytest.mark.slow)])
def test_a_mask_is_not_itself_matched(loss):
    """The masks lie elsewhere than the images: what is multiplied by them would follow them."""
    fixed, moving = pair(rigid)
    places = moving.grid.coordinates()
    mask = Image((np.linalg.norm(places - MIDDLE - (4, 0, 0), axis=-1) < 16).astype("uint8"), moving.affine)
    found, _ = optimise(fixed, moving, Transform.identity(), ["rigid"], Guidance(loss=loss, moving_mask=mask))
    assert error(found, rigid) < 0.6


def test_convex_invents_no_motion_where_there_is_nothing_to_see():
    fixed, _ = pair(rigid)
    ball = np.linalg.norm(fixed.grid.coordinates() - MIDDLE, axis=-1) < 12
    mask = Image(ball.astype("uint8"), fixed.affine)
    found, _ = optimise(fixed, fixed, Transform.identity(), ["convex"], Guidance(fixed_mask=mask))
    assert np.abs(found.displacement(fixed.grid)).max() < 0.01


@pytest.mark.parametrize("name", ["rigid", pytest.param("ddf", marks=pytest.mark.slow)])
def test_a_slice_is_registered_to_the_place_in_a_volume_where_it_starts(name):
    grid = Grid((30, 28, 1), affine(np.diag([1.5, 1.5, 4]), (-20, -20, 6)))
    volume = Grid((40, 38, 20), affine(np.diag([1.5, 1.5, 1.5]), (-28, -28, -8)))

    def shown(points):
        x, y, z = np.moveaxis(points, -1, 0)
        return (np.sin(x / 5 + z / 3) * np.cos(y / 6) + np.sin(y / 9 - z / 4)).astype("float32")

    fixed = Image(shown(grid.coordinates() + np.array([2.0, -1.0, 0])), grid.affine)
    moving = Image(shown(volume.coordinates()), volume.affine)
    found, _ = optimise(fixed, moving, Transform.identity(), [name], Guidance(loss="ncc"))
    moved = found.displacement(grid)[8:-8, 8:-8]
    np.testing.assert_allclose(moved.reshape(-1, 3).mean(0), (2, -1, 0), atol=0.3)


def test_labels_guide_where_images_say_nothing():
    fixed, moving = pair(rigid)
    random = np.random.default_rng(0)
    noise = [Image(random.normal(size=each.shape).astype("float32"), each.affine) for each in (fixed, moving)]
    soft = [Image(np.clip(each.array, 0, 1)[..., None], each.affine) for each in (fixed, moving)]
    found, _ = optimise(*noise, Transform.identity(), ["rigid"], Guidance(labels=tuple(soft), loss="ncc"))
    assert error(found, rigid) < 0.5


class TestRefine:
    def test_improves_a_transform(self):
        fixed, moving = pair(bent)
        found, facts = refine(fixed, moving, Transform.identity(), Guidance(iterations=40))
        assert error(found, bent) < 0.5 * error(Transform.identity(), bent)
        assert facts["after"] < facts["before"]
        assert facts["iterations"] <= 40

    def test_never_ends_worse(self):
        fixed, _ = pair(lambda points: points)
        found, facts = refine(fixed, fixed, Transform.identity(), Guidance(iterations=5))
        assert facts["after"] <= facts["before"]
        assert error(found, lambda points: points) < 0.05


def test_level_grids_cover_the_same_region():
    grid = Grid((31, 64, 9), AFFINES["anisotropic"])
    for factor in (1, 2, 4):
        level = level_grid(grid, factor)
        np.testing.assert_allclose(level.box(), grid.box(), atol=1e-9)
        assert np.ptp(level.spacing / max(grid.spacing.min() * factor, 1)) < 3
    assert level_grid(grid, 1).spacing.max() <= 3.0


def test_a_slice_keeps_its_voxels_if_they_are_few_enough():
    grid = Grid((200, 160, 1), np.diag([1.0, 1.0, 0.1, 1.0]))  # thinner than its voxels are wide
    assert level_grid(grid, 1).same_as(grid)
    assert 500_000 < np.prod(level_grid(Grid((2000, 1600, 1), np.eye(4)), 1).shape) < 700_000


def test_fine_grids_are_bounded():
    assert np.prod(level_grid(Grid((512, 512, 300), np.diag([0.7, 0.7, 1.0, 1.0])), 1).shape) < 700_000


def test_masks_that_meet_nowhere_are_refused():
    fixed, moving = pair(rigid)
    sides = [each.grid.coordinates()[..., 0] - MIDDLE[0] for each in (fixed, moving)]
    left, right = Image((sides[0] < -4).astype("uint8"), fixed.affine), Image(sides[1] > 4, moving.affine)
    away = Transform.linear(affine(np.eye(3), (500.0, 0, 0)))
    for start, masks, names in (
        (Transform.identity(), {"fixed_mask": left, "moving_mask": right}, "fixed_mask and moving_mask"),
        (away, {"fixed_mask": left}, "fixed_mask"),
    ):
        with pytest.raises(
            InvalidError, match=rf"^{names}: expected a place .* to compare at the start, received none"
        ):
            optimise(fixed, moving, start, ["rigid"], Guidance(loss="nmi", **masks))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": ["afine"]}, "Unknown method 'afine'. Did you mean 'affine'?"),
        ({"loss": "lnc"}, "Unknown image loss 'lnc'. Did you mean 'lncc'?"),
        ({"iterations": 0}, "iterations: expected at least 1, received 0"),
        ({"fixed_mask": Image(np.zeros(GRID.shape, "uint8"), GRID.affine)}, "fixed_mask: expected a mask with"),
    ],
)
def test_bad_arguments(arguments, message):
    fixed, moving = pair(rigid)
    methods = arguments.pop("methods", ["affine"])
    with pytest.raises(InvalidError, match=message):
        optimise(fixed, moving, Transform.identity(), methods, Guidance(**arguments))


class TestRegister:
    def test_by_method_with_refinement(self, tmp_path):
        fixed, moving = pair(rigid)
        labels = [Image((each.array > 0.8).astype("uint8"), each.affine) for each in (fixed, moving)]
        result = regzoo.register(
            fixed, moving, method="rigid", refine=3, start="world", fixed_labels=labels[0], moving_labels=labels[1]
        )
        folder = result.save(tmp_path / "out")
        assert result.facts["method"] == "rigid"
        assert result.facts["refinement"]["after"] <= result.facts["refinement"]["before"]
        assert result.facts["scores"]["after"]["mean_dice"] > result.facts["scores"]["before"]["mean_dice"] + 0.1
        assert {each.name for each in folder.iterdir()} >= {"moved.nii.gz", "transform.nii.gz", "report.png"}
        saved = Transform.load(folder / "transform.nii.gz")
        assert error(saved, rigid) < 0.45

    def test_guided_says_so(self):
        fixed, moving = pair(rigid)
        labels = [Image((each.array > 0.8).astype("uint8"), each.affine) for each in (fixed, moving)]
        result = regzoo.register(
            fixed, moving, method="rigid", iterations=2, guided=True, fixed_labels=labels[0], moving_labels=labels[1]
        )
        assert any("guided" in each for each in result.facts["warnings"])

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({}, "model and method: expected one of the two, received neither"),
            ({"method": "rigid", "guided": True}, "guided: expected fixed_labels and moving_labels"),
            (
                {"method": "rigid", "start": "centre"},
                "start: expected one of auto, center",
            ),
            ({"method": "rigid", "refine": -1}, "refine: expected a number of steps from 0"),
        ],
    )
    def test_refuses(self, arguments, message):
        with pytest.raises(InvalidError, match=message):
            regzoo.register(*pair(rigid), **arguments)

    def test_distant_images_start_centre_on_centre(self):
        fixed, moving = pair(rigid)
        there = moving.affine.copy()
        there[:3, 3] += 500
        result = regzoo.register(fixed, Image(moving.array, there), method="rigid", loss="ncc", start="center")
        assert result.facts["start"] == "center"
        assert error(result.transform, lambda points: rigid(points) + 500) < 0.3
        with pytest.raises(InvalidError, match="do not overlap in world space"):
            regzoo.register(fixed, Image(moving.array, there), method="rigid", start="world")


def test_every_method_is_documented():
    from regzoo.cli import registering

    text = get_args(registering.register.__annotations__["method"])[1].help
    assert all(name in text for name in METHODS)


@pytest.mark.parametrize(("loss", "bound"), [("ncc", 0.8), ("nmi", 0.5)])
def test_what_lies_outside_the_moving_image_does_not_count(loss, bound):
    """Half of the volume: its last slice goes on outside, and would be matched."""
    fixed, moving = pair(rigid)
    affine = moving.affine.copy()
    affine[:, 3] = moving.affine @ np.array([0, 0, 10, 1])
    slab = Image(moving.array[:, :, 10:], affine)
    found, _ = optimise(fixed, slab, Transform.identity(), ["rigid"], Guidance(loss=loss))
    assert error(found, rigid) < bound


@pytest.mark.slow
def test_a_level_tells_whether_its_loss_was_flat():
    images = pair(rigid)
    (short,) = optimise(*images, Transform.identity(), ["rigid"], Guidance(loss="ncc", iterations=3))[1]
    (whole,) = optimise(*images, Transform.identity(), ["rigid"], Guidance(loss="ncc", iterations=400))[1]
    assert [each["levels"][0]["converged"] for each in (short, whole)] == [False, True]
    assert whole["levels"][0]["iterations"] < 400


def test_what_cannot_be_guided_or_has_no_method_is_refused():
    fixed, moving = pair(rigid)
    labels = tuple(Image((each.array > 0.5)[..., None].astype("float32"), each.affine) for each in (fixed, moving))
    with pytest.raises(InvalidError, match="guided: expected a method that looks at labels, received demons"):
        optimise(fixed, moving, Transform.identity(), ["demons"], Guidance(labels=labels))
    with pytest.raises(InvalidError, match="method: expected at least one name"):
        optimise(fixed, moving, Transform.identity(), [])


@pytest.mark.slow
def test_each_method_tells_its_loss():
    _, done = optimise(*pair(rigid), Transform.identity(), ["demons", "rigid"], Guidance(loss="nmi", iterations=2))
    assert [each["loss"] for each in done] == ["ssd", "nmi"]
