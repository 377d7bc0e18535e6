import json

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner
from worlds import AFFINES, affine, around, rotation

import regzoo
from regzoo import cli
from regzoo.errors import InvalidError
from regzoo.io.landmarks import read_points, write_points
from regzoo.points import surface
from regzoo.schema.result import PointResult
from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform

SHIFT = np.array([4.0, -3.0, 2.0])
CENTRE, RADII = np.array([2.0, -6.0, 12.0]), np.array([11.0, 8.0, 6.0])
AXES = rotation(0.3, 0.2, -0.4)
names = pytest.mark.parametrize("name", AFFINES)


def egg(name, shift=(0, 0, 0)):
    """A label map with an ellipsoid, labelled 3, on a grid of axes AFFINES[name]."""
    grid = around(Grid((18, 18, 18), affine(np.eye(3), CENTRE - 9)), name, margin=12)
    inside = (((grid.coordinates() - CENTRE - shift) @ AXES / RADII) ** 2).sum(-1) < 1
    return Image(3 * inside.astype(np.uint8), grid.affine)


def run(*arguments):
    result = CliRunner().invoke(cli.app, ["register-points", *map(str, arguments)], prog_name="regzoo")
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@names
def test_a_surface_lies_on_its_body_and_looks_outwards(name):
    points, normals = surface(egg(name), 500)
    local = (points - CENTRE) @ AXES
    assert np.abs(np.linalg.norm(local / RADII, axis=1) - 1).mean() < 0.12
    np.testing.assert_allclose(points.mean(axis=0), CENTRE, atol=0.6)
    truth = (local / RADII**2) @ AXES.T
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    assert np.median((normals * truth).sum(axis=1)) > 0.95
    np.testing.assert_allclose(points, surface(egg(name), 500)[0])


@names
@pytest.mark.parametrize("method", ["icp", "cpd-affine"])
def test_the_transform_maps_fixed_to_moving_space(tmp_path, name, method):
    egg("RAS").save(tmp_path / "fixed.nii.gz")
    egg(name, SHIFT).save(tmp_path / "moving.nii.gz")
    result = regzoo.register_points(tmp_path / "fixed.nii.gz", tmp_path / "moving.nii.gz", method, count=400)
    np.testing.assert_allclose(result.transform.apply_points(CENTRE[None])[0], CENTRE + SHIFT, atol=0.6)


@pytest.mark.parametrize("method", ["icp", "cpd-rigid", "cpd-deformable"])
def test_files(tmp_path, method):
    cloud = np.random.default_rng(0).normal(size=(60, 3)) * (30, 20, 10) + CENTRE
    write_points(tmp_path / "fixed.csv", cloud)
    write_points(tmp_path / "moving.csv", (cloud + SHIFT)[::-1])
    write_points(tmp_path / "landmarks.csv", cloud + SHIFT)
    landmarks = ("--fixed-points", tmp_path / "fixed.csv", "--moving-points", tmp_path / "landmarks.csv")
    output = tmp_path / "out"
    arguments = (tmp_path / "fixed.csv", tmp_path / "moving.csv", "--method", method, *landmarks, "-o", output)
    if method == "cpd-deformable":
        egg("LPS").save(tmp_path / "grid.nii.gz")
        arguments = (*arguments, "--reference", tmp_path / "grid.nii.gz")
    code, out, err = run(*arguments)
    assert code == 0, err
    assert float(out.split("(TRE) mm")[1].split()[1]) < 0.05
    facts = json.loads((output / "result.json").read_text())
    PointResult.model_validate(facts)
    assert facts["scores"]["before"]["tre"]["mean"] == pytest.approx(np.linalg.norm(SHIFT), abs=1e-3)
    np.testing.assert_allclose(read_points(output / "moved.csv"), cloud[::-1], atol=0.05)
    name = "transform.nii.gz" if method == "cpd-deformable" else "transform.tfm"
    assert {path.name for path in output.iterdir()} == {name, "moved.csv", "report.png", "result.json"}
    loaded = Transform.load(output / name)
    np.testing.assert_allclose(loaded.apply_points(CENTRE[None])[0], CENTRE + SHIFT, atol=0.05)
    if method == "cpd-deformable":
        assert loaded.grid.same_as(egg("LPS").grid)
    else:  # ITK reads the same map, in LPS
        mapped = sitk.ReadTransform(str(output / name)).TransformPoint((CENTRE * (-1, -1, 1)).tolist())
        np.testing.assert_allclose(np.array(mapped) * (-1, -1, 1), CENTRE + SHIFT, atol=0.05)


