"""The formats of surfaces by suffix. Another format is one file here and one entry of `FORMATS`."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from regzoo.errors import invalid
from regzoo.io.files import check_listed
from regzoo.io.reading import check_file, readable
from regzoo.io.surfaces import gifti, ply
from regzoo.io.surfaces.surface import Surface

FORMATS: dict[str, Callable[[Path, bool], Surface]] = {".gii": gifti.read, ".ply": ply.read}
"""Suffix -> what reads a file, and takes it to count in LPS where it does not say how it counts."""
_OTHERS = (".stl", ".obj", ".vtk")
_LIMIT = 2**28
"""Bytes; a brain's surface has ten million at most."""


def is_surface(path: Path) -> bool:
    """Tells whether a file's name is that of a surface, be it one that is read or not."""
    return path.suffix.lower() in (*FORMATS, *_OTHERS)


def read_surface(path: Path, *, lps: bool = False) -> Surface:
    """Reads a surface.

    Args:
        path: GIFTI (.surf.gii) or PLY.
        lps: Whether a file that does not say how it counts, which only PLY may be, counts in LPS mm.

    Raises:
        MissingError: If there is no such file.
        InvalidError: If it is damaged, of another format, or its points are in coordinates that are not the scanner's.
    """
    check_file(path)
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise invalid(path.name, f"a surface ({' or '.join(FORMATS)})", f"'{path.name}'", "Convert it first.")
    check_listed(path)
    if path.stat().st_size > _LIMIT:
        raise invalid(path.name, f"at most {_LIMIT} bytes", path.stat().st_size)
    with readable(path, "surface"):
        surface = FORMATS[suffix](path, lps)
        if not np.isfinite(surface.points).all():
            raise invalid(path.name, "finite points", "NaN or infinite values")
    return Surface(surface.points, _checked(suffix, surface.write), surface.remark)


def _checked(suffix: str, write: Callable[[Path, np.ndarray], None]) -> Callable[[Path, np.ndarray], None]:
    """Returns what writes a surface, once the name is found to be one of its format."""

    def checked(path: Path, points: np.ndarray) -> None:
        if path.suffix.lower() != suffix:
            raise invalid("path", f"a name ending in {suffix}, the format of the surface", f"'{path.name}'")
        write(path, points)

    return checked
