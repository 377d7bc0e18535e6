"""How Sphinx builds the pages: README, the guide, recipes, cards, and a reference from the docstrings. `make docs`."""

import re

import regzoo
from regzoo import backend  # noqa: F401 - first, since it keeps start-up chatter away

project, author, release = "regzoo", "The regzoo authors", regzoo.__version__
copyright = "The regzoo authors, under the Apache License 2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]

# The files that a reader of the repository sees are the pages, so that links between them are checked too.
root_doc = "docs/index"
include_patterns = [
    "docs/*.md",
    "docs/reference/*.md",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "recipes/README.md",
    "zoo_cards/*/README.md",
    "zoo_noncommercial/*/README.md",
    "regzoo/registration/demo_images/NOTICE.md",
]
exclude_patterns = [".*", "build", "runs", "site"]
myst_heading_anchors = 4

autodoc_member_order = "groupwise"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Call arguments", "params_style"), ("Source", "notes_style")]
python_maximum_signature_line_length = 100

html_theme = "furo"
html_title = f"regzoo {release}"
html_static_path, html_css_files = ["static"], ["wide.css"]


def in_rst(app, what, name, thing, options, lines):
    """Turns a docstring, plain text with `code` in single backticks, into what Sphinx reads."""
    text = re.sub(r"^Source: ", "Source:\n    ", "\n".join(lines), flags=re.MULTILINE)
    pieces = re.split(r"(`[^`]+`|^ *(?:>>>|\.\.\.) .*$)", text, flags=re.MULTILINE)
    lines[:] = "".join(map(_escaped, pieces)).split("\n")


def _escaped(piece):
    if piece.startswith("`"):
        return f"`{piece}`"
    return piece if re.match(r" *(>>>|\.\.\.) ", piece) else re.sub(r"[*|]|(?<=\w)_(?!\w)", r"\\\g<0>", piece)


def setup(app):
    """Runs before the sections of docstrings are read (priority 500)."""
    app.connect("autodoc-process-docstring", in_rst, priority=400)
