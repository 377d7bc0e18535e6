"""Every backbone with every output that goes with it."""

import keras
import numpy as np
import pytest
from tensors import array, grid, run, tensor

from regzoo.errors import InvalidError
from regzoo.models import build
from regzoo.models.base import RegistrationModel
from regzoo.models.outputs.fitted import Fitted
from regzoo.models.outputs.keypoints import EachImage, Keypoints, centres_of_mass, fitted_matrix
from regzoo.models.stages.chain import Chain
from regzoo.models.stages.coarse import averaged, enlarged_matrix
from regzoo.models.stages.descriptors import patch_descriptors
from regzoo.ops.fields import bspline_field, compose, resize_field
from regzoo.ops.optical_flow import optical_flow
from regzoo.ops.warping import sample, warp
from regzoo.schema.networks import DESCRIPTORS, ModelConfig
from regzoo.schema.outputs import FittedConfig, KeypointsConfig

pytestmark = pytest.mark.backend

UNET = {"name": "unet", "channels": [4, 6, 8], "convolutions": 1}
LOCAL = {"name": "local", "channels": [4, 8, 8]}
GLOBAL = {"name": "global", "channels": [4, 6, 8]}
DDF, DVF = {"name": "ddf"}, {"name": "dvf", "level": 1, "steps": 4}
FFD = {"name": "ffd", "spacing": [12.0, 5.0]}
AFFINE = {"name": "affine"}
KEYPOINTS = {"name": "keypoints", "points": 12, "level": 1}
FITTED = {"name": "fitted"}
CONDITIONAL = {"name": "conditional"}
COMBINATIONS = [
    (UNET | {"pooling": False, "concat_skip": False}, DDF),
    (UNET | {"extract_levels": [0, 2]}, DDF),
    (LOCAL | {"extract_levels": [0, 1, 2]}, DDF),
    (LOCAL | {"use_additive_upsampling": False, "pooling": False}, DVF),
    (UNET, FFD),
    (LOCAL, FFD),
    (GLOBAL, AFFINE),
    (GLOBAL | {"pooling": False}, AFFINE | {"constraint": "rigid"}),
    (GLOBAL, AFFINE | {"constraint": "similarity"}),
]
SPACINGS = {2: (2.0, 1.0), 3: (2.0, 1.0, 1.5)}


def new(backbone, output, dims=2, before=(), seed=1, **more):
    keras.utils.set_random_seed(seed)
    config = {"dims": dims, "backbone": backbone, "output": output, "before": before, **more}
    return build(ModelConfig.model_validate(config), SPACINGS[dims])


def disturbed(model, size=0.3):
    """Gives every head weights that matter."""
    random = np.random.default_rng(0)
    for variable in model.variables:
        if any(name in variable.path for name in ("field", "control", "parameters", "label")):
            share = 0.1 if "parameters" in variable.path else 1.0
            draw = random.normal(size=variable.shape) / np.sqrt(np.prod(variable.shape[:-1]))
            variable.assign(share * size * draw)
    return model


def noise(shape, labels=0, seed=23):
    random = np.random.default_rng(seed)  # its own: the same in whatever order tests run
    inputs = {key: tensor(random.random((2, *shape, 1))) for key in ("fixed", "moving")}
    if labels:
        inputs |= {f"{key}_labels": tensor(random.random((2, *shape, labels)) > 0.5) for key in ("fixed", "moving")}
    return inputs


def blobs(way=(2.5, -1.5), shape=(16, 12)):
    """One blob in two places, as image and label, and the way between: moved(x) = moving(x + way) is fixed(x)."""
    middle = (np.array(shape) - 3) / 2
    fixed, moving = (
        np.exp(-((grid(shape) - place) ** 2).sum(-1) / 8)[None, ..., None] for place in (middle, middle + way)
    )
    pair = {"fixed": fixed.astype("float32"), "moving": moving.astype("float32")}
    return pair | {f"{key}_labels": (image > 0.4).astype("float32") for key, image in pair.items()}


