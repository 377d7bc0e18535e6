"""The grammar of names on a hub: `hf://owner/repo[@revision]`, and the hub that `REGZOO_HUB` configures."""

import ipaddress
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from regzoo.errors import MissingError, invalid
from regzoo.io.files import expanded

_PART = r"(?![^/@]*(?:--|\.\.))[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_OWNER = re.compile(_PART)
_ADDRESS = re.compile(rf"hf://(?P<repo>{_PART}/{_PART})(@(?P<revision>(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._/-]{{0,127}}))?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Address:
    """A repository on a hub, and which of its revisions: a branch, a tag or a commit; None is its main branch."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"hf://{self.repo}" + (f"@{self.revision}" if self.revision else "")

    @property
    def commit(self) -> str | None:
        """The commit, if the revision names one, which never changes."""
        return self.revision if self.revision and _COMMIT.fullmatch(self.revision) else None

    def at(self, commit: str) -> "Address":
        """Returns the address of one commit of this repository."""
        return replace(self, revision=commit)


def parse(text: str) -> Address:
    """Reads `hf://owner/repo[@revision]`.

    Raises:
        InvalidError: If it is another text.
    """
    match = _ADDRESS.fullmatch(text)
    if not match:
        raise invalid("model", "hf://owner/repo or hf://owner/repo@revision", f"'{text}'")
    return Address(match["repo"], match["revision"])


@dataclass(frozen=True)
class Configured:
    """The hub that plain names are looked up in: a folder of zoo entries, or an owner on a server."""

    folder: Path | None = None
    owner: str | None = None
    endpoint: str | None = None
    """Where the server is, such as a mirror inside a hospital; None is huggingface_hub's own choice (`HF_ENDPOINT`)."""

    def entry(self, name: str) -> Path | Address:
        """Returns where a plain name would be on this hub."""
        return self.folder / name if self.folder else Address(f"{self.owner}/{name}")


def configured() -> Configured | None:
    """Returns the hub that `REGZOO_HUB` names (`hf://owner`, `https://host/owner` or a folder), or None.

    Raises:
        InvalidError: If the text is none of these.
        MissingError: If the folder does not exist.
    """
    text = os.environ.get("REGZOO_HUB", "")
    if not text:
        return None
    if "://" not in text:
        folder = expanded(text)
        if not folder.is_dir():
            raise MissingError(f"REGZOO_HUB names the folder '{text}', which does not exist.")
        return Configured(folder=folder)
    server, _, owner = text.rpartition("/")
    if _OWNER.fullmatch(owner) and server == "hf:/":
        return Configured(owner=owner)
    if _OWNER.fullmatch(owner) and re.fullmatch(r"https?://[^/\s]+(/[^/\s]+)*", server):
        return Configured(owner=owner, endpoint=server)
    raise invalid("REGZOO_HUB", "hf://owner, https://host/owner or a folder", f"'{text}'")


def server() -> str:
    """Returns the URL of the server that `hf://` stands for: the configured one, else `HF_ENDPOINT` or Hugging Face."""
    hub = configured()
    return (hub and hub.endpoint) or os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def may_have_token(url: str) -> bool:
    """Says whether a token may be sent to a server: not where others on the network could read it."""
    parts = urlsplit(url)
    if parts.scheme == "https" or parts.hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False
