"""Where a model comes from, and the proof that its bytes are the published ones.

One grammar everywhere: `name`, `name@version`, a folder, or `hf://owner/repo[@revision]`. Names are looked up among the
bundled and the pulled models, then on the hub that `REGZOO_HUB` configures. A folder that shares its name with a model
is written `./name`. A branch of a repository that was pulled stays at its commit until it is pulled again.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from regzoo.errors import InvalidError, MissingError, RegzooError, invalid, unknown
from regzoo.hub import cards, remote
from regzoo.hub.address import Address, configured, parse
from regzoo.hub.remote import TransportError
from regzoo.hub.store import DamagedError, cache_folder, claimed, kept, same_model, sweep, verify
from regzoo.io.files import atomic_folder, expanded
from regzoo.schema.card import Card

__all__ = [
    "DamagedError",
    "Entry",
    "TransportError",
    "bundled",
    "cache_folder",
    "cached",
    "find",
    "models",
    "offered",
    "pin",
    "pull",
    "remove",
    "resolve",
    "take",
    "unreadable",
    "verify",
]
_NAME = re.compile(r"(?P<name>[a-z0-9][a-z0-9-]*)(@(?P<version>[0-9.]+))?")
_ADVICE = "All names: regzoo list."


@dataclass(frozen=True)
class Entry:
    """A zoo entry that was found, not yet verified."""

    folder: Path
    source: str
    """`bundled`, `cached`, `folder`, or `hub` for one in the configured hub's folder."""
    card: Card
    address: Address | None = None
    """The commit it was pulled from, if from a server."""

    @property
    def pin(self) -> str:
        """The name under which these very bytes are found again; see `regzoo.hub.pin`."""
        if self.address:
            return str(self.address)
        return str(self.folder) if self.source == "folder" else self.card.id


def resolve(name: str | os.PathLike) -> Path:
    """Finds a model, pulls it if it is on a server and not yet here, and checks its bytes.

    Args:
        name: `name`, `name@version`, a folder, or `hf://owner/repo[@revision]`.

    Returns:
        The folder, every listed file of which has the size and sha256 of its card.

    Raises:
        MissingError: If a folder, repository or revision does not exist.
        InvalidError: If a name or version is unknown (with the nearest one), or a card is wrong.
        DamagedError: If a file is not the one that the card lists.
        TransportError: If a server has to be asked and cannot be reached, or fails.
    """
    return take(name).folder


def take(name: str | os.PathLike) -> Entry:
    """Finds a model as `resolve` does and returns its entry, verified; same arguments and errors."""
    entry = find(name)
    verify(entry.folder, entry.card, _cure(entry))
    return entry


def find(name: str | os.PathLike) -> Entry:
    """Finds a model as `resolve` does, without reading its weights; same arguments and errors."""
    text = os.fspath(name)
    match, versions = _NAME.fullmatch(text), _versions()
    if match and match["name"] in versions and match["version"] in (None, *versions[match["name"]]):
        return _find_name(match["name"], match["version"], versions)
    if text.startswith("hf://"):
        address = parse(text)
        return _find_pulled(remote.pulled(address) or remote.pull(address))
    folder = expanded(text)
    if text and folder.is_dir():
        return Entry(folder, "folder", cards.read(folder))
    if "://" in text:
        raise invalid("model", "a name, name@version, a folder or hf://owner/repo", f"'{text}'", _ADVICE)
    if match:
        found = _find_configured(match["name"], match["version"], fresh=False)
        if found:
            return found
        if match["version"]:
            return _find_name(match["name"], match["version"], versions)
    if text and (folder.exists() or "/" in text or os.sep in text or text[0] in ".~"):
        state = "is not a folder" if folder.exists() else "does not exist"
        raise MissingError(f"Model folder '{text}' {state}. {_ADVICE}")
    raise unknown("model", text, versions, _ADVICE)


def pin(name: str | os.PathLike) -> str:
    """Returns the name under which these very bytes are found again.

    For a server, `hf://owner/repo@<commit>`; for a bundled or cached model, `name@version`; a folder is itself.
    """
    return find(name).pin


