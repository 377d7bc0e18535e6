"""DICOM that regzoo writes: a derived series, and registration objects; by pydicom, the extra `dicom`."""

from regzoo.io.dicom.origin import Frame, Origin, check_one_patient, frame_of, lies_elsewhere, read_origin, save
from regzoo.io.dicom.registration import registration
from regzoo.io.dicom.series import check_planes, write_series

__all__ = [
    "Frame",
    "Origin",
    "check_one_patient",
    "check_planes",
    "frame_of",
    "lies_elsewhere",
    "read_origin",
    "registration",
    "save",
    "write_series",
]
