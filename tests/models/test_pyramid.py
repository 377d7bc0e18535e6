import keras
import numpy as np
import pytest
from convert_pyramid import CONFIG, converted
from scipy import ndimage
from tensors import array, grid, run, tensor

import regzoo
from regzoo import backend
from regzoo.errors import InvalidError
from regzoo.hub import cards
from regzoo.models import build, export, weights
from regzoo.models.stages.nearest_matrix import NearestMatrix
from regzoo.schema.inputs import InputConfig
from regzoo.schema.networks import ModelConfig
from regzoo.world.images import Image

pytestmark = pytest.mark.backend

TINY = {"name": "pyramid", "channels": [2, 3, 4], "decoder": [3, 4, 5]}


def config(dims=2, output="dvf", level=0, backbone=None, steps=(2, 3, 4), more=None, **settings):
    steps = ({"steps": steps} if output == "dvf" else {}) | (more or {})
    value = {"dims": dims, "backbone": TINY | (backbone or {}), "output": {"name": output, "level": level, **steps}}
    return ModelConfig.model_validate(value | settings)


def new(*arguments, size=0.3, **settings):
    """A model with large weights, the same on every backend, so that the field varies by voxels."""
    model, random = build(config(*arguments, **settings)), np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(random.normal(0, size, size=variable.shape))
    return model


def noise(shape, batch=2):
    random = np.random.default_rng(5)
    images = ndimage.gaussian_filter(random.random((2, batch, *shape)), (0, 0, *[1.0] * len(shape)))
    return dict(zip(("fixed", "moving"), map(tensor, 4 * images[..., None] - 1.5), strict=True))


def predict(model, inputs):
    return run(lambda x: model(x), inputs)


def inverse(model, prediction):
    return array(run(lambda x: model.inverse(x), prediction)["ddf"])


def moved(x, places):
    """Samples (*S, C) at places (*S, D), edge values outside."""
    at = np.moveaxis(places, -1, 0)
    return np.stack([ndimage.map_coordinates(x[..., c], at, order=1, mode="nearest") for c in range(x.shape[-1])], -1)


def composed(outer, inner):
    """Does `inner`, then `outer`."""
    return inner + moved(outer, grid(inner.shape[:-1]) + inner)


def enlarged(u, shape):
    scale = np.array(shape) / np.array(u.shape[:-1])
    return moved(u, (grid(shape) + 0.5) / scale - 0.5) * scale


def by_hand(model, fixed, moving):
    """The maps of one pair, and the inverse, by SciPy; the model is asked for its features and predictions alone."""
    features = [array(each) for each in model.encoder(tensor(np.stack([fixed, moving])))]
    hidden, maps = {}, None
    for level in [*reversed(range(model.finest, len(features))), *[model.finest] * (model.rounds - 1)]:
        f, m = features[level]
        here, place = grid(f.shape[:-1]), level - model.finest
        if maps is not None:
            maps = [each if each.shape[:-1] == f.shape[:-1] else enlarged(each, f.shape[:-1]) for each in maps]
            f, m = moved(f, here + maps[0]), moved(m, here + maps[1])
        seen = [np.concatenate([*way, *[products(*way)] * (level >= model.correlated)], -1) for way in ((f, m), (m, f))]
        seen, above = tensor(np.stack(seen)), hidden.get(level + 1)
        hidden[level] = model.decoders[place](seen if above is None else [seen, above])
        there, back = array(model.heads[place](hidden[level])).astype("float64")
        plus, minus = (exponential(way * (there - back) / 4, model.steps[level]) for way in (1, -1))
        a, b, a_inverse, b_inverse = maps or [np.zeros_like(plus)] * 4
        maps = [composed(a, minus), composed(b, plus), composed(plus, a_inverse), composed(minus, b_inverse)]
    a, b, a_inverse, b_inverse = maps
    return composed(b, a_inverse), composed(a, b_inverse)


def exponential(v, steps):
    u = v / 2**steps
    for _ in range(steps):
        u = composed(u, u)
    return u


