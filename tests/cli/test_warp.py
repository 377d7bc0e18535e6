"""warp: several transforms, their inverses, what lies beyond a field; and options that are given twice."""

import re

import ants
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from command_line import run
from worlds import AFFINES, affine, around, blobs, rotation, waves

from regzoo.io.landmarks import read_points, write_points
from regzoo.io.surfaces import read_surface
from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform

GRID = Grid((9, 12, 10), AFFINES["oblique"])
TURN = affine(rotation(0.2, -0.1, 0.3) * 1.1, (3, -2, 5))
WIDE = around(GRID, "LPS", margin=30)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Transform.linear(TURN).save("turn.tfm")
    Transform.from_field(waves(WIDE), WIDE).save("field.h5")
    Transform.from_field(waves(GRID), GRID).save("small.nii.gz")
    write_points("points.csv", GRID.coordinates()[::4, ::5, ::4].reshape(-1, 3))
    blobs(WIDE).save("moving.nii.gz")
    blobs(GRID).save("fixed.nii.gz")
    return tmp_path


def mapped(*files, points):
    for file in files:
        points = Transform.load(file).apply_points(points)
    return points


def test_points_go_through_the_first_transform_first(home):
    given = read_points("points.csv")
    for files in (["turn.tfm", "field.h5"], ["field.h5", "turn.tfm"], ["turn.tfm", "turn.tfm", "field.h5"]):
        options = [part for file in files for part in ("--transform", file)]
        assert run("warp", "points.csv", "--points", *options, "-o", "out.csv") == (0, "", "")
        np.testing.assert_allclose(read_points("out.csv"), mapped(*files, points=given), atol=1e-4)
    orders = (mapped(*files, points=given) for files in (("turn.tfm", "field.h5"), ("field.h5", "turn.tfm")))
    assert np.abs(np.subtract(*orders)).max() > 0.1


def test_images_are_moved_by_what_itk_composes(home):
    options = ("--transform", "field.h5", "--transform", "turn.tfm", "--reference", "fixed.nii.gz")
    assert run("warp", "moving.nii.gz", *options, "-o", "out.nii.gz") == (0, "", "")
    both = sitk.CompositeTransform([sitk.ReadTransform("turn.tfm"), sitk.ReadTransform("field.h5")])  # the last first
    images = [sitk.ReadImage(name) for name in ("moving.nii.gz", "fixed.nii.gz")]
    theirs = sitk.GetArrayFromImage(sitk.Resample(*images, both)).T
    np.testing.assert_allclose(Image.read("out.nii.gz").array, theirs, atol=1e-4)
    assert theirs.std() > 0.05


def test_labels_are_moved_as_simpleitk_and_ants_move_them(home):
    labels = np.rint(9 * blobs(WIDE).array).astype(np.uint8)
    Image(labels, WIDE.affine).save("labels.nii.gz")
    Transform.load("field.h5").save("field.nii.gz", WIDE)
    options = ("--transform", "field.nii.gz", "--transform", "turn.tfm", "--reference", "fixed.nii.gz")
    assert run("warp", "labels.nii.gz", "--labels", *options, "-o", "out.nii.gz") == (0, "", "")
    ours = Image.read("out.nii.gz", labels=True).array
    field = sitk.DisplacementFieldTransform(sitk.ReadImage("field.nii.gz", sitk.sitkVectorFloat64))
    both = sitk.CompositeTransform([sitk.ReadTransform("turn.tfm"), field])
    images = [sitk.ReadImage(name) for name in ("labels.nii.gz", "fixed.nii.gz")]
    by_itk = sitk.GetArrayFromImage(sitk.Resample(*images, both, sitk.sitkNearestNeighbor)).T
    fixed, moving = (ants.image_read(name) for name in ("fixed.nii.gz", "labels.nii.gz"))
    files = ["field.nii.gz", "turn.tfm"]  # as for warp: a point goes through the first one first
    by_ants = ants.apply_transforms(fixed, moving, files, interpolator="nearestNeighbor").numpy()
    for theirs in (by_itk, by_ants):
        assert (ours != theirs).mean() < 2e-3  # halfway between two voxels
        assert len(np.unique(theirs)) > 5


