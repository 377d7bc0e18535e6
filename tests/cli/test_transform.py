"""transform: files composed in the order of warp, inverted, converted, and said in figures that are known."""

import json

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from command_line import run
from worlds import AFFINES, affine, around, blobs, rotation, waves

from regzoo.io.files import sha256
from regzoo.io.landmarks import read_points, write_points
from regzoo.world.images import Grid
from regzoo.world.jacobians import folds
from regzoo.world.transforms import Transform

GRID = Grid((9, 12, 10), AFFINES["oblique"])
TURN = affine(rotation(0.2, -0.1, 0.3) * 1.1, (3, -2, 5))
FINE = around(GRID, "LPS", margin=30)
WIDE = Grid((19, 21, 20), FINE.affine @ np.diag([3, 3, 3, 1]))
POINTS = GRID.coordinates()[1:-1:3, 1:-1:4, 1:-1:3].reshape(-1, 3)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Transform.linear(TURN).save("turn.tfm")
    Transform.linear(affine(np.eye(3), (5, 0, -2))).save("shift.tfm")
    Transform.from_field(waves(WIDE), WIDE).save("field.h5")
    write_points("points.csv", GRID.coordinates().reshape(-1, 3))  # the voxels, between which fields are interpolated
    blobs(GRID).save("fixed.nii.gz")
    return tmp_path


def moved(path, points=POINTS):
    return Transform.load(path).apply_points(points)


@pytest.mark.parametrize(
    "files", [("field.h5", "turn.tfm"), ("turn.tfm", "field.h5"), ("[turn.tfm,1]", "field.h5", "[field.h5, 1]")]
)
def test_what_is_composed_moves_points_as_warp_moves_them_by_all_of_it(home, files):
    assert run("transform", *files, "-o", "all.h5", "--reference", "fixed.nii.gz") == (0, "", "")
    options = [part for file in files for part in ("--transform", file)]
    assert run("warp", "points.csv", "--points", *options, "-o", "out.csv")[0] == 0
    given, expected = read_points("points.csv"), read_points("out.csv")
    np.testing.assert_allclose(moved("all.h5", given), expected, atol=2e-4)
    assert np.linalg.norm(expected - given, axis=1).mean() > 1


def test_matrices_become_one_matrix_and_their_inverse_goes_back(home):
    assert run("transform", "shift.tfm", "turn.tfm", "-o", "both.tfm") == (0, "", "")
    np.testing.assert_allclose(
        moved("both.tfm"), (POINTS + np.array([5, 0, -2])) @ TURN[:3, :3].T + TURN[:3, 3], atol=1e-9
    )
    assert run("transform", "shift.tfm", "turn.tfm", "--inverse", "-o", "back.h5") == (0, "", "")
    np.testing.assert_allclose(moved("back.h5", moved("both.tfm")), POINTS, atol=1e-9)
    assert run("transform", "[shift.tfm,1]", "-o", "left.tfm") == (0, "", "")
    np.testing.assert_allclose(moved("left.tfm"), POINTS - np.array([5, 0, -2]), atol=1e-9)


