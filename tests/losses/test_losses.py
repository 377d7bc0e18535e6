import inspect
import warnings

import loss_formulas
import numpy as np
import pytest
from keras import ops
from loss_cases import CASES, KINDS, LOSSES, SHAPES, bound, images, inputs, spaced, value
from tensors import array, check_gradient, tensor

from regzoo import backend, losses
from regzoo.errors import InvalidError
from regzoo.schema.losses import LOSSES as ENTRIES
from regzoo.schema.losses import Term
from regzoo.schema.registry import Entry

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MONAI's own, on import
    import loss_peers

pytestmark = pytest.mark.backend

every_case = pytest.mark.parametrize(("kind", "name", "settings"), CASES, ids=str)
every_loss = pytest.mark.parametrize(("kind", "name"), LOSSES, ids=str)
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=["2d", "3d"])


@every_shape
@every_case
def test_values_against_formulas_item_by_item(kind, name, settings, shape):
    arguments, settings = inputs(kind, shape), spaced(name, settings, len(shape))
    loss = KINDS[kind][name]
    expected = [getattr(loss_formulas, loss.__name__)(*item, **settings) for item in zip(*arguments, strict=True)]
    assert np.abs(expected).min() > 1e-3
    np.testing.assert_allclose(value(loss, *arguments, **settings), expected, rtol=2e-4)


@pytest.mark.parametrize("scales", [(0,), (1,), (0, 1, 2, 4, 8, 16)])
@pytest.mark.parametrize("kernel", ["gaussian", "cauchy"])
@pytest.mark.parametrize("name", ["dice", "jaccard"])
def test_overlaps_against_monai(name, kernel, scales):
    fixed, moved = np.random.default_rng(5).random((2, 9, 8, 7, 2))
    expected = getattr(loss_peers, name)(fixed, moved, scales, kernel)
    found = value(KINDS["label"][name], fixed[None], moved[None], scales=scales, kernel=kernel)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("shape", [(10, 11), (10, 9, 11)])
def test_other_pair_losses_against_monai_torch_and_scipy(shape):
    random = np.random.default_rng(6)
    fixed, moved = np.zeros((2, *shape, 1))  # a margin of 0, where MONAI's zero padding makes no difference
    inner = tuple(slice(2, -2) for _ in shape)
    fixed[inner], moved[inner] = random.uniform(0.2, 1, size=(2, *fixed[inner].shape))
    fixed, moved = fixed / fixed.max(), moved / moved.max()
    for name, settings in (("ssd", {}), ("lncc", {"size": 3}), ("mi", {})):
        expected = getattr(loss_peers, name)(fixed, moved, **settings)
        found = value(KINDS["image"][name], fixed[None], moved[None], **settings)
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    fixed, moved = random.uniform(0.1, 0.9, size=(2, *shape, 3))
    for name, settings in (
        ("ssd", {}),
        ("cross_entropy", {}),
        ("centroid", {"spacing": (2.0, 0.5, 3.0)[: len(shape)]}),
    ):
        loss = KINDS["label"][name]
        expected = getattr(loss_peers, loss.__name__)(fixed, moved, **settings)
        np.testing.assert_allclose(value(loss, fixed[None], moved[None], **settings), expected, rtol=1e-3)


@pytest.mark.parametrize("shape", [(9, 8), (9, 8, 7)])
def test_deformation_losses_against_monai_where_its_stencils_are_exact(shape):
    places, dims = np.moveaxis(np.indices(shape), 0, -1).astype(float), len(shape)
    slope = np.random.default_rng(7).normal(size=(dims, dims))
    affine = places @ slope
    np.testing.assert_allclose(value(losses.gradient, affine[None]), loss_peers.gradient(affine), rtol=1e-4)
    quadratic = (places @ slope) * (places @ slope[::-1]) / 10
    np.testing.assert_allclose(value(losses.bending, quadratic[None]), loss_peers.bending(quadratic), rtol=1e-3)


@every_loss
def test_items_of_a_batch_do_not_touch_each_other(kind, name):
    arguments, loss = inputs(kind, SHAPES[1]), bound(kind, name, {}, 3)
    alone = value(loss, *(argument[:1] for argument in arguments))
    spoilt = [np.stack([argument[0], np.full_like(argument[0], np.nan)]) for argument in arguments]
    found = value(loss, *spoilt)
    assert found.shape == (2,)
    np.testing.assert_allclose(found[0], alone[0], rtol=1e-5)


