"""A zoo entry that was found, and where."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from regzoo.errors import invalid
from regzoo.hub import cards, remote, store
from regzoo.hub.address import Address
from regzoo.io.yaml_json import decoded, parse_json
from regzoo.schema.calibration import ERROR, ERROR_LIMIT, Calibration
from regzoo.schema.card import Card
from regzoo.schema.own import OwnConfig
from regzoo.schema.strict import validate

if TYPE_CHECKING:
    from regzoo.schema.networks import ModelConfig


@dataclass(frozen=True)
class Entry:
    """A zoo entry that was found."""

    folder: Path
    source: str
    """`bundled`, `cached`, `folder`, or `hub` for one in the configured hub's folder."""
    card: Card
    address: Address | None = None
    """The commit it was pulled from, if from a server."""
    content: Mapping[str, bytes] | None = field(default=None, repr=False, compare=False)
    """Config and weights, as they were when they were checked against the card by `take`; None before."""

    @property
    def verified(self) -> bool:
        """Whether the bytes were checked against the card, as `take` does."""
        return self.content is not None

    def __repr__(self) -> str:
        card = self.card
        told = ", ".join(each for each in (card.anatomy, card.modality, card.headline) if each)
        return f"<Entry {self.address or card.id} ({self.source}){': ' if told else ''}{told}>"

    @property
    def pin(self) -> str:
        """The name under which these very bytes are found again; see `regzoo.hub.pin`."""
        if self.address:
            return str(replace(self.address, digest=self.card.digest))
        return str(self.folder) if self.source == "folder" else self.card.id

    def read(self, name: str, limit: int) -> bytes:
        """Returns a file that the card lists, of at most `limit` bytes: the very bytes that were checked against it.

        Raises:
            InvalidError: If the card does not list the file, or it is too large.
            DamagedError: If it is not the one that the card lists.
        """
        kept = (self.content or {}).get(name)
        return store.read(self.folder, self.card, name, limit) if kept is None else kept

    def weights(self) -> bytes:
        """Returns the weights, a safetensors file; see `read`."""
        return self.read(cards.WEIGHTS, store.KEPT[cards.WEIGHTS])

    def text(self, name: str, limit: int) -> str:
        """Returns a file as text; see `read`."""
        return decoded(self.read(name, limit), str(self.folder / name))

    def config(self) -> "ModelConfig":
        """Returns the checked `config.json`; raises InvalidError, also where the network is its user's own."""
        return cards.parse_config(self.text(cards.CONFIG, cards.CONFIG_LIMIT), str(self.folder / cards.CONFIG))

    def calibration(self) -> Calibration | None:
        """Returns the checked `error.json`, by which an error is expected; None where the card lists none."""
        if ERROR not in [file.path for file in self.card.files]:
            return None
        source = str(self.folder / ERROR)
        found = validate(Calibration, parse_json(self.text(ERROR, ERROR_LIMIT), source), source)
        if found.of != self.card.id:
            raise invalid(
                source, f"a calibration of {self.card.id}", f"one of {found.of}", "Fit it anew, or remove it."
            )
        return found

    def own(self) -> OwnConfig | None:
        """Returns the checked `config.json` of a network that is its user's own; None if it is one of regzoo's."""
        return cards.parse_own(self.text(cards.CONFIG, cards.CONFIG_LIMIT), str(self.folder / cards.CONFIG))


def pulled_entry(address: Address) -> Entry:
    """Returns the entry of a commit in the cache.

    Raises:
        DamagedError: If its weights are not those that the address names.
    """
    folder = remote.folder(address)
    card = cards.read(folder)
    store.check_pin(address, card)
    return Entry(folder, "cached", card, replace(address, digest=None))
