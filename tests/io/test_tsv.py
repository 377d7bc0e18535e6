import math

from regzoo.io.tsv import write_tsv


def test_rows_of_different_keys_and_cells_without_a_value(tmp_path):
    write_tsv(tmp_path / "t.tsv", [{"a": 1, "b": None}, {"c": math.nan, "a": "x\ty"}, {"b": 0.5, "c": ""}])
    assert (tmp_path / "t.tsv").read_bytes() == b'a\tb\tc\n1\tn/a\tn/a\n"x\ty"\tn/a\tn/a\nn/a\t0.5\tn/a\n'
