"""The cache: folders that appear whole and verified, or not at all."""

import contextlib
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from regzoo.cache import cache_folder
from regzoo.errors import InvalidError, RegzooError, invalid
from regzoo.hub import cards
from regzoo.hub.address import Address
from regzoo.io.files import sha256
from regzoo.schema.calibration import ERROR, ERROR_LIMIT
from regzoo.schema.card import WEIGHTS_LIMIT, Card, FileEntry

KEPT = {cards.CONFIG: cards.CONFIG_LIMIT, cards.WEIGHTS: 4 * WEIGHTS_LIMIT + 2**20, ERROR: ERROR_LIMIT}
"""Files that are taken into memory where they are verified, and the most bytes they may have."""
_LEFT = re.compile(r"(?P<target>\.([a-z0-9-]+@[0-9.]+|[0-9a-f]{40}))-(([0-9a-f]{8}-\d+-)?\w{8}|removed)")
"""Names of what is copied to a folder of the cache, or removed from it."""
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


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


def take(folder: str | os.PathLike, card: Card, advice: str = "") -> dict[str, bytes]:
    """Checks every file as `verify` does; returns config and weights, the very bytes that were checked.

    What is loaded from these cannot have changed in between, as a file could.
    """
    found = {}
    for entry in card.files:
        if entry.path in KEPT:
            found[entry.path] = read(folder, card, entry.path, KEPT[entry.path], advice)
        elif problem := _problem(Path(folder), entry):
            raise DamagedError(f"{card.name} is damaged: {problem}. {advice}".rstrip())
    return found


def read(folder: str | os.PathLike, card: Card, name: str, limit: int, advice: str = "") -> bytes:
    """Returns a file that a card lists, checked after it was read.

    Args:
        folder: The folder that holds the files.
        card: The card that lists them.
        name: The file.
        limit: The most bytes it may have.
        advice: What the user can do about damage, added to the message.

    Raises:
        InvalidError: If the card does not list it, or it is too large.
        DamagedError: If it is not the one that the card lists.
    """
    entry = next((entry for entry in card.files if entry.path == name), None)
    if entry is None:
        raise InvalidError(f"{card.name} has no {name} that its card lists.")
    if entry.bytes > limit:
        raise invalid(f"{card.name}: {name}", f"at most {limit} bytes", entry.bytes)
    problem, data = _lost(Path(folder), entry), b""
    if not problem:
        with (Path(folder) / name).open("rb") as file:
            data = file.read(entry.bytes + 1)
            size = len(data) if len(data) <= entry.bytes else os.fstat(file.fileno()).st_size
        problem = _other(entry, size, hashlib.sha256(data).hexdigest())
    if problem:
        raise DamagedError(f"{card.name} is damaged: {problem}. {advice}".rstrip())
    return data


def check_pin(address: Address, card: Card) -> None:
    """Refuses a model whose weights are not those that an address names beside its commit.

    Raises:
        DamagedError: If they are others.
    """
    if address.digest not in (None, card.digest):
        told = f"{card.id} with weights of sha256 {card.digest[:12]}…, expected {address.digest[:12]}…"
        raise DamagedError(f"{address.repo}@{address.revision} is {told}. Who pinned it had another model.")


@contextlib.contextmanager
def claimed(target: Path) -> Iterator[None]:
    """Makes a folder of the cache this process's own to write; another one waits. Of a read-only cache, nobody's.

    Raises:
        InvalidError: If there is no folder for it, and none can be made.
    """
    from filelock import FileLock, Timeout

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"'{target.parent}' cannot be written ({error.strerror}), and models are kept there."
        raise InvalidError(f"{message} Set REGZOO_CACHE to another folder.") from None
    lock = FileLock(target.parent / f".{target.name}.lock", timeout=600)
    try:
        lock.acquire()
    except Timeout:
        raise
    except OSError as error:
        if error.errno not in _READ_ONLY:
            raise
    try:
        yield
    finally:
        lock.release()


def kept(target: Path) -> Card | None:
    """Returns the card of a folder in the cache, verified; None if there is none, or it was damaged and is removed."""
    if not os.path.lexists(target):
        return None
    try:
        card = cards.read(target)
        verify(target, card)
    except RegzooError:
        discard(target)
        return None
    return card


def discard(path: Path) -> None:
    """Removes a folder with what is in it, or a file, or a link, but nothing that the link leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def sweep() -> None:
    """Removes what processes that were killed left in the cache: hidden folders whose lock no process holds."""
    from filelock import FileLock, Timeout

    for path in (*cache_folder().glob(".*@*-*"), *cache_folder().glob("hub/*/*/*/.*-*")):
        of = _LEFT.fullmatch(path.name)
        if of:
            # OSError is of a read-only cache.
            with contextlib.suppress(Timeout, OSError), FileLock(path.with_name(f"{of['target']}.lock"), timeout=0):
                discard(path)


def same_model(card: Card, other: Card) -> bool:
    """Says whether two cards list the same config and weights, which never change under a name and version."""
    return _model(card) == _model(other)


def _model(card: Card) -> set[FileEntry]:
    return {entry for entry in card.files if entry.path in cards.REQUIRED}


def _problem(folder: Path, entry: FileEntry) -> str:
    """Returns what is wrong with one file of a zoo entry, or an empty string."""
    lost = _lost(folder, entry)
    if lost:
        return lost
    path = folder / entry.path
    size = path.stat().st_size
    return _other(entry, size, sha256(path) if size == entry.bytes else "")


def _lost(folder: Path, entry: FileEntry) -> str:
    path = folder / entry.path
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        return f"{entry.path} is a link that leaves the folder"
    if path.is_dir():
        return f"{entry.path} is a folder"
    return "" if path.is_file() else f"{entry.path} is missing"


def _other(entry: FileEntry, size: int, digest: str) -> str:
    if size != entry.bytes:
        return f"{entry.path} has {size} bytes, expected {entry.bytes}"
    return "" if digest == entry.sha256 else f"{entry.path} has sha256 {digest[:12]}…, expected {entry.sha256[:12]}…"
