import numpy as np
import phantom
import pytest
from keras import ops
from scipy import ndimage
from scipy.spatial.transform import Rotation
from tiny_run import read_log

import regzoo
from regzoo import backend
from regzoo.errors import InvalidError, RegzooError
from regzoo.hub import cards
from regzoo.registration.network import NetworkPair
from regzoo.registration.scores import Side
from regzoo.schema.inputs import WindowIntensity
from regzoo.schema.priors import BreathingPrior
from regzoo.schema.recipe import Recipe
from regzoo.simulation import motion
from regzoo.simulation.breathing import Simulator, breathing_pair
from regzoo.simulation.breathing_pairs import BreathingBatches, BreathingPairs
from regzoo.simulation.chests import Chest, prepare
from regzoo.simulation.measured import POINTS
from regzoo.training import recipe_data
from regzoo.training.finetune import finetune
from regzoo.training.validation import Validation
from regzoo.world.images import Grid, Image
from regzoo.world.matrices import map_points
from regzoo.world.metrics import dice
from regzoo.world.resampling import resample
from regzoo.world.transforms import Transform

pytestmark = pytest.mark.backend

SPACING, SHAPE = (6.5, 6.0, 7.0), (49, 40, 41)  # odd and even
PLAIN = BreathingPrior(position=0, anatomy=0, appearance=0)
SEEDS = (0, 1)
MIDDLE = (20.0, -30.0, 55.0)


@pytest.fixture(scope="module")
def lying():
    return prepare(*phantom.chest_ct(phantom.grid_at(shift=MIDDLE), MIDDLE), SPACING, SHAPE)


@pytest.fixture(scope="module")
def simulator(lying):
    return Simulator(lying)


def drawn(lying, seed, prior=PLAIN, /, **changes):
    values = motion.draw(prior, np.random.default_rng(seed), lying.network)
    return values | {name: np.asarray(value, "float32") for name, value in changes.items()}


@pytest.fixture(scope="module")
def deep(lying, simulator):
    """Breathing out of 25 mm along S, a third of it before the CT's state, without random motion."""
    drawing = drawn(lying, 0, diaphragm=25, stage=-0.3, back=0.3)
    drawing["local"] *= 0
    return simulator(drawing)


def places(lying):
    return lying.network.coordinates() - MIDDLE


def warped(image, ddf, order=1):
    where = np.moveaxis(np.indices(image.shape), 0, -1) + ddf
    return ndimage.map_coordinates(image, np.moveaxis(where, -1, 0), order=order, mode="nearest")


def jacobian(ddf):
    slopes = np.stack([np.stack(np.gradient(ddf[..., a], axis=(0, 1, 2)), -1) for a in range(3)], -2)
    return np.linalg.det(np.eye(3) + slopes)


@pytest.mark.slow_under("jax")
def test_chest_at_rest_is_the_ct(lying, simulator):
    still = BreathingPrior(diaphragm=0, jitter=0, position=0, anatomy=0, appearance=0)
    hu, masks, ddf = simulator(drawn(lying, 0, still))
    ct, lungs = phantom.chest_ct(phantom.grid_at(shift=MIDDLE), MIDDLE)
    expected = resample(ct, lying.network, outside=-1000.0).array
    seen = slice(5, -5)  # beyond the CT's ends there is none
    np.testing.assert_array_equal(ddf, 0)
    np.testing.assert_allclose(hu[0], hu[1], atol=1e-3)
    assert np.corrcoef(hu[0][..., seen].ravel(), expected[..., seen].ravel())[0, 1] > 0.995
    for axis in range(3):  # half a voxel off would be seen
        shifted = np.roll(expected, 1, axis)[..., seen], np.roll(expected, -1, axis)[..., seen]
        gaps = [np.abs(hu[0][..., seen] - each).mean() for each in shifted]
        assert abs(gaps[0] - gaps[1]) < 0.1 * sum(gaps)
    there = resample(Image(lungs.array.astype("float32"), lungs.affine), lying.network).array >= 0.5
    assert dice(there.astype("uint8"), masks[0])[1] > 0.98


def test_breathing_out_moves_the_diaphragm_up_and_empties_the_lungs(lying, deep):
    _, masks, ddf = deep
    up, z = ddf[..., 2][masks[0] > 0] * SPACING[2], places(lying)[..., 2][masks[0] > 0]
    low, middle, high = (
        up[(z >= a) & (z <= b)].mean() for a, b in zip(*np.percentile(z, [[0, 45, 97], [5, 55, 100]]), strict=True)
    )
    assert 12 < low < 25
    assert -0.5 < high < 2
    assert high < middle < low
    assert masks[1].sum() < 0.9 * masks[0].sum()