def test_each_transform_may_be_inverted_as_ants_writes_it(home):
    given = read_points("points.csv")
    assert run("warp", "points.csv", "--points", "--transform", "[turn.tfm,1]", "-o", "out.csv") == (0, "", "")
    np.testing.assert_allclose(mapped("turn.tfm", points=read_points("out.csv")), given, atol=1e-3)
    both = ("--transform", "[turn.tfm, 0]", "--transform", "[field.h5,1]")
    assert run("warp", "points.csv", "--points", *both, "-o", "out.csv") == (0, "", "")
    turned = mapped("turn.tfm", points=given)
    np.testing.assert_allclose(mapped("field.h5", points=read_points("out.csv")), turned, atol=0.1)
    # All of it the other way round takes what went through both back to where it was.
    assert run("warp", "out.csv", "--points", "--inverse", *both, "-o", "back.csv")[0] == 0
    np.testing.assert_allclose(read_points("back.csv"), given, atol=0.1)


def test_what_lies_beyond_a_field_is_told(home):
    write_points("far.csv", np.array([[0, 0, 0], [1000, 0, 0], GRID.centre]))
    told = run("warp", "far.csv", "--points", "--transform", "small.nii.gz", "-o", "out.csv")
    assert told[2] == "warning: 2 of 3 points lie beyond the grid of the transform's field, where nothing is moved.\n"
    np.testing.assert_array_equal(read_points("out.csv")[1], (1000, 0, 0))
    both = ("--transform", "small.nii.gz", "--transform", "turn.tfm")
    told = run("warp", "far.csv", "--points", *both, "-o", "out.csv")
    assert told[2].endswith(
        "2 of 3 points lie beyond the grid of the transform's field, where only the matrix moves them.\n"
    )
    np.testing.assert_allclose(read_points("out.csv")[1], TURN[:3, :3] @ (1000, 0, 0) + TURN[:3, 3], atol=1e-3)
    half = Grid((9, 12, 20), GRID.affine)
    Image(blobs(half).array, half.affine).save("half.nii.gz")
    options = ("--transform", "small.nii.gz", "--reference", "half.nii.gz")
    told = run("warp", "moving.nii.gz", *options, "-o", "out.nii.gz")
    assert told[2].startswith("warning: 50 % of the reference's voxels lie beyond the grid of the transform's field")
    assert run("warp", "moving.nii.gz", *options[:3], "fixed.nii.gz", "-o", "out.nii.gz") == (0, "", "")


def test_a_field_without_an_inverse_is_told_in_words(home):
    grid = Grid((21, 3, 3), np.eye(4))
    folded = np.zeros((21, 3, 3, 3))
    folded[..., 0] = 6 * np.sin(grid.coordinates()[..., 0])
    Transform.from_field(folded, grid).save("folded.h5")
    options = ("--inverse", "--transform", "folded.h5", "--reference", "fixed.nii.gz", "-o", "out.nii.gz")
    code, _, told = run("warp", "moving.nii.gz", *options)
    assert code == 0
    assert told.startswith("warning: inverse: ")
    assert "UserWarning" not in told


TWICE = [
    (("warp", "x", "--transform", "a", "--reference", "b", "--reference", "c", "-o", "d"), "--reference is given 2"),
    (("warp", "x", "--transform", "a", "-o", "d", "--output", "e"), "-o is given 2 times. Give it once."),
    (("register", "a", "b", "--method", "rigid", "--method", "affine"), "--method is given 2 times"),
    (("register", "a", "b", "-m", "x", "--model", "y"), "--model is given 2 times"),
    (("evaluate", "m", "--pairs", "a", "--pairs", "b"), "--pairs is given 2 times"),
    (("import", "voxelmorph", "a", "-o", "b", "-o", "c"), "-o is given 2 times"),
]


@pytest.mark.parametrize(("arguments", "message"), TWICE, ids=lambda value: " ".join(value)[:30])
def test_no_option_that_is_given_twice_is_dropped(arguments, message):
    code, _, told = run(*arguments)
    assert code == 2
    assert message in told


