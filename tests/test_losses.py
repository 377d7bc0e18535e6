import functools

import numpy as np
import pytest
from keras import ops
from tensors import array, check_gradient, grid, run, tensor

from regzoo import backend, losses
from regzoo.checks import InvalidError

pytestmark = pytest.mark.backend

RANDOM = np.random.default_rng(11)
SHAPES = [(2, 9, 7, 3), (2, 6, 9, 7, 2)]
WEIGHTS = {"box": [1, 1, 1], "triangular": [1, 2, 1], "gaussian": [np.exp(-2), 1, np.exp(-2)]}  # windows of 3 voxels


def pair(shape):
    """Returns two images that resemble each other in part."""
    fixed = RANDOM.normal(size=shape)
    return fixed, 0.6 * fixed + 0.8 * RANDOM.normal(size=shape)


def value(loss, *arguments, **settings):
    return array(run(loss, *(tensor(argument) for argument in arguments), **settings))


def lncc_by_hand(fixed, moved, weights, floor):
    """Goes window by window, with variances about the window's own mean."""
    half, out = len(weights) // 2, []
    for f, m in zip(fixed, moved, strict=True):
        floors, terms = (floor * f.var(), floor * m.var()), []
        for place in np.ndindex(*f.shape[:-1]):
            window = tuple(slice(max(0, p - half), p + half + 1) for p in place)
            near = np.moveaxis(np.indices(f.shape[:-1]), 0, -1)[window] - place + half
            w = np.array(weights)[near].prod(-1)[..., None]
            w = w / w.sum()
            axes = tuple(range(len(place)))
            a, b = f[window], m[window]
            a, b = a - (w * a).sum(axes), b - (w * b).sum(axes)
            for cov, va, vb in zip((w * a * b).sum(axes), (w * a * a).sum(axes), (w * b * b).sum(axes), strict=True):
                if va > floors[0] or vb > floors[1]:
                    terms.append(1 - cov**2 / (max(va, floors[0]) * max(vb, floors[1])))
        out.append(np.mean(terms) if terms else 1)
    return np.array(out)


@pytest.mark.parametrize("shape", SHAPES)
def test_ssd_and_ncc_against_numpy(shape):
    fixed, moved = pair(shape)
    expected = [((f - m) ** 2).mean() for f, m in zip(fixed, moved, strict=True)]
    np.testing.assert_allclose(value(losses.ssd, fixed, moved), expected, rtol=1e-5)
    expected = [1 - np.corrcoef(f.ravel(), m.ravel())[0, 1] ** 2 for f, m in zip(fixed, moved, strict=True)]
    np.testing.assert_allclose(value(losses.ncc, fixed, moved), expected, rtol=1e-5)


