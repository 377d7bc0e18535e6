"""Images that are in memory already: those of nibabel, and arrays."""

import numpy as np
from nibabel.spatialimages import SpatialImage

from regzoo.errors import invalid
from regzoo.io.pieces import Order
from regzoo.io.volumes.forms import remark
from regzoo.io.volumes.nibabel_file import affine_of
from regzoo.io.volumes.volume import Volume, sliced


def is_array(source: object) -> bool:
    """Tells whether something is an array of numbers, of NumPy or one that NumPy reads, without a geometry."""
    return isinstance(source, np.ndarray) or (hasattr(source, "__array__") and not isinstance(source, SpatialImage))


def in_memory(name: str, source: object) -> Volume:
    """Returns a nibabel image, with the geometry that its file has or would have, or an array, which has none.

    Args:
        name: What it is called in an error.
        source: The image.

    Raises:
        InvalidError: If it is neither.
    """
    if isinstance(source, SpatialImage):
        voxels = source.dataobj
        return Volume(
            *(source.shape, source.get_data_dtype(), affine_of(source), sliced(voxels)),
            remark=remark(source),
            order=_order(voxels),
        )
    if not is_array(source):
        expected = "a path, an Image, a nibabel image or an array"
        raise invalid(name, expected, f"a {type(source).__module__}.{type(source).__name__}")
    array = np.asanyarray(source)
    return Volume(array.shape, array.dtype, None, sliced(array), order=_order(array))


def _order(voxels: object) -> Order:
    return "C" if isinstance(voxels, np.ndarray) and voxels.flags.c_contiguous else "F"
