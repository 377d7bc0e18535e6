"""Files that are whole or absent: atomic writes of files and folders, and sha256."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


def expanded(path: str | os.PathLike) -> Path:
    """Returns a path with a leading `~` or `~user` replaced, where there is such a user; never raises."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # no such user
        return Path(path)


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a temporary path beside `path` (same suffixes) and renames it to `path` if the block succeeds.

    If the block raises, a full disk and Ctrl-C included, nothing is left and an older `path` is untouched.

    Args:
        path: Where the file belongs; missing parent folders are made.

    Yields:
        The path to write to.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name stays in front of the dot so that writers which look at ".nii.gz" or ".h5" still see it.
    with tempfile.TemporaryDirectory(prefix=".regzoo-", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        yield temporary
        temporary.chmod(0o644)  # some writers make their files private
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # else a power cut could leave the new name with nothing behind it
        temporary.replace(path)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a temporary folder beside `path` and moves its files into `path` if the block succeeds.

    Args:
        path: The folder to make or to add to. Files of the same name are replaced, others are kept.

    Yields:
        The folder to write to.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield temporary
        if not path.exists():
            temporary.chmod(0o755)  # mkdtemp makes it private
            temporary.replace(path)
            return
        for file in sorted(temporary.iterdir()):
            file.replace(path / file.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sha256(path: str | os.PathLike) -> str:
    """Returns the sha256 of a file in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
