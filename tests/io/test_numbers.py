"""Numbers in text files, and matrices and fields that move nothing of a patient, in every format."""

import nibabel
import numpy as np
import pytest

from regzoo.errors import InvalidError
from regzoo.io.landmarks import read_points
from regzoo.io.numbers import number, numbers, whole
from regzoo.io.transforms import FORMATS, FORMS, Images, read_transform
from regzoo.world.images import Grid
from regzoo.world.transforms import Transform

GRID = Grid((5, 4, 3), np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 3, 11], [0, 0, 0, 1]]))
IMAGES = Images(GRID, Grid((7, 8, 9), np.diag([2.0, 2, 2, 1])))
MATRIX = np.array([[1.0, 0.25, 0, 3], [0, 1, 0, -2.5], [0, 0.5, 2, 4], [0, 0, 0, 1]])
FORBIDDEN = ["1_000", "\u0661", "0x10", "1,5", "1e", "--1", "one", "1d3", ""]


def test_pythons_own_numbers_are_none_of_a_file():
    for text in FORBIDDEN:
        for read in (number, whole):
            with pytest.raises(ValueError, match=r"."):
                read(text)
        with pytest.raises(ValueError, match=r"."):
            numbers(f"1 {text or 'x'} 2")
    assert (number("-1.5e2"), whole("12")) == (-150.0, 12)
    np.testing.assert_array_equal(numbers(" 1\t-2.5\n3e2 "), [1, -2.5, 300])
    assert numbers(" ").shape == (0,)


def test_a_long_text_is_read_in_pieces_between_its_numbers(monkeypatch):
    monkeypatch.setattr("regzoo.io.numbers._PIECE", 7)
    values = np.random.default_rng(0).normal(size=200).round(3)
    np.testing.assert_array_equal(numbers("  ".join(map(str, values))), values)


def written(folder, suffix, matrix):
    """Writes a matrix as if by another program, which checks nothing."""
    path = folder / f"t{suffix}"
    if suffix == ".fsl.mat":
        FORMS["fsl"].write_between(matrix, path, IMAGES)
    elif FORMATS[suffix].write_between:
        FORMATS[suffix].write_between(matrix, path, IMAGES)
    else:
        FORMATS[suffix].write_matrix(matrix, path)
    return path


@pytest.mark.parametrize("suffix", [".tfm", ".lta", ".fsl.mat"])
@pytest.mark.parametrize("text", [each for each in FORBIDDEN if each])
def test_a_number_of_a_matrix_that_is_none_is_refused(tmp_path, suffix, text):
    path = written(tmp_path, suffix, MATRIX)
    read_transform(path, IMAGES)
    words = path.read_text()
    numerals = [each for each in words.split() if "." in each and each.strip("-.e+0123456789") == ""]
    path.write_text(words.replace(numerals[1 if suffix != ".lta" else 5], text, 1), encoding="utf-8")
    with pytest.raises(InvalidError):
        read_transform(path, IMAGES)


def changed(place, value):
    matrix = MATRIX.copy()
    matrix[place] = value
    return matrix


DAMAGED = {
    "singular": changed((slice(3), slice(3)), np.outer([1, 2, 3], [1, 0, 1])),
    "of zeros": changed((slice(3), slice(3)), 0),
    "of 1e308": changed((slice(3), slice(3)), 1e308 * np.eye(3)),
    "of 1e-300": changed((slice(3), slice(3)), 1e-300 * np.eye(3)),
    "not finite": changed((0, 3), np.nan),
    "a kilometre away": changed((1, 3), 1.1e6),
}


@pytest.mark.parametrize("suffix", [".tfm", ".mat", ".h5", ".x5", ".lta", ".fsl.mat"])
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_matrix_that_cannot_be_one_of_a_patient_is_refused_in_every_format(tmp_path, suffix, damage):
    np.testing.assert_allclose(read_transform(written(tmp_path, suffix, MATRIX), IMAGES)[0], MATRIX, atol=1e-9)
    path = tmp_path / f"t{suffix}"
    if suffix in (".lta", ".fsl.mat"):  # which hold the inverse
        rows = "\n".join(" ".join(map(repr, row)) for row in DAMAGED[damage].tolist()) + "\n"
        head = "type = 1\nnxforms = 1\nmean = 0 0 0\nsigma = 1\n1 4 4\n" if suffix == ".lta" else ""
        path.write_text(head + rows)
    else:
        FORMATS[suffix].write_matrix(DAMAGED[damage], path)
    with pytest.raises(InvalidError, match=r"t\..*(cannot|can) be inverted|finite|translation below 1000000 mm"):
        read_transform(path, IMAGES)


@pytest.mark.parametrize("value", [4e33, -1e6, np.inf, np.nan])
def test_a_field_that_moves_by_a_kilometre_is_refused_in_every_format(tmp_path, value):
    vectors = np.ones((*GRID.shape, 3), np.float32)
    for name in ("t.nii", "t.nii.gz", "t.h5", "t.x5"):
        path = tmp_path / name
        Transform.from_field(vectors, GRID).save(path)
        Transform.load(path)
        changed = vectors.copy()
        changed[2, 3, 1, 1] = value
        next(each for suffix, each in FORMATS.items() if name.endswith(suffix)).write_field(changed, GRID.affine, path)
        with pytest.raises(InvalidError, match="expected finite displacements below 1000000 mm, received"):
            Transform.load(path)


def test_a_flipped_bit_of_an_exponent_is_found_out(tmp_path):
    Transform.from_field(np.ones((*GRID.shape, 3)), GRID).save(tmp_path / "t.nii")
    data = bytearray((tmp_path / "t.nii").read_bytes())
    data[-1] ^= 0x40
    (tmp_path / "t.nii").write_bytes(data)
    assert abs(nibabel.load(tmp_path / "t.nii").get_fdata()).max() > 1e30
    with pytest.raises(InvalidError, match="expected finite displacements"):
        Transform.load(tmp_path / "t.nii")


def test_landmarks_a_kilometre_away_are_refused(tmp_path):
    (tmp_path / "p.csv").write_text("x,y,z\n1,2,1e200\n")
    with pytest.raises(InvalidError, match="line 2: expected finite numbers for x,y,z, below 1000000 mm"):
        read_points(tmp_path / "p.csv")