def products(f, m):
    offsets = np.indices((3,) * (f.ndim - 1)).reshape(f.ndim - 1, -1).T
    padded = np.pad(m, [(1, 1)] * (f.ndim - 1) + [(0, 0)])
    windows = [padded[tuple(slice(i, i + n) for i, n in zip(each, f.shape[:-1], strict=True))] for each in offsets]
    return np.stack([(f * each).mean(-1) for each in windows], -1)


@pytest.mark.slow_under("jax")
@pytest.mark.parametrize("rounds", [1, 3])
def test_the_field_and_its_inverse_are_made_of_the_parts_as_they_should_be(rounds):
    model = new(2, size=0.15, more={"rounds": rounds})
    pair = noise((16, 12), batch=1)
    found = predict(model, pair)
    expected = by_hand(model, *(array(pair[side])[0] for side in ("fixed", "moving")))
    assert np.abs(expected[0]).max() > 0.5
    for ours, theirs in zip((array(found["ddf"]), inverse(model, found)), expected, strict=True):
        np.testing.assert_allclose(ours[0], theirs, atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((16, 12), {}),
        ((9, 14), {"level": 1}),
        pytest.param((9, 7, 11), {}, marks=pytest.mark.slow_under("jax", "tensorflow")),
        pytest.param(
            (8, 12, 5),
            {"backbone": {"halvings": [2, 2, 1], "correlated": 0}},
            marks=pytest.mark.slow_under("jax", "tensorflow"),
        ),
        ((9, 7), {"descriptor": "mind"}),
        ((9, 7), {"backbone": {"norm": "none"}}),
        ((9, 7), {"shrink": 2, "steps": 3}),
        pytest.param(
            (9, 7),
            {"more": {"mirrored": True, "rounds": 2, "smoothing": 1.0, "steepest": 0.1}},
            marks=pytest.mark.slow_under("jax"),
        ),
    ],
)
def test_exchanging_the_images_inverts_the_map(shape, settings):
    model = new(len(shape), **settings)
    pair = noise(shape)
    exchanged = {"fixed": pair["moving"], "moving": pair["fixed"]}
    there, back = (predict(model, inputs) for inputs in (pair, exchanged))
    assert array(there["ddf"]).shape == (2, *shape, len(shape))
    assert array(there["ddf"]).dtype == np.float32
    assert np.abs(array(there["ddf"])).max() > 0.1
    np.testing.assert_allclose(inverse(model, there), array(back["ddf"]), atol=1e-4)
    np.testing.assert_allclose(inverse(model, back), array(there["ddf"]), atol=1e-4)


def test_a_new_model_gives_almost_no_field_and_equal_images_give_none():
    keras.utils.set_random_seed(1)
    pair = noise((12, 9))
    ddf = array(predict(build(config()), pair)["ddf"])
    assert 0 < np.abs(ddf).max() < 0.01
    same = {"fixed": pair["fixed"], "moving": pair["fixed"]}
    np.testing.assert_array_equal(array(predict(new(), same)["ddf"]), 0)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.slow_under("jax")
def test_other_sizes_are_padded_with_0_behind_the_last_voxel(mirrored):
    model = new(backbone={"halvings": [2, 1]}, more={"mirrored": mirrored})
    pair = noise((9, 7))
    padded = {side: np.pad(array(image), [(0, 0), (0, 3), (0, 1), (0, 0)]) for side, image in pair.items()}
    found, expected = (
        array(predict(model, inputs)["ddf"]) for inputs in (pair, {k: tensor(v) for k, v in padded.items()})
    )
    np.testing.assert_allclose(found, expected[:, :9, :7], atol=1e-5)


@pytest.mark.slow_under("jax", "tensorflow")
def test_an_axis_with_fewer_halvings_is_halved_last():
    backbone = config(3, backbone={"halvings": [2, 2, 1]}).backbone
    assert backbone.strides(3) == ((2, 2, 1), (2, 2, 2))
    model = new(3, backbone={"halvings": [2, 2, 0]})
    assert tuple(model.divisor) == (4, 4, 1)
    assert array(predict(model, noise((8, 8, 3)))["ddf"]).shape == (2, 8, 8, 3, 3)