def pull(name: str | os.PathLike) -> Path:
    """Brings a model into the cache, verified, and returns its folder there; a second pull only verifies it.

    A branch on a server is brought up to date; what was pulled of it before is kept under its own commit.

    Args:
        name: `name`, `name@version`, a folder, or `hf://owner/repo[@revision]`.

    Returns:
        `<cache>/<name>@<version>`, or `<cache>/hub/<owner>/<repo>/<commit>`.

    Raises:
        DamagedError: If a byte is wrong, before or after copying. Nothing is kept.
        InvalidError: If the cache holds other weights under this name and version.
        TransportError: If a server cannot be reached, or fails.
    """
    sweep()
    text = os.fspath(name)
    if text.startswith("hf://"):
        return _find_pulled(remote.pull(parse(text))).folder
    entry = find(name)
    if entry.address:
        match = _NAME.fullmatch(text)
        return _find_configured(match["name"], match["version"], fresh=True).folder
    verify(entry.folder, entry.card, _cure(entry))
    if entry.source == "cached":
        return entry.folder
    target = cache_folder() / entry.card.id
    with claimed(target):
        if not _is_kept(target, entry.card):
            _copy(entry, target)
    return target


def remove(name: str) -> list[Path]:
    """Removes a model from the cache: `name` (every version), `name@version`, or `hf://owner/repo[@commit]`.

    Returns:
        The folders that were removed.

    Raises:
        InvalidError: If the cache has no such model.
        MissingError: If the cache is empty.
    """
    known = _cached_names()  # by the folders alone: a card that cannot be read does not keep its model here
    here = [folder for folder, names in known.items() if name in names]
    if not known:
        raise MissingError(f"The cache {cache_folder()} is empty.")
    if not here:
        raise unknown("model in the cache", name, {each for names in known.values() for each in names})
    sweep()
    for folder in here:
        with claimed(folder):
            gone = folder.with_name(f".{folder.name}-removed")
            folder.rename(gone)  # nothing half-removed is ever seen
            shutil.rmtree(gone)
    return here


def models() -> list[Entry]:
    """Returns all models, sorted by name and version: bundled, cached, and in the configured hub's folder.

    Those whose card cannot be read are left out; see `unreadable`.
    """
    here = {}
    for entry in _readable(_places()):
        here.setdefault((entry.card.id, entry.address), entry)
    return sorted(here.values(), key=lambda entry: (entry.card.name, _number(entry.card.version), str(entry.address)))


def unreadable() -> list[RegzooError]:
    """Returns what is wrong with each card here that cannot be read."""
    found = []
    for folder, *_ in _places():
        try:
            cards.read(folder)
        except RegzooError as error:
            found.append(error)
    return found


def offered() -> list[tuple[Card, Address]]:
    """Returns the cards that the configured hub's server offers; empty without one, or offline.

    Raises:
        RegzooError: If the server cannot be reached, fails, or refuses access.
    """
    hub = configured()
    return remote.listing(hub.owner) if hub and hub.owner and not remote.offline() else []


def bundled() -> list[Entry]:
    """Returns the models that came with this release."""
    return [Entry(folder, "bundled", cards.read(folder)) for folder in _bundled()]


def cached() -> list[Entry]:
    """Returns the models in the cache whose cards can be read."""
    return list(_readable(_cached_places()))


def _places() -> Iterator[tuple[Path, str, Address | None]]:
    """Yields every folder with a card: those that hide others of their name and version come first."""
    yield from ((folder, "bundled", None) for folder in _bundled())
    # What another server sent cannot be named while this one is configured.
    yield from (each for each in _cached_places() if each[2] is None or remote.folder(each[2]) == each[0])
    hub = configured()
    if hub and hub.folder:
        yield from ((path.parent, "hub", None) for path in sorted(hub.folder.glob(f"*/{cards.README}")))


def _cached_places() -> Iterator[tuple[Path, str, Address | None]]:
    yield from ((folder, "cached", None) for folder in _cached())
    yield from ((folder, "cached", address) for folder, address in remote.all_pulled().items())


def _readable(places: Iterable[tuple[Path, str, Address | None]]) -> Iterator[Entry]:
    for folder, source, address in places:
        with contextlib.suppress(RegzooError):
            yield Entry(folder, source, cards.read(folder), address)


