"""register with models of every output: known maps in every orientation, slices, and labels without a transform."""

import numpy as np
import pytest
from keras import ops
from worlds import AFFINES, affine, around, blobs, ramp, rotation

import regzoo
from regzoo.errors import InvalidError
from regzoo.models import build
from regzoo.models.outputs.conditional import ConditionalModel
from regzoo.schema.card import REQUIRED, Card
from regzoo.schema.inputs import InputConfig
from regzoo.schema.networks import ModelConfig
from regzoo.schema.result import ImageResult
from regzoo.world.images import Grid, Image

pytestmark = pytest.mark.backend

UNET = {"name": "unet", "channels": [2, 2], "convolutions": 1}
GLOBAL = {"name": "global", "channels": [2, 2]}
FLOW = np.array([3.0, -4.0, 2.5])  # mm
TURN = np.array([0.1, -0.05, 0.08])  # a vector along the axis, its length the tangent of half the angle


def constant(config, biases, spacing, shape, alignment="world"):
    """A model whose weights are 0 but for the biases: the same prediction for any pair."""
    config = ModelConfig.model_validate({"dims": len(shape)} | config)
    model = build(config, spacing)
    for variable in model.variables:
        variable.assign(np.zeros(variable.shape, "float32"))
        for name, value in biases.items():
            if variable.path.endswith(f"{name}/bias"):
                variable.assign(np.asarray(value, "float32"))
    inputs = InputConfig(spacing=spacing, shape=shape, alignment=alignment)
    files = [{"path": name, "sha256": "0" * 64, "bytes": 0} for name in REQUIRED]
    model.card = Card(name="constant", version="1", input=inputs, files=files)
    return model


def turn(vector):
    """The rotation by Rodrigues' formula."""
    length = np.linalg.norm(vector)
    axis, angle = vector / length, 2 * np.arctan(length)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


@pytest.mark.parametrize("name", ["LAS", "permuted", "oblique"])
def test_a_rigid_model_turns_about_the_centre_of_its_grid_in_ras_mm(name):
    fixed = Grid((20, 22, 14), AFFINES[name])
    spacing, shape = (2.0, 2.5, 3.0), (16, 12, 12)
    half = np.array(spacing) * shape / 2
    output = {"name": "affine", "constraint": "rigid"}
    model = constant({"backbone": GLOBAL, "output": output}, {"parameters": [*FLOW / half, *TURN]}, spacing, shape)
    result = regzoo.register(ramp(fixed), ramp(around(fixed, "LPS")), model)
    centre = fixed.centre + np.array(spacing) / 2  # between the two middle voxels of an even size
    points = fixed.coordinates()[::5, ::6, ::4].reshape(-1, 3)
    expected = (points - centre) @ turn(TURN).T + centre + FLOW
    np.testing.assert_allclose(result.transform.apply_points(points), expected, atol=1e-3)
    assert result.transform.matrix is not None


@pytest.mark.parametrize("name", ["RAS", "oblique"])
def test_in_a_chain_the_dense_field_comes_before_the_matrix(name):
    fixed = Grid((20, 22, 14), AFFINES[name])
    spacing, shape = (2.0, 2.5, 3.0), (16, 12, 12)
    parameters = [0, 0, 0, *np.array([[0, 0.2, 0], [0.1, 0, 0], [0, 0, -0.1]]).ravel()]
    before = [{"backbone": GLOBAL, "output": {"name": "affine"}}]
    config = {"before": before, "backbone": UNET, "output": {"name": "ddf"}}
    model = constant(config, {"parameters": parameters, "field": FLOW / spacing}, spacing, shape)
    found = regzoo.register(ramp(fixed), ramp(around(fixed, "LAS")), model).transform
    centre = fixed.centre + np.array(spacing) / 2
    points = fixed.coordinates()[::5, ::6, ::4].reshape(-1, 3)
    linear = np.eye(3) + np.reshape(parameters[3:], (3, 3))
    np.testing.assert_allclose(found.apply_points(points), (points + FLOW - centre) @ linear.T + centre, atol=1e-3)
    far = fixed.centre + np.array([[500.0, 0, 0]])  # beyond the fixed image the linear part alone goes on
    np.testing.assert_allclose(found.apply_points(far), (far - centre) @ linear.T + centre, atol=1e-3)


SLICES = {
    "slice": Grid((20, 24, 1), affine(rotation(0.3, -0.2, 0.5) * (1.5, 1.25, 8.0), (-10, -22, 2))),
    "stack": Grid((20, 24, 5), affine(rotation(0.1, 0.4, -0.3) * (1.5, -1.25, 8.0), (30, -22, 2))),
}


