"""Landmarks that could be read in two ways are refused."""

import json

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
        ("x,y,z,name,Name\n1,2,3,a,b\n", "expected one column 'name', received 2 of them"),
        ("x,y,z,name,label,desc\n1,5,2,5,3,5\n", "line 2: expected words for name, received 1,5,2,5,3,5. Decimals are"),
        ("x,y,z,name,label,desc,a\n1,5,2,5,3,5\n4,5,5,5,6\n", "line 2: expected words for name"),
        ("x,y,z,desc,label\n1,2,3,5\n-1,5,2,3,5\n", "line 2: expected words for desc"),
    ],
)
def test_what_could_mean_something_else_is_refused(tmp_path, text, message):
    (tmp_path / "p.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InvalidError, match=message):
        read_points(tmp_path / "p.csv")


@pytest.mark.parametrize(
    "text",
    [
        "x,y,z,name\n10,20,30,1\n40,50,60,2\n",  # called 1 and 2
        "x,y,z,i,j,k\n10,20,30,1,2,3\n",
        "x,y,z,name,label,desc\n10,20,30,1,2,a\n",
        "x,y,z,name,label,desc\n10.0,20,30,1,2,3\n",
        "x,y,z,,\n10,20,30,,\n",
    ],
)
def test_whole_numbers_are_no_decimal_commas(tmp_path, text):
    (tmp_path / "p.csv").write_text(text)
    np.testing.assert_array_equal(read_points(tmp_path / "p.csv")[0], [10, 20, 30])


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
        ("# CoordinateSystem = LPS\n" + SLICER.format("RAS"), r"expected one line '# CoordinateSystem', received two"),
        (SLICER.format("LPS") + "8,1,2\n", "s.fcsv line 5: expected numbers for x,y,z"),
    ],
)
def test_slicers_landmarks_that_do_not_say_where_they_are_are_refused(tmp_path, text, message):
    (tmp_path / "s.fcsv").write_text(text)
    with pytest.raises(InvalidError, match=message):
        read_points(tmp_path / "s.fcsv")


def test_points_are_written_as_csv_or_markups_alone(tmp_path):
    with pytest.raises(
        InvalidError, match=r"path: expected a name ending in \.csv or \.mrk\.json, to write points, received .*fcsv"
    ):
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


def slicer(points, system="LPS", **more):
    places = [{"id": str(n), "label": f"L{n}", "description": "x", "position": p} for n, p in enumerate(points, 1)]
    markup = {"type": "Fiducial", "coordinateSystem": system, "coordinateUnits": "mm", "controlPoints": places}
    return json.dumps({"@schema": "#", "markups": [markup | more]})


def test_markups_of_slicer_are_read_in_their_own_system_and_written_in_lps(tmp_path):
    path = tmp_path / "p.mrk.json"
    for system, expected in (("LPS", (-1, -2, 3)), ("RAS", (1, 2, 3))):
        path.write_text(slicer([[1, 2, 3], [4.5, -5, 6]], system))
        found = read_landmarks(path)
        np.testing.assert_array_equal(found.points[0], expected)
        assert found.names == ("L1", "L2")
        assert read_normals(path) is None
    text = json.loads(slicer([[1, 2, 3]]))
    del text["markups"][0]["coordinateSystem"], text["markups"][0]["coordinateUnits"]  # Slicer takes LPS and mm
    path.write_text(json.dumps(text))
    np.testing.assert_array_equal(read_points(path), [[-1, -2, 3]])
    write_points(path, found.points, found)
    written = json.loads(path.read_text())["markups"][0]
    assert (written["coordinateSystem"], written["type"]) == ("LPS", "Fiducial")
    assert [point["position"] for point in written["controlPoints"]] == [[-1, -2, 3], [-4.5, 5, 6]]
    assert [(point["label"], point["description"]) for point in written["controlPoints"]] == [("L1", "x"), ("L2", "x")]
    np.testing.assert_array_equal(read_points(path), found.points)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("{}", r"p\.mrk\.json: markups: expected one list of control points, received none"),
        ('{"markups": [{}, {}]}', r"received 2\. Save each by itself in Slicer"),
        (slicer([[1, 2, 3]], "HFS"), "coordinateSystem: expected LPS or RAS, received HFS"),
        (slicer([[1, 2, 3]], coordinateUnits="um"), "coordinateUnits: expected mm, received um"),
        (slicer([]), "controlPoints: expected at least one"),
        (slicer([[1, 2]]), r"control point 1: position: expected three finite numbers, received \[1, 2\]"),
        (slicer([[1, 2, "3"]]), "position: expected three finite numbers"),
        (slicer([[1, 2, True]]), "position: expected three finite numbers"),
        (slicer([[1, 2, 3]]).replace('"id": "1"', '"positionStatus": "undefined"'), "a point with a defined position"),
    ],
)
def test_markups_that_are_no_list_of_points_in_mm_are_refused(tmp_path, text, message):
    (tmp_path / "p.mrk.json").write_text(text)
    with pytest.raises(InvalidError, match=message):
        read_landmarks(tmp_path / "p.mrk.json")


def test_csv_in_lps_is_read_and_written_as_such_and_what_says_its_system_is_not_turned(tmp_path):
    (tmp_path / "p.csv").write_text("x,y,z,name\n1,2,3,AC\n")
    found = read_landmarks(tmp_path / "p.csv", lps=True)
    np.testing.assert_array_equal(found.points, [[-1, -2, 3]])
    write_points(tmp_path / "q.csv", found.points, found, lps=True)
    assert (tmp_path / "q.csv").read_text() == "x,y,z,name\n1.0000,2.0000,3.0000,AC\n"
    (tmp_path / "s.fcsv").write_text(SLICER.format("RAS"))
    np.testing.assert_array_equal(read_landmarks(tmp_path / "s.fcsv", lps=True).points, [[-1, -2, 3]])
    (tmp_path / "p.mrk.json").write_text(slicer([[1, 2, 3]], "RAS"))
    np.testing.assert_array_equal(read_landmarks(tmp_path / "p.mrk.json", lps=True).points, [[1, 2, 3]])
