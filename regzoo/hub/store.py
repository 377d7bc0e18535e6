"""The cache: folders that appear whole and verified, or not at all."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from regzoo.cache import cache_folder
from regzoo.errors import InvalidError, RegzooError
from regzoo.hub import cards
from regzoo.io.files import sha256
from regzoo.schema.card import Card, FileEntry


class DamagedError(InvalidError):
    """Bytes of a model that are not the ones its card lists."""


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


@contextlib.contextmanager
def claimed(target: Path) -> Iterator[None]:
    """Makes a folder of the cache this process's own to write; another one waits."""
    from filelock import FileLock

    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.parent / f".{target.name}.lock", timeout=600):
        yield


def kept(target: Path) -> Card | None:
    """Returns the card of a folder in the cache, verified; None if there is none, or it was damaged and is removed."""
    if not target.exists():
        return None
    try:
        card = cards.read(target)
        verify(target, card)
    except RegzooError:
        shutil.rmtree(target)
        return None
    return card


def sweep() -> None:
    """Removes what processes that were killed left in the cache: hidden folders whose lock no process holds."""
    from filelock import FileLock, Timeout

    for path in (*cache_folder().glob(".*@*-*"), *cache_folder().glob("hub/*/*/*/.*-*")):
        of = re.fullmatch(r"(?P<target>\.([a-z0-9-]+@[0-9.]+|[0-9a-f]{40}))-(\w{8}|removed)", path.name)
        if of:
            with contextlib.suppress(Timeout), FileLock(path.with_name(f"{of['target']}.lock"), timeout=0):
                shutil.rmtree(path, ignore_errors=True)


def same_model(card: Card, other: Card) -> bool:
    """Says whether two cards list the same config and weights, which never change under a name and version."""
    return _model(card) == _model(other)


def _model(card: Card) -> set[FileEntry]:
    return {entry for entry in card.files if entry.path in cards.REQUIRED}


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
