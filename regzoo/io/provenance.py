"""Where a result comes from: its input files, when it was made, by what."""

import datetime
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from regzoo.io.files import sha256
from regzoo.io.volumes import dicom

VERSION = 1
"""Of the keys of `result.json`; see `regzoo.schema.result`."""


def provenance(sources: Mapping[str, object], versions: Mapping[str, str], device: str) -> dict:
    """Returns what a result's `result.json` says of its origin. Nothing in it is read from a file's header.

    Args:
        sources: What was read, by argument: files, `Image` objects that were read from one, or what is no file.
        versions: Package -> version.
        device: What computed it.
    """
    files = {name: file for name, source in sources.items() if (file := _file(source)) is not None}
    return {
        "schema_version": VERSION,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": None,
        "inputs": {name: _told(file) for name, file in files.items()},
        "versions": dict(versions),
        "device": device,
    }


def _file(source: object) -> Path | None:
    file = getattr(source, "file", source)
    return Path(file) if isinstance(file, str | os.PathLike) else None


def _told(file: Path) -> dict[str, str]:
    """Returns the name and the sha256 of a file; of a dataset FILE.h5/KEY that of FILE.h5; of DICOM, that of all."""
    if dicom.is_dicom(file):
        lines = "".join(f"{sha256(each)}\n" for each in dicom.files(file))
        name = file.name if file.exists() else f"{file.parent.name}/{file.name}"
        return {"file": name, "sha256": hashlib.sha256(lines.encode()).hexdigest()}
    within = file.parent.is_file()
    name = f"{file.parent.name}/{file.name}" if within else file.name
    return {"file": name, "sha256": sha256(file.parent if within else file)}
