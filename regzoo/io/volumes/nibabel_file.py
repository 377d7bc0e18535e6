"""What the formats that nibabel reads share: its image classes as a `Volume`, over streams that are checked."""

import contextlib
import logging
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from nibabel.fileholders import FileHolder
from nibabel.imageglobals import logger
from nibabel.spatialimages import SpatialImage

from regzoo.hushed import noted
from regzoo.io.streams import Stream, most, opened
from regzoo.io.volumes.forms import REPAIRS, remark
from regzoo.io.volumes.volume import Volume, sliced

_MILLIMETRES = {"meter": 1e3, "micron": 1e-3}


@contextlib.contextmanager
def read_by(kind: type[SpatialImage], **files: Path) -> Iterator[SpatialImage]:
    """Gives a file as an image of one of nibabel's classes, its voxels unread; at the end, checksums are compared.

    Args:
        kind: The class.
        files: The files that it has, by what it calls them: `image`, and for a pair `header`.
    """
    with contextlib.ExitStack() as stack:
        streams = {name: stack.enter_context(opened(path)) for name, path in files.items()}
        holders = {name: FileHolder(str(files[name]), stream) for name, stream in streams.items()}
        # Tried on a stream, a memory map reads all of it before it fails.
        with _mended() as notes:
            image = kind.from_file_map(holders, mmap=not isinstance(streams["image"], Stream))
        image.extra[REPAIRS] = notes
        yield image
        end = image.dataobj.offset + math.prod(image.shape) * image.get_data_dtype().itemsize
        for stream in streams.values():
            if isinstance(stream, Stream):
                stream.finish(end)


@contextlib.contextmanager
def _mended() -> Iterator[list[str]]:
    """Gives what nibabel mends of a header, or warns of: it says it by itself, without the file's name."""
    notes: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            notes.append(record.getMessage())
        return record.levelno < logging.WARNING

    with noted() as warned:
        logger.addFilter(keep)
        try:
            yield notes
        finally:
            logger.removeFilter(keep)
    notes += warned


def affine_of(image: SpatialImage) -> np.ndarray:
    """Returns an image's affine in mm, whatever its header counts in."""
    unit = image.header.get_xyzt_units()[0] if hasattr(image.header, "get_xyzt_units") else "mm"
    return np.diag([_MILLIMETRES.get(unit, 1.0)] * 3 + [1.0]) @ image.affine


def volume_of(image: SpatialImage, file: Path) -> Volume:
    """Returns an image that is open by its own class.

    Args:
        image: The image.
        file: The file that holds its voxels.
    """
    values = sliced(image.dataobj)
    return Volume(
        image.shape, image.get_data_dtype(), affine_of(image), values, most(file), remark(image), _step(image)
    )


def _step(image: SpatialImage) -> tuple[float, str] | None:
    if len(image.shape) < 4 or not hasattr(image.header, "get_xyzt_units"):
        return None
    return float(image.header.get_zooms()[3]), image.header.get_xyzt_units()[1]
