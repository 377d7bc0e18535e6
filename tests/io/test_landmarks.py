"""Landmarks that could be read in two ways are refused."""

import numpy as np
import pytest

from regzoo.errors import InvalidError
from regzoo.io import reading
from regzoo.io.landmarks import Landmarks, check_paired, read_landmarks, read_normals, read_points, write_points


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y,z\n1,5,2,5,3,5\n", r"line 2: expected 3 cells, received 6\. Decimals are written with a point\."),
        ("x,y,z\n1,2,3,\n", r"line 2: expected 3 cells, received 4\."),
        ("x,y,z\n1,2,3\n1,2\n", "line 3: expected numbers for x,y,z"),
        ("x,y,z,x\n1,2,3,4\n", "expected one column 'x', received 2 of them"),
        ("x,y,z,X\n1,2,3,4\n", "expected one column 'x', received 2 of them"),
        ("x,y,z\n1_000,2,3\n", "line 2: expected numbers for x,y,z"),
        ("x,y,z\n\u0661,2,3\n", "line 2: expected numbers for x,y,z"),
        ("x,y,z\n0x1,2,3\n", "line 2: expected numbers for x,y,z"),
        ('x,y,z\n"1,5",2,3\n', "line 2: expected numbers for x,y,z"),
        ("x;y;z\n1,5;2;3\n", "expected a header with the columns x,y,z"),
        ("x,y,z\n1,2,nan\n", "line 2: expected finite numbers"),
        ("x,y,z\n1,2,1e999\n", "line 2: expected finite numbers"),
        ('x,y,z\n"1"2,2,3\n', "is not a readable CSV file"),
    ],
)
def test_what_could_mean_something_else_is_refused(tmp_path, text, message):
    (tmp_path / "p.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidError, match=message):
        read_points(tmp_path / "p.csv")


def test_forms_of_numbers(tmp_path):
    (tmp_path / "p.csv").write_text("name, x ,y,z\na,+1.5, -.25,2e-1\nb,1.,0012,1E+2\n")
    np.testing.assert_allclose(read_points(tmp_path / "p.csv"), [[1.5, -0.25, 0.2], [1, 12, 100]])


def test_a_column_of_normals_twice(tmp_path):
    (tmp_path / "p.csv").write_text("x,y,z,nx,ny,nz,nz\n1,2,3,0,0,1,1\n")
    with pytest.raises(InvalidError, match="expected one column 'nz'"):
        read_normals(tmp_path / "p.csv")


def test_names_and_other_words_go_with_the_points_in_their_order(tmp_path):
    (tmp_path / "p.csv").write_text('Label,z,x,y,nx,note\nAC,3,1,2,0.5,"front, upper"\nPC,6,4,5\n')
    found = read_landmarks(tmp_path / "p.csv")
    np.testing.assert_array_equal(found.points, [[1, 2, 3], [4, 5, 6]])
    write_points(tmp_path / "q.csv", found.points + 1, found)
    assert (tmp_path / "q.csv").read_text() == (  # a direction is not true of points that were moved
        'x,y,z,Label,note\n2.0000,3.0000,4.0000,AC,"front, upper"\n5.0000,6.0000,7.0000,PC,\n'
    )


SLICER = (
    "# Markups fiducial file version = 5.6\n# CoordinateSystem = {}\n# columns = id,x,y,z,ow,label\n7,-1,-2,3,1,F-1\n"
)


def test_landmarks_by_name_in_another_row_are_refused(tmp_path):
    def written(name, rows, column="name"):
        lines = (f"{each},{i},0,0" for i, each in enumerate(rows))
        (tmp_path / name).write_text("\n".join([f"{column},x,y,z", *lines]))
        return read_landmarks(tmp_path / name)

    fixed = written("a.csv", ["apex", "base", "hilum"])
    for same in (["apex", "base", "hilum"], ["M-1", "M-2", "M-3"], ["apex", "", "M-3"], ["x", "x", "x"]):
        check_paired(fixed, written("b.csv", same, "Label"))
    check_paired(fixed, Landmarks(np.zeros((3, 3))))
    with pytest.raises(InvalidError, match=r"order of fixed_points, whose row 2 is 'base', received 'base' in row 3\."):
        check_paired(fixed, written("b.csv", ["apex", "M-2", "base"]))
    with pytest.raises(InvalidError, match="moving_points: expected 3 landmarks, as many as fixed_points, received 2"):
        check_paired(fixed, written("b.csv", ["apex", "base"]))


@pytest.mark.parametrize(("system", "sign"), [("LPS", -1), ("1", -1), ("RAS", 1), ("0", 1)])
def test_slicers_landmarks_are_read_in_the_system_that_their_file_names(tmp_path, system, sign):
    (tmp_path / "s.fcsv").write_text(SLICER.format(system))
    found = read_landmarks(tmp_path / "s.fcsv")
    np.testing.assert_array_equal(found.points, [[-sign, -2 * sign, 3]])
    assert (found.header, found.rows) == (("id", "label"), (("7", "F-1"),))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SLICER.format("IJK"), r"s\.fcsv: CoordinateSystem: expected RAS or LPS, received IJK"),
        ("x,y,z\n1,2,3\n", "expected the lines '# CoordinateSystem = LPS' .* received x,y,z"),
        ("# CoordinateSystem = LPS\n", "expected the lines .* received none"),
        (SLICER.format("LPS") + "8,1,2\n", "s.fcsv line 5: expected numbers for x,y,z"),
    ],
)
def test_slicers_landmarks_that_do_not_say_where_they_are_are_refused(tmp_path, text, message):
    (tmp_path / "s.fcsv").write_text(text)
    with pytest.raises(InvalidError, match=message):
        read_points(tmp_path / "s.fcsv")


def test_points_are_written_as_csv_alone(tmp_path):
    with pytest.raises(InvalidError, match=r"path: expected a name ending in \.csv, to write points, received .*fcsv"):
        write_points(tmp_path / "p.fcsv", np.ones((1, 3)))


def test_a_file_of_more_points_than_anybody_has_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "TABLE_LIMIT", 10)
    (tmp_path / "p.csv").write_text("x,y,z\n1,2,3")
    with pytest.raises(InvalidError, match=r"p\.csv: expected a CSV file of at most 10 bytes, received 11\."):
        read_points(tmp_path / "p.csv")
    (tmp_path / "p.csv").write_text("x,y,z\n1,2,")
    with pytest.raises(InvalidError, match="expected numbers"):
        read_points(tmp_path / "p.csv")


def test_a_folder_is_no_file_of_landmarks(tmp_path):
    with pytest.raises(InvalidError, match="expected a file, received a folder"):
        read_points(tmp_path)