def test_a_missing_reference_is_said_to_be_missing():
    assert "--reference is missing: the image" in run("warp", "x.nii", "--transform", "a", "-o", "b")[2]
    options = ("--points", "--reference", "r", "--transform", "a", "-o", "b")
    assert "--reference goes with an image or a label map, not with --points" in run("warp", "x.csv", *options)[2]


def test_points_in_lps_and_in_slicer_s_markups_go_where_those_in_ras_go(home):
    given = read_points("points.csv")
    assert run("warp", "points.csv", "--points", "--transform", "turn.tfm", "-o", "out.csv") == (0, "", "")
    expected = read_points("out.csv")
    flip = np.array([-1, -1, 1])
    write_points("lps.csv", given * flip)
    assert run("warp", "lps.csv", "--points", "--lps", "--transform", "turn.tfm", "-o", "moved.csv") == (0, "", "")
    np.testing.assert_allclose(read_points("moved.csv") * flip, expected, atol=1e-4)
    write_points("p.mrk.json", given)
    assert run("warp", "p.mrk.json", "--points", "--transform", "turn.tfm", "-o", "q.mrk.json") == (0, "", "")
    np.testing.assert_allclose(read_points("q.mrk.json"), expected, atol=1e-4)
    assert run("warp", "p.mrk.json", "--points", "--lps", "--transform", "turn.tfm", "-o", "q.csv") == (0, "", "")
    np.testing.assert_allclose(read_points("q.csv") * flip, expected, atol=1e-4)
    told = run("warp", "p.mrk.json", "--points", "--lps", "--transform", "turn.tfm", "-o", "q.mrk.json")[2]
    assert "--lps goes with --points in CSV or PLY files; others say themselves how they count" in told
    assert "pass --points" in run("warp", "p.mrk.json", "--transform", "turn.tfm", "-o", "q.csv")[2]


@pytest.mark.parametrize("files", [("turn.tfm",), ("field.h5", "turn.tfm")])
def test_every_volume_of_a_series_is_moved_as_it_is_alone(home, files):
    volumes = np.stack([blobs(WIDE, seed).array for seed in range(3)], axis=-1)
    series = nibabel.Nifti1Image(volumes, WIDE.affine)
    series.header.set_xyzt_units("mm", "msec")
    series.header.set_zooms((*series.header.get_zooms()[:3], 2500))
    nibabel.save(series, "series.nii.gz")
    options = [part for file in files for part in ("--transform", file)] + ["--reference", "fixed.nii.gz"]
    assert run("warp", "series.nii.gz", *options, "-o", "moved.nii.gz") == (0, "", "")
    found = nibabel.load("moved.nii.gz")
    assert found.shape == (*GRID.shape, 3)
    assert found.header.get_zooms()[3] == 2500
    assert found.header.get_xyzt_units() == ("mm", "msec")
    np.testing.assert_allclose(found.affine, GRID.affine, atol=1e-5)
    for number in range(3):
        assert run("warp", "series.nii.gz", *options, "--volume", str(number), "-o", "one.nii.gz")[0] == 0
        np.testing.assert_allclose(found.get_fdata()[..., number], nibabel.load("one.nii.gz").get_fdata(), atol=1e-6)
    told = run("warp", "series.nii.gz", *options, "-o", "moved.nrrd")[2]
    assert (
        told
        == "error: path: expected a name ending in .nii or .nii.gz, to write a 4-D series, received 'moved.nrrd'.\n"
    )


def surface(path, points, dataspace="NIFTI_XFORM_SCANNER_ANAT", xform=None, **meta):
    system = nibabel.gifti.GiftiCoordSystem(dataspace, dataspace, np.eye(4) if xform is None else xform)
    arrays = [
        nibabel.gifti.GiftiDataArray(values.astype(kind), intent, kind, coordsys=place, meta=told)
        for values, intent, kind, place, told in (
            (points, "NIFTI_INTENT_POINTSET", "float32", system, {"AnatomicalStructurePrimary": "CortexLeft", **meta}),
            (np.array([[0, 1, 2], [0, 2, 3], [3, 1, 0]]), "NIFTI_INTENT_TRIANGLE", "int32", None, None),
            (np.ones((4, 3)), "NIFTI_INTENT_VECTOR", "float32", None, None),
        )
    ]
    nibabel.save(nibabel.gifti.GiftiImage(darrays=arrays), path)


