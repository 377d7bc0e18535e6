"""Files that are whole or absent: atomic writes of files and folders, and sha256."""

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from regzoo.errors import InvalidError, RegzooError, invalid
from regzoo.io import remnants
from regzoo.io.yaml_json import parse_json, read_text


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a temporary path beside `path` (same suffixes) and renames it to `path` if the block succeeds.

    If the block raises, a full disk and Ctrl-C included, nothing is left and an older `path` is untouched.

    Args:
        path: Where the file belongs; missing parent folders are made, and links are followed.

    Yields:
        The path to write to.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name stays in front of the dot so that writers which look at ".nii.gz" or ".h5" still see it.
    remnants.sweep(path.parent)
    with tempfile.TemporaryDirectory(prefix=remnants.prefix(), dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        # Some writers make their files private, others show them to all: the user's umask decides.
        probe = Path(folder) / ".mode"
        probe.touch()
        temporary.chmod(stat.S_IMODE(probe.stat().st_mode))
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # else a power cut could leave the new name with nothing behind it
        temporary.replace(path)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike, last: str | None = None, stale: Iterable[str] = ()) -> Iterator[Path]:
    """Gives a temporary folder and moves its files into `path` if the block succeeds.

    A new folder appears by one rename. One that exists may be a mount point, in a folder that nobody may write to: its
    files are made within it and moved one by one; `last` is taken away before and appears after all others: while it is
    there, the files belong together. A `result.json` meanwhile lists nothing.

    Args:
        path: The folder to make or to add to; links are followed. Files of the same name are replaced, others are kept.
        last: The file that lists the others, if there is one.
        stale: Files that an earlier result may have left; they go if the new one lacks them.

    Yields:
        The folder to write to.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    place, of = (path, "regzoo") if path.exists() else (path.parent, path.name)
    remnants.sweep(place)
    temporary = Path(tempfile.mkdtemp(prefix=remnants.prefix(of), dir=place))
    try:
        yield temporary
        if not path.exists():
            probe = temporary / ".mode"
            probe.mkdir()
            mode = stat.S_IMODE(probe.stat().st_mode)
            probe.rmdir()
            temporary.chmod(mode)  # mkdtemp makes it private; the user's umask decides
            temporary.replace(path)
            return
        files = sorted(temporary.iterdir(), key=lambda file: (file.name == last, file.name))
        if last == LISTING:  # until the end it lists nothing: who reads the files meanwhile, or after a kill, is told
            unfinished = temporary / ".unfinished"
            unfinished.write_text('{"files": {}}\n', encoding="utf-8")
            unfinished.replace(path / last)
        elif last:
            (path / last).unlink(missing_ok=True)
        for name in set(stale) - {file.name for file in files}:
            (path / name).unlink(missing_ok=True)
        for file in files:
            file.replace(path / file.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_writable(path: str | os.PathLike, *, folder: bool) -> None:
    """Refuses a place where nothing can be written, before the work that would be lost is done.

    Args:
        path: A file or a folder, which need not exist.
        folder: Which of the two.

    Raises:
        InvalidError: If there is a folder where a file belongs or the other way round, or nothing can be written.
    """
    real = Path(os.path.realpath(path))
    kinds = {True: "a folder", False: "a file"}
    try:
        if real.exists() and real.is_dir() != folder:
            raise invalid(f"'{path}'", f"{kinds[folder]} to write to", kinds[not folder])
        place = real if folder else real.parent
        while not place.exists():
            place = place.parent
        with tempfile.TemporaryDirectory(prefix=remnants.prefix(), dir=place):
            pass
        if not folder and real.exists() and _is_anothers(real):
            raise PermissionError(errno.EPERM, "a file of another user in a folder for all")
    except OSError as error:
        raise InvalidError(f"'{path}' cannot be written ({error.strerror}). Choose another place.") from None


def _is_anothers(file: Path) -> bool:
    """Tells whether only its owner may replace a file, as in `/tmp`, a folder with the sticky bit, and it is no own."""
    place = file.parent.stat()
    return bool(place.st_mode & stat.S_ISVTX) and os.geteuid() not in (0, place.st_uid, file.stat().st_uid)


def check_apart(folder: Path, files: Iterable[Path]) -> None:
    """Refuses a folder for a result that would take the place of what it is made of.

    Args:
        folder: The folder.
        files: What is read; what is no file of a result may lie there.

    Raises:
        InvalidError: If one of them has the name of a result's file there.
    """
    for file in files:
        real = Path(os.path.realpath(file))
        if real.parent == Path(os.path.realpath(folder)) and real.name in (*OWN, "error.nii.gz", "report.png"):
            raise invalid("output", f"another folder than that of {file}, which is read", folder, "Choose another.")


LISTING = "result.json"
"""What a result's folder has when it is whole: with the sha256 of each other file under `files`."""
OWN = ("transform.nii.gz", "transform.tfm", "transform.h5", "moved.nii.gz", "moved_labels.nii.gz", "moved.csv")
"""Files of a result that others read: beside a listing that is damaged they are not read."""
_LISTING_LIMIT = 2**24


def digests(folder: Path) -> dict[str, str]:
    """Returns the sha256 of each file in a folder, by name."""
    return {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.is_file()}


def check_listed(path: Path) -> None:
    """Refuses a file of a result that is not the one which the `result.json` beside it lists; a file alone is fine.

    Raises:
        InvalidError: If it is another, or the list is damaged or was not finished.
    """
    if path.is_symlink():
        check_listed(path.resolve())
    listing = path.parent / LISTING
    if not os.path.lexists(listing):
        return
    listed = _listed(listing)
    advice = "Write the result again, or remove result.json if the change is meant."
    if listed == {} and path.name in OWN:
        raise InvalidError(f"{path}: {LISTING} beside it is damaged, or was not written to its end. {advice}")
    if listed and path.name in listed and listed[path.name] != sha256(path):
        raise InvalidError(f"{path} is not the file that {LISTING} beside it lists. {advice}")


def _listed(listing: Path) -> dict[str, object] | None:
    """Returns what a `result.json` lists: nothing if it is damaged; None if it is none that lists files."""
    try:
        found = parse_json(read_text(listing, _LISTING_LIMIT), str(listing))
    except RegzooError:
        return {}
    if "files" not in found:
        return None
    return found["files"] if isinstance(found["files"], dict) else {}


def sha256(path: str | os.PathLike) -> str:
    """Returns the sha256 of a file in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
