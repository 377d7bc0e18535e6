"""Sections of a page that a command writes: what lies between two marks is replaced by what it printed."""

from pathlib import Path

from regzoo.hub import cards


def write(folder: Path, name: str, text: str) -> None:
    """Writes a section into the card of a folder."""
    cards.write(folder, cards.read(folder), put(cards.read_body(folder), name, text))


def put(page: str, name: str, text: str) -> str:
    """Returns a page with a section, between its marks or at its end."""
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, _, rest = page.partition(first)
    after = rest.partition(last)[2]
    return f"{before.rstrip()}\n\n{first}\n{text}\n{last}{after}"