@pytest.mark.parametrize(("backbone", "output"), COMBINATIONS)
@pytest.mark.parametrize("shape", [(9, 14), (8, 5, 12)])
def test_a_new_model_gives_a_small_field_of_the_input_size(backbone, output, shape):
    model = new(backbone, output, len(shape))
    found = run(lambda x: model(x), noise(shape))
    ddf = array(found["ddf"])
    assert ddf.shape == (2, *shape, len(shape))
    assert 0 < np.abs(ddf).max() < 0.01
    assert keras.backend.standardize_dtype(found["ddf"].dtype) == "float32"
    names = [variable.path for variable in model.variables]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("backbone", "output"),
    [*COMBINATIONS[:2], *(pytest.param(*each, marks=pytest.mark.slow) for each in COMBINATIONS[2:])],
)
@pytest.mark.slow_under("jax", "tensorflow")
def test_fit_moves_the_blob_the_right_way(backbone, output):
    pair, model = blobs(), new(backbone, output)
    model.supervise({"image": {"ssd": {"weight": 10}}, "label": {"dice": {}}}, SPACINGS[2])
    model.compile(keras.optimizers.Adam(5e-3, clipnorm=1.0), jit_compile=keras.backend.backend() == "jax")
    losses = model.fit(pair, epochs=50, verbose=0).history["loss"]
    assert losses[-1] < 0.75 * losses[0]
    ddf = array(run(lambda x: model(x), pair)["ddf"])[0]
    at_blob = np.average(ddf, weights=pair["fixed"][0, ..., 0], axis=(0, 1))
    assert (at_blob * (2.5, -1.5) > 0.3).all()


def test_several_levels_are_resized_and_averaged():
    model, inputs = disturbed(new(UNET | {"extract_levels": [0, 2]}, DDF)), noise((8, 12))
    pair = keras.ops.concatenate([inputs["fixed"], inputs["moving"]], axis=-1)
    fine, coarse = (layer(x) for layer, x in zip(model.heads, model.backbone(pair), strict=True))
    assert tuple(coarse.shape) == (2, 2, 3, 2)
    expected = (array(fine) + array(resize_field(coarse, (8, 12)))) / 2
    np.testing.assert_allclose(array(model(inputs)["ddf"]), expected, atol=1e-5)


def test_a_free_form_deformation_is_its_control_points_splines_on_their_spacing_in_mm():
    model, inputs = disturbed(new(UNET, FFD)), noise((9, 14))
    found = model(inputs)
    parts = [
        array(bspline_field(control, (9, 14), spacing))
        for control, spacing in zip(found["control"], [(6.0, 12.0), (2.5, 5.0)], strict=True)
    ]
    assert min(np.abs(part).max() for part in parts) > 0.01
    np.testing.assert_allclose(array(found["ddf"]), sum(parts), atol=1e-5)


def test_control_points_read_the_prediction_where_they_lie():
    """A prediction that is linear in space gives a deformation that is the same linear function."""
    from regzoo.models.outputs.ffd import at_control_points

    x = grid((8, 12))  # level 1 of a 16 x 24 image: voxel i lies at 2 i + 0.5
    field = np.stack([2 * x[..., 0] + 0.5, -(2 * x[..., 1] + 0.5)], axis=-1)[None]
    control = at_control_points(tensor(field), (16, 24), 1, (2.0, 3.0))
    found = array(bspline_field(control, (16, 24), (2.0, 3.0)))[0, 5:11, 7:17]
    np.testing.assert_allclose(found, (grid((16, 24)) * (1, -1))[5:11, 7:17], atol=1e-4)


def test_an_affine_model_predicts_a_matrix_that_is_its_field():
    model, shape = disturbed(new(GLOBAL, AFFINE, 3)), (8, 5, 12)
    found = model(noise(shape))
    x = np.concatenate([grid(shape), np.ones((*shape, 1))], axis=-1)
    for matrix, ddf in zip(array(found["matrix"]), array(found["ddf"]), strict=True):
        assert np.abs(ddf).max() > 0.1
        np.testing.assert_allclose(ddf, x @ matrix.T - grid(shape), atol=1e-4)