def test_a_ddf_adds_a_displacement_on_each_level_and_has_no_inverse():
    model = new(output="ddf", size=0.15)
    assert not model.invertible
    pair = noise((16, 12), batch=1)
    features = [array(each) for each in model.encoder(both_images(pair))]
    ddf = below = None
    for level in (2, 1, 0):
        f, m = features[level]
        here = grid(f.shape[:-1])
        if ddf is not None:
            ddf = enlarged(ddf, f.shape[:-1])
            m = moved(m, here + ddf)
        seen = np.concatenate([f, m] + [products(f, m)] * (level >= 1), -1)[None]
        below = model.decoders[level](tensor(seen) if below is None else [tensor(seen), below])
        found = array(model.heads[level](below))[0]
        ddf = found if ddf is None else composed(ddf, found)
    assert np.abs(ddf).max() > 0.3
    np.testing.assert_allclose(array(predict(model, pair)["ddf"])[0], ddf, atol=1e-3)


def both_images(pair):
    return tensor(np.concatenate([array(pair[side]) for side in ("fixed", "moving")]))


@pytest.mark.slow_under("jax")
def test_passes_and_an_affine_network_before_it_have_an_inverse_too():
    before = {"backbone": {"name": "global", "channels": [2, 3, 4]}, "output": {"name": "affine"}}
    model = new(2, size=0.02, passes=2, before=[before])
    pair = noise((16, 12))
    found = predict(model, pair)
    ddf, back = array(found["ddf"]), inverse(model, found)
    for u, v in zip(ddf, back, strict=True):
        both = u + moved(v, grid((16, 12)) + u)
        assert np.abs(u).max() > 0.05
        assert np.abs(both[3:-3, 3:-3]).max() < 0.02


