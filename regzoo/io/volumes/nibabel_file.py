"""What the formats that nibabel reads share: its image classes as a `Volume`, and sizes that can be true."""

import math
from pathlib import Path

import numpy as np
from nibabel.spatialimages import SpatialImage

from regzoo.errors import InvalidError, invalid
from regzoo.io.reading import shown
from regzoo.io.volumes.volume import Volume

_GZIP_RATIO = 1032
"""The most that deflate compresses."""

_VOXELS_LIMIT = 2**28
"""A CT of a whole body, 512 x 512 x 1024; as float32 they take one gigabyte, and a field on them three."""

_MILLIMETRES = {"meter": 1e3, "micron": 1e-3}


def volume_of(path: Path, file: SpatialImage) -> Volume:
    """Returns a nibabel image that was opened by its own class, its voxels unread."""
    unit = file.header.get_xyzt_units()[0] if hasattr(file.header, "get_xyzt_units") else "mm"
    affine = np.diag([_MILLIMETRES.get(unit, 1.0)] * 3 + [1.0]) @ file.affine

    def values(volume: int | None) -> np.ndarray:
        _check_size(path, file)
        return np.asanyarray(file.dataobj if volume is None else file.dataobj[..., volume])

    return Volume(file.shape, file.get_data_dtype(), affine, values)


def _check_size(path: Path, file: SpatialImage) -> None:
    """Refuses a file that is too small for the voxels its header tells of, before memory is taken for them."""
    count = math.prod(map(int, file.shape))
    if count > _VOXELS_LIMIT:
        raise invalid(shown(path), f"at most {_VOXELS_LIMIT} voxels", count, "Crop it, or make its voxels larger.")
    holder = Path(file.file_map["image"].filename)
    held = holder.stat().st_size * (_GZIP_RATIO if holder.suffix in (".gz", ".mgz") else 1)
    needed = count * file.get_data_dtype().itemsize
    if needed > held and holder.suffix not in (".bz2", ".zst"):
        message = f"its header tells of {needed} bytes of voxels, but the file has {holder.stat().st_size}"
        raise InvalidError(f"{shown(path)} is not a readable image, or it is damaged: {message}.")
