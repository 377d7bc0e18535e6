"""BIDS names of transforms, and the JSON file that BIDS wants beside one."""

import json
import re
from pathlib import Path

from regzoo.io.files import atomic_file

_XFM = re.compile(r"(.+_from-([A-Za-z0-9+]+)_to-([A-Za-z0-9+]+)_mode-image_xfm)\.[A-Za-z0-9.]+")


def json_beside(path: Path) -> Path | None:
    """Returns the JSON file that belongs to `sub-01_from-T1w_to-MNI_mode-image_xfm.h5`; None to any other name."""
    match = _XFM.fullmatch(path.name)
    return match and path.with_name(f"{match[1]}.json")


def describe_xfm(path: Path, facts: dict) -> None:
    """Writes the JSON file beside a transform of such a name: the spaces that the name tells of, and more facts.

    An image is moved from the one to the other; points go through the file the other way, as ITK has it.
    """
    match = _XFM.fullmatch(path.name)
    write_json(path.with_name(f"{match[1]}.json"), {"From": match[2], "To": match[3], **facts})


def write_json(path: Path, facts: dict) -> None:
    """Writes facts as JSON that people read."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(facts, indent=2, allow_nan=False) + "\n", encoding="utf-8")
