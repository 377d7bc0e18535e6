"""Landmarks that could be read in two ways are refused."""

import numpy as np
import pytest

from regzoo.errors import InvalidError
from regzoo.io.landmarks import read_normals, read_points


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
