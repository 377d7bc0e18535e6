"""Names: which entry a name means, and what there is to name."""

import dataclasses
import os
import re
from collections.abc import Iterator
from pathlib import Path

from regzoo.cache import expanded
from regzoo.errors import InvalidError, MissingError, RegzooError, invalid, unknown
from regzoo.hub import cards, kinds, remote, store
from regzoo.hub.address import Address, parse
from regzoo.hub.entry import Entry, pulled_entry
from regzoo.hub.store import cache_folder
from regzoo.schema.card import Card

NAME = re.compile(r"(?P<name>[a-z0-9][a-z0-9-]*)(@(?P<version>[0-9.]+))?")
_ADVICE = "All names: regzoo list."
_OLDER = "Others come with other releases of regzoo, or from a hub that keeps them (REGZOO_HUB)."


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


def take(name: str | os.PathLike | Entry) -> Entry:
    """Finds a model as `resolve` does and returns its entry, verified; same arguments and errors.

    Its config and weights are in memory, as they were when they were checked. An entry that is verified already is
    returned as it is: a command hashes a model once.
    """
    entry = name if isinstance(name, Entry) else find(name)
    if entry.verified:
        return entry
    return dataclasses.replace(entry, content=store.take(entry.folder, entry.card, cure(entry)))


def find(name: str | os.PathLike) -> Entry:
    """Finds a model as `resolve` does, without reading its weights; same arguments and errors."""
    text = os.fspath(name)
    match = NAME.fullmatch(text)
    versions = _versions() if match else {}  # they cost the reading of every card
    if match and match["name"] in versions and match["version"] in (None, *versions[match["name"]]):
        return _find_name(match["name"], match["version"], versions)
    if text.startswith("hf://"):
        kinds.configured()  # what REGZOO_HUB says must hold, for it says which server this is
        address = parse(text)
        return pulled_entry(remote.pulled(address) or remote.pull(address))
    folder = expanded(text)
    if text and folder.is_dir():
        if not (folder / cards.README).is_file():
            raise MissingError(f"Folder '{text}' is no model: it has no {cards.README}, which is its card. {_ADVICE}")
        return Entry(folder, "folder", cards.read(folder))
    if "://" in text:
        raise invalid("model", "a name, name@version, a folder or hf://owner/repo", f"'{text}'", _ADVICE)
    if match:
        found = find_configured(match["name"], match["version"], fresh=False)
        if found:
            return found
        if match["version"]:
            return _find_name(match["name"], match["version"], versions)
    if text and (folder.exists() or "/" in text or os.sep in text or text[0] in ".~"):
        state = "is not a folder" if folder.exists() else "does not exist"
        raise MissingError(f"Model folder '{text}' {state}. {_ADVICE}")
    raise unknown("model", text, _versions(), _ADVICE)


def pin(name: str | os.PathLike) -> str:
    """Returns the name under which these very bytes are found again.

    For a server, `hf://owner/repo@<commit>:<sha256 of the weights>`, by which a server that sends others under this
    commit is found out; for a bundled or cached model, `name@version`; a folder is itself.
    """
    return find(name).pin


def models() -> list[Entry]:
    """Returns all models, sorted by name and version: bundled, cached, and in the configured hub's folder.

    Those whose card cannot be read are left out; see `survey`.

    Example:
        >>> import regzoo
        >>> {entry.card.name for entry in regzoo.list() if entry.card.anatomy == "lung"}
        {'lung-ct-ddf'}
    """
    return survey()[0]


def survey() -> tuple[list[Entry], list[RegzooError]]:
    """Reads each card that is here once; returns `models()`, and what is wrong with those that cannot be read."""
    here: dict[tuple, Entry] = {}
    problems = []
    for found in map(_read, _places()):
        if isinstance(found, Entry):
            here.setdefault((found.card.id, found.address), found)
        else:
            problems.append(found)
    order = sorted(here.values(), key=lambda each: (each.card.name, _number(each.card.version), str(each.address)))
    return order, problems


def offered() -> list[tuple[Card, Address]]:
    """Returns the cards that the configured hub's server offers; empty without one, or offline.

    Raises:
        RegzooError: If the server cannot be reached, fails, or refuses access.
    """
    hub = kinds.configured()
    return hub.offered() if hub else []


def bundled() -> list[Entry]:
    """Returns the models that came with this release."""
    return [Entry(folder, "bundled", cards.read(folder)) for folder in _bundled()]


def cached() -> list[Entry]:
    """Returns the models in the cache whose cards can be read."""
    return [found for found in map(_read, _cached_places()) if isinstance(found, Entry)]


def _places() -> Iterator[tuple[Path, str, Address | None]]:
    """Yields every folder with a card: those that hide others of their name and version come first."""
    yield from ((folder, "bundled", None) for folder in _bundled())
    # What another server sent cannot be named while this one is configured.
    yield from (each for each in _cached_places() if each[2] is None or remote.folder(each[2]) == each[0])
    hub = kinds.configured()
    yield from ((folder, "hub", None) for folder in (hub.folders() if hub else ()))


def _cached_places() -> Iterator[tuple[Path, str, Address | None]]:
    yield from ((folder, "cached", None) for folder in cached_folders())
    yield from ((folder, "cached", address) for folder, address in remote.all_pulled().items())


def _read(place: tuple[Path, str, Address | None]) -> Entry | RegzooError:
    folder, source, address = place
    try:
        return Entry(folder, source, cards.read(folder), address)
    except RegzooError as error:
        return error


def find_configured(name: str, version: str | None, fresh: bool) -> Entry | None:
    """Returns a name's entry on the configured hub, or None if there is no hub or it has none."""
    hub = kinds.configured()
    entry = hub.find(name, version, fresh=fresh) if hub else None
    if entry and (entry.card.name != name or version not in (None, entry.card.version)):
        there = f"model '{name}' on {os.environ['REGZOO_HUB']}"
        raise invalid(there, f"{name}@{version or '…'}", entry.card.id, _OLDER if version else "")
    return entry


def _find_name(name: str, version: str | None, versions: dict) -> Entry:
    if name not in versions:
        raise unknown("model", name, versions, _ADVICE)
    # Without a version: the bundled one, which this release of regzoo was tested with, else the newest pulled one.
    version = version or next(iter(versions[name]))
    if version not in versions[name]:
        raise invalid(f"model '{name}'", f"version {' or '.join(versions[name])}", f"'{version}'", _OLDER)
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
    for folder in sorted(cached_folders(), key=lambda folder: _number(folder.name.partition("@")[2]), reverse=True):
        name, _, version = folder.name.partition("@")
        found.setdefault(name, {}).setdefault(version, (folder, "cached"))
    return found


def _bundled() -> list[Path]:
    return list(cards.bundled().values())


def cached_folders() -> list[Path]:
    """Returns the folders of pulled models, also of those that lost their card; hidden ones are copies under way."""
    return sorted(folder for folder in cache_folder().glob("*@*") if NAME.fullmatch(folder.name))


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part)


def cure(entry: Entry) -> str:
    """Returns what a user can do about damage."""
    if entry.source == "bundled":
        return "Install regzoo again."
    if entry.source == "cached":
        return f"Pull it again: regzoo pull {entry.address or entry.card.name}."
    return "Restore the file, or write the card again if the change is meant."