@pytest.mark.skipif(backend.NAME == "torch", reason="eager is all there is")
@every_loss
def test_compiled_equals_eager(kind, name):
    arguments, loss = [tensor(x) for x in inputs(kind, SHAPES[1])], bound(kind, name, {}, 3)
    np.testing.assert_allclose(array(backend.compiled(loss)(*arguments)), array(loss(*arguments)), rtol=1e-4)


ANCHOR = np.full((2, 1, 7, 2), -4.0)  # holds the span of mi's bins, which gradients take as constant
ANCHOR[:, :, 3] = 4


@pytest.mark.parametrize("side", ["fixed", "moved"])
@pytest.mark.parametrize(("kind", "name", "settings"), [case for case in CASES if case[0] != "deformation"], ids=str)
def test_gradients_of_pair_losses_equal_finite_differences(kind, name, settings, side):
    fixed, moved = inputs(kind, (6, 7), seed=3)
    loss, weights = bound(kind, name, settings, 2), tensor([1.0, -2.0])
    if kind == "label":  # a channel that neither map has would become one
        fixed, moved = np.random.default_rng(8).uniform(0.1, 0.9, size=(2, *fixed.shape))

    def total(x):
        pair = (x, tensor(moved)) if side == "fixed" else (tensor(fixed), x)
        if name in ("mi", "nmi"):
            pair = [ops.concatenate([tensor(ANCHOR), image], axis=1) for image in pair]
        return ops.sum(weights * loss(*pair))

    check_gradient(total, fixed if side == "fixed" else moved, step=1e-3 if name == "mind" else 1e-2)


@pytest.mark.parametrize(("kind", "name", "settings"), [case for case in CASES if case[0] == "deformation"], ids=str)
@pytest.mark.slow_under("jax")
def test_gradients_of_deformation_losses_equal_finite_differences(kind, name, settings):
    random = np.random.default_rng(11)
    ddf = random.permutation(4 * 3 * 5 * 3).reshape(1, 4, 3, 5, 3) / 20  # no difference is near the kink of l1
    loss = bound(kind, name, settings, 3)
    check_gradient(lambda u: ops.sum(loss(u)), ddf, step=1e-3 if name == "folding" else 5e-3)


@every_loss
def test_settings_of_a_recipe_are_those_of_the_function(kind, name):
    term = ENTRIES[kind][name].config
    fields = {key: field.default for key, field in term.model_fields.items() if key != "weight"}
    parameters = inspect.signature(KINDS[kind][name]).parameters.values()
    defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
    assert fields == {name: default for name, default in defaults.items() if name not in ("spacing", "mask")}


def test_weighted_terms_leave_out_exactly_the_terms_of_weight_0():
    terms = {
        "image": {"lncc": {"weight": 0.5, "size": 3}, "ssd": {"weight": 0}},
        "label": {"dice": {}, "centroid": {"weight": 0.1}},
        "deformation": {"gradient": {"weight": 0.0}, "bending": {"weight": 2}, "folding": {"margin": 0.1}},
    }
    rows = losses.weighted_terms(terms, (2.0, 0.5))
    names = [(kind, name, weight) for kind, name, _, weight in rows]
    assert names == [
        ("image", "lncc", 0.5),
        ("label", "dice", 1.0),
        ("label", "centroid", 0.1),
        ("deformation", "bending", 2.0),
        ("deformation", "folding", 1.0),
    ]
    fixed, moved = images((1, 6, 7, 1))
    np.testing.assert_array_equal(value(rows[0][2], fixed, moved), value(losses.lncc, fixed, moved, size=3))
    labels = inputs("label", (6, 7))
    np.testing.assert_array_equal(value(rows[2][2], *labels), value(losses.centroid, *labels, spacing=(2.0, 0.5)))
    (ddf,) = inputs("deformation", (6, 7))
    np.testing.assert_array_equal(value(rows[3][2], ddf), value(losses.bending, ddf, spacing=(2.0, 0.5)))
    np.testing.assert_array_equal(value(rows[4][2], ddf), value(losses.folding, ddf, margin=0.1))
    assert terms["image"]["ssd"] == {"weight": 0}  # the caller's record is untouched


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ("lncc", r"objective: expected a dict such as .*, received 'lncc'\."),
        ({"ssd": 1.0}, r"objective: ssd: unknown key\. Known: deformation, image, known, label\."),
        ({"image": "lncc"}, r"objective: image: expected a valid dictionary, received 'lncc'\."),
        ({"images": {}}, r"objective: images: unknown key\. Did you mean 'image'\?"),
        ({"image": {"lnnc": {}}}, r"objective: image\.lnnc: unknown key\. Did you mean 'lncc'\?"),
        ({"image": {"dice": {}}}, r"objective: image\.dice: unknown key\. Known: lncc, mi, mind, ncc, nmi, ssd\."),
        (
            {"label": {"dice": {"weight": -1}}},
            r"label\.dice\.weight: expected greater than or equal to 0, received -1\.",
        ),
        ({"image": {"lncc": {"size": 4}}}, r"image\.lncc\.size: expected an odd number, received 4\."),
        (
            {"deformation": {"folding": {"margin": -1}}},
            r"folding\.margin: expected greater than or equal to 0, received -1",
        ),
        ({"image": {"ssd": {"weight": 0}}}, r"objective: expected at least one loss with a weight above 0"),
        ({}, r"objective: expected at least one loss with a weight above 0, received none\."),
        ({"image": {"ssd": {"weight": float("nan")}}}, r"image\.ssd\.weight: expected a finite number, received nan"),
        (
            {"image": {"lncc": {"sise": 7}}},
            r"objective: image\.lncc\.sise: unknown key\. Did you mean 'size'\?",
        ),
        (
            {"image": {"ncc": {"weight": 0, "size": 7}, "ssd": {}}},
            r"objective: image\.ncc\.size: unknown key\. Known: weight\.",
        ),
        ({"deformation": {"bending": {"spacing": (1, 1)}}}, r"deformation\.bending\.spacing: unknown key\."),
    ],
)
def test_objectives_that_mean_nothing_are_refused(terms, message):
    with pytest.raises(InvalidError, match=message):
        losses.weighted_terms(terms, (1.0, 1.0))