def box(count, seed):
    """Points on the faces of a cube of 40 mm, and their normals, of length 3."""
    random = np.random.default_rng(seed)
    points, side, normals = random.uniform(-20, 20, (count, 3)), random.integers(0, 3, count), np.zeros((count, 3))
    points[np.arange(count), side] = 20 * random.choice([-1, 1], count)
    normals[np.arange(count), side] = 3.0
    return points, normals


def test_normals_of_a_csv_are_used_and_those_of_a_surface_are_not(tmp_path):
    """Two other samples of one cube: planes find its place exactly, points only to their distance."""
    (fixed, _), (moving, normals) = box(3000, 1), box(3000, 2)
    truth = np.array([0.8, -0.5, 0.6])
    write_points(tmp_path / "fixed.csv", fixed - truth)
    write_points(tmp_path / "points.csv", moving)
    rows = [",".join(f"{value:.5f}" for value in row) for row in np.concatenate([moving, normals], axis=1)]
    (tmp_path / "planes.csv").write_text("\n".join(["x,y,z,nx,ny,nz", *rows]))
    errors = {}
    for name, distance in (("points", "to points"), ("planes", "to planes")):
        result = regzoo.register_points(tmp_path / "fixed.csv", tmp_path / f"{name}.csv", trim=0.2)
        assert result.facts["settings"]["distance"] == distance
        errors[name] = np.abs(result.transform.apply_points(fixed - truth) - fixed).max()
    assert errors["planes"] < 0.05
    assert errors["planes"] < errors["points"] / 2
    egg("RAS").save(tmp_path / "egg.nii.gz")
    result = regzoo.register_points(tmp_path / "egg.nii.gz", tmp_path / "egg.nii.gz", count=100)
    assert result.facts["settings"]["distance"] == "to points"


def test_defaults_go_with_the_size_of_the_points():
    """The same bend of a cloud ten times as large is found ten times as large."""
    cloud = np.random.default_rng(0).normal(size=(80, 3)) * (30, 20, 10)
    bent = cloud + np.stack([4 * np.sin(cloud[:, 1] / 20), 0 * cloud[:, 0], cloud[:, 0] / 20], axis=-1)
    small, large = (regzoo.register_points(s * cloud, s * bent[::-1].copy(), "cpd-deformable") for s in (1, 10))
    width = 2 * np.sqrt(((cloud - cloud.mean(axis=0)) ** 2).mean())
    assert small.facts["settings"]["beta"] == pytest.approx(width, abs=1e-3)
    assert large.facts["settings"]["beta"] == pytest.approx(10 * width, abs=1e-3)
    moved = [result.transform.apply_points(s * cloud) / s for s, result in ((1, small), (10, large))]
    np.testing.assert_allclose(moved[0], moved[1], atol=1e-3)
    assert np.linalg.norm(moved[0] - bent, axis=1).mean() < 0.2 * np.linalg.norm(cloud - bent, axis=1).mean()


def test_refuses(tmp_path):
    cloud = np.random.default_rng(0).normal(size=(9, 3))
    two = egg("RAS")
    two.array[0, 0, 0] = 5
    two.save(tmp_path / "two.nii.gz")
    for call, message in (
        (lambda: regzoo.register_points(cloud, cloud, "icq"), "Unknown method 'icq'. Did you mean 'icp'"),
        (lambda: regzoo.register_points(cloud, cloud, beta=3.0), "beta: expected a setting of icp, which has trim"),
        (lambda: regzoo.register_points(cloud, cloud, reference="x.nii"), "reference: expected none"),
        (lambda: regzoo.register_points(cloud, cloud, fixed_points="x.csv"), "landmarks: expected fixed_points and"),
        (lambda: regzoo.register_points(tmp_path / "two.nii.gz", cloud), r"It has \[3, 5\]; choose one"),
        (lambda: regzoo.register_points(tmp_path / "two.nii.gz", cloud, label=4), r"labels, \[3, 5\], received 4"),
    ):
        with pytest.raises(InvalidError, match=message):
            call()
