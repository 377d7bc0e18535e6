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
    ("osl-3.0", "mit", "osl-3.0, or a later version of it"),
    ("eupl-1.1", "mit", "eupl-1.1, or a later version of it"),
    ("openrail", "mit", "openrail, or a later version of it"),
    ("cc-by-sa-4.0", "unknown", "cc-by-sa-4.0"),
]


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
