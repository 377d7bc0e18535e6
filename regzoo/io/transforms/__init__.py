"""Spatial transforms: a file a format, and the dict of them. ITK's LPS stays in here; outside it is all RAS."""

from regzoo.io.transforms.formats import FORMATS, FORMS, counts_in_voxels, field_suffixes, read_transform, writer
from regzoo.io.transforms.step import Format, Images, Lattice, Spline, Step

__all__ = [
    "FORMATS",
    "FORMS",
    "Format",
    "Images",
    "Lattice",
    "Spline",
    "Step",
    "counts_in_voxels",
    "field_suffixes",
    "read_transform",
    "writer",
]
