"""The page over many registrations: the worst first, with ways to the reports."""

import re

import pytest

from regzoo.registration.report.overview import overview, worst_first


def row(name, status="done", **changes):
    return {"pair": name, "status": status, "message": None} | changes


def order(text):
    return re.findall(r'alt="picture of ([^"]+)"|<h2>([^<]+)</h2>', text)


@pytest.mark.parametrize(
    ("by", "values", "expected"),
    [
        ("dice", {"a": 0.9, "b": 0.2, "c": 0.5, "d": None}, "dbca"),
        ("tre", {"a": 9.0, "b": 2.0, "c": float("nan"), "d": 5.0}, "cadb"),
        ("ncc", {"a": 0.9, "b": -0.2, "c": 0.5, "d": 0.1}, "bdca"),
    ],
)
def test_the_worst_comes_first(by, values, expected):
    rows = [row(name, **{f"{by}_after": value}) for name, value in values.items()]
    assert "".join(each["pair"] for each in worst_first(rows, by)) == expected


def test_of_one_verdict_the_largest_expected_error_comes_first():
    errors = {"a": 1.0, "b": 4.0, "c": None, "d": 2.5}
    rows = [row(name, verdict="look", error=error, dice_after=0.5) for name, error in errors.items()]
    rows.append(row("e", verdict="failed", error=0.5, dice_after=0.9))
    assert "".join(each["pair"] for each in worst_first(rows, "dice")) == "ecbda"


def test_failures_then_verdicts_then_scores_with_links(tmp_path):
    figures = {"dice_before": 0.25, "ncc_before": 0.1, "ncc_after": 0.2}
    rows = [
        row("fine", verdict="good", dice_after=0.1, warnings=0, **figures),
        row("plain", dice_after=0.9, warnings=2, **figures),
        row("low", dice_after=0.3, warnings=0, **figures),
        row("wrong", verdict="failed", dice_after=0.95, warnings=1, **figures),
        row("broken", "failed", message="x <b>is</b> no image"),
    ]
    overview(rows, tmp_path / "index.html")
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert ["".join(each) for each in order(text)] == ["broken", "wrong", "low", "plain", "fine"]
    for name in ("wrong", "low", "plain", "fine"):
        assert f'href="{name}/report.html"' in text
        assert f'src="{name}/report.png"' in text
    assert 'href="broken/' not in text
    assert "x &lt;b&gt;is&lt;/b&gt; no image" in text
    assert "Overlap of the labels (Dice): 0.250 before, 0.300 after" in text
    assert "this registration failed" in text
    assert "2 warnings" in text
    assert "by Overlap of the labels (Dice)" in text


def test_pairs_without_scores_keep_their_order(tmp_path):
    overview([row("b"), row("a")], tmp_path / "index.html")
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert ["".join(each) for each in order(text)] == ["b", "a"]