def test_the_points_of_a_surface_are_moved_and_its_triangles_kept(home):
    given = read_points("points.csv")[:4]
    surface("s.surf.gii", given)
    assert run("warp", "s.surf.gii", "--points", "--transform", "turn.tfm", "-o", "m.surf.gii") == (0, "", "")
    points, triangles = nibabel.load("m.surf.gii").darrays  # normals would be wrong of what was moved
    np.testing.assert_allclose(points.data, given @ TURN[:3, :3].T + TURN[:3, 3], atol=1e-4)
    np.testing.assert_array_equal(triangles.data, [[0, 1, 2], [0, 2, 3], [3, 1, 0]])
    assert points.coordsys.dataspace == 1
    assert points.meta["AnatomicalStructurePrimary"] == "CortexLeft"
    assert "pass --points" in run("warp", "s.surf.gii", "--transform", "turn.tfm", "-o", "m.surf.gii")[2]


def test_surfaces_in_other_coordinates_or_formats_are_refused(home):
    given, options = read_points("points.csv")[:4], ("--points", "--transform", "turn.tfm", "-o", "m.surf.gii")
    surface("free.surf.gii", given, "NIFTI_XFORM_UNKNOWN", VolGeomC_R="1.5", VolGeomC_A="-7", VolGeomC_S="0")
    told = run("warp", "free.surf.gii", *options)[2]
    assert told.startswith("error: free.surf.gii: expected points in scanner coordinates, received points in a system")
    assert told.endswith("[1.5, -7.0, 0.0] away. Convert it: mris_convert --to-scanner.\n")
    surface("shifted.surf.gii", given, "NIFTI_XFORM_TALAIRACH", np.diag([1.0, 1, 1.1, 1]))
    assert "expected points in scanner coordinates" in run("warp", "shifted.surf.gii", *options)[2]
    surface("plain.surf.gii", given, "NIFTI_XFORM_UNKNOWN")
    assert run("warp", "plain.surf.gii", *options)[2].startswith("warning: plain.surf.gii: the file does not say")
    (home / "s.stl").write_text("solid\n")
    told = run("warp", "s.stl", *options)[2]
    assert told == ("error: s.stl: expected a surface (.gii or .ply), received 's.stl'. Convert it first.\n")
    (home / "cut.surf.gii").write_bytes((home / "plain.surf.gii").read_bytes()[:-300])
    assert "is not a readable surface, or it is damaged" in run("warp", "cut.surf.gii", *options)[2]
    told = run("warp", "plain.surf.gii", *options[:-1], "m.csv")[2]
    assert told == "error: path: expected a name ending in .gii, the format of the surface, received 'm.csv'.\n"


def ply(path, points, form="binary_little_endian", space="comment SPACE=LPS\n", sign=(-1, -1, 1)):
    """Writes four vertices with normals and a grey value, and two faces of other lengths."""
    order = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "<"}[form]
    names = [("x", "f8"), ("nx", "f4"), ("y", "f8"), ("ny", "f4"), ("z", "f8"), ("nz", "f4"), ("grey", "u1")]
    rows = np.zeros(4, [(name, order + kind) for name, kind in names])
    for axis, name in enumerate("xyz"):
        rows[name], rows[f"n{name}"] = (points * sign)[:, axis], 0.5
    rows["grey"] = (7, 8, 9, 250)
    words = {"f8": "double", "f4": "float32", "u1": "uchar"}
    lines = [f"ply\nformat {form} 1.0\n{space}element vertex 4\n"]
    lines += [f"property {words[kind]} {name}\n" for name, kind in names]
    lines += ["element face 2\nproperty list uchar int vertex_indices\nend_header\n"]
    faces = [(3, 0, 1, 2), (4, 0, 2, 3, 1)]
    if form == "ascii":
        body = "".join(f"{' '.join(map(str, row))}\n" for row in [*rows.tolist(), *faces]).encode()
    else:
        tails = (bytes(face[:1]) + np.array(face[1:], f"{order}i4").tobytes() for face in faces)
        body = rows.tobytes() + b"".join(tails)
    path.write_bytes("".join(lines).encode() + body)
    return "".join(lines), body[-len(b"3 0 1 2\n4 0 2 3 1\n" if form == "ascii" else bytes(30)) :]