def test_a_rigid_model_keeps_distances_in_mm():
    model = disturbed(new(GLOBAL, AFFINE | {"constraint": "rigid"}, 3), 2.0)
    spacing = np.array(SPACINGS[3])
    for matrix in array(model(noise((8, 5, 12)))["matrix"]):
        linear = np.diag(spacing) @ matrix[:, :3] @ np.diag(1 / spacing)
        assert np.abs(linear - np.eye(3)).max() > 0.01
        np.testing.assert_allclose(linear @ linear.T, np.eye(3), atol=1e-5)


@pytest.mark.parametrize(("shape", "spacing"), [((9, 14), (2.0, 1.0)), ((8, 5, 12), (2.0, 1.0, 1.5))])
def test_a_matrix_is_fitted_to_points_in_mm(shape, spacing):
    random, dims, spacing = np.random.default_rng(4), len(shape), np.array(spacing)
    linear = np.eye(dims) + random.uniform(-0.2, 0.2, (2, dims, dims))
    shift = random.uniform(-20, 20, (2, 1, dims))
    fixed = random.uniform(-100, 100, (2, 9, dims))
    moving = fixed @ linear.transpose(0, 2, 1) + shift
    matrix = array(fitted_matrix(tensor(fixed), tensor(moving), shape, spacing))
    centre = (np.array(shape) - 1) / 2
    voxels, wanted = fixed / spacing + centre, moving / spacing + centre
    found = voxels @ matrix[..., :-1].transpose(0, 2, 1) + matrix[:, None, :, -1]
    np.testing.assert_allclose(found, wanted, atol=0.05)