@pytest.mark.parametrize("name", ["field.nii.gz", "field.mha", "field.nrrd"])
@pytest.mark.parametrize("grid", ["LPS", "LAS", "oblique", "permuted"])
def test_a_field_is_converted_and_read_by_itk(home, name, grid):
    fine = around(GRID, grid, margin=30)
    wide = Grid(tuple(size // 3 + 1 for size in fine.shape), fine.affine @ np.diag([3, 3, 3, 1]))
    Transform.from_field(waves(wide), wide).save("field.h5")
    assert run("transform", "field.h5", "-o", name) == (0, "", "")
    theirs = sitk.DisplacementFieldTransform(sitk.ReadImage(name, sitk.sitkVectorFloat64))
    flip = np.array([-1, -1, 1])
    expected = np.array([theirs.TransformPoint((point * flip).tolist()) for point in POINTS]) * flip
    assert np.linalg.norm(expected - POINTS, axis=1).mean() > 1
    np.testing.assert_allclose(moved(name), expected, atol=1e-4)
    np.testing.assert_allclose(moved("field.h5"), expected, atol=1e-4)


def test_a_field_is_inverted_on_the_grid_of_the_moving_image(home):
    assert run("transform", "field.h5", "--inverse", "-o", "back.nii.gz", "--reference", "fixed.nii.gz")[0] == 0
    back = Transform.load("back.nii.gz")
    assert back.grid.same_as(GRID)
    np.testing.assert_allclose(moved("field.h5", back.apply_points(POINTS)), POINTS, atol=0.2)
    code, _, told = run("transform", "field.h5", "--inverse", "-o", "back.nii.gz")
    assert code == 0
    assert told.startswith("warning: the grid is that of the first field, (19, 21, 20), 4.5 x 4.5 x 4.5 mm, LPS, which")


def test_a_matrix_is_told_in_angles_scales_and_millimetres(home):
    axis = np.array([1, 2, 2]) / 3
    x, y, z = np.radians(30) * axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turn = np.eye(3) + np.sin(np.radians(30)) * cross / np.radians(30)
    turn = turn + (1 - np.cos(np.radians(30))) * (cross / np.radians(30)) @ (cross / np.radians(30))
    for stretch, scales in (((1, 1, 1), (1, 1, 1)), ((0.5, 2, 1), (2, 1, 0.5)), ((-1, -1, -1), (1, 1, 1))):
        Transform.linear(affine(turn @ np.diag(stretch), (4, -5, 6))).save("known.tfm")
        step = json.loads(run("transform", "known.tfm", "--json")[1])["steps"][0]
        np.testing.assert_allclose(step["rotation_degrees"], 30 * axis, atol=1e-6)
        np.testing.assert_allclose(step["scales"], scales, atol=1e-9)
        np.testing.assert_allclose(step["shift_mm"], (4, -5, 6), atol=1e-9)
        assert step["volume"] == pytest.approx(np.prod(stretch))
    Transform.linear(affine(turn, (4, -5, 6))).save("known.tfm")
    assert run("transform", "known.tfm") == (
        0,
        "step 1    matrix: turns 30 degrees (about R 10, A 20, S 20), scales 1 1 1 (volume 1), shifts 4 -5 6 mm\n"
        "inverse   exact\n",
        "",
    )


def test_a_constant_field_moves_as_far_everywhere_as_is_told(home):
    Transform.from_field(np.broadcast_to((3.0, 0, -4), (*GRID.shape, 3)), GRID).save("known.nii.gz")
    code, out, told = run("transform", "known.nii.gz")
    assert (code, told) == (0, "")
    assert out == (
        "step 1    field on (9, 12, 10), 1.2 x 1.7 x 2.1 mm, RAS oblique\n"
        "grid      (9, 12, 10), 1.2 x 1.7 x 2.1 mm, RAS oblique\n"
        "extent    R -21.0 to -0.8, A -30.0 to -1.0, S 0.7 to 28.4 mm\n"
        "moves     at most 5 mm, on average 5 mm\n"
        "folds     0 % of voxels, 0 % of the volume\n"
        "inverse   by iteration\n"
    )
    facts = json.loads(run("transform", "known.nii.gz", "shift.tfm", "--json")[1])
    assert facts["displacement_mm"] == {"max": pytest.approx(10, abs=1e-4), "mean": pytest.approx(10, abs=1e-4)}
    assert [step["kind"] for step in facts["steps"]] == ["field", "matrix"]
    assert facts["steps"][0]["shape"] == [9, 12, 10]


def test_folds_are_counted_strictly_and_without_the_matrix(home):
    vectors = np.zeros((*GRID.shape, 3))
    vectors[4, 6, 5] = 1.5 * (GRID.affine[:3, 0])  # past its neighbour along i
    Transform.from_field(vectors, GRID).save("folded.nii.gz")
    expected = folds(vectors, GRID)
    assert 0 < expected["folds"] < 0.05
    turn = affine(rotation(0, 0, 2.0), (0, 0, 0))  # at the border alone, it would seem to fold
    Transform.linear(turn).save("far.tfm")
    for files in (["folded.nii.gz"], ["folded.nii.gz", "far.tfm"]):
        facts = json.loads(run("transform", *files, "--json")[1])
        assert facts["folds"] == pytest.approx(expected["folds"])
        assert facts["inverse"] == "by iteration, not where it folds"


def test_a_matrix_is_measured_on_a_reference_and_must_have_an_inverse(home):
    out = json.loads(run("transform", "shift.tfm", "--reference", "fixed.nii.gz", "--json")[1])
    assert out["displacement_mm"]["mean"] == pytest.approx(29**0.5)
    assert "folds" not in out
    Transform.linear(affine(np.diag([1.0, 1, 0]), (0, 0, 0))).save("flat.tfm")
    assert "expected a matrix that can be inverted" in run("transform", "flat.tfm")[2]


def test_what_cannot_be_written_is_told_in_words(home):
    told = run("transform", "field.h5", "turn.tfm", "-o", "x.tfm")[2]
    assert told.startswith("error: path: expected a name ending in .nii, .nii.gz, .h5, .x5, .mha or .nrrd, to")
    told = run("transform", "turn.tfm", "-o", "x.nii.gz")[2]
    assert told.endswith("received None. Pass grid, on the command line --reference.\n")
    assert run("transform", "turn.tfm", "-o", "x.xyz")[2].startswith("error: path: expected a name ending in")
    assert run("transform", "nothing.tfm")[2] == "error: nothing.tfm does not exist.\n"


def test_a_transform_of_a_bids_name_has_its_json_beside_it(home):
    assert run("transform", "turn.tfm", "-o", "sub-01_from-T1w_to-MNI_mode-image_xfm.mat") == (0, "", "")
    beside = home / "sub-01_from-T1w_to-MNI_mode-image_xfm.json"
    told = json.loads(beside.read_text())
    assert (told["From"], told["To"]) == ("T1w", "MNI")
    assert told["Regzoo"]["command"] == "regzoo transform turn.tfm -o sub-01_from-T1w_to-MNI_mode-image_xfm.mat"
    assert told["Regzoo"]["inputs"] == {"turn.tfm": sha256("turn.tfm")}
    beside.write_text("{}")
    note = "note: sub-01_from-T1w_to-MNI_mode-image_xfm.json is there already, and stays as it is.\n"
    assert run("transform", "turn.tfm", "-o", "sub-01_from-T1w_to-MNI_mode-image_xfm.h5") == (0, "", note)
    assert beside.read_text() == "{}"
    assert run("transform", "turn.tfm", "-o", "sub-01_from-T1w_to-MNI_mode-points_xfm.h5") == (0, "", "")
    assert not [*home.glob("*mode-points*.json")]


def test_a_form_is_written_and_goes_with_an_output(home):
    assert run("transform", "field.h5", "turn.tfm", "-o", "s", "--form", "ants", "--reference", "fixed.nii.gz")[0] == 0
    given = GRID.coordinates().reshape(-1, 3)
    pair = Transform.load("s1Warp.nii.gz").then(Transform.load("s0GenericAffine.mat"))
    np.testing.assert_allclose(pair.apply_points(given), moved("turn.tfm", moved("field.h5", given)), atol=1e-4)
    assert "--form goes with -o" in run("transform", "field.h5", "--form", "ants")[2]


def test_a_matrix_of_fsl_is_converted_with_both_images(home):
    (home / "flirt.mat").write_text("1 0 0 3\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")  # in voxels' millimetres, moving to fixed
    blobs(WIDE).save("moving.nii.gz")
    x = np.diag([GRID.spacing[0], 1, 1, 1])
    x[0] = (-GRID.spacing[0], 0, 0, (GRID.shape[0] - 1) * GRID.spacing[0])
    x[1, 1], x[2, 2] = GRID.spacing[1:]
    y = np.diag([*WIDE.spacing, 1.0])
    y[0] = (-y[0, 0], 0, 0, (WIDE.shape[0] - 1) * y[0, 0])
    back = np.array([[1, 0, 0, -3], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    expected = Transform.linear(WIDE.affine @ np.linalg.inv(y) @ back @ x @ np.linalg.inv(GRID.affine))
    both = ("--reference", "fixed.nii.gz", "--moving", "moving.nii.gz")
    assert run("transform", "flirt.mat", *both, "-o", "t.tfm") == (0, "", "")
    np.testing.assert_allclose(moved("t.tfm"), expected.apply_points(POINTS), atol=1e-4)
    swapped = ("--reference", "moving.nii.gz", "--moving", "fixed.nii.gz")
    for arguments in (("flirt.mat", "--inverse"), ("[flirt.mat,1]",)):
        assert run("transform", *arguments, *swapped, "-o", "i.tfm") == (0, "", "")
        np.testing.assert_allclose(moved("i.tfm", expected.apply_points(POINTS)), POINTS, atol=1e-4)
    assert run("transform", "t.tfm", *both, "-o", "again.mat", "--form", "fsl") == (0, "", "")
    np.testing.assert_allclose(np.loadtxt("again.mat"), np.loadtxt("flirt.mat"), atol=1e-5)
    assert run("transform", "t.tfm", *both, "-o", "t.lta") == (0, "", "")
    np.testing.assert_allclose(moved("t.lta"), moved("t.tfm"), atol=1e-9)


def test_a_matrix_of_fsl_is_refused_where_its_images_are_unknown_and_a_moving_image_where_it_is_ignored(home):
    (home / "flirt.mat").write_text("1 0 0 3\n0 1 0 0\n0 0 1 0\n0 0 0 1\n")
    expected = (
        "error: flirt.mat: expected both images beside it, in whose voxels FSL counts, received None. Convert it: "
    )
    expected += "regzoo transform FILE --reference FIXED --moving MOVING -o OUT.tfm.\n"
    assert run("transform", "flirt.mat")[2] == expected
    assert run("warp", "points.csv", "--points", "--transform", "flirt.mat", "-o", "out.csv")[2] == expected
    both = ("--reference", "fixed.nii.gz", "--moving", "fixed.nii.gz")
    assert run("transform", "flirt.mat", "turn.tfm", *both)[2] == expected  # images of which of the two?
    assert (
        "--moving goes with FSL's .mat, and with .lta or learn2reg to write" in run("transform", "turn.tfm", *both)[2]
    )
    assert "--moving goes with --reference" in run("transform", "flirt.mat", *both[2:])[2]
    told = run("transform", "turn.tfm", "-o", "t.lta")[2]
    assert told.endswith("Pass grid and moving, on the command line --reference and --moving.\n")


def test_learn2reg_s_form_is_written_on_the_grid_of_both_images(home):
    blobs(WIDE).save("moving.nii.gz")
    options = ("-o", "disp_0001_0002.nii.gz", "--form", "learn2reg", "--reference", "fixed.nii.gz", "--moving")
    assert run("transform", "field.h5", *options, "fixed.nii.gz") == (0, "", "")
    voxels = nibabel.load("disp_0001_0002.nii.gz").get_fdata()
    expected = Transform.load("field.h5").displacement(GRID)
    np.testing.assert_allclose(voxels @ GRID.affine[:3, :3].T, expected, atol=1e-4)
    told = run("transform", "field.h5", *options, "moving.nii.gz")[2]
    assert told.startswith("error: moving: expected the fixed image's grid, for the format counts in voxels of both")
    told = run("transform", "field.h5", "-o", "disp.nii", "--form", "learn2reg")[2]
    assert told.startswith("error: path: expected a name ending in .nii.gz, as Learn2Reg's disp_0001_0002.nii.gz")
    told = run("transform", "disp_0001_0002.nii.gz")[2]  # in which unit?
    assert "expected a displacement field, shape (X, Y, Z, 1, 3) with intent 1007" in told
