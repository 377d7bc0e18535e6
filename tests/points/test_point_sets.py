import numpy as np
import pytest
from worlds import rotation

from regzoo.errors import InvalidError
from regzoo.points import coherent_drift, cpd, fit_matrix, icp

RANDOM = np.random.default_rng(3)
CLOUD = RANDOM.normal(size=(300, 3)) * (40, 25, 15) + (100, -50, 30)


def matrix(linear, shift=(3.0, -2.0, 1.5)):
    """A map about the cloud's centre and a shift."""
    found = np.eye(4)
    centre = CLOUD.mean(axis=0)
    found[:3, :3], found[:3, 3] = linear, centre + shift - linear @ centre
    return found


TRUTH = {
    "rigid": matrix(rotation(0.1, -0.15, 0.2)),
    "similarity": matrix(1.1 * rotation(0.1, -0.15, 0.2)),
    "affine": matrix(np.array([[1.1, 0.1, 0], [-0.05, 0.9, 0.1], [0, 0.05, 1.0]])),
}


def apply(found, points):
    return points @ found[:3, :3].T + found[:3, 3]


def shuffled(points):
    return points[np.random.default_rng(0).permutation(len(points))]


@pytest.mark.parametrize("constraint", TRUTH)
def test_fit_matrix_is_exact_and_weighted(constraint):
    moving = apply(TRUTH[constraint], CLOUD)
    np.testing.assert_allclose(fit_matrix(CLOUD, moving, constraint), TRUTH[constraint], atol=1e-8)
    moving[:100] += 50
    weights = np.r_[np.zeros(100), np.ones(200)]
    np.testing.assert_allclose(fit_matrix(CLOUD, moving, constraint, weights), TRUTH[constraint], atol=1e-8)


def test_a_mirrored_cloud_is_never_mirrored_by_a_rigid_matrix():
    found = fit_matrix(CLOUD, CLOUD * (-1, 1, 1), "rigid")
    assert np.linalg.det(found[:3, :3]) == pytest.approx(1)


@pytest.mark.parametrize("method", [icp, cpd])
@pytest.mark.parametrize("constraint", TRUTH)
def test_fixed_points_are_mapped_to_moving_space(method, constraint):
    moving = apply(TRUTH[constraint], CLOUD)
    found = method(CLOUD, shuffled(moving), constraint)
    np.testing.assert_allclose(found.transform.apply_points(CLOUD), moving, atol=0.05)
    assert found.fitness > 0.8


def test_icp_leaves_far_and_worst_matches_out():
    moving = apply(TRUTH["rigid"], CLOUD)
    clutter = shuffled(np.concatenate([moving[:270], moving[:30] + RANDOM.uniform(-60, 60, (30, 3))]))
    errors = []
    for settings in ({}, {"trim": 0.15}, {"max_distance": 5.0, "start": TRUTH["rigid"] + 0}):
        found = icp(CLOUD, clutter, **settings)
        errors.append(np.abs(found.transform.apply_points(CLOUD) - moving).max())
    assert errors[0] > 0.1
    assert errors[1] < 1e-3
    assert errors[2] < 0.3