class Turning:
    """Stands for a pyramid that finds a turn about the middle, in mm, and a shift, and somewhere nonsense."""

    def __init__(self, degrees, shape, factor, spacing, nonsense=slice(0, 0)):
        cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        linear = np.eye(len(shape))
        linear[:2, :2] = [[cosine, -sine], [sine, cosine]]
        linear = linear * np.array(spacing) / np.array(spacing)[:, None]
        middle = (np.array(shape) - 1) / 2
        self.matrix = np.append(linear, (middle - linear @ middle + 0.5)[:, None], axis=1)
        self.divisor = [2 * each for each in factor]
        coarse = [2 * -(-n // each) for n, each in zip(shape, self.divisor, strict=True)]
        places = (grid(coarse) + 0.5) * factor - 0.5
        self.found = (places @ self.matrix[:, :-1].T + self.matrix[:, -1] - places) / factor
        self.found[nonsense] = 50

    def features(self, *images):
        return [images]

    def ends_at(self, level, features):
        return tensor(self.found[None])


@pytest.mark.parametrize(
    ("degrees", "shape", "factor", "spacing", "moves"),
    [
        (11, (27, 18), (2, 2), (1.0, 1.0), False),
        (13, (27, 18), (2, 2), (1.0, 1.0), True),
        (-13, (27, 18), (4, 2), (1.0, 3.0), True),
        (11, (27, 18), (4, 2), (1.0, 3.0), False),
        (175, (9, 18), (2, 2), (1.0, 1.0), True),
        (25, (9, 18, 10), (2, 2, 1), (1.0, 2.0, 3.0), True),
        (-175, (9, 18, 10), (2, 2, 1), (1.0, 2.0, 3.0), True),
    ],
)
@pytest.mark.slow_under("jax")
def test_a_start_is_the_matrix_nearest_to_a_coarse_field_where_there_is_something_and_only_for_a_turn(
    degrees, shape, factor, spacing, moves
):
    empty = 2 * factor[0]  # voxels without anything, and a field there that says nothing
    network = Turning(degrees, shape, factor, spacing, nonsense=slice(0, 2))
    fixed = np.ones((1, *shape, 1))
    fixed[:, :empty] = 0
    found = array(NearestMatrix(network, [1], spacing).field(tensor(fixed), tensor(fixed))["matrix"])[0]
    np.testing.assert_allclose(found, network.matrix if moves else np.eye(len(shape), len(shape) + 1), atol=0.05)


def test_starts_add_up_and_each_sees_the_image_as_moved_so_far(monkeypatch):
    first, then = (Turning(degrees, (24, 18), (2, 2), (1.0, 1.0)) for degrees in (8, 70))  # 8 alone is left alone
    calls = []
    # JAX traces what is done on a condition, and what was seen there has no values.
    monkeypatch.setattr(backend, "only_if", lambda wanted, function, x: function(x) if bool(wanted) else x)

    class Both:
        divisor = first.divisor

        def features(self, *images):
            return [images]

        def ends_at(self, level, features):
            calls.append((level, features[0][1]))
            return {2: first, 1: then}[level].ends_at(level, features)

    moving = noise((24, 18), batch=1)["moving"]
    starts = NearestMatrix(Both(), [2, 1], (1.0, 1.0))
    found = array(starts.field(tensor(np.ones((1, 24, 18, 1))), moving)["matrix"])[0]
    (a, b), (c, d) = ((each.matrix[:, :-1], each.matrix[:, -1]) for each in (first, then))
    np.testing.assert_allclose(found, np.append(a @ c, (a @ d + b)[:, None], axis=1), atol=0.15)
    assert np.abs(a @ d + b - c @ b - d).max() > 0.5  # in the other order it would be another shift
    assert [level for level, _ in calls] == [2, 1]
    assert calls[0][1] is moving
    expected = moved(array(moving)[0], grid((24, 18)) @ a.T + b)[..., 0]
    np.testing.assert_allclose(array(calls[1][1])[0, 3:-3, 3:-3, 0], expected[3:-3, 3:-3], atol=0.05)


@pytest.mark.slow_under("jax")
def test_a_mirrored_pair_has_the_mirrored_map():
    pair = noise((16, 12))
    other = {side: tensor(array(image)[:, ::-1]) for side, image in pair.items()}
    for mirrored in (True, False):
        model = new(2, more={"mirrored": mirrored}, size=0.2)
        found, expected = (array(predict(model, each)["ddf"]) for each in (other, pair))
        differ = np.abs(found - expected[:, ::-1] * [-1, 1]).max()
        assert np.abs(found).max() > 0.1
        assert differ < 1e-4 if mirrored else differ > 0.1


def test_smoothing_blurs_the_finest_velocity_alone():
    plain, blurred = (new(2, more=more, size=0.1) for more in ({}, {"smoothing": 0.6}))
    pair = noise((16, 12))
    found, expected = (array(predict(model, pair)["velocity"]) for model in (blurred, plain))
    weights = np.exp(-0.5 * (np.arange(-1, 2) / 0.6) ** 2)
    for axis in (1, 2):
        expected = ndimage.convolve1d(expected, weights / weights.sum(), axis, mode="constant")
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(16, 12), (9, 7, 11)])
def test_where_the_finest_velocity_is_steep_it_is_blurred_and_nowhere_else(shape):
    dims = len(shape)
    plain, eased = (new(dims, more=more, size=0.2) for more in ({}, {"steepest": 0.8}))
    pair = noise(shape)
    found, velocity = (array(predict(model, pair)["velocity"]) for model in (eased, plain))
    for ours, v in zip(found, velocity.astype("float64"), strict=True):
        steps = np.zeros(v.shape[:-1])
        for axis in range(dims):
            step = (np.diff(v, axis=axis) ** 2).sum(-1)
            ends = [(1, 1) if axis == each else (0, 0) for each in range(dims)]
            padded = np.pad(step, ends)
            n = v.shape[axis]
            steps += np.maximum(padded.take(range(n), axis), padded.take(range(1, n + 1), axis))
        share = np.clip(np.sqrt(ndimage.maximum_filter(steps, 3, mode="constant")) / 0.8 - 1, 0, 1)
        count = ndimage.uniform_filter(np.ones_like(share), 3, mode="constant")
        share = (ndimage.uniform_filter(share, 3, mode="constant") / count)[..., None]
        assert np.ptp(share) > 0.2
        blurred = ndimage.gaussian_filter(v, (1,) * dims + (0,), mode="constant", radius=(3,) * dims + (0,))
        np.testing.assert_allclose(ours, v + share * (blurred - v), atol=1e-4)


