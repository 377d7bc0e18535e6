"""Images and label maps: a file a format, and the dict of them."""

from regzoo.io.volumes.formats import (
    FORMATS,
    checked_array,
    exists,
    read_grid,
    read_image,
    read_remark,
    read_step,
    series_writer,
    write_image,
    writer,
)
from regzoo.io.volumes.in_memory import in_memory, is_array
from regzoo.io.volumes.values import not_finite
from regzoo.io.volumes.volume import Format, Volume

__all__ = [
    "FORMATS",
    "Format",
    "Volume",
    "checked_array",
    "exists",
    "in_memory",
    "is_array",
    "not_finite",
    "read_grid",
    "read_image",
    "read_remark",
    "read_step",
    "series_writer",
    "write_image",
    "writer",
]
