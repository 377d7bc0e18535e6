"""Sections of a card that a command writes: what lies between two marks is replaced by what it printed."""

from pathlib import Path

from regzoo.hub import cards


def write(folder: Path, name: str, text: str) -> None:
    """Writes a section into the card of a folder, between its marks or at its end."""
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, _, rest = cards.read_body(folder).partition(first)
    after = rest.partition(last)[2]
    cards.write(folder, cards.read(folder), f"{before.rstrip()}\n\n{first}\n{text}\n{last}{after}")