@pytest.mark.parametrize("alignment", ["world", "center"])
@pytest.mark.parametrize("name", SLICES)
def test_a_2d_model_moves_every_slice_in_its_plane(name, alignment):
    grid, away = SLICES[name], np.array([200.0, 100, -50]) * (alignment == "center")
    model = constant({"backbone": UNET, "output": {"name": "ddf"}}, {"field": [1.5, -2.0]}, (2.0, 3.0), (16, 12))
    directions = grid.affine[:3, :3] / grid.spacing * (1, -1 if name == "stack" else 1, 1)  # R and A, nearly
    way = directions[:, 0] * 3.0 - directions[:, 1] * 6.0
    moving = ramp(grid)
    there = grid.affine.copy()
    there[:3, 3] += away
    result = regzoo.register(ramp(grid), Image(moving.array, there), model, start=alignment)
    points = grid.coordinates()[::4, ::5].reshape(-1, 3)
    np.testing.assert_allclose(result.transform.apply_points(points), points + away + way, atol=1e-3)
    inner = (slice(6, -6), slice(6, -6))
    expected = ramp(Grid(grid.shape, affine(grid.affine[:3, :3], grid.affine[:3, 3] + way))).array
    np.testing.assert_allclose(result.moved.array[inner], expected[inner], atol=2e-3)
    assert result.facts["jacobian"]["folds"] == 0


@pytest.mark.parametrize("stored", [np.diag([-1, 1, 1]), np.diag([1, -1, -1]), np.eye(3)[[1, 0, 2]]], ids=str)
def test_slices_stored_the_other_way_round_are_the_same_slices(stored):
    """One stack of closed form, whose file keeps other axes first or backwards, against itself, centre on centre."""
    grid = SLICES["stack"]
    model = constant({"backbone": UNET, "output": {"name": "ddf"}}, {"field": [1.5, 0]}, (2.0, 3.0), (16, 12), "center")
    shape = tuple(int(n) for n in np.abs(stored) @ grid.shape)
    corner = np.where(stored.sum(0) < 0, np.array(grid.shape) - 1, 0)
    other = Grid(shape, grid.affine @ affine(stored.T, corner))
    np.testing.assert_allclose(np.sort(other.box(), axis=0), np.sort(grid.box(), axis=0), atol=1e-9)
    result = regzoo.register(ramp(grid), ramp(other), model)
    points = grid.coordinates()[::4, ::5].reshape(-1, 3)
    way = 3.0 * grid.affine[:3, 0] / grid.spacing[0] + other.centre - grid.centre  # less than a voxel, of even sizes
    np.testing.assert_allclose(result.transform.apply_points(points), points + way, atol=1e-3)
    assert np.abs(other.centre - grid.centre).max() < 1.6
    assert result.facts["jacobian"]["min"] > 0


def test_slices_of_other_directions_are_refused():
    model = constant({"backbone": UNET, "output": {"name": "ddf"}}, {}, (2.0, 3.0), (16, 12), "center")
    grid = SLICES["stack"]
    other = Grid(grid.shape, affine(rotation(1.5, 0, 0) @ grid.affine[:3, :3], grid.affine[:3, 3]))
    with pytest.raises(InvalidError, match="moving: slices: expected the fixed image's direction, within 45 degrees"):
        regzoo.register(ramp(grid), ramp(other), model)


def test_refinement_does_not_go_across_the_slices_of_a_2d_model():
    model = constant({"backbone": UNET, "output": {"name": "ddf"}}, {}, (2.0, 3.0), (16, 12), "center")
    with pytest.raises(InvalidError, match="refine: a 2-D model registers slice by slice"):
        regzoo.register(ramp(SLICES["stack"]), ramp(SLICES["stack"]), model, refine=2)


def test_a_2d_picture_has_one_plane(tmp_path):
    model = constant({"backbone": UNET, "output": {"name": "ddf"}}, {"field": [1, 0]}, (2.0, 3.0), (16, 12))
    regzoo.register(ramp(SLICES["slice"]), ramp(SLICES["slice"]), model).save(tmp_path / "out")
    assert (tmp_path / "out" / "report.png").stat().st_size > 5000


def test_slices_that_differ_in_number_are_refused_centre_on_centre():
    model = constant({"backbone": UNET, "output": {"name": "ddf"}}, {}, (2.0, 3.0), (16, 12), "center")
    other = Grid((20, 24, 4), SLICES["stack"].affine)
    with pytest.raises(InvalidError, match=r"moving: slices: expected 5, .* received 4"):
        regzoo.register(ramp(SLICES["stack"]), ramp(other), model)


class Copy(ConditionalModel):
    """Predicts the moving labels where they lie on the network's grid."""

    def call(self, inputs, training=None):
        return {"labels": 0.8 * ops.cast(inputs["moving_labels"], "float32")}


@pytest.fixture
def copying():
    model = constant({"backbone": UNET, "output": {"name": "conditional"}}, {}, (1.5, 1.5, 1.5), (20, 22, 16), "center")
    model.__class__ = Copy
    return model


def labelled(name="LAS", away=(15, 0, 0)):
    """A pair of equal images at different places, with label 3 in both and label 9 in the moving one alone."""
    grid = Grid((20, 22, 14), AFFINES[name])
    there = grid.affine.copy()
    there[:3, 3] += away
    image, values = blobs(grid), np.zeros(grid.shape, np.uint8)
    values[4:10, 5:9, 3:8] = 3
    moving = values.copy()
    moving[12:15, 12:15, 9:12] = 9
    return image, Image(image.array, there), Image(values, grid.affine), Image(moving, there)