def test_reversed_draw_breathes_in(lying, simulator):
    _, masks, ddf = simulator(drawn(lying, 1, diaphragm=-20))
    assert ddf[..., 2][masks[0] > 0].mean() * SPACING[2] < -4
    assert masks[1].sum() > 1.03 * masks[0].sum()


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_moves_outside_the_body(lying, simulator, seed):
    _, _, ddf = simulator(drawn(lying, seed, wall=(5, -8, 3)))
    size = np.linalg.norm(ddf * SPACING, axis=-1)
    assert size[~phantom.body_at(places(lying) / (1.25, 1.35, 1))].max() < 1e-3
    assert size.max() > 5


@pytest.mark.parametrize("seed", SEEDS)
def test_spine_and_ribs_hardly_move_with_the_diaphragm(lying, simulator, seed):
    _, _, ddf = simulator(drawn(lying, seed, wall=np.zeros(3)))
    size, where = np.linalg.norm(ddf * SPACING, axis=-1), places(lying)
    assert np.percentile(size[phantom.spine_at(where * (1.6, 1.6, 1) + (0, 45, 0))], 95) < 1.0
    rings = phantom.ellipsoid(where * (1, 1, 0), (0, 0, 0), (132, 88, 1))
    rings &= ~phantom.ellipsoid(where * (1, 1, 0), (0, 0, 0), (124, 80, 1))
    assert np.percentile(size[rings], 90) < 0.15 * size.max()
    assert size.max() > 5


