"""An owner on Hugging Face or on a mirror of it as a hub."""

from collections.abc import Iterator
from pathlib import Path

from regzoo.errors import MissingError
from regzoo.hub import remote
from regzoo.hub.address import Address, parse_server
from regzoo.hub.entry import Entry, pulled_entry
from regzoo.schema.card import Card


class ServerHub:
    """The owner that `REGZOO_HUB` names by `hf://owner` or `https://host/owner`; see `regzoo.hub.kinds.Hub`."""

    def __init__(self, text: str) -> None:
        self.text, (_, self.owner) = text, parse_server(text)

    def find(self, name: str, version: str | None, *, fresh: bool) -> Entry | None:
        """Returns the entry of the owner's repository, pulled if it is not here yet; older ones are its revisions."""
        place = Address(f"{self.owner}/{name}")
        known = None if fresh else remote.pulled(place)
        try:
            return pulled_entry(known or remote.pull(place))
        except MissingError as error:
            raise MissingError(f"Unknown model '{name}'. On {self.text}: {error}") from None

    def folders(self) -> Iterator[Path]:
        """Yields nothing: what was pulled lies in the cache."""
        yield from ()

    def offered(self) -> list[tuple[Card, Address]]:
        """Returns the cards of the owner's repositories."""
        return [] if remote.offline() else remote.listing(self.owner)