@pytest.mark.slow_under("jax", "tensorflow")
def test_a_model_with_starts_has_an_inverse_and_leaves_equal_images_alone():
    model, pair = new(2, size=0.05, starts=[1, 0]), noise((16, 12))
    found = predict(model, pair)
    for u, v in zip(array(found["ddf"]), inverse(model, found), strict=True):
        assert np.abs(u).max() > 0.05
        assert np.abs((u + moved(v, grid((16, 12)) + u))[3:-3, 3:-3]).max() < 0.02
    np.testing.assert_allclose(array(predict(model, pair | {"moving": pair["fixed"]})["ddf"]), 0, atol=1e-5)


def blobs():
    """One blob in two places and the way between: moved(x) = moving(x + way) is fixed(x)."""
    way, places = np.array([2.5, -1.5]), grid((16, 12))
    sides = (np.exp(-((places - middle) ** 2).sum(-1) / 8) for middle in (np.array([6.5, 6.5]), np.array([9.0, 5.0])))
    return {side: x[None, ..., None].astype("float32") for side, x in zip(("fixed", "moving"), sides, strict=True)}, way


@pytest.mark.parametrize("output", ["dvf", "ddf"])
@pytest.mark.slow
def test_fit_lowers_a_loss_of_both_directions_and_moves_the_right_way(output):
    keras.utils.set_random_seed(2)
    pair, way = blobs()
    model = build(config(output=output, backbone={"channels": [4, 6, 6], "decoder": [4, 6, 6]}))
    model.supervise({"image": {"ssd": {"weight": 10}}}, (1.0, 1.0), symmetric=output == "dvf")
    model.compile(keras.optimizers.Adam(5e-3), jit_compile=backend.NAME == "jax")
    losses = model.fit(pair, epochs=40, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    ddf = array(predict(model, pair)["ddf"])[0]
    at_blob = np.average(ddf, weights=pair["fixed"][0, ..., 0], axis=(0, 1))
    assert (at_blob * way > 0.3).all()
    assert all(np.abs(array(each)).max() > 1e-3 for each in (head.kernel for head in model.heads))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A zoo entry of a pyramid with all that it can do behind an affine network, with two passes."""
    before = {"backbone": {"name": "global", "channels": [2, 3, 4]}, "output": {"name": "affine"}}
    settings = config(
        3,
        before=[before],
        passes=2,
        starts=[1],
        more={"mirrored": True, "rounds": 2, "smoothing": 0.5, "steepest": 0.8},
    )
    model, folder = build(settings), tmp_path_factory.mktemp("zoo") / "pyramid"
    random = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(random.normal(0, 0.02, size=variable.shape))
    folder.mkdir()
    weights.save(folder / cards.WEIGHTS, weights.arrays(model.variables))
    (folder / cards.CONFIG).write_text(settings.model_dump_json())
    inputs = InputConfig(shape=(12, 14, 10))
    card = cards.Card(name="pyramid", version="1", input=inputs, files=cards.manifest(folder))
    cards.write(folder, card, "A test.")
    return folder


@pytest.mark.parametrize("kind", ["keras", "saved-model", "onnx"])
@pytest.mark.slow
def test_it_is_exported_like_every_other(folder, tmp_path, kind):
    if export._NEEDS.get(kind, backend.NAME) != backend.NAME:
        pytest.skip(f"{kind} is not written under {backend.NAME}")
    suffix = "" if kind == "saved-model" else f".{kind}"
    assert export.export(folder, tmp_path / f"x{suffix}", kind).exists()  # and gave the same field


@pytest.mark.slow
def test_register_refines_its_field(folder):
    places = grid((14, 12, 11))
    fixed, moving = (Image(np.exp(-((places - m) ** 2).sum(-1) / 12), np.eye(4)) for m in ((6, 6, 5), (7, 5, 5)))
    result = regzoo.register(fixed, moving, folder, refine=3)
    assert result.facts["refinement"]["iterations"] >= 1
    ddf = result.transform.displacement(fixed.grid)
    assert ddf[6, 6, 5, 0] > 0.05  # towards the blob of the moving image
    assert ddf[6, 6, 5, 1] < -0.05


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output": {"name": "ffd"}}, "for the output ffd, received pyramid"),
        ({"flow": True}, "flow: expected false"),
        ({"output": {"name": "dvf", "symmetric": True}}, "output.symmetric: expected false"),
        ({"output": {"name": "dvf", "steps": [1, 2]}}, "output.steps: expected 3"),
        (
            {"backbone": {"name": "unet"}, "output": {"name": "dvf", "steps": [1, 2]}},
            "output.steps: expected one number",
        ),
        ({"output": {"name": "dvf", "mirrored": True}, "backbone": {"name": "unet"}}, "output.mirrored: expected none"),
        ({"output": {"name": "dvf", "smoothing": 1}, "backbone": {"name": "unet"}}, "output.smoothing: expected none"),
        ({"output": {"name": "dvf", "rounds": 2}, "backbone": {"name": "unet"}}, "output.rounds: expected none"),
        ({"starts": [2]}, "starts: expected levels from output.level, 1, to below 2, the backbone's deepest"),
        ({"starts": [0], "output": {"name": "dvf", "level": 1}}, "starts: expected levels from output.level, 1"),
        ({"starts": [1], "backbone": {"name": "unet"}}, "starts: expected none, unless the backbone is pyramid"),
        ({"starts": [1], "output": {"name": "ddf"}}, "starts: expected none, unless the backbone is pyramid and"),
        ({"backbone": TINY | {"decoder": [3, 4]}}, "decoder: expected 3 values"),
        ({"backbone": TINY | {"halvings": [2, 2]}}, "backbone.halvings: expected 3 numbers"),
        ({"backbone": TINY | {"halvings": [1, 1, 0]}}, "halvings: expected 2 for one axis at least"),
        (
            {"backbone": {"name": "pyramid", "channels": [512] * 7, "decoder": [512] * 7}},
            "expected a network of at most",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ModelConfig.model_validate({"dims": 3, "backbone": TINY, "output": {"name": "dvf"}} | settings)


def test_features_that_do_not_fit_into_memory_are_refused():
    wide = config(3, backbone={"channels": [512, 8, 8], "decoder": [8, 8, 8]})
    with pytest.raises(InvalidError, match=r"input\.shape: expected at most"):
        InputConfig(shape=(96, 96, 96)).check(wide)


@pytest.fixture(scope="module")
def prototype(data_home):
    home = data_home.parent / "gpu"
    if not home.is_dir():
        pytest.skip(f"no weights of the prototype at {home}")
    return home


@pytest.mark.parametrize("name", ["brain-mr", "hippocampus-mr-unsupervised"])
@pytest.mark.slow
def test_the_prototypes_weights_give_its_fields(prototype, name):
    model = build(CONFIG)
    weights.assign(model.variables, converted(prototype / f"{name}.safetensors"))
    golden = np.load(prototype / f"{name}-golden.npz")
    pair = {side: tensor(golden[side][None, ..., None] / 255.0) for side in ("fixed", "moving")}
    found = model.predict_on_batch(pair)
    difference = np.abs(array(found["ddf"])[0] - golden["ddf"].astype("float32"))
    assert difference.max() < 0.03
    assert difference.mean() < 0.002
    there, back = array(found["ddf"])[0], inverse(model, found)[0]
    # What is left is that of sampling rough maps on the grid: 0.25 voxels (brain) and 0.23; nearly none comes of a, b.
    rounds = np.linalg.norm(composed(there, back), axis=-1)
    assert np.percentile(rounds, 95) < 0.3
    exchanged = model.predict_on_batch({"fixed": pair["moving"], "moving": pair["fixed"]})
    np.testing.assert_allclose(array(exchanged["ddf"])[0], back, atol=1e-4)


@pytest.mark.slow_under("jax")
def test_all_three_of_the_prototypes_weights_fit(prototype):
    model = build(CONFIG)
    for file in sorted(prototype.glob("*.safetensors")):
        weights.assign(model.variables, converted(file))
