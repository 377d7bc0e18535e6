"""What the pages point to is there: links, anchors, and files of the repository that they name."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import regzoo

ROOT = Path(__file__).resolve().parents[1]
FIXED = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "recipes/README.md",
    "regzoo/registration/demo_images/NOTICE.md",
)
PAGES = [*(ROOT / name for name in FIXED), *ROOT.glob("docs/*.md"), *ROOT.glob("zoo_*/*/README.md")]
NAMED = re.compile(r"(?<![\w./<{-])(?:regzoo|tests|recipes|docs|zoo_cards|zoo_noncommercial|\.ci)/[\w./-]*\w")
"""A path in the repository, as prose, code or a command names it."""
GONE = {"CHANGELOG.md"}
"""Pages that also name what there was."""


def without_code(text):
    return re.sub(r"`[^`]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def anchors(page):
    """Returns the anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def broken(page):
    """Returns the links of a page that lead nowhere."""
    found = []
    for link in re.findall(r"\]\(<?([^)\s>]+)", without_code(page.read_text(encoding="utf-8"))):
        path, _, anchor = link.partition("#")
        if re.match(r"\w+:", link):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


def absent(page):
    """Returns the files and folders that a page names and the repository has not."""
    named = NAMED.findall(page.read_text(encoding="utf-8"))
    return sorted({path for path in named if not (ROOT / path).exists()})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere_and_files_that_are_named_are_there(page):
    assert (broken(page), [] if page.name in GONE else absent(page)) == ([], [])


def test_there_are_links_anchors_and_names_to_check():
    text = "\n".join(without_code(page.read_text(encoding="utf-8")) for page in PAGES)
    assert text.count("](") > 20
    assert re.search(r"\]\([^)]+#[\w-]+\)", text)
    assert sum(len(NAMED.findall(page.read_text(encoding="utf-8"))) for page in PAGES) > 50


@pytest.mark.slow
def test_pages_are_built_without_a_warning(tmp_path):
    pytest.importorskip("sphinx", reason="Sphinx comes with regzoo[docs]")
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "-c", "docs", "."]
    done = subprocess.run([*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
    reference = (tmp_path / "docs" / "reference" / "regzoo.html").read_text(encoding="utf-8")
    for name in regzoo.__all__:
        if callable(getattr(regzoo, name)):
            assert f'id="regzoo.{name}"' in reference
