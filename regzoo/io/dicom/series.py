"""A derived series: an image in the frame of reference of another one, a file a slice, as CT or MR."""

from pathlib import Path
from typing import Any

import numpy as np

from regzoo.errors import invalid
from regzoo.io.dicom.origin import Frame, Origin, code, new_object, new_uid, numbers, references, save
from regzoo.io.lps import LPS

_ASKEW = 1e-4
_CT, _MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
_KINDS = {
    "CT": (_CT, "AXIAL", {"KVP": "", "AcquisitionNumber": ""}),
    "MR": (
        _MR,
        "OTHER",
        {
            "ScanningSequence": "RM",  # research mode: what an enhanced image tells of otherwise
            "SequenceVariant": "NONE",
            "ScanOptions": "",
            "MRAcquisitionType": "",
            "RepetitionTime": "",
            "EchoTime": "",
            "EchoTrainLength": "",
            "MagneticFieldStrength": "",
        },
    ),
}
"""Modality -> class, what the image type ends with, and what is taken of the acquisition, else this is put for it."""
_KEPT = (
    "AcquisitionDate",
    "AcquisitionTime",
    "BodyPartExamined",
    "ContrastBolusAgent",
    "InversionTime",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
    "BurnedInAnnotation",
    "WindowCenter",
    "WindowWidth",
)


def check_planes(origin: Origin, affine: np.ndarray) -> None:
    """Refuses what no series of slices can hold.

    Raises:
        InvalidError: If the moving image is neither CT nor MR, or i and j of the fixed grid are not at right angles.
    """
    modality = origin.header.Modality
    if modality not in _KINDS:
        raise invalid("--dicom: the moving image", f"{' or '.join(_KINDS)}", modality, "Leave out --dicom.")
    along = affine[:3, :2] / np.linalg.norm(affine[:3, :2], axis=0)
    if abs(along[:, 0] @ along[:, 1]) > _ASKEW:
        advice = "Resample it, or leave out --dicom."
        raise invalid("--dicom: the fixed image", "rows and columns at right angles", "a sheared one", advice)


def write_series(
    folder: Path, array: np.ndarray, affine: np.ndarray, moving: Origin, frame: Frame, whole: bool
) -> None:
    """Writes the moved image as a derived series of the moving image's patient and study.

    Args:
        folder: Where to, an existing folder.
        array: The moved image, shape (I, J, K); each k is a slice.
        affine: Voxel to RAS mm, shape (4, 4).
        moving: What was moved.
        frame: The fixed image's frame of reference.
        whole: Whether the moving image's values were whole numbers; then the moved ones are rounded to such.
    """
    kind, last, acquisition = _KINDS[moving.header.Modality]
    told = f"Registered by regzoo: {moving.header.get('SeriesDescription') or moving.header.Modality}"
    data = new_object(moving, kind, moving.header.Modality, frame, told, 1000)
    data.ImageType = ["DERIVED", "SECONDARY", last]
    for keyword, value in (dict.fromkeys(_KEPT) | acquisition).items():
        found = moving.header.get(keyword, value)
        if found is not None:
            setattr(data, keyword, found)
    data.PatientPosition = frame.position
    data.DerivationDescription = "Resampled in the frame of reference of another image, to which it was registered"
    data.DerivationCodeSequence = code("113085", "Spatial resampling")
    purpose = code("121322", "Source image for image processing operation")
    more = {"SpatialLocationsPreserved": "NO", "PurposeOfReferenceCodeSequence": purpose}
    data.SourceImageSequence = references(moving, **more)
    lps = LPS @ affine
    _place(data, lps)
    _write(folder, data, _scale(data, array, whole), lps)


def _place(data: Any, lps: np.ndarray) -> None:
    """Sets what all slices share of their geometry."""
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    along = lps[:3, :2] / spacing[:2]
    data.ImageOrientationPatient = numbers(along.T.ravel())
    data.PixelSpacing = numbers([spacing[1], spacing[0]])  # from row to row first
    thickness = abs(np.cross(*along.T) @ lps[:3, 2])
    data.SliceThickness = data.SpacingBetweenSlices = numbers([thickness])[0]


def _scale(data: Any, array: np.ndarray, whole: bool) -> np.ndarray:
    """Sets slope and intercept, and returns what is stored, of 16 bits."""
    low, high = float(array.min()), float(array.max())
    signed = low < -0.5
    slope, intercept = "1", "0"
    if not (whole and low >= -(2**15) and high < 2 ** (15 if signed else 16) - 0.5):
        signed = False
        (slope, intercept) = numbers([(high - low) / (2**16 - 1) or 1.0, low])
    if data.Modality == "CT" or (slope, intercept) != ("1", "0"):
        data.RescaleSlope, data.RescaleIntercept = slope, intercept
        data.RescaleType = "HU" if data.Modality == "CT" else "US"
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation = 15, int(signed)
    stored = np.rint((array.astype(np.float64) - float(intercept)) / float(slope))
    kind = np.dtype("<i2" if signed else "<u2")
    limits = np.iinfo(kind)
    return np.clip(stored, limits.min, limits.max).astype(kind)


def _write(folder: Path, data: Any, stored: np.ndarray, lps: np.ndarray) -> None:
    data.Columns, data.Rows = stored.shape[:2]
    digits = max(len(str(stored.shape[2])), 4)
    for k in range(stored.shape[2]):
        data.SOPInstanceUID, data.InstanceNumber = new_uid(), k + 1
        data.ImagePositionPatient = numbers((lps @ (0, 0, k, 1))[:3])
        data.PixelData = stored[:, :, k].T.tobytes()
        save(data, folder / f"{k + 1:0{digits}}.dcm")
