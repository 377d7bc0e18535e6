"""Images and label maps: a file a format, and the dict of them."""

from regzoo.io.volumes.formats import FORMATS, exists, read_grid, read_image, write_image
from regzoo.io.volumes.volume import Format, Volume

__all__ = ["FORMATS", "Format", "Volume", "exists", "read_grid", "read_image", "write_image"]