@pytest.mark.parametrize("form", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_the_vertices_of_a_ply_are_moved_and_all_else_is_kept(home, form):
    given = read_points("points.csv")[:4]
    header, faces = ply(home / "s.ply", given, form)
    assert run("warp", "s.ply", "--points", "--transform", "turn.tfm", "-o", "m.ply") == (0, "", "")
    told, body = (home / "m.ply").read_bytes().split(b"end_header\n")
    assert told.decode() + "end_header\n" == re.sub(r"property float32 n[xyz]\n", "", header)
    assert body.endswith(faces)
    if form == "ascii":
        rows = np.array([line.split() for line in body.decode().splitlines()[:4]], float)
    else:
        kind = np.dtype([(name, {"binary_little_endian": "<f8"}.get(form, ">f8")) for name in "xyz"] + [("grey", "u1")])
        rows = np.array([[float(each) for each in row] for row in np.frombuffer(body, kind, 4)])
    expected = given @ TURN[:3, :3].T + TURN[:3, 3]
    np.testing.assert_allclose(rows[:, :3] * (-1, -1, 1), expected, atol=1e-6)
    np.testing.assert_array_equal(rows[:, 3], (7, 8, 9, 250))
    back = ("warp", "m.ply", "--points", "--inverse", "--transform", "turn.tfm", "-o", "b.ply")
    assert run(*back) == (0, "", "")
    np.testing.assert_allclose(read_surface(home / "b.ply").points, given, atol=1e-6)


def test_a_ply_counts_as_it_says_or_as_is_said(home):
    given, options = read_points("points.csv")[:4], ("--points", "--transform", "turn.tfm", "-o", "m.ply")
    expected = given @ TURN[:3, :3].T + TURN[:3, 3]
    ply(home / "s.ply", given, space="comment SPACE=RAS\n", sign=(1, 1, 1))
    assert run("warp", "s.ply", *options) == (0, "", "")
    np.testing.assert_allclose(read_surface(home / "m.ply").points, expected, atol=1e-6)
    ply(home / "s.ply", given, space="", sign=(1, 1, 1))
    assert run("warp", "s.ply", *options)[2].startswith(
        "warning: s.ply: the file does not say whether it counts in RAS"
    )
    np.testing.assert_allclose(read_surface(home / "m.ply").points, expected, atol=1e-6)
    ply(home / "s.ply", given, space="")
    assert run("warp", "s.ply", *options, "--lps") == (0, "", "")
    np.testing.assert_allclose(read_surface(home / "m.ply", lps=True).points, expected, atol=1e-6)


@pytest.mark.parametrize("form", ["ascii", "binary_little_endian"])
def test_a_damaged_ply_is_refused(home, form):
    ply(home / "s.ply", read_points("points.csv")[:4], form)
    sound = (home / "s.ply").read_bytes()
    short = sound[: sound.rindex(b"\n", 0, -1) + 1] if form == "ascii" else sound[:-1]
    damaged = [short, sound[:-60], sound[:100], sound + b"1 2 3\n", sound.replace(b"vertex 4", b"vertex 9999999999")]
    damaged += [sound.replace(b"double x", b"list uchar double x"), sound.replace(b"double y", b"double why")]
    damaged += [sound.replace(b"format", b"farmat"), sound.replace(b"face 2", b"face -2")]
    for data in damaged:
        (home / "s.ply").write_bytes(data)
        told = run("warp", "s.ply", "--points", "--transform", "turn.tfm", "-o", "m.ply")[2]
        assert told.startswith(
            ("error: s.ply is not a readable surface, or it is damaged", "error: s.ply: expected vert")
        )