def _cached_names() -> dict[Path, tuple[str, str]]:
    """Returns the folders of the cache and what `remove` calls each."""
    names = {folder: (folder.name.partition("@")[0], folder.name) for folder in _cached()}
    return names | {folder: (f"hf://{each.repo}", str(each)) for folder, each in remote.all_pulled().items()}


def _find_pulled(address: Address) -> Entry:
    folder = remote.folder(address)
    return Entry(folder, "cached", cards.read(folder), address)


def _find_configured(name: str, version: str | None, fresh: bool) -> Entry | None:
    """Returns a name's entry on the configured hub, or None if there is no hub or its folder has none."""
    hub = configured()
    if hub is None:
        return None
    place = hub.entry(name)
    if isinstance(place, Path):
        if not (place / cards.README).is_file():
            return None
        entry = Entry(place, "hub", cards.read(place))
    else:
        known = None if fresh else remote.pulled(place)
        try:
            entry = _find_pulled(known or remote.pull(place))
        except MissingError as error:
            raise MissingError(f"Unknown model '{name}'. On {os.environ['REGZOO_HUB']}: {error}") from None
    if entry.card.name != name or version not in (None, entry.card.version):
        raise invalid(f"model '{name}' on {os.environ['REGZOO_HUB']}", f"{name}@{version or '…'}", entry.card.id)
    return entry


def _find_name(name: str, version: str | None, versions: dict) -> Entry:
    if name not in versions:
        raise unknown("model", name, versions, _ADVICE)
    # Without a version: the bundled one, which this release of regzoo was tested with, else the newest pulled one.
    version = version or next(iter(versions[name]))
    if version not in versions[name]:
        raise invalid(f"model '{name}'", f"version {' or '.join(versions[name])}", f"'{version}'")
    folder, source = versions[name][version]
    card = cards.read(folder)
    if card.name != name or card.version != version:
        raise InvalidError(f"{folder} holds {card.id}, expected {name}@{version}.")
    return Entry(folder, source, card)


def _versions() -> dict[str, dict[str, tuple[Path, str]]]:
    """Returns name -> version -> (folder, source): the bundled version first, then the pulled ones, newest first."""
    found: dict[str, dict[str, tuple[Path, str]]] = {}
    for folder in _bundled():
        found[folder.name] = {cards.read(folder).version: (folder, "bundled")}
    for folder in sorted(_cached(), key=lambda folder: _number(folder.name.partition("@")[2]), reverse=True):
        name, _, version = folder.name.partition("@")
        found.setdefault(name, {}).setdefault(version, (folder, "cached"))
    return found


def _bundled() -> list[Path]:
    return list(cards.bundled().values())


def _cached() -> list[Path]:
    """Returns the folders of pulled models; hidden ones are copies under way."""
    folders = (path.parent for path in cache_folder().glob(f"*@*/{cards.README}"))
    return sorted(folder for folder in folders if _NAME.fullmatch(folder.name))


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part)


def _cure(entry: Entry) -> str:
    if entry.source == "bundled":
        return "Install regzoo again."
    if entry.source == "cached":
        return f"Pull it again: regzoo pull {entry.address or entry.card.name}."
    return "Restore the file, or write the card again if the change is meant."


def _is_kept(target: Path, card: Card) -> bool:
    """Says whether the cache holds this model, verified; an outdated copy of its card is removed."""
    here = kept(target)
    if here is None or here == card:
        return here is not None
    if not same_model(here, card):
        raise InvalidError(f"{target} holds other weights than this {card.id}. Give the new ones a new version.")
    shutil.rmtree(target)
    return False


def _copy(entry: Entry, target: Path) -> None:
    """Copies an entry's card and listed files: all of them and verified, or none."""
    with atomic_folder(target) as folder:
        for name in (cards.README, *(file.path for file in entry.card.files)):
            shutil.copyfile(entry.folder / name, folder / name)
        verify(folder, entry.card, "Nothing was kept; try again.")
        if cards.read(folder) != entry.card:
            raise DamagedError(f"{entry.card.name} changed while it was copied. Nothing was kept; try again.")