@pytest.mark.parametrize(("kind", "name"), [each for each in LOSSES if each[0] in ("image", "label")], ids=str)
def test_shapes_that_would_broadcast_are_refused(kind, name):
    two, one = np.ones((1, 8, 8, 2), "float32"), np.ones((1, 8, 8, 1), "float32")
    with pytest.raises(
        InvalidError, match=r"moved: expected the shape of fixed, \(1, 8, 8, 2\), received \(1, 8, 8, 1\)"
    ):
        KINDS[kind][name](two, one)
    with pytest.raises(
        InvalidError, match=r"fixed: expected shape \(B, \*S, C\), with the channels last, received \(8, 8\)"
    ):
        KINDS[kind][name](two[0, ..., 0], two[0, ..., 0])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda fixed, moved: ops.mean(fixed - moved), "image loss own: expected a function of mask, received one of"),
        (lambda fixed, moved, mask=None: ops.mean(fixed - moved), r"shape \(B,\), received shape \(\)"),
        (
            lambda fixed, moved, mask=None: fixed - moved,
            r"one value for each item of the batch, shape \(B,\), received",
        ),
    ],
)
def test_a_loss_of_ones_own_that_is_none_is_named(monkeypatch, function, message):
    monkeypatch.setitem(ENTRIES["image"], "own", Entry(Term, function))
    image = ops.ones((1, 4, 4, 1))
    with pytest.raises(InvalidError, match=message):
        losses.weighted_terms({"image": {"own": {}}}, (1.0, 1.0))[0][2](image, image, None)


def test_a_loss_of_ones_own_is_found_by_its_name_in_a_recipe(monkeypatch):
    monkeypatch.setitem(ENTRIES["image"], "own", Entry(Term, lambda fixed, moved, mask=None: losses.ssd(fixed, moved)))
    assert value(losses.Loss("own"), ops.ones((1, 4, 4, 1)), 3 * ops.ones((1, 4, 4, 1))) == 4


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("lncc", {"size": "big"}, "size: expected a valid integer, .* received 'big'"),
        ("lncc", {"size": 4}, "size: expected an odd number, received 4"),
        ("gradient", {"spacing": (1.0, -2.0)}, "spacing: expected 2 or 3 numbers of mm above 0"),
        ("lncc", {"moved": 3}, "Unknown parameter of lncc 'moved'. .*Known: floor, size, window"),
        (losses.ssd, {}, "function: expected the name of a loss, received .* A function itself goes into compile"),
        ("label_ssd", {"scales": (99.0,)}, r"scales\[0\]: expected .* 16"),
    ],
)
def test_a_loss_of_a_value_out_of_range_is_refused_when_it_is_made(name, settings, message):
    with pytest.raises(InvalidError, match=message):
        losses.Loss(name, **settings)


@pytest.mark.parametrize("spacing", [2.0, (1.0,), (1.0, 0.0), (1.0, float("nan")), (1, 1, 1, 1), "ab"])
def test_an_objective_in_no_millimetres_is_refused(spacing):
    with pytest.raises(InvalidError, match=r"spacing: expected 2 or 3 numbers of mm above 0, received "):
        losses.weighted_terms({"image": {"ssd": {}}}, spacing)
