"""Transform files that are cut or changed are refused, however much of them could still be read."""

import h5py
import numpy as np
import pytest

from regzoo.errors import InvalidError
from regzoo.world.images import Grid
from regzoo.world.transforms import Transform

HEAD = "#Insight Transform File V1.0\n"
AFFINE = "Transform: AffineTransform_double_3_3\nParameters: 1 0 0 0 1 0 0 0 1 4 5 6\nFixedParameters: 0 0 0\n"
SHIFT = "#Transform 1\nTransform: TranslationTransform_double_3_3\nParameters: 1 2 3\nFixedParameters:\n"
COMPOSITE = "Transform: CompositeTransform_double_3_3\n"
GRID = Grid((5, 4, 3), np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 3, 11], [0, 0, 0, 1]]))


def load(folder, text):
    (folder / "t.tfm").write_text(text)
    return Transform.load(folder / "t.tfm")


def test_whole_texts_are_read(tmp_path):
    # x + t in LPS of the last transform first, then that of the first.
    for text in (HEAD + AFFINE + SHIFT, HEAD + COMPOSITE + AFFINE + SHIFT.replace("#Transform 1", "#Transform 2")):
        np.testing.assert_allclose(load(tmp_path, text).apply_points(np.zeros((1, 3))), [[-5, -7, 9]])


def test_a_text_that_is_cut_anywhere_is_refused_or_ends_between_two_transforms(tmp_path):
    text = HEAD + AFFINE + SHIFT
    whole = {len(HEAD + AFFINE), len(text)}
    read = set()
    for end in range(len(text) + 1):
        try:
            load(tmp_path, text[:end])
            read.add(end)
        except InvalidError:
            continue
    assert read == whole


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (COMPOSITE, "expected a transform, received a composite of none"),
        (
            COMPOSITE + AFFINE + "#Transform 2\n",
            "'#Transform 2' stands where transform 2 belongs, or none comes after it",
        ),
        ("#Transform 0\n" + COMPOSITE + "#Transform 2\n" + AFFINE, "'#Transform 2' stands where transform 1 belongs"),
        ("#Transform 0\n#Transform 1\n" + AFFINE, "'#Transform 0' stands where transform 0 belongs, or none"),
        (AFFINE.replace("4 5 6", "4 1_000 6"), "is not a readable transform"),
        (AFFINE + "Transform: AffineTransform_double_3_3\n", "AffineTransform_double_3_3 has no Parameters"),
        (AFFINE.replace("4 5 6", "4 5"), "expected 12 parameters and 3 fixed ones"),
        (AFFINE.replace("4 5 6", "4 5 6 7"), "expected 12 parameters and 3 fixed ones"),
        (AFFINE.replace("FixedParameters: 0 0 0", "FixedParameters: 0 0"), "expected 12 parameters and 3 fixed ones"),
        (AFFINE + SHIFT.replace("1 2 3", "1 2"), "expected 3 parameters and 0 fixed ones"),
        (AFFINE.replace("4 5 6", "4,5 5 6"), "is not a readable transform"),
        (AFFINE.replace("4 5 6", "4 5 nan"), "expected a finite"),
        (AFFINE + "Parameters: 1 2 3\n", "the line 'Parameters: 1 2 3' is out of place"),
        ("Parameters: 1 2 3\n" + AFFINE, "the line 'Parameters: 1 2 3' is out of place"),
        (AFFINE + "Garbage\n", "the line 'Garbage' is out of place"),
        ("Transform: IdentityTransform_double_3_3\nParameters: 1\nFixedParameters:\n", "expected 0 parameters"),
    ],
)
def test_texts_that_are_not_whole_are_refused(tmp_path, text, message):
    with pytest.raises(InvalidError, match=message) as error:
        load(tmp_path, HEAD + text)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "t.tfm").write_bytes(HEAD.encode() + AFFINE.encode() + b"\xff\xfe\n")
    with pytest.raises(InvalidError, match="is not a readable transform"):
        Transform.load(tmp_path / "t.tfm")


