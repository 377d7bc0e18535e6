"""Where a model comes from, and the proof that its bytes are the published ones.

One grammar everywhere: `name`, `name@version`, or a folder. Names are looked up among the bundled and the pulled
models; nothing here opens a network connection. A folder that shares its name with a model is written `./name`.
"""

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from regzoo import cards
from regzoo.cards import Card, FileEntry
from regzoo.checks import InvalidError, MissingError, RegzooError, invalid, unknown
from regzoo.files import atomic_folder, sha256

_NAME = re.compile(r"(?P<name>[a-z0-9][a-z0-9-]*)(@(?P<version>[0-9.]+))?")
_ADVICE = "All names: regzoo list."


class DamagedError(InvalidError):
    """Bytes of a model that are not the ones its card lists."""


@dataclass(frozen=True)
class Entry:
    """A zoo entry that was found, not yet verified."""

    folder: Path
    source: str
    """`bundled`, `cached` or `folder`."""
    card: Card


def resolve(name: str | os.PathLike) -> Path:
    """Finds a model and checks its bytes.

    Args:
        name: `name`, `name@version` or a folder.

    Returns:
        The folder, every listed file of which has the size and sha256 of its card.

    Raises:
        MissingError: If a folder does not exist.
        InvalidError: If a name or version is unknown (with the nearest one), or a card is wrong.
        DamagedError: If a file is not the one that the card lists.
    """
    entry = find(name)
    verify(entry.folder, entry.card, _cure(entry))
    return entry.folder


def find(name: str | os.PathLike) -> Entry:
    """Finds a model without reading its weights; same arguments and errors as `resolve`."""
    text = os.fspath(name)
    match, versions = _NAME.fullmatch(text), _versions()
    if match and (match["version"] or match["name"] in versions):
        return _find_name(match["name"], match["version"], versions)
    folder = Path(text).expanduser()
    if text and folder.is_dir():
        return Entry(folder, "folder", cards.read(folder))
    if "://" in text:
        raise invalid("model", "a name, name@version or a folder", f"'{text}'", _ADVICE)
    if text and (folder.exists() or "/" in text or os.sep in text or text[0] in ".~"):
        state = "is not a folder" if folder.exists() else "does not exist"
        raise MissingError(f"Model folder '{text}' {state}. {_ADVICE}")
    raise unknown("model", text, versions, _ADVICE)


def verify(folder: str | os.PathLike, card: Card, advice: str = "") -> None:
    """Checks size and sha256 of every file that a card lists.

    Args:
        folder: The folder that holds the files.
        card: The card that lists them.
        advice: What the user can do about damage, added to the message.

    Raises:
        DamagedError: If a file is missing, is a link out of the folder, or has other bytes.
    """
    for entry in card.files:
        problem = _problem(Path(folder), entry)
        if problem:
            raise DamagedError(f"{card.name} is damaged: {problem}. {advice}".rstrip())


def pull(name: str | os.PathLike) -> Path:
    """Copies a model into the cache, verified, and returns its folder there; a second pull only verifies it.

    Args:
        name: `name`, `name@version` or a folder.

    Returns:
        `<cache>/<name>@<version>`.

    Raises:
        DamagedError: If a byte is wrong, before or after copying. Nothing is kept.
        InvalidError: If the cache holds other weights under this name and version.
    """
    from filelock import FileLock

    entry = find(name)
    target = cache_folder() / entry.card.id
    if entry.source != "cached":
        verify(entry.folder, entry.card, _cure(entry))
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.parent / f".{entry.card.id}.lock", timeout=600):
        if not _is_kept(target, entry.card):
            _copy(entry, target)
    return target


def models() -> list[tuple[Card, str]]:
    """Returns the cards of all models with where they are, `bundled` or `cached`, sorted by name and version."""
    entries = {}
    for folder, source in [(folder, "cached") for folder in _cached()] + [(f, "bundled") for f in _bundled()]:
        card = cards.read(folder)
        entries[card.name, _number(card.version)] = (card, source)
    return [entries[key] for key in sorted(entries)]


def cache_folder() -> Path:
    """Returns the folder of pulled models: `REGZOO_CACHE`, or the user's cache folder of the system."""
    if os.environ.get("REGZOO_CACHE"):
        return Path(os.environ["REGZOO_CACHE"]).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "regzoo"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "regzoo" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "regzoo"


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
        return f"Pull it again: regzoo pull {entry.card.name}."
    return "Restore the file, or write the card again if the change is meant."


def _problem(folder: Path, entry: FileEntry) -> str:
    """Returns what is wrong with one file of a zoo entry, or an empty string."""
    path = folder / entry.path
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        return f"{entry.path} is a link that leaves the folder"
    if not path.is_file():
        return f"{entry.path} is missing"
    size = path.stat().st_size
    if size != entry.bytes:
        return f"{entry.path} has {size} bytes, expected {entry.bytes}"
    digest = sha256(path)
    return "" if digest == entry.sha256 else f"{entry.path} has sha256 {digest[:12]}…, expected {entry.sha256[:12]}…"


def _is_kept(target: Path, card: Card) -> bool:
    """Says whether the cache holds this model, verified; a damaged or outdated copy is removed."""
    if not target.exists():
        return False
    try:
        kept = cards.read(target)
        verify(target, kept)
    except RegzooError as error:
        shutil.rmtree(target)
        raise DamagedError(f"{error} Nothing was kept; pull it again.") from None
    if _model(kept) != _model(card):
        raise InvalidError(f"{target} holds other weights than this {card.id}. Give the new ones a new version.")
    if kept != card:
        shutil.rmtree(target)
    return kept == card


def _model(card: Card) -> set[FileEntry]:
    """Returns what must never change under a name and version."""
    return {entry for entry in card.files if entry.path in cards.REQUIRED}


def _copy(entry: Entry, target: Path) -> None:
    """Copies an entry's card and listed files: all of them and verified, or none."""
    for remnant in target.parent.glob(f".{target.name}-*"):  # of a process that was killed; we hold the lock
        shutil.rmtree(remnant, ignore_errors=True)
    with atomic_folder(target) as folder:
        for name in (cards.README, *(file.path for file in entry.card.files)):
            shutil.copyfile(entry.folder / name, folder / name)
        verify(folder, entry.card, "Nothing was kept; try again.")
        if cards.read(folder) != entry.card:
            raise DamagedError(f"{entry.card.name} changed while it was copied. Nothing was kept; try again.")