def test_points_that_lie_in_one_place_give_a_translation():
    fixed, moving = np.full((1, 5, 2), 3.0), np.full((1, 5, 2), 5.0)
    matrix = array(fitted_matrix(tensor(fixed), tensor(moving), (8, 8), (2.0, 1.0)))
    np.testing.assert_allclose(matrix[0], [[1, 0, 1], [0, 1, 2]], atol=1e-5)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_point_is_the_centre_of_its_map_in_mm(level):
    shape, spacing, at = (16, 24), (2.0, 1.5), np.array([1, 2])
    maps = np.full((1, 16 // 2**level, 24 // 2**level, 3), -30.0)
    maps[:, at[0], at[1]] = 30
    # A voxel of a level is 2**level voxels of the image wide; its middle lies in the middle of them.
    wanted = ((at + 0.5) * 2**level - 0.5 - (np.array(shape) - 1) / 2) * spacing
    found = array(centres_of_mass(tensor(maps), shape, level, spacing))
    np.testing.assert_allclose(found, np.broadcast_to(wanted, (1, 3, 2)), atol=1e-4)


def test_keypoints_lead_from_the_fixed_to_the_moving_image():
    backbone = keras.Sequential([keras.Input((None, None, 1)), keras.layers.AveragePooling2D(2)])
    output = Keypoints(KeypointsConfig(points=4, level=1), 2, (2.0, 1.0))
    model = EachImage(output, backbone, levels=[1], divisor=2)
    model.heads[0].kernel.assign(np.full((1, 4), 40.0))  # every point is where it is bright
    blob = np.exp(-((grid((32, 40)) - (14, 21)) ** 2).sum(-1) / 12)[None, ..., None].astype("float32")
    matrix = array(model({"fixed": tensor(blob), "moving": tensor(np.roll(blob, (4, -6), (1, 2)))})["matrix"])
    np.testing.assert_allclose(matrix[0, :, :2], np.eye(2), atol=0.02)
    np.testing.assert_allclose(matrix[0] @ (14, 21, 1), (18, 15), atol=0.1)


def test_a_matrix_is_fitted_to_the_displacements_of_each_pass():
    shape, matrix = (20, 16), np.array([[[1.1, 0.05, -2.0], [-0.04, 0.92, 1.0]]])
    x = grid(shape)
    field = x @ matrix[0, :, :2].T + matrix[0, :, 2] - x
    noisy = field.copy()
    noisy[:, :8] = 5.0  # where the fixed image shows nothing

    output = Fitted(FittedConfig(), 2, (2.0, 1.0))

    class Seen(RegistrationModel):
        invertible, moved = True, ()

        def field(self, fixed, moving):
            self.moved = (*self.moved, array(moving))
            return output.prediction([fixed, tensor(noisy[None])], shape)

        def inverse(self, prediction):
            return output.inverse(prediction)

    seen, images = Seen(), noise(shape)
    fixed = tensor(np.where(np.arange(16)[:, None] < 8, 0, array(images["fixed"])[:1]))
    moving = tensor(array(images["moving"])[:1])
    model = Chain([seen, seen])
    prediction = model.field(fixed, moving)
    found = array(prediction["matrix"])
    assert "dense" not in prediction
    whole = np.eye(3)
    whole[:2] = matrix[0]
    np.testing.assert_allclose(found[0], (whole @ whole)[:2], atol=0.05)
    inverse = np.eye(3)
    inverse[:2] = array(model.inverse(prediction)["matrix"])[0]
    np.testing.assert_allclose(inverse, np.linalg.inv(np.concatenate([found[0], [[0, 0, 1]]])), atol=1e-4)
    np.testing.assert_allclose(seen.moved[0], array(moving))
    once = array(warp(moving, tensor(field[None])))
    np.testing.assert_allclose(seen.moved[1][0, 3:-3, 3:-3], once[0, 3:-3, 3:-3], atol=0.05)


@pytest.mark.slow_under("tensorflow")
def test_keypoints_learn_a_shift():
    pair, model = blobs(), new(UNET, KEYPOINTS)
    model.supervise({"label": {"dice": {"scales": [1]}}}, SPACINGS[2])
    model.compile(keras.optimizers.Adam(5e-3), jit_compile=keras.backend.backend() == "jax")
    losses = model.fit(pair, epochs=40, verbose=0).history["loss"]
    assert losses[-1] < 0.4 * losses[0]


@pytest.mark.slow_under("jax")
def test_a_chain_samples_the_moving_image_once_by_all_its_maps():
    before = [{"backbone": GLOBAL, "output": AFFINE}, {"backbone": UNET, "output": DDF}]
    model, shape = disturbed(new(LOCAL, DVF, 2, before)), (16, 12)
    inputs = noise(shape)
    found = model(inputs)
    first, second, third = found["stages"]
    x = grid(shape)[None]
    np.testing.assert_array_equal(array(found["matrix"]), array(first["matrix"]))
    # The last network's map goes first: x -> third -> second -> matrix.
    at = x + array(third["ddf"])
    at = at + array(sample(second["ddf"], tensor(at)))
    np.testing.assert_allclose(array(found["dense"]), at - x, atol=1e-4)
    matrix = array(first["matrix"])
    at = np.einsum("bij,b...j->b...i", matrix[..., :-1], at) + matrix[:, None, None, :, -1]
    np.testing.assert_allclose(array(found["ddf"]), at - x, atol=1e-4)
    assert np.abs(array(found["ddf"])).max() > 0.1
    # Each network sees what the ones before have moved.
    moved = warp(inputs["moving"], first["ddf"])
    np.testing.assert_allclose(
        array(model.stages[1].field(inputs["fixed"], moved)["ddf"]), array(second["ddf"]), atol=1e-4
    )


@pytest.mark.parametrize("output", [DDF, DVF, FFD])
def test_a_network_with_passes_goes_on_from_its_own_result(output):
    once, twice = (disturbed(new(UNET, output, passes=passes)) for passes in (1, 2))
    assert [v.path for v in twice.variables] == [v.path for v in once.variables]
    inputs = noise((16, 12))
    first = once(inputs)["ddf"]
    second = once(inputs | {"moving": warp(inputs["moving"], first)})["ddf"]
    np.testing.assert_allclose(array(twice(inputs)["ddf"]), array(compose(first, second)), atol=1e-4)
    assert np.abs(array(second)).max() > 0.05


@pytest.mark.parametrize(("backbone", "output"), [(UNET, DDF), (UNET, KEYPOINTS), (UNET, FFD), (GLOBAL, AFFINE)])
def test_a_shrunk_network_gives_the_field_of_smaller_images_in_larger_voxels(backbone, output):
    shape, model = (16, 24), disturbed(new(backbone, output, shrink=2))
    inputs = noise(shape)
    halves = {key: array(image).reshape(2, 8, 2, 12, 2, 1).mean((2, 4)) for key, image in inputs.items()}
    ddf = array(model.network({key: tensor(value) for key, value in halves.items()})["ddf"])
    found = array(model(inputs)["ddf"])
    assert np.abs(ddf).max() > 0.05
    if output in (DDF, FFD):
        np.testing.assert_allclose(found, array(resize_field(tensor(ddf), shape)), atol=1e-5)
    # Four voxels share the place of one of the smaller grid; there, their mean is its vector, twice as long.
    means = found.reshape(2, 8, 2, 12, 2, 2).mean((2, 4))[:, 1:-1, 1:-1]
    tolerance = 1e-4 if output in (AFFINE, KEYPOINTS) else 0.2
    np.testing.assert_allclose(means, 2 * ddf[:, 1:-1, 1:-1], atol=tolerance)


@pytest.mark.parametrize(
    ("dims", "backbone", "output"),
    [(2, UNET, DDF), (3, UNET, DVF), (2, LOCAL, DVF)],
)
def test_a_descriptor_hides_which_way_the_contrast_goes(dims, backbone, output):
    shape = (16, 12, 16)[:dims]
    plain, model = (disturbed(new(backbone, output, dims, descriptor=each)) for each in (None, "mind"))
    inputs = noise(shape)
    other = inputs | {"moving": 3 - 2 * inputs["moving"]}
    found = array(model(inputs)["ddf"])
    assert np.abs(found).max() > 0.02
    np.testing.assert_allclose(array(model(other)["ddf"]), found, atol=1e-3 * np.abs(found).max())
    assert np.abs(array(plain(inputs)["ddf"]) - array(plain(other)["ddf"])).max() > 1e-3
    # Nor is it shown anything where an image is flat.
    flat = {
        key: np.where(np.arange(shape[0]).reshape(-1, *[1] * dims) < 9, 0, array(each)) for key, each in inputs.items()
    }
    seen = array(patch_descriptors(tensor(flat["fixed"])))
    assert seen.shape[-1] == DESCRIPTORS[dims]
    assert not seen[:, :6].any()
    assert seen[:, 11:].max() == pytest.approx(1, abs=1e-4)


@pytest.mark.slow_under("jax")
def test_passes_on_a_coarser_grid_are_shown_averages_of_descriptors_and_move_them():
    model = disturbed(new(UNET, DVF, descriptor="mind", flow=True, passes=2, shrink=2))
    inputs = noise((16, 12))
    fixed, moving = (averaged(patch_descriptors(inputs[side]), 2) for side in ("fixed", "moving"))
    once = model.network.network.stages[0]
    first = once.field(fixed, moving)["ddf"]
    second = once.field(fixed, warp(moving, first))["ddf"]
    found = array(model(inputs)["small"]["ddf"])
    np.testing.assert_allclose(found, array(compose(first, second)), atol=1e-4)
    assert np.abs(found).max() > 0.05


def test_a_network_with_flow_is_shown_the_flow_of_its_pair():
    model, inputs = disturbed(new(UNET, DDF, flow=True)), noise((16, 12))
    flow = optical_flow(inputs["fixed"], inputs["moving"])
    (features,) = [
        model.backbone(tensor(np.concatenate([array(inputs["fixed"]), array(inputs["moving"]), array(flow)], -1)))
    ]
    features = features[0] if isinstance(features, list) else features
    np.testing.assert_allclose(array(model(inputs)["ddf"]), array(model.heads[0](features)), atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_optical_flow_finds_a_small_displacement(dims):
    shape = (30, 26, 28)[:dims]
    way = np.array([0.4, -0.3, 0.2])[:dims]

    def waves(x):
        return np.stack(
            [np.sin(x @ np.array(k)[:dims]) for k in ((0.5, 0.2, 0.1), (-0.1, 0.4, 0.3), (0.2, -0.3, 0.5))], axis=-1
        )

    x = grid(shape)
    fixed, moving = waves(x)[None], waves(x - way)[None]  # fixed(x) = moving(x + way)
    found = array(optical_flow(tensor(fixed), tensor(moving)))[0]
    inner = (slice(4, -4),) * dims
    # The ridge takes a part of it away; the direction stays.
    mean = found[inner].reshape(-1, dims).mean(axis=0)
    assert mean @ way / np.linalg.norm(mean) / np.linalg.norm(way) > 0.98
    assert 0.6 < np.linalg.norm(mean) / np.linalg.norm(way) < 1.02
    assert not array(optical_flow(tensor(0 * fixed), tensor(0 * moving))).any()


def test_an_image_is_averaged_with_its_edge_continued():
    image = np.arange(5.0).reshape(1, 5, 1, 1) * np.ones((1, 1, 4, 1))
    found = array(averaged(tensor(image), 2))[0, :, :, 0]
    np.testing.assert_allclose(found, np.broadcast_to([[0.5], [2.5], [4.0]], (3, 2)))


def test_a_matrix_between_smaller_images_is_one_between_larger():
    matrix = np.array([[[1.1, 0.2, 3.0], [-0.1, 0.9, -2.0]]])
    x = grid((8, 12))
    wanted = 2 * (x @ matrix[0, :, :2].T + matrix[0, :, 2]) + 0.5  # the middles of voxels twice as large
    large = array(enlarged_matrix(tensor(matrix), 2))[0]
    np.testing.assert_allclose((2 * x + 0.5) @ large[:, :2].T + large[:, 2], wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("before", "backbone", "output"),
    [
        ([], GLOBAL, AFFINE),
        ([{"backbone": UNET, "output": KEYPOINTS}], UNET, DVF),
        (
            [{"backbone": UNET, "output": KEYPOINTS, "shrink": 2}, {"backbone": UNET, "output": DVF, "shrink": 2}],
            UNET,
            DVF,
        ),
        ([], UNET, FITTED),
        ([{"backbone": UNET, "output": FITTED, "passes": 2, "flow": True, "shrink": 2}], UNET, DVF),
        ([], UNET, DVF),
        ([{"backbone": GLOBAL, "output": AFFINE}], UNET, DVF),
        ([{"backbone": GLOBAL, "output": AFFINE}, {"backbone": LOCAL, "output": DVF}], UNET, DVF),
        ([{"backbone": LOCAL, "output": DVF}], UNET, DVF),
        ([{"backbone": GLOBAL, "output": AFFINE}, {"backbone": LOCAL, "output": DVF, "passes": 2}], UNET, DVF),
        ([{"backbone": LOCAL, "output": DVF, "passes": 2, "shrink": 2}], UNET, DVF),
        ([{"backbone": LOCAL, "output": DVF, "descriptor": "mind", "flow": True}], UNET, DVF),
    ],
)
def test_the_inverse_undoes_the_map(before, backbone, output):
    model = disturbed(new(backbone, output, 2, before))
    found = model(noise((16, 12), seed=2))  # of 23, JAX's fields have a cell that is too steep to be sampled well
    inverse = model.inverse(found)
    assert np.abs(array(found["ddf"])).max() > 0.1

    def inner(field):
        return array(field)[:, 4:-4, 3:-3]

    gap = inner(compose(found["ddf"], inverse["ddf"]))
    assert np.abs(gap).max() < 0.15 * np.abs(array(found["ddf"])).max()
    negated = inner(compose(found["ddf"], -found["ddf"]))
    assert np.linalg.norm(gap) < 0.8 * np.linalg.norm(negated)  # small fields are nearly undone by their negative
    assert ("dense" in inverse) == ("dense" in found)


def test_a_symmetric_loss_is_the_mean_of_both_directions():
    model, pair = disturbed(new(UNET, DVF)), noise((16, 12), labels=2)
    objective = {"image": {"ssd": {"weight": 2}}, "label": {"dice": {}}, "deformation": {"gradient": {"weight": 3}}}
    found = model(pair)
    other = {a: pair[b] for side in ("", "_labels") for a, b in [(f"fixed{side}", f"moving{side}")]}
    other |= {f"moving{side}": pair[f"fixed{side}"] for side in ("", "_labels")}
    back = {"ddf": model.inverse(found)["ddf"]}
    values = []
    for inputs, prediction in ((pair, found), (other, back)):
        model.supervise(objective, SPACINGS[2])
        values.append(float(array(model.compute_loss(inputs, None, prediction))))
    model.supervise(objective, SPACINGS[2], symmetric=True)
    assert abs(values[0] - values[1]) > 1e-3
    assert float(array(model.compute_loss(pair, None, found))) == pytest.approx(np.mean(values), rel=1e-5)


def test_a_symmetric_loss_needs_an_inverse():
    with pytest.raises(
        InvalidError, match=r"loss\.symmetric: output 'ddf' has no inverse\. Use dvf, affine, keypoints or fitted"
    ):
        new(UNET, DDF).supervise({"image": {"ssd": {}}}, SPACINGS[2], symmetric=True)


@pytest.mark.slow_under("jax")
def test_a_conditional_model_predicts_labels_and_no_field():
    model, inputs = disturbed(new(LOCAL, CONDITIONAL, 3)), noise((9, 6, 8), labels=3)
    found = run(lambda x: model(x), inputs)
    assert set(found) == {"labels"}
    labels = array(found["labels"])
    assert labels.shape == (2, 9, 6, 8, 3)
    assert 0 < labels.min() < labels.max() < 1
    # Each label for itself, in its own channel.
    alone = model(inputs | {"moving_labels": inputs["moving_labels"][..., 1:2]})
    np.testing.assert_allclose(array(alone["labels"])[..., 0], labels[..., 1], atol=1e-5)


@pytest.mark.slow_under("tensorflow")
def test_a_conditional_model_learns_from_labels_only():
    pair, model = blobs(), new(UNET, CONDITIONAL)
    with pytest.raises(InvalidError, match=r"loss\.image\.ssd: .* 'conditional' takes only label losses"):
        model.supervise({"image": {"ssd": {}}, "label": {"dice": {}}}, SPACINGS[2])
    model.supervise({"label": {"dice": {}}}, SPACINGS[2])
    model.compile(keras.optimizers.Adam(1e-2), jit_compile=keras.backend.backend() == "jax")
    losses = model.fit(pair, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"backbone": UNET, "output": AFFINE}, "backbone: expected global for the output affine, received unet"),
        (
            {"backbone": GLOBAL, "output": DDF},
            "expected unet, local, voxelmorph or pyramid for the output ddf, rec",
        ),
        ({"backbone": UNET | {"extract_levels": [0]}, "output": FFD}, "extract_levels goes with the outputs ddf and"),
        ({"backbone": UNET | {"extract_levels": [3]}, "output": DDF}, "extract_levels: expected output.level to 2"),
        (
            {"backbone": GLOBAL, "output": AFFINE, "before": [{"backbone": UNET, "output": DDF}]},
            "an output affine, keypoints or fitted must be the first",
        ),
        (
            {"backbone": UNET, "output": KEYPOINTS, "before": [{"backbone": GLOBAL, "output": AFFINE}]},
            "an output affine, keypoints or fitted must be the first",
        ),
        (
            {"backbone": UNET, "output": CONDITIONAL, "before": [{"backbone": UNET, "output": DDF}]},
            "a conditional output has no field",
        ),
        ({"backbone": LOCAL | {"channels": [4, 6, 8]}, "output": DDF}, "each a multiple of the one before"),
        ({"backbone": GLOBAL, "output": AFFINE, "passes": 2}, "passes: expected 1, unless the output is ddf"),
        ({"backbone": UNET, "output": CONDITIONAL, "shrink": 2}, "shrink: expected 1, since a conditional output"),
        ({"backbone": UNET, "output": CONDITIONAL, "descriptor": "mind"}, "descriptor: expected none, unless"),
        ({"backbone": UNET, "output": KEYPOINTS, "flow": True}, "flow: expected none, unless"),
    ],
)
def test_what_does_not_go_together_is_refused(config, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig.model_validate(config)