def test_wall_moves_bones_but_only_as_far_as_it_is_drawn(lying, simulator):
    prior = BreathingPrior(diaphragm=0, jitter=0, position=0, anatomy=0, appearance=0)
    _, _, ddf = simulator(drawn(lying, 0, prior, wall=(0, 5, 0)))
    front = ddf[SHAPE[0] // 2, :, SHAPE[2] // 2, 1] * SPACING[1]
    moved = {y: front[np.abs(places(lying)[0, :, 0, 1] - y).argmin()] for y in (-100, -70, 80)}
    assert abs(moved[-70]) < 0.6
    assert 3 < moved[80] < 7.5
    assert abs(moved[-100]) < 1e-3


@pytest.mark.parametrize("side", [1, -1], ids=["as it is", "mirrored"])
def test_directions_are_those_of_the_patient_who_is_seen(lying, simulator, side):
    still = BreathingPrior(diaphragm=0, jitter=0, position=0, anatomy=0, appearance=0)
    linear = np.diag([side * 1.1, 0.9, 1.2])
    _, _, ddf = simulator(drawn(lying, 0, still, wall=(6, 0, 0), diaphragm=20, linear=linear))
    x, _, z = np.moveaxis(places(lying) @ linear, -1, 0)
    right = (np.abs(x * side - 110) < 10) & (np.abs(z) < 20)
    assert ddf[..., 0][right].mean() * SPACING[0] > 2
    assert ddf[..., 2].max() * SPACING[2] == pytest.approx(20 / 1.2, rel=0.15)


@pytest.mark.parametrize("seed", SEEDS)
def test_known_field_warps_moving_onto_fixed(simulator, lying, seed):
    hu, masks, ddf = simulator(drawn(lying, seed))
    seen = ndimage.binary_erosion(masks[0], iterations=2)
    assert dice(masks[0], warped(masks[1], ddf, order=0))[1] > 0.95
    # Air changes its density with the volume that the field gives it; what is left is interpolation.
    density, moved = hu[0] + 1000, (warped(hu[1], ddf) + 1000) * jacobian(ddf)
    air = seen & (hu[0] < -700)
    left = np.abs(density - moved)[air].mean()
    assert left < 12
    assert left < 0.5 * np.abs(hu[1] - hu[0])[air].mean() + 1


@pytest.mark.parametrize("seed", SEEDS)
def test_mass_of_the_lungs_is_kept(simulator, lying, seed):
    hu, masks, _ = simulator(drawn(lying, seed))
    mass = [((image + 1000) * mask)[..., 5:].sum() for image, mask in zip(hu, masks, strict=True)]
    volume = masks[..., 5:].sum(axis=(1, 2, 3))
    assert abs(mass[1] / mass[0] - 1) < 0.04 + 0.15 * abs(volume[1] / volume[0] - 1)


def test_mass_would_not_be_kept_without_the_change_of_density(deep):
    hu, masks, ddf = deep
    lung = ndimage.binary_erosion(masks[0], iterations=2) & (hu[0] < -700)
    there = warped(hu[1], ddf)
    assert np.median(there[lung] - hu[0][lung]) > 15
    np.testing.assert_allclose(
        np.median((there + 1000)[lung] / (hu[0] + 1000)[lung] * jacobian(ddf)[lung]), 1, atol=0.03
    )


@pytest.mark.parametrize("seed", range(4))
def test_fields_do_not_fold(simulator, lying, seed):
    _, _, ddf = simulator(drawn(lying, seed, BreathingPrior(appearance=0)))
    assert jacobian(ddf).min() > 0


@pytest.mark.slow_under("jax", "tensorflow")
def test_landmarks_move_as_the_field_says():
    """Vessels are found anew in both scans; no code of the field is used to follow them."""
    ct, lungs = phantom.chest_ct(phantom.grid_at(spacing=(2.5, 2.5, 2.5), shape=(120, 92, 98)))
    lying = prepare(ct, lungs, (3.0, 3.0, 3.0), (80, 60, 64))
    drawing = drawn(lying, 5, BreathingPrior(anatomy=0, appearance=0), diaphragm=15, stage=-0.4, back=0.4)
    drawing["local"] *= 0.5
    hu, masks, ddf = Simulator(lying)(drawing)
    transform = Transform.from_voxel_ddf(ddf, lying.network)
    found = [vessels(image, mask, lying.network) for image, mask in zip(hu, masks, strict=True)]
    mapped = transform.apply_points(found[0])
    distance = np.linalg.norm(mapped[:, None] - found[1][None], axis=-1)
    assert len(found[0]) > 30
    assert np.linalg.norm(mapped - found[0], axis=1).max() > 8
    assert np.percentile(distance.min(axis=1), 90) < 1.0
    assert np.median(distance.min(axis=1)) < 0.5


def vessels(hu, mask, grid):
    """Returns the centres of mass of bright spots deep in the lungs, in mm."""
    inside = ndimage.binary_erosion(mask, iterations=3)
    spots, _ = ndimage.label((hu > -600) & inside)
    weight = np.where(inside, np.maximum(hu + 800, 0), 0)
    boxes = ndimage.find_objects(spots)
    centres = []
    for box in boxes:
        larger = tuple(slice(max(0, part.start - 2), part.stop + 2) for part in box)
        centre = np.array(ndimage.center_of_mass(weight[larger])) + [part.start for part in larger]
        centres.append(centre)
    return map_points(grid.affine, np.array(centres).reshape(-1, 3))


def test_anatomy_and_position_move_chest_and_field_together(lying, simulator):
    prior = BreathingPrior(appearance=0, position=6)
    _, masks, ddf = simulator(drawn(lying, 6, prior))
    assert dice(masks[0], warped(masks[1], ddf, order=0))[1] > 0.93
    assert np.linalg.norm(ddf[0, 0, 0] * SPACING) > 1
    plain = simulator(drawn(lying, 6, PLAIN))
    assert dice(masks[0], plain[1][0])[1] < 0.95


def test_appearance_changes_the_looks_and_not_the_field(lying, simulator):
    (hu, _, ddf), (other, masks, same) = (
        simulator(drawn(lying, 3, BreathingPrior(position=0, anatomy=0, appearance=a))) for a in (0, 1)
    )
    np.testing.assert_array_equal(ddf, same)
    lung = masks[0] > 0
    assert np.abs(hu - other)[0][lung].mean() > 5
    assert other.min() >= -1000


def test_scan_ends_where_the_ct_ends_and_where_it_is_cropped(lying, simulator):
    hu, masks, _ = simulator(drawn(lying, 2, crop=[[0, 40], [30, 0]]))
    z = places(lying)[0, 0, :, 2]
    for image, mask, (low, high) in zip(hu, masks, [(-140, 110), (-100, 140)], strict=True):
        seen = (z > low) & (z < high)
        assert (image[..., ~seen] == -1000).all()
        assert not mask[..., ~seen].any()
        assert (image[..., seen].max(axis=(0, 1)) > 0).all()


@pytest.mark.parametrize("axis", range(3))
def test_known_field_leads_to_a_patient_who_was_turned(lying, simulator, axis):
    turn = Rotation.from_rotvec(20 * np.eye(3)[axis], degrees=True).as_matrix()
    drawing = drawn(lying, 4, lying=turn, travel=(10, -15, 5), diaphragm=12)
    hu, masks, ddf = simulator(drawing)
    straight = simulator(drawn(lying, 4, diaphragm=12))
    np.testing.assert_allclose(hu[0], straight[0][0])  # the fixed scan is as it was
    assert dice(masks[0], warped(masks[1], ddf, order=0))[1] > 0.93
    assert dice(masks[0], masks[1])[1] < 0.87
    # The turn leads back to where the patient would have been.
    grid = (np.moveaxis(np.indices(SHAPE), 0, -1) - (np.array(SHAPE) - 1) // 2) * SPACING
    back = (grid + ddf * SPACING) @ turn.T + (10, -15, 5)
    np.testing.assert_allclose(back - grid, straight[2] * SPACING, atol=0.01)


def test_end_of_the_ct_turns_with_the_patient(lying, simulator):
    turn = Rotation.from_rotvec([25, 0, 0], degrees=True).as_matrix()
    _, _, _, shown = simulator.scans(drawn(lying, 2, lying=turn, travel=(0, 0, -60)))
    fixed, moving = ops.convert_to_numpy(shown)[..., 0] > 0.5
    assert fixed[..., 5:-5].all()
    ends = moving[SHAPE[0] // 2].argmax(axis=1)  # the lowest voxel of each place along A that shows anything
    (seen,) = np.nonzero((ends > ends.min() + 1) & (ends < SHAPE[2] // 2))
    assert len(seen) > 5
    slope = np.polyfit(seen * SPACING[1], ends[seen] * SPACING[2], 1)[0]
    assert abs(slope) == pytest.approx(np.tan(np.deg2rad(25)), rel=0.15)


def test_measured_breathing_moves_the_lungs_as_it_says(lying):
    motions = np.zeros((2, POINTS, POINTS, POINTS, 3), "float32")
    motions[1, ..., 2] = 1.0
    still = {"local": np.zeros(1), "wall": np.zeros(3), "drift": np.zeros(2), "diaphragm": 10.0, "sizes": np.ones(3)}
    for patient, share, wanted in ((0.9, 1.0, 10.0), (0.9, 0.5, 5.0), (0.1, 1.0, 0.0)):
        drawing = drawn(lying, 0, **still | {"patient": patient, "share": share})
        drawing["local"] = drawn(lying, 0)["local"] * 0
        _, masks, ddf = Simulator(lying, motions)(drawing)
        inside = ndimage.binary_erosion(masks[0], iterations=3) & (places(lying)[..., 2] > 60)
        assert np.median(ddf[..., 2][inside]) * SPACING[2] == pytest.approx(wanted, abs=1.0)


def test_pairs_depend_on_the_seed_alone_and_are_the_same_on_every_backend(lying):
    pair, again, other = (breathing_pair(lying, seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(pair.ddf, again.ddf)
    np.testing.assert_array_equal(pair.fixed.array, again.fixed.array)
    assert np.abs(pair.ddf - other.ddf).max() > 0.5
    assert pair.fixed.grid.same_as(lying.network)
    assert pair.moving_mask.array.dtype == np.uint8
    found = [np.abs(pair.ddf).mean(), pair.fixed.array.mean(), pair.moving.array.mean(), pair.fixed_mask.array.sum()]
    np.testing.assert_allclose(found, GOLDEN, rtol=2e-3)


GOLDEN = [0.809923, -282.2503, -322.5570, 10682]


def batch_of(lying, seed=5):
    """Two pairs."""
    draw = BreathingBatches([lying], WindowIntensity(low=-1000, high=200), BreathingPrior())
    return {name: ops.convert_to_numpy(each) for name, each in draw(np.random.default_rng(seed), 2).items()}


def test_batches_hold_pairs_in_the_models_form(lying):
    batch = batch_of(lying)
    for name in ("fixed", "moving"):
        assert batch[name].shape == (2, *SHAPE, 1)
        assert batch[name].dtype == np.float32
        assert (batch[name].min(), batch[name].max()) == (0, 1)
        assert batch[name + "_labels"].shape == (2, *SHAPE, 1)
        assert set(np.unique(batch[name + "_labels"])) == {0, 1}
    near = ndimage.maximum_filter(batch["fixed_labels"], (1, 3, 3, 3, 1))
    np.testing.assert_array_equal(batch["fixed_mask"], near)
    assert batch["known"].shape == (2, *SHAPE, 3)
    assert np.abs(batch["known"][0] - batch["known"][1]).max() > 0.5
    for fixed, moving, ddf in zip(batch["fixed"][..., 0], batch["moving"][..., 0], batch["known"], strict=True):
        gaps = [np.abs(warped(moving, sign * ddf) - fixed).mean() for sign in (1, 0, -1)]
        assert gaps[0] < min(gaps[1:])


def test_moving_mask_is_where_the_moving_scan_shows_anything(lying):
    draw = BreathingBatches([lying], WindowIntensity(low=-1000, high=200), BreathingPrior(cut=60))
    batch = {name: ops.convert_to_numpy(each) for name, each in draw(np.random.default_rng(1), 6).items()}
    seen = {name: batch[name].max(axis=(1, 2, 4)) > 0 for name in ("fixed", "moving", "moving_mask")}
    np.testing.assert_array_equal(seen["moving"], seen["moving_mask"])
    assert (seen["fixed"] != seen["moving"]).any(axis=1).sum() > 1


def test_batches_depend_on_the_seed_alone(lying):
    first, again, other = (batch_of(lying, seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(again["fixed"], first["fixed"])
    assert np.abs(first["known"] - other["known"]).max() > 0.1


def test_batches_need_chests_for_one_grid(lying):
    wider = Chest(lying.image, lying.maps, lying.grid, lying.half, lying.scan, Grid((9, 9, 9), lying.network.affine))
    for chests in ([], [lying, wider]):
        with pytest.raises(InvalidError, match="chests: expected at least one, all for a grid of one shape"):
            BreathingBatches(chests, WindowIntensity(low=-1000, high=200), BreathingPrior())


RECIPE = {
    "name": "phantom-ct-ddf",
    "model": {"backbone": {"name": "unet", "channels": [4, 8, 8], "convolutions": 1}, "output": {"name": "ddf"}},
    "input": {
        "spacing": [12, 12, 12],
        "shape": [24, 20, 20],
        "around": "lungs",
        "alignment": "world",
        "intensity": {"name": "window", "low": -1000, "high": 200},
    },
    "data": {"kind": "breathing", "train": ["a.nii.gz", "b.nii.gz"], "valid": ["v.nii.gz"], "mask_suffix": "_lungs"},
    "loss": {"known": {"distance": {}}, "image": {"lncc": {"size": 3}}, "deformation": {"bending": {"weight": 10}}},
    "training": {"steps": 4, "steps_per_epoch": 2, "batch_size": 1},
}


def recipe(**changes):
    """The recipe, with changes merged into its parts."""
    merged = {key: RECIPE[key] | change for key, change in changes.items()}
    return Recipe.model_validate(RECIPE | merged)


@pytest.fixture(scope="module")
def chests(tmp_path_factory):
    """Three chests of different places, with their lung masks."""
    home = tmp_path_factory.mktemp("chests")
    for name, shift in (("a", (0, 0, 0)), ("b", (30, -20, 10)), ("v", MIDDLE)):
        ct, lungs = phantom.chest_ct(phantom.grid_at(shift=shift), shift)
        ct.save(home / f"{name}.nii.gz")
        lungs.save(home / f"{name}_lungs.nii.gz")
    return home


@pytest.mark.slow
def test_a_recipe_trains_on_simulated_pairs_and_its_model_looks_around_the_lungs(chests, tmp_path):
    folder = finetune(recipe(data={"validation_pairs": 2}), tmp_path / "run", chests)
    rows = read_log(folder)
    assert [float(row["valid_folds"]) for row in rows] == [0, 0]
    assert all(0 < float(row["valid_tre"]) < float(row["valid_tre_p95"]) for row in rows)
    assert all(float(row["known_distance"]) > 1 for row in rows)
    model = regzoo.load(folder)
    fixed, lungs = phantom.chest_ct(phantom.grid_at(shift=MIDDLE), MIDDLE)
    box = fixed.grid.coordinates()[lungs.array > 0]
    left = Image(np.where(fixed.grid.coordinates()[..., 0] < MIDDLE[0], lungs.array, 0), fixed.affine)

    def centre(**masks):
        return NetworkPair(model, Side(fixed), Side(fixed), None, masks).grid.centre

    np.testing.assert_allclose(centre(), (box.min(0) + box.max(0)) / 2, atol=6)
    np.testing.assert_allclose(centre(fixed_mask=lungs), (box.min(0) + box.max(0)) / 2, atol=3)
    assert centre(fixed_mask=left)[0] < centre()[0] - 40
    assert regzoo.register(fixed, fixed, folder, fixed_mask=lungs).facts["start"] == "world"


@pytest.mark.slow
def test_the_best_epoch_is_that_of_the_least_error(chests, tmp_path, monkeypatch):
    errors = iter((9.0, 5.0, 4.0, 6.0))
    monkeypatch.setattr(Validation, "__call__", lambda self: {"valid_tre": next(errors)})
    training = {"steps": 3, "steps_per_epoch": 1, "batch_size": 1}
    folder = finetune(recipe(data={"validation_pairs": 1}, training=training), tmp_path / "run", chests)
    assert cards.read(folder).training["chosen_at_step"] == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"valid": ["a.nii.gz"]}}, "a.nii.gz"),
        ({"data": {"train": ["absent.nii.gz"]}}, "absent.nii.gz"),
        ({"data": {"mask_suffix": "_none"}}, "a_none.nii.gz"),
    ],
)
def test_chests_that_cannot_be_used_are_named(chests, changes, message):
    value = recipe(**changes)
    with pytest.raises(RegzooError, match=message):
        BreathingPairs(value, chests).chests(value.input, "train")


def test_real_pairs_to_score_on_are_listed_and_simulated_ones_are_not(chests):
    pair = {"fixed": "a.nii.gz", "moving": "b.nii.gz", "fixed_points": "a.csv", "moving_points": "b.csv"}
    (found,) = recipe_data.split_pairs(recipe(data={"test": [pair]}), "test", chests)
    assert (found.fixed, found.moving_points) == (chests / "a.nii.gz", chests / "b.csv")
    with pytest.raises(InvalidError, match="split: expected 'test', since the pairs to validate on are simulated"):
        recipe_data.split_pairs(recipe(), "valid", chests)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": {"around": "image"}}, "input: expected around: lungs and an intensity window"),
        ({"input": {"axes": "LPS"}}, "around: a grid around the lungs has three axes along RAS"),
        ({"loss": {"symmetric": True}}, "symmetric: expected false"),
    ],
)
def test_recipes_that_make_no_sense(changes, message):
    with pytest.raises(ValueError, match=message):
        recipe(**changes)


def test_a_field_is_known_only_where_it_is_simulated():
    with pytest.raises(ValueError, match=r"loss\.known: expected data\.kind breathing"):
        Recipe.model_validate(RECIPE | {"data": {"kind": "unpaired"}})
    with pytest.raises(ValueError, match=r"augmentation: expected none, since data\.prior says"):
        Recipe.model_validate(RECIPE | {"augmentation": {"affine": 0.1}})


@pytest.mark.data
@pytest.mark.slow
def test_motion_is_like_that_of_dirlab(data_home):
    if backend.NAME != "tensorflow":
        pytest.skip("statistics of the prior: one backend is enough")
    folder = data_home / "lung-ct" / "chest"
    lying = prepare(
        Image.read(folder / "cptac_lscc_00247.nii.gz"),
        Image.read(folder / "cptac_lscc_00247_lungmask.nii.gz", labels=True),
        (5.0, 5.0, 5.0),
        (80, 64, 64),
    )
    simulator = Simulator(lying)
    means, ratios = [], []
    for seed in range(15):
        drawing = drawn(lying, seed, BreathingPrior(position=0, anatomy=0, appearance=0))
        _, masks, ddf = simulator(drawing)
        points = np.argwhere(ndimage.binary_erosion(masks[0]))
        up = ddf[tuple(points.T)][:, 2] * 5 * np.sign(drawing["diaphragm"])
        height = (points[:, 2] - points[:, 2].min()) / np.ptp(points[:, 2])
        fifths = [up[(height >= low) & (height <= low + 0.2)].mean() for low in (0, 0.4, 0.8)]
        means.append(np.linalg.norm(ddf[tuple(points.T)] * 5, axis=1).mean())
        if fifths[0] > 5:
            ratios.append((fifths[1] / fifths[0], fifths[2] / fifths[0]))
    # Landmarks: 3.9 to 10.9 mm (4DCT), 7.1 to 17.7 (COPD); shares of the lowest fifth 0.30 to 0.67 and 0 to 0.16.
    assert 5 < np.median(means) < 12
    assert max(means) > 11
    np.testing.assert_allclose(np.median(ratios, axis=0), (0.45, 0.1), atol=0.12)
