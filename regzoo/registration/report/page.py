"""One page a registration: a file that opens in any browser, without a network, and lets a reader look for himself."""

from __future__ import annotations

import functools
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup
from nibabel.affines import obliquity

from regzoo.registration.report import words
from regzoo.registration.report.layers import layers
from regzoo.registration.report.shown import Shown

_FOLDER = Path(__file__).resolve().parent / "templates"
_FACES = ("head", "brain", "face", "any")
"""Words for anatomy of which an image may show a face."""


def page(shown: Shown, path: Path) -> None:
    """Writes the page: warnings, a viewer of three planes, scores, limits, where all of it comes from.

    Nothing on it comes from a file's header but the geometry and the voxels.

    Args:
        shown: What `register` gave, and what is drawn from it.
        path: HTML file to write.
    """
    facts, card = shown.result.facts, shown.result.card
    inputs = facts.get("inputs", {})
    text = (
        templates()
        .get_template("report.html")
        .render(
            facts=facts,
            title=" to ".join(inputs.get(name, {}).get("file", f"{name} image") for name in ("moving", "fixed")),
            maker=words.maker(facts),
            verdict=words.verdict(facts),
            start=words.started(facts),
            scores=words.score_rows(facts["scores"]),
            field=words.error_rows(facts) + words.field_rows(facts),
            card=card,
            face=card is None or any(word in card.anatomy.lower().split() for word in _FACES) or not card.anatomy,
            oblique=round(float(np.degrees(obliquity(shown.result.fixed.affine).max())), 1),
            geometry=shown.result.fixed.grid.text(),
            layers=layers(shown),
            style=as_it_is("style.css"),
            viewer=as_it_is("viewer.js"),
        )
    )
    path.write_text(text, encoding="utf-8")


def as_it_is(name: str) -> Markup:
    """Returns a file of our own that stands beside the templates, not escaped."""
    return Markup((_FOLDER / name).read_text(encoding="utf-8"))


@functools.cache
def templates() -> jinja2.Environment:
    """Returns the templates of the pages; what is put into them is escaped."""
    loader = jinja2.FileSystemLoader(_FOLDER)
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