def test_a_conditional_model_gives_labels_and_says_that_there_is_no_transform(copying, tmp_path):
    fixed, moving, fixed_labels, moving_labels = labelled()
    result = regzoo.register(fixed, moving, copying, fixed_labels=fixed_labels, moving_labels=moving_labels)
    assert result.transform is None
    assert result.moved is None
    np.testing.assert_array_equal(result.moved_labels.array, moving_labels.array)
    assert result.moved_labels.grid.same_as(fixed.grid)
    assert result.moved_labels.array.dtype == np.uint8
    facts = result.facts
    assert facts["transform"].startswith("none: a conditional model predicts the labels")
    assert facts["scores"]["after"]["dice"] == {3: 1.0}
    assert facts["warnings"] == ["Labels in one of the two maps only, not scored: 9."]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "transform.nii.gz").write_bytes(b"of an earlier result")
    result.save(tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "moved_labels.nii.gz",
        "report.html",
        "report.png",
        "result.json",
    }
    written = ImageResult.model_validate_json((tmp_path / "out" / "result.json").read_text())
    assert (written.inputs, written.transform) == ({}, facts["transform"])


def test_channels_come_back_as_channels(copying):
    fixed, moving, fixed_labels, moving_labels = labelled("RAS")
    channels = np.stack([moving_labels.array == value for value in (9, 5, 3)], axis=-1).astype("float32")
    fixed_channels = np.stack([fixed_labels.array == value for value in (9, 5, 3)], axis=-1).astype("float32")
    result = regzoo.register(
        fixed,
        moving,
        copying,
        fixed_labels=Image(fixed_channels, fixed.affine),
        moving_labels=Image(channels, moving.affine),
    )
    found = result.moved_labels.array
    assert found.shape == channels.shape
    np.testing.assert_allclose(found, 0.8 * channels, atol=1e-5)
    assert result.facts["scores"]["after"]["dice"] == {3: 1.0}


def test_pairs_with_different_numbers_of_labels_come_to_one_conditional_model():
    model = constant({"backbone": UNET, "output": {"name": "conditional"}}, {}, (1.5, 1.5, 1.5), (20, 22, 16), "center")
    fixed, moving, _, moving_labels = labelled()
    for count in (2, 1, 3):
        channels = np.stack([moving_labels.array == 3] * count, axis=-1).astype("float32")
        found = regzoo.register(fixed, moving, model, moving_labels=Image(channels, moving.affine))
        assert found.moved_labels.array.shape == channels.shape


def test_labels_that_a_conditional_model_finds_nowhere_are_named(copying, monkeypatch):
    fixed, moving, _, moving_labels = labelled()
    monkeypatch.setattr(Copy, "call", lambda self, inputs, training=None: {"labels": 0.4 * inputs["moving_labels"]})
    found = regzoo.register(fixed, moving, copying, moving_labels=moving_labels)
    assert "Labels that the model found nowhere on the fixed image: 3, 9." in found.facts["warnings"]


def test_a_conditional_model_needs_moving_labels_and_refuses_landmarks(copying, tmp_path):
    fixed, moving, _, moving_labels = labelled()
    with pytest.raises(InvalidError, match="moving_labels: expected labels, which a conditional model carries"):
        regzoo.register(fixed, moving, copying)
    empty = Image(moving_labels.array * 0, moving_labels.affine)
    with pytest.raises(InvalidError, match="moving_labels: expected at least one label"):
        regzoo.register(fixed, moving, copying, moving_labels=empty)
    (tmp_path / "points.csv").write_text("x,y,z\n0,0,0\n")
    with pytest.raises(InvalidError, match="Landmarks need a transform"):
        regzoo.register(fixed, moving, copying, moving_labels=moving_labels, moving_points=tmp_path / "points.csv")


def test_labels_of_one_channel_each_are_scored_after_a_field():
    fixed = Grid((20, 22, 14), AFFINES["RAS"])
    model = constant({"backbone": UNET, "output": {"name": "ddf"}}, {"field": [1, 0, 0]}, (1.5, 1.5, 1.5), (24, 24, 16))
    channels = np.zeros((*fixed.shape, 3), "float32")
    channels[5:9, 5:9, 5:9, 0] = channels[10:14, 5:9, 5:9, 2] = 1
    moving = np.roll(channels, 1, axis=0)
    moving[..., 1] = 1
    image = blobs(fixed)
    labels = {"fixed_labels": Image(channels, fixed.affine), "moving_labels": Image(moving, fixed.affine)}
    scores = regzoo.register(image, image, model, **labels).facts["scores"]
    assert scores["before"]["dice"] == {1: 0.75, 3: 0.75}
    assert scores["after"]["dice"] == {1: 1.0, 3: 1.0}
    assert scores["after"]["hd95"] == {1: 0.0, 3: 0.0}
