"""What a parent's licence asks of what starts from it."""

import pytest

from regzoo.hub import cards
from regzoo.schema.licences import expected

ALLOWED = [
    ("cc-by-sa-4.0", "cc-by-sa-4.0"),
    ("cc-by-sa-3.0", "cc-by-sa-4.0"),
    ("CC-BY-SA-4.0", "cc-by-sa-4.0"),
    ("cc-by-nc-4.0", "cc-by-nc-4.0"),
    ("cc-by-nc-4.0", "cc-by-nc-sa-4.0"),
    ("cc-by-4.0", "apache-2.0"),
    ("cc-by-4.0", "cc-by-nc-nd-4.0"),
    ("cc0-1.0", "mit"),
    ("gpl-3.0", "gpl-3.0"),
    ("gpl-2.0-or-later", "gpl-3.0"),
    ("gpl-2.0-only", "gpl-2.0"),
    ("odbl", "odbl"),
    ("ODbL-1.0", "odbl"),  # by which Hugging Face has no version
    ("gfdl-1.3-no-invariants-or-later", "gfdl"),
    ("cc-by-sa-3.0-igo", "cc-by-sa-4.0"),
    ("lgpl-2.1", "gpl-3.0"),
    ("lgpl-2.1", "gpl-2.0"),
    ("lgpl", "gpl"),
    ("mpl-2.0", "agpl-3.0"),
    ("mpl-2.0", "gpl-2.0"),
    ("cecill-b", "mit"),
    ("fair-noncommercial-research-license", "cc-by-nc-4.0"),
    ("cc-by-sa-4.0", None),  # as long as it is not published
    ("unknown", "mit"),
    (None, "mit"),
]
REFUSED = [
    ("cc-by-sa-4.0", "cc-by-4.0", "cc-by-sa-4.0, or a later version of it"),
    ("cc-by-sa-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0, or a later version of it"),
    ("cc-by-sa-4.0", "cc-by-nc-sa-4.0", "cc-by-sa-4.0, or a later version of it"),
    ("cc-by-nc-sa-4.0", "cc-by-sa-4.0", "cc-by-nc-sa-4.0, or a later version of it"),
    ("cc-by-nc-4.0", "cc-by-4.0", "non-commercial"),
    ("cc-by-nd-4.0", "cc-by-nd-4.0", "no model that starts from it"),
    ("cc-by-nd-4.0", None, "no model that starts from it"),
    ("agpl-3.0", "apache-2.0", "agpl-3.0, or a later version of it"),
    ("gpl", "mit", "gpl, or a later version of it"),
    ("lgpl", "mit", "lgpl, or a later version of it"),
    ("lgpl-3.0", "gpl-2.0", "lgpl-3.0, or a later version of it"),
    ("mpl-2.0-no-copyleft-exception", "gpl-3.0", "mpl-2.0-no-copyleft-exception, or a later"),
    ("osl-3.0", "mit", "osl-3.0, or a later version of it"),
    ("eupl-1.1", "mit", "eupl-1.1, or a later version of it"),
    ("openrail", "mit", "openrail, or a later version of it"),
    ("cc-by-sa-4.0", "unknown", "cc-by-sa-4.0"),
    ("gpl-2.0-only", "gpl-3.0", "gpl-2.0-only, by which"),
    ("cc-by-sa-3.0-igo", "cc-by-4.0", "cc-by-sa-3.0-igo, or a later"),
    ("fair-noncommercial-research-license", "mit", "non-commercial"),
    ("PolyForm-Noncommercial-1.0.0", "mit", "non-commercial"),
]
SHARED_ALIKE = """
    openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m openrail++
    cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 epl-1.0 epl-2.0
    eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 lgpl-lr ms-pl mpl-2.0 odbl osl-3.0
    ofl-1.1
"""
FREE = """
    apache-2.0 mit afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0
    cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 etalab-2.0 isc
    lppl-1.3c odc-by postgresql ncsa unlicense zlib pddl
"""
"""Hugging Face's names, but those that allow no commerce or no changes, and those of single companies."""


@pytest.mark.parametrize("licence", SHARED_ALIKE.split())
def test_what_is_shared_alike(licence):
    assert "shared alike" in expected(licence, "mit")
    assert expected(licence, licence) == ""


@pytest.mark.parametrize("licence", FREE.split())
def test_what_may_be_shared_otherwise(licence):
    assert expected(licence, "mit") == ""


@pytest.mark.parametrize(("parent", "licence"), ALLOWED)
def test_what_a_licence_allows(parent, licence):
    assert expected(parent, licence) == ""


@pytest.mark.parametrize(("parent", "licence", "message"), REFUSED)
def test_what_a_licence_does_not_allow(parent, licence, message):
    assert message in expected(parent, licence)


def test_the_bundled_models_keep_their_parents_licences():
    known = {name: cards.read(folder) for name, folder in cards.bundled().items()}
    pairs = [
        (known[other].license, card.license)
        for card in known.values()
        for parent in [card.training.get("parent")]
        for name in (parent if isinstance(parent, list) else [parent])
        for other in known
        if isinstance(name, str) and name.partition("@")[0].partition("#")[0] in (other, f"runs/{other}-base")
    ]
    assert pairs
    assert all(expected(*pair) == "" for pair in pairs)
