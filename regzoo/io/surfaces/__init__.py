"""Surfaces: a file a format, and the dict of them."""

from regzoo.io.surfaces.formats import FORMATS, is_surface, read_surface
from regzoo.io.surfaces.surface import Surface

__all__ = ["FORMATS", "Surface", "is_surface", "read_surface"]
