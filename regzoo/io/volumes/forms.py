"""NIfTI's two forms of geometry: what is open where they disagree, or where neither is set."""

import itertools

import numpy as np
from nibabel.spatialimages import SpatialImage

_FAR = 0.05
"""Voxels at a corner from which on two forms are two places; float32 and rounded quaternions stay far below."""
_SKEW = 1e-3
"""Cosine between two axes from which on they are sheared; float32 and rounding stay far below."""
REPAIRS = "repairs"
"""Under this name an image's `extra` has what nibabel mended of its header when it read it."""
_REPAIR = "Write it anew with one geometry: regzoo.Image.read(FILE).save(COPY)."


def remark(image: SpatialImage) -> str:
    """Says what the header of an image leaves open of its geometry; an empty string if nothing.

    ITK, and ANTs with it, takes the sform if its code is 1 or there is no other, else the qform (ITK 5.4, by trial).
    """
    mended = "; ".join(image.extra.get(REPAIRS, ()))
    return " ".join(filter(None, (mended and f"the header is faulty and was read so: {mended}.", _geometry(image))))


def _geometry(image: SpatialImage) -> str:
    header = image.header
    if not hasattr(header, "get_sform") or not np.allclose(image.affine, header.get_best_affine()):
        return ""  # not NIfTI, or an image in memory, whose affine nibabel would save
    forms = {name: (get(), int(header[f"{name}_code"])) for name, get in _getters(header)}
    (sform, scode), (qform, qcode) = forms["sform"], forms["qform"]
    if scode == qcode == 0:
        return (
            "the header has no geometry (sform and qform code 0). regzoo takes the axes to run along L, A, S with "
            "the image's middle in the origin; ITK and ANTs take another place, and transform files move it wrongly "
            f"there. {_REPAIR}"
        )
    if scode == 0 or qcode == 0:
        return _sheared(image.affine)
    apart = _apart(sform, qform, image.shape)
    if apart < _FAR * np.linalg.norm(sform[:3, :3], axis=0).min():
        return ""
    start = f"sform (code {scode}) and qform (code {qcode}) of the header are up to {apart:.3g} mm apart. "
    if scode == 1:
        return f"{start}regzoo takes the sform, and so do ITK and ANTs. {_REPAIR}"
    return (
        f"{start}regzoo takes the sform; ITK and ANTs take the qform, where transform files move the image wrongly. "
        f"{_REPAIR}"
    )


def _sheared(affine: np.ndarray) -> str:
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not (lengths > 0).all():
        return ""  # no image, which its reader will say
    axes = affine[:3, :3] / lengths
    if np.abs(axes.T @ axes - np.eye(3)).max() < _SKEW:
        return ""
    return (
        "the axes of the header are not at right angles (sheared). ITK and ANTs open no such file, nor a field that is "
        "written in NIfTI on its grid; write the transform as .h5."
    )


def _getters(header: object) -> list[tuple]:
    return [("sform", header.get_sform), ("qform", header.get_qform)]


def _apart(a: np.ndarray, b: np.ndarray, shape: tuple[int, ...]) -> float:
    """Returns how far the corner voxels are from each other by two affines, at most."""
    corners = np.array([[*corner, 1] for corner in itertools.product(*((0, size - 1) for size in (*shape, 1, 1)[:3]))])
    return float(np.linalg.norm((corners @ (a - b).T)[:, :3], axis=1).max())
