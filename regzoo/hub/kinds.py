"""The kinds of hub that `REGZOO_HUB` may name, by scheme. Another kind is one file and one entry of `KINDS`."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from regzoo.errors import invalid
from regzoo.hub.address import Address
from regzoo.hub.entry import Entry
from regzoo.hub.folder_hub import FolderHub
from regzoo.hub.server_hub import ServerHub
from regzoo.schema.card import Card


class Hub(Protocol):
    """Where plain names are looked up that are neither bundled nor pulled."""

    def find(self, name: str, version: str | None, *, fresh: bool) -> Entry | None:
        """Returns a name's entry in a folder on this machine, not yet verified; None if there is none of it.

        Args:
            name: The model's name.
            version: A hub that keeps several gives this one; whatever it gives else is refused later. None: its newest.
            fresh: Whether what was brought here before must be brought up to date.

        Raises:
            RegzooError: If the hub cannot be reached, fails, or has no such model.
        """

    def folders(self) -> Iterator[Path]:
        """Yields the folders of the entries that can be listed without asking a server."""

    def offered(self) -> list[tuple[Card, Address]]:
        """Asks a server for the cards that it offers; empty for a hub without one, or offline."""


KINDS: dict[str, Callable[[str], Hub]] = {
    "": FolderHub,
    "hf": ServerHub,
    "https": ServerHub,
    "http": ServerHub,
}
"""Scheme (empty: a path) -> what makes the hub of the whole text, or raises RegzooError."""


def configured() -> Hub | None:
    """Returns the hub that `REGZOO_HUB` names, or None.

    Raises:
        InvalidError: If the text names no hub.
        MissingError: If it is a folder that does not exist.
    """
    text = os.environ.get("REGZOO_HUB", "")
    if not text:
        return None
    scheme = text.partition("://")[0] if "://" in text else ""
    if scheme not in KINDS:
        kinds = ", ".join(f"{each}://..." if each else "a folder" for each in KINDS)
        raise invalid("REGZOO_HUB", f"one of {kinds}", f"'{text}'")
    return KINDS[scheme](text)