@pytest.mark.parametrize("window", WEIGHTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_lncc_against_numpy(shape, window):
    fixed, moved = pair(shape)
    fixed[1, :4], moved[1, :5] = 0.3, -2.0  # flat in both, then flat in one
    expected = lncc_by_hand(fixed, moved, WEIGHTS[window], floor=1e-4)
    np.testing.assert_allclose(value(losses.lncc, fixed, moved, size=3, window=window), expected, rtol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_dice_against_numpy(shape):
    fixed, moved = RANDOM.random((2, *shape))
    expected = [
        np.mean([1 - 2 * np.vdot(f[..., c], m[..., c]) / (f[..., c].sum() + m[..., c].sum()) for c in range(shape[-1])])
        for f, m in zip(fixed, moved, strict=True)
    ]
    np.testing.assert_allclose(value(losses.dice, fixed, moved), expected, rtol=1e-5)


@pytest.mark.parametrize("spacing", [None, (2.0, 0.5, 3.0)])
@pytest.mark.parametrize("shape", [(2, 6, 5), (2, 5, 4, 6)])
def test_deformation_losses_against_numpy(shape, spacing):
    dims = len(shape) - 1
    spacing = spacing and spacing[:dims]
    mm = np.array(spacing or [1.0] * dims)
    ddf = RANDOM.normal(size=(*shape, dims))
    squares, absolutes, energy = np.zeros(2), np.zeros(2), np.zeros(2)
    for item in range(2):
        for d in range(dims):
            first = np.gradient(ddf[item, ..., d] * mm[d], *mm)
            squares[item] += sum((part**2).mean() for part in first) / dims**2
            absolutes[item] += sum(np.abs(part).mean() for part in first) / dims**2
            energy[item] += sum((part**2).mean() for g in first for part in np.gradient(g, *mm)) / dims
    np.testing.assert_allclose(value(losses.gradient, ddf, spacing=spacing), squares, rtol=1e-5)
    np.testing.assert_allclose(value(losses.gradient, ddf, spacing=spacing, norm="l1"), absolutes, rtol=1e-5)
    np.testing.assert_allclose(value(losses.bending, ddf, spacing=spacing), energy, rtol=1e-5)


@pytest.mark.parametrize("loss", losses.IMAGE.values())
@pytest.mark.parametrize("shape", SHAPES)
def test_image_losses_are_0_at_a_match_and_within_their_range(loss, shape):
    fixed, moved = pair(shape)
    np.testing.assert_allclose(value(loss, fixed, fixed), 0, atol=1e-5)
    np.testing.assert_allclose(value(loss, fixed, moved), value(loss, moved, fixed), rtol=1e-4)
    unlike = value(loss, fixed, moved)
    assert unlike.shape == (2,)
    assert (unlike > 0.1).all()
    if loss is not losses.ssd:
        assert (unlike <= 1).all()


@pytest.mark.parametrize("loss", [losses.ncc, losses.lncc])
@pytest.mark.parametrize(("scale", "shift"), [(-1, 0), (3, -7), (-0.01, 5), (1e-6, 0), (1000, 30000), (-400, 1e5)])
def test_correlations_ignore_contrast_and_offset(loss, scale, shift):
    fixed, moved = pair((2, 8, 9, 1))
    expected = value(loss, fixed, moved)
    np.testing.assert_allclose(value(loss, fixed, scale * moved + shift), expected, atol=2e-3)
    np.testing.assert_allclose(value(loss, scale * fixed + shift, moved), expected, atol=2e-3)
    np.testing.assert_allclose(value(loss, fixed, scale * fixed + shift), 0, atol=1e-3)


def test_shared_background_is_no_match():
    random = np.random.default_rng(0)
    fixed, moved = np.zeros((2, 1, 24, 24, 1))
    fixed[0, 8:14, 8:14, 0], moved[0, 8:14, 8:14, 0] = random.normal(size=(2, 6, 6))
    assert value(losses.lncc, fixed, moved, size=5)[0] > 0.6
    moved[:] = 0
    moved[0, 16:22, 16:22, 0] = random.normal(size=(6, 6))
    assert value(losses.lncc, fixed, moved, size=3)[0] > 0.95


@pytest.mark.parametrize("loss", [losses.ncc, losses.lncc])
@pytest.mark.parametrize("level", [0.0, 0.7, 1e-8, 10000.3, -123456.7])
def test_a_constant_image_is_no_match(loss, level):
    constant, image = np.full((1, 7, 8, 9, 1), level), RANDOM.normal(size=(1, 7, 8, 9, 1))
    for pair_of_images in ((constant, constant), (image, constant), (constant, image)):
        total = functools.partial(run, total_loss, loss=loss)
        result, gradient = backend.value_and_grad(total)(tensor(pair_of_images))
        assert array(result) == pytest.approx(1, abs=1e-3)
        assert np.isfinite(array(gradient)).all()


def total_loss(images, loss):
    return ops.sum(loss(images[0], images[1]))


def label_maps():
    """Four voxels by two, three labels: half overlap, none in both, only in one."""
    fixed, moved = np.zeros((2, 2, 4, 2, 3))
    fixed[0, :2, :, 0] = moved[0, 1:3, :, 0] = 1
    fixed[0, 0, 0, 2] = 1
    return fixed, moved


def test_dice_against_hand_counts():
    fixed, moved = label_maps()
    # Item 0: label 0 overlaps in 2 of 4 + 4 voxels, label 1 is nowhere and left out, label 2 is in one map only.
    np.testing.assert_allclose(value(losses.dice, fixed, moved), [((1 - 4 / 8) + 1) / 2, 0])
    np.testing.assert_allclose(value(losses.dice, fixed, fixed), [0, 0], atol=1e-6)
    np.testing.assert_allclose(array(losses.dice(fixed.astype("uint8"), tensor(moved)))[0], 0.75)


@pytest.mark.parametrize("loss", losses.DEFORMATION.values())
@pytest.mark.parametrize("dims", [2, 3])
def test_deformation_losses_ignore_translations_and_bending_any_affine_field(loss, dims):
    shape = (6, 5, 7)[:dims]
    shift = np.broadcast_to(RANDOM.normal(size=dims), (1, *shape, dims))
    np.testing.assert_allclose(value(loss, shift), 0, atol=1e-10)
    affine = (grid(shape) @ RANDOM.normal(size=(dims, dims)))[None]
    affine_value = value(loss, affine, spacing=(2.0, 0.5, 1.0)[:dims])
    assert affine_value < 1e-8 if loss is losses.bending else affine_value > 0.1


@pytest.mark.parametrize("dims", [2, 3])
def test_deformation_losses_of_polynomials(dims):
    shape, spacing = (7, 5, 6)[:dims], (2.0, 0.5, 3.0)[:dims]
    mm = np.array(spacing)
    slope = RANDOM.normal(size=(dims, dims))  # mm per mm: component, axis
    place = grid(shape) * mm
    ddf = (place @ slope.T / mm)[None]
    np.testing.assert_allclose(value(losses.gradient, ddf, spacing=spacing), (slope**2).mean(), rtol=1e-4)
    np.testing.assert_allclose(value(losses.gradient, ddf, spacing=spacing, norm="l1"), np.abs(slope).mean(), rtol=1e-4)
    # u_0 = 0.3 x y: only the mixed derivative, 0.3, and it counts twice.
    ddf = np.zeros((1, *shape, dims))
    ddf[0, ..., 0] = 0.3 * place[..., 0] * place[..., 1] / mm[0]
    np.testing.assert_allclose(value(losses.bending, ddf, spacing=spacing), 2 * 0.3**2 / dims, rtol=1e-4)
    # u_1 = 0.3 x^2 on a long axis, where the one-sided ends matter little: the pure derivative, 0.6, counts once.
    long = (101, *shape[1:])
    ddf = np.zeros((1, *long, dims))
    ddf[0, ..., 1] = 0.3 * (grid(long)[..., 0] * mm[0]) ** 2 / mm[1]
    np.testing.assert_allclose(value(losses.bending, ddf, spacing=spacing), 0.6**2 / dims, rtol=0.05)


@pytest.mark.parametrize(("loss", "norm"), [("gradient", "l2"), ("gradient", "l1"), ("bending", None)])
def test_deformation_losses_do_not_depend_on_the_grid(loss, norm):
    def on_grid(spacing):
        place = grid(np.round(np.array([40.0, 30.0]) / spacing).astype(int)) * spacing + np.array(spacing) / 2
        x, y = place[..., 0] / 8, place[..., 1] / 6
        mm = np.stack([np.sin(x + 0.5 * y), 2 * np.cos(x) * np.sin(y)], axis=-1)
        return value(losses.DEFORMATION[loss], mm[None] / spacing, spacing=spacing, **({"norm": norm} if norm else {}))

    np.testing.assert_allclose(on_grid((1.0, 0.5)), on_grid((0.5, 1.0)), rtol=0.08)
    np.testing.assert_allclose(on_grid((0.4, 0.3)), on_grid((0.8, 0.3)), rtol=0.05)


@pytest.mark.parametrize("name", ["ssd", "ncc", "lncc", "dice"])
def test_gradients_of_pair_losses_equal_finite_differences(name):
    shape = (2, 6, 5, 2)
    fixed, moved = RANDOM.random((2, *shape)) + 0.1
    weights = tensor([1.0, -2.0])
    settings = {"size": 5} if name == "lncc" else {}
    loss = {**losses.IMAGE, **losses.LABEL}[name]
    check_gradient(lambda m: ops.sum(weights * loss(tensor(fixed), m, **settings)), moved)
    check_gradient(lambda f: ops.sum(weights * loss(f, tensor(moved), **settings)), fixed)


@pytest.mark.parametrize("settings", [{"norm": "l2"}, {"norm": "l1"}, {}], ids=["l2", "l1", "bending"])
def test_gradients_of_deformation_losses_equal_finite_differences(settings):
    ddf = RANDOM.permutation(4 * 3 * 5 * 3).reshape(1, 4, 3, 5, 3) / 20  # no difference is near the kink of l1
    loss = losses.gradient if settings else losses.bending
    check_gradient(lambda u: ops.sum(loss(u, spacing=(1.0, 2.0, 0.5), **settings)), ddf, step=5e-3)


def test_weighted_terms_leave_out_exactly_the_terms_of_weight_0():
    objective = {
        "image": {"lncc": {"weight": 0.5, "size": 3}, "ssd": {"weight": 0}},
        "label": {"dice": {}},
        "deformation": {"gradient": {"weight": 0.0}, "bending": {"weight": 2}},
    }
    rows = losses.weighted_terms(objective, (2.0, 0.5))
    names = [(kind, name, weight) for kind, name, _, weight in rows]
    assert names == [("image", "lncc", 0.5), ("label", "dice", 1.0), ("deformation", "bending", 2.0)]
    fixed, moved = pair((1, 6, 7, 1))
    np.testing.assert_array_equal(value(rows[0][2], fixed, moved), value(losses.lncc, fixed, moved, size=3))
    ddf = RANDOM.normal(size=(1, 6, 7, 2))
    np.testing.assert_array_equal(value(rows[2][2], ddf), value(losses.bending, ddf, spacing=(2.0, 0.5)))
    assert objective["image"]["ssd"] == {"weight": 0}  # the caller's record is untouched


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        ({"images": {}}, r"Unknown kind of loss 'images'\. Did you mean 'image'\?"),
        ({"image": {"lnnc": {}}}, r"Unknown image loss 'lnnc'\. Did you mean 'lncc'\?"),
        ({"image": {"dice": {}}}, r"Unknown image loss 'dice'\. Known: lncc, ncc, ssd\."),
        (
            {"label": {"dice": {"weight": -1}}},
            r"label\.dice\.weight: expected a number of at least 0, received -1\.0\.",
        ),
        ({"image": {"ssd": {"weight": 0}}}, r"objective: expected at least one loss with a weight above 0"),
        ({}, r"objective: expected at least one loss with a weight above 0, received none\."),
        ({"image": {"ssd": {"weight": float("nan")}}}, r"image\.ssd\.weight: expected a number of at least 0"),
    ],
)
def test_objectives_that_mean_nothing_are_refused(objective, message):
    with pytest.raises(InvalidError, match=message):
        losses.weighted_terms(objective, (1.0, 1.0))


def test_other_settings_that_mean_nothing_are_refused():
    ddf = tensor(np.zeros((1, 4, 5, 2)))
    with pytest.raises(InvalidError, match=r"spacing: expected 2 values in millimetres, received \[1\.0, 1\.0, 1\.0\]"):
        losses.bending(ddf, spacing=(1.0, 1.0, 1.0))
    with pytest.raises(InvalidError, match=r"norm: expected 'l1' or 'l2', received L2\."):
        losses.gradient(ddf, norm="L2")
