"""The grammar of names on a server: `hf://owner/repo[@revision[:sha256]]`, and which server it is."""

import ipaddress
import os
import re
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from regzoo.errors import invalid

_PART = r"(?![^/@]*(?:--|\.\.))[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_OWNER = re.compile(_PART)
_REVISION = r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._/-]{0,127}"
_ADDRESS = re.compile(rf"hf://(?P<repo>{_PART}/{_PART})(@(?P<revision>{_REVISION})(:(?P<digest>[0-9a-f]{{64}}))?)?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Address:
    """A repository on a hub, and which of its revisions: a branch, a tag or a commit; None is its main branch.

    A commit is what the hub says it is; `digest`, the sha256 of the weights, tells whether they are those that were
    pinned.
    """

    repo: str
    revision: str | None = None
    digest: str | None = None

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        return f"hf://{self.repo}{revision}" + (f":{self.digest}" if self.digest else "")

    @property
    def commit(self) -> str | None:
        """The commit, if the revision names one, which never changes."""
        return self.revision if self.revision and _COMMIT.fullmatch(self.revision) else None

    def at(self, commit: str) -> "Address":
        """Returns the address of one commit of this repository."""
        return replace(self, revision=commit)


def parse(text: str) -> Address:
    """Reads `hf://owner/repo[@revision[:sha256 of the weights]]`.

    Raises:
        InvalidError: If it is another text.
    """
    match = _ADDRESS.fullmatch(text)
    if not match:
        raise invalid("model", "hf://owner/repo or hf://owner/repo@revision", f"'{text}'")
    return Address(match["repo"], match["revision"], match["digest"])


def parse_server(text: str) -> tuple[str | None, str]:
    """Reads `hf://owner` or `https://host/owner`.

    Returns:
        Where the server is, such as a mirror inside a hospital, and the owner; None is huggingface_hub's own choice
        (`HF_ENDPOINT`).

    Raises:
        InvalidError: If it is another text.
    """
    server, _, owner = text.rpartition("/")
    if _OWNER.fullmatch(owner) and server == "hf:/":
        return None, owner
    if _OWNER.fullmatch(owner) and re.fullmatch(r"https?://[^/\s]+(/[^/\s]+)*", server):
        return server, owner
    raise invalid("REGZOO_HUB", "hf://owner, https://host/owner or a folder", f"'{text}'")


def server() -> str:
    """Returns the URL of the server that `hf://` stands for: the configured one, else `HF_ENDPOINT` or Hugging Face."""
    text = os.environ.get("REGZOO_HUB", "")
    mirror = parse_server(text)[0] if text.partition("://")[0] in ("hf", "http", "https") else None
    return mirror or os.environ.get("HF_ENDPOINT", "").rstrip("/") or "https://huggingface.co"


def may_have_token(url: str) -> bool:
    """Says whether a token may be sent to a server: not where others on the network could read it."""
    parts = urlsplit(url)
    if parts.scheme == "https" or parts.hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False
