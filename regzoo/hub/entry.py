"""A zoo entry that was found, and where."""

from dataclasses import dataclass
from pathlib import Path

from regzoo.hub import cards, remote
from regzoo.hub.address import Address
from regzoo.schema.card import Card


@dataclass(frozen=True)
class Entry:
    """A zoo entry that was found."""

    folder: Path
    source: str
    """`bundled`, `cached`, `folder`, or `hub` for one in the configured hub's folder."""
    card: Card
    address: Address | None = None
    """The commit it was pulled from, if from a server."""
    verified: bool = False
    """Whether the bytes were checked against the card, as `take` does."""

    @property
    def pin(self) -> str:
        """The name under which these very bytes are found again; see `regzoo.hub.pin`."""
        if self.address:
            return str(self.address)
        return str(self.folder) if self.source == "folder" else self.card.id


def pulled_entry(address: Address) -> Entry:
    """Returns the entry of a commit in the cache."""
    folder = remote.folder(address)
    return Entry(folder, "cached", cards.read(folder), address)
