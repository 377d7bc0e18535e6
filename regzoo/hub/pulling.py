"""The cache from outside: models brought into it, verified, and removed from it."""

import os
import shutil
from pathlib import Path

from regzoo.errors import InvalidError, MissingError, unknown
from regzoo.hub import cards, kinds, lookup, remote
from regzoo.hub.address import parse
from regzoo.hub.entry import Entry, pulled_entry
from regzoo.hub.store import DamagedError, cache_folder, claimed, discard, kept, same_model, sweep, verify
from regzoo.io.files import atomic_folder
from regzoo.schema.card import Card


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
        kinds.configured()
        return pulled_entry(remote.pull(parse(text))).folder
    entry = lookup.find(name)
    if entry.address:
        match = lookup.NAME.fullmatch(text)
        return lookup.find_configured(match["name"], match["version"], fresh=True).folder
    verify(entry.folder, entry.card, lookup.cure(entry))
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
            discard(gone)
    return here


def _cached_names() -> dict[Path, tuple[str, str]]:
    """Returns the folders of the cache and what `remove` calls each."""
    names = {folder: (folder.name.partition("@")[0], folder.name) for folder in lookup.cached_folders()}
    return names | {folder: (f"hf://{each.repo}", str(each)) for folder, each in remote.all_pulled().items()}


def _is_kept(target: Path, card: Card) -> bool:
    """Says whether the cache holds this model, verified; an outdated copy of its card is removed."""
    here = kept(target)
    if here is None or here == card:
        return here is not None
    if not same_model(here, card):
        raise InvalidError(f"{target} holds other weights than this {card.id}. Give the new ones a new version.")
    discard(target)
    return False


def _copy(entry: Entry, target: Path) -> None:
    """Copies an entry's card and listed files: all of them and verified, or none."""
    with atomic_folder(target) as folder:
        for name in (cards.README, *(file.path for file in entry.card.files)):
            shutil.copyfile(entry.folder / name, folder / name)
        verify(folder, entry.card, "Nothing was kept; try again.")
        if cards.read(folder) != entry.card:
            raise DamagedError(f"{entry.card.name} changed while it was copied. Nothing was kept; try again.")
