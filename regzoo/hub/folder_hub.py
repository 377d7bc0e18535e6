"""A folder of zoo entries as a hub."""

from collections.abc import Iterator
from pathlib import Path

from regzoo.cache import expanded
from regzoo.errors import MissingError
from regzoo.hub import cards
from regzoo.hub.address import Address
from regzoo.hub.entry import Entry
from regzoo.schema.card import Card


class FolderHub:
    """The folder that `REGZOO_HUB` names; see `regzoo.hub.kinds.Hub`.

    A model lies in `NAME`, and older versions of it in `NAME@VERSION` beside it.
    """

    def __init__(self, text: str) -> None:
        self.folder = expanded(text)
        if not self.folder.is_dir():
            raise MissingError(f"REGZOO_HUB names the folder '{text}', which does not exist.")

    def find(self, name: str, version: str | None, *, fresh: bool) -> Entry | None:
        """Returns the entry in the folder of this name and version, else of this name; it is always fresh."""
        older = self.folder / f"{name}@{version}"
        place = older if version and (older / cards.README).is_file() else self.folder / name
        return Entry(place, "hub", cards.read(place)) if (place / cards.README).is_file() else None

    def folders(self) -> Iterator[Path]:
        """Yields the folders with a card."""
        yield from (path.parent for path in sorted(self.folder.glob(f"*/{cards.README}")))

    def offered(self) -> list[tuple[Card, Address]]:
        """Returns nothing: all that is here can be listed without a server."""
        return []