LATTICE = Grid((4, 5, 6), np.array([[2.0, 0, 0, -100], [0, 2, 0, -123.456], [0, 0, 2, 77.7], [0, 0, 0, 1]]))


@pytest.mark.parametrize("kind", [0, 1])
def test_an_lta_that_is_cut_anywhere_is_refused_or_has_the_same_matrix(tmp_path, kind):
    """In voxels a cut in the last number of the geometry moved everything by up to 123 mm."""
    path = tmp_path / "t.lta"
    Transform.linear(np.array([[1, 0.1, 0, 1], [0, 1, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])).save(
        path, LATTICE, moving=GRID
    )
    text = path.read_text().replace("type      = 1", f"type      = {kind}")
    path.write_text(text)
    expected, read = Transform.load(path).matrix, set()
    for end in range(len(text)):
        path.write_text(text[:end])
        try:
            np.testing.assert_array_equal(Transform.load(path).matrix, expected)
            read.add(text[end:])
        except InvalidError:
            continue
    matrix_alone = text[text.index("src volume info") :]
    assert read == {"subject unknown\nfscale 0.100000\n", "fscale 0.100000\n", *([matrix_alone] if kind else [])}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("volume = 4 5 6", "volume = -4 4.7 6", "other numbers than three for each of volume"),
        ("volume = 4 5 6", "volume = 4 5", "other numbers than three for each of volume"),
        ("volume = 4 5 6", "volume = 4", "other numbers than three for each of volume"),
        ("volume = 4 5 6", "", "it has no 'dst volume info volume'"),
        ("nxforms   = 1", "nxforms   = 0_1", "expected a whole number, received '0_1'"),
    ],
)
def test_geometry_of_an_lta_that_is_none_is_refused(tmp_path, old, new, message):
    path = tmp_path / "t.lta"
    Transform.linear(np.eye(4)).save(path, LATTICE, moving=GRID)
    path.write_text(path.read_text().replace(old, new).replace("type      = 1", "type = 0"))
    with pytest.raises(InvalidError, match=message):
        Transform.load(path)


@pytest.fixture
def field(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(*GRID.shape, 3))
    Transform.from_field(vectors, GRID).save(tmp_path / "t.h5")
    return tmp_path / "t.h5"


def change(path, key, value, group="TransformGroup/0"):
    with h5py.File(path, "a") as file:
        del file[f"{group}/{key}"]
        if value is not None:
            file[f"{group}/{key}"] = value


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, -1, "expected three positive sizes"),
        (1, 4.7, "expected three positive sizes"),
        (2, 0, "expected three positive sizes"),
        (0, 6, "expected 216 parameters"),
        (0, np.nan, "is not a readable transform"),
        (0, 1e300, "is not a readable transform"),
    ],
)
def test_sizes_of_a_field_that_are_none_are_refused(field, place, value, message):
    with h5py.File(field) as file:
        fixed = file["TransformGroup/0/TransformFixedParameters"][()]
    fixed[place] = value
    change(field, "TransformFixedParameters", fixed)
    with pytest.raises(InvalidError, match=message):
        Transform.load(field)


@pytest.mark.parametrize("key", ["TransformParameters", "TransformFixedParameters", "TransformType"])
def test_a_field_without_one_of_its_parts_is_refused(field, key):
    change(field, key, None)
    with pytest.raises(InvalidError, match="is not a readable transform"):
        Transform.load(field)


def test_groups_that_are_missing_or_empty_are_refused(field):
    with h5py.File(field, "a") as file:
        file.copy("TransformGroup/0", "TransformGroup/2")
    with pytest.raises(InvalidError, match="its transforms are numbered 0, 2; expected 0 to 1"):
        Transform.load(field)
    with h5py.File(field, "w") as file:
        file["TransformGroup/0/TransformType"] = np.array([b"CompositeTransform_double_3_3"])
    with pytest.raises(InvalidError, match="received a composite of none"):
        Transform.load(field)