def test_icp_slides_along_planes():
    """On a plane sampled at other places, point to plane finds the height exactly where point to point cannot."""
    count = 6000
    box = RANDOM.uniform(-20, 20, (count, 3))
    side, normals = RANDOM.integers(0, 3, count), np.zeros((count, 3))
    box[np.arange(count), side] = 20 * RANDOM.choice([-1, 1], count)
    normals[np.arange(count), side] = 3.0
    truth = np.eye(4)
    truth[:3, :3], truth[:3, 3] = rotation(0.02, -0.03, 0.04), (0.8, -0.5, 0.6)
    fixed = (box[: count // 2] - truth[:3, 3]) @ truth[:3, :3]
    start = np.eye(4)
    planes = icp(fixed, box[count // 2 :], normals=normals[count // 2 :], start=start, trim=0.2).transform.apply_points(
        fixed
    )
    points = icp(fixed, box[count // 2 :], start=start, trim=0.2).transform.apply_points(fixed)
    error = [np.abs(found - box[: count // 2]).max() for found in (planes, points)]
    assert error[0] < 0.05
    assert error[0] < error[1] / 3


def bend(points):
    x, y, z = ((points - CLOUD.mean(axis=0)) / 40).T
    return points + 5 * np.stack([np.sin(y), 0.5 * np.cos(z + x), np.sin(x - z)], axis=-1)


@pytest.mark.parametrize("low_rank", [False, True])
def test_cpd_finds_a_smooth_deformation_with_outliers(monkeypatch, low_rank):
    if low_rank:
        monkeypatch.setattr("regzoo.points.coherent_drift.MOST_EXACT", 100)
    moving = shuffled(np.concatenate([bend(CLOUD), RANDOM.uniform(-100, 100, (30, 3)) + CLOUD.mean(axis=0)]))
    found = cpd(CLOUD, moving, "deformable", beta=25, lam=2)
    before = np.linalg.norm(bend(CLOUD) - CLOUD, axis=1).mean()
    after = np.linalg.norm(found.transform.apply_points(CLOUD) - bend(CLOUD), axis=1).mean()
    assert after < 0.15 * before
    # In between, the motion is that of the points around.
    between = CLOUD[:100] + 1.0
    assert np.linalg.norm(found.transform.apply_points(between) - bend(between), axis=1).mean() < 0.25 * before
    assert 0.85 < found.fitness <= 1


def test_low_rank_agrees_with_the_whole_kernel(monkeypatch):
    moving = shuffled(bend(CLOUD))
    exact = cpd(CLOUD, moving, "deformable", beta=25, iterations=20).transform.apply_points(CLOUD)
    monkeypatch.setattr("regzoo.points.coherent_drift.MOST_EXACT", 100)
    low = cpd(CLOUD, moving, "deformable", beta=25, iterations=20).transform.apply_points(CLOUD)
    assert 0 < np.abs(exact - low).max() < 0.05


@pytest.mark.slow
def test_low_rank_agrees_on_a_surface_of_more_points_than_the_kernel_is_kept_for(monkeypatch):
    """5,050 points of a bent ellipsoid's surface, registered on the path that is taken, and on the exact one."""
    shell = RANDOM.normal(size=(5050, 3))
    shell = shell / np.linalg.norm(shell, axis=1, keepdims=True) * (40, 25, 15) + CLOUD.mean(axis=0)
    moving = shuffled(bend(shell))[:800]
    low = cpd(shell, moving, "deformable", iterations=2)
    monkeypatch.setattr("regzoo.points.coherent_drift.MOST_EXACT", 10**6)
    exact = cpd(shell, moving, "deformable", iterations=2)
    gap = np.abs(low.transform.apply_points(shell) - exact.transform.apply_points(shell)).max()
    assert 0 < gap < 0.02
    assert np.linalg.norm(exact.transform.apply_points(shell) - shell, axis=1).mean() > 0.5


def test_the_field_of_a_deformation_is_what_the_kernel_says_at_the_points(monkeypatch):
    """A field that is kept on too coarse a grid loses what was found."""
    kept = []
    monkeypatch.setattr(
        coherent_drift,
        "_Deformable",
        lambda *given, made=coherent_drift._Deformable: kept.append(made(*given)) or kept[0],
    )
    moving = bend(CLOUD)
    found = cpd(CLOUD, moving, "deformable", beta=20).transform.apply_points(CLOUD)
    exact = kept[0].points + kept[0].kernel @ kept[0].weights
    exact = exact * coherent_drift.size_of(moving) + moving.mean(axis=0)
    motion = np.linalg.norm(exact - CLOUD, axis=1).mean()
    assert np.linalg.norm(found - exact, axis=1).mean() < 0.0016 * motion


@pytest.mark.parametrize("constraint", ["similarity", "affine"])  # its variance is that of a similarity where rigid
def test_cpd_is_what_pycpd_gives(constraint):
    pycpd = pytest.importorskip("pycpd", reason="pycpd is a comparison only")
    moving = apply(TRUTH[constraint], CLOUD)[:280] + RANDOM.normal(size=(280, 3))
    centres, scale = (CLOUD.mean(axis=0), moving.mean(axis=0)), moving.std(axis=0)
    scale = np.sqrt((scale**2).mean())  # pycpd takes points as they are, and its share of outliers hangs on their unit
    kind = {"similarity": pycpd.RigidRegistration, "affine": pycpd.AffineRegistration}[constraint]
    a, b = (CLOUD - centres[0]) / scale, (moving - centres[1]) / scale
    expected, _ = kind(X=b, Y=a, w=0.1, max_iterations=300, tolerance=1e-9).register()
    found = cpd(CLOUD, moving, constraint, outliers=0.1, iterations=300, tolerance=1e-9).transform.apply_points(CLOUD)
    np.testing.assert_allclose(found, expected * scale + centres[1], atol=0.05)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: icp(CLOUD[:3], CLOUD), "fixed: expected at least 4 points"),
        (lambda: icp(CLOUD, CLOUD * np.nan), "moving: expected finite coordinates"),
        (lambda: icp(CLOUD, CLOUD, "ridgid"), r"Unknown constraint 'ridgid'\. Did you mean 'rigid'"),
        (lambda: icp(CLOUD, CLOUD + 500, start=np.eye(4), max_distance=1), "matches: expected at least 3, received 0"),
        (lambda: icp(CLOUD, CLOUD, trim=1.0), "trim: expected a share"),
        (lambda: icp(CLOUD, CLOUD, normals=CLOUD[:5]), r"normals: expected shape \(300, 3\)"),
        (lambda: icp(CLOUD, CLOUD, normals=CLOUD * 0), "normals: expected finite directions, received 300"),
        (lambda: icp(CLOUD, CLOUD, iterations=0), "iterations: expected a number above 0"),
        (lambda: icp(CLOUD, CLOUD, start=np.eye(3)), "start: expected a finite"),
        (lambda: icp(CLOUD * (1, 0, 0), CLOUD), "fixed: expected points spread in 2 .*, received points on one line"),
        (lambda: cpd(CLOUD, CLOUD * 0 + 7, "deformable"), "moving: .* received one place only"),
        (lambda: cpd(CLOUD, CLOUD * (1, 1, 0), "affine"), "moving: .* received points on one plane"),
        (lambda: icp(CLOUD, CLOUD + 9000, "similarity", start=np.eye(4)), "matches: .* received one place only"),
        (lambda: cpd(CLOUD, CLOUD, "deformable", beta=0.01), "beta: expected a width in mm that suits"),
        (lambda: cpd(CLOUD, CLOUD, outliers=-0.1), "outliers: expected a share"),
        (lambda: cpd(CLOUD, CLOUD, "deformable", beta=0), "beta: expected a number above 0"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(InvalidError, match=message):
        call()
