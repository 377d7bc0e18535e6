"""One page over many registrations: the worst first, each with its picture, its scores and a way to its report."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence

from regzoo.io.files import atomic_file
from regzoo.registration.report import words
from regzoo.registration.report.page import as_it_is, templates

NAME = "index.html"
_HEADLINES = {"dice": ("mean_dice", 1), "tre": ("tre", -1), "ncc": ("ncc", 1)}
"""Figures in a cohort's rows by which pairs are ordered, their key among the scores, and 1 where more is better."""
_RANKS = {"failed": 0, "look": 1, None: 2, "good": 3}


def overview(rows: Sequence[Mapping], path: str | os.PathLike) -> None:
    """Writes the page, beside the folders of the pairs; it needs their `report.png` and `report.html`.

    Args:
        rows: Of `regzoo.cohort`: `pair`, which names its folder, `status`, `message`, `verdict`, `warnings` (how many),
            and scores before and after.
        path: HTML file to write.
    """
    by = next((name for name in _HEADLINES if any(row.get(f"{name}_after") is not None for row in rows)), None)
    text = (
        templates()
        .get_template("index.html")
        .render(
            pairs=[_told(row) for row in worst_first(rows, by)],
            by=by and words.SCORES[_HEADLINES[by][0]][0],
            style=as_it_is("style.css"),
        )
    )
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def worst_first(rows: Sequence[Mapping], by: str | None) -> list[Mapping]:
    """Returns the rows: what failed or is missing, then by verdict, by the error that is expected, and by a score.

    What lacks a figure comes before the rest.

    Args:
        rows: As for `overview`.
        by: `dice`, `tre` or `ncc`; None: as they come.
    """

    def order(row: Mapping) -> tuple:
        value = row.get(f"{by}_after") if by else None
        known = value is not None and value == value
        badness = _HEADLINES[by][1] * value if known else -math.inf
        error = row.get("error")
        return (
            row["status"] == "done",
            _RANKS.get(row.get("verdict"), 2),
            -math.inf if error is None else -error,
            badness,
        )

    return sorted(rows, key=order)


def _told(row: Mapping) -> dict:
    scores = []
    if row.get("error") is not None:
        scores.append(
            f"Expected error: {row['error']:.1f} mm on average, nine of ten below {row['error_bound']:.1f} mm"
        )
    for name, (key, _) in _HEADLINES.items():
        before, after = (row.get(f"{name}_{when}") for when in ("before", "after"))
        if after is not None:
            title, unit, _ = words.SCORES[key]
            scores.append(f"{title}: {words.figure(before, unit)} before, {words.figure(after, unit)} after")
    verdict, status = words.verdict(row), row["status"]
    kind = verdict["word"] if verdict else "failed" if status != "done" else "look" if row.get("warnings") else ""
    return {
        "name": row["pair"],
        "done": status == "done",
        "says": verdict["says"] if verdict else status,
        "kind": kind,
        "message": row.get("message"),
        "warnings": row.get("warnings") or 0,
        "scores": scores,
    }
