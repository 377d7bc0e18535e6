"""What a new DICOM object takes from the images that it is made of: patient, study, frame of reference, references."""

import copy
import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import regzoo
from regzoo.errors import InvalidError, invalid
from regzoo.io.extras import needed
from regzoo.io.reading import readable
from regzoo.io.volumes.dicom import is_dicom, series
from regzoo.io.volumes.dicom_header import quiet, read_header

_PATIENT = (0x0010, 0x0012)
"""Groups that are copied whole: the patient, and the clinical trial."""
_STUDY = (
    "SpecificCharacterSet",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "StudyDescription",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianName",
)
_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
"""What the standard wants to be there, if empty."""
_LONGEST = 64
"""Characters of a description."""


@dataclass(frozen=True)
class Origin:
    """A DICOM image, as its headers tell of it.

    Args:
        header: That of its first file, pydicom's data set.
        instances: Class and UID of each of its files.
    """

    header: Any
    instances: tuple[tuple[str, str], ...]

    @property
    def frame(self) -> str:
        """The UID of the frame of reference in which it lies."""
        return str(self.header.FrameOfReferenceUID)


@dataclass(frozen=True)
class Frame:
    """A frame of reference, in which images lie.

    Args:
        uid: Its UID.
        indicator: The anatomy that it hangs on, as headers tell it.
        position: How the patient lay.
    """

    uid: str
    indicator: str = ""
    position: str = ""


def frame_of(fixed: Origin | None) -> Frame:
    """Returns the frame of reference of the fixed image; a new one where that is no DICOM."""
    if fixed is None:
        return Frame(new_uid())
    return Frame(
        fixed.frame, *(fixed.header.get(each, "") for each in ("PositionReferenceIndicator", "PatientPosition"))
    )


def read_origin(path: Path, name: str) -> Origin:
    """Reads the headers of a DICOM image.

    Args:
        path: A folder, FOLDER/UID or a file.
        name: What the image is called in an error.

    Raises:
        InvalidError: If they are damaged, or lack what tells images of a study apart.
        MissingError: If pydicom is not installed.
    """
    with readable(path):
        files = series(path)
        headers = [read_header(file) for file in files]
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality"):
        if any(not header.get(keyword) for header in headers):
            raise invalid(name, f"DICOM with a {keyword}", "none", "Leave out --dicom.")
    return Origin(headers[0], tuple((str(each.SOPClassUID), str(each.SOPInstanceUID)) for each in headers))


def lies_elsewhere(image: Path, registration: Path) -> bool:
    """Tells whether a DICOM image lies in another frame of reference than the one that a registration leads from.

    That is the object's own; the other one, or others, its items name.
    """
    if not (is_dicom(image) and is_dicom(registration)):
        return False
    with readable(image):
        (*_, file) = series(image)
        here = read_header(file).get("FrameOfReferenceUID")
    with readable(registration, "transform"):
        return here != read_header(registration).get("FrameOfReferenceUID")


def check_one_patient(fixed: Origin, moving: Origin) -> None:
    """Refuses images of two people: what is made of one cannot lie in the other's frame of reference.

    Raises:
        InvalidError: If the numbers of the patients differ, or who gave them; without numbers, names or birthdays.
    """
    ids, issuers, names, births = (
        [str(each.header.get(keyword) or "").strip() for each in (fixed, moving)]
        for keyword in ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate")
    )
    alike = ids[0] == ids[1] and (issuers[0] == issuers[1] or "" in issuers)
    if not any(ids):
        alike = names[0] == names[1] and births[0] == births[1]
    if not alike:
        advice = "As NIfTI, the fixed image has no patient, and the moved one gets a frame of reference of its own."
        raise InvalidError(f"--dicom: expected two images of one patient, received those of two. {advice}")


def new_object(origin: Origin, kind: str, modality: str, frame: Frame, description: str, after: int) -> Any:
    """Returns a new object in a series of its own, of the patient and the study of an image.

    Args:
        origin: The image.
        kind: UID of the object's class.
        modality: Such as CT.
        frame: Where it lies.
        description: That of the series.
        after: How far its number follows that of the image's series.
    """
    pydicom, header = needed("pydicom", "dicom"), origin.header
    data, now = pydicom.Dataset(), datetime.datetime.now()
    for element in header:
        if element.tag.group in _PATIENT or element.keyword in _STUDY:
            data[element.tag] = copy.deepcopy(element)
    for keyword in _EMPTY:
        setattr(data, keyword, data.get(keyword, ""))
    for word in ("InstanceCreation", "Series", "Content"):
        setattr(data, f"{word}Date", now.strftime("%Y%m%d"))
        setattr(data, f"{word}Time", now.strftime("%H%M%S"))
    data.SOPClassUID, data.SOPInstanceUID, data.SeriesInstanceUID = kind, new_uid(), new_uid()
    data.Modality, data.InstanceNumber, data.SeriesNumber = modality, 1, int(header.get("SeriesNumber") or 0) + after
    data.SeriesDescription, data.Laterality = description[:_LONGEST], header.get("Laterality", "")
    data.FrameOfReferenceUID, data.PositionReferenceIndicator = frame.uid, frame.indicator
    data.Manufacturer = data.ManufacturerModelName = "regzoo"
    data.DeviceSerialNumber = data.SoftwareVersions = regzoo.__version__
    return data


def new_uid() -> str:
    """Returns a UID that nothing else has."""
    return needed("pydicom", "dicom").uid.generate_uid(prefix=None)


def item(**values: object) -> Any:
    """Returns an item of a sequence."""
    data = needed("pydicom", "dicom").Dataset()
    for keyword, value in values.items():
        setattr(data, keyword, value)
    return data


def code(value: str, meaning: str) -> list:
    """Returns the sequence of one code of DICOM's own."""
    return [item(CodeValue=value, CodingSchemeDesignator="DCM", CodeMeaning=meaning)]


def numbers(values: Sequence[float]) -> list[str]:
    """Returns numbers as decimal strings, of which DICOM allows sixteen characters."""
    return [needed("pydicom", "dicom").valuerep.format_number_as_ds(float(value)) for value in values]


def refer(data: Any, origins: Sequence[Origin]) -> None:
    """Lists the instances of images, series by series, apart for other studies than the object's own."""
    same, others = [], []
    for each in origins:
        listed = item(SeriesInstanceUID=each.header.SeriesInstanceUID, ReferencedInstanceSequence=references(each))
        if each.header.StudyInstanceUID == data.StudyInstanceUID:
            same.append(listed)
        else:
            others.append(item(StudyInstanceUID=each.header.StudyInstanceUID, ReferencedSeriesSequence=[listed]))
    if same:
        data.ReferencedSeriesSequence = same
    if others:
        data.StudiesContainingOtherReferencedInstancesSequence = others


def references(origin: Origin, **more: object) -> list:
    """Returns the sequence that names an image's instances."""
    return [item(ReferencedSOPClassUID=k, ReferencedSOPInstanceUID=uid, **more) for k, uid in origin.instances]


def save(data: Any, file: Path) -> None:
    """Writes an object as a file."""
    pydicom = needed("pydicom", "dicom")
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    with quiet():
        data.save_as(file, enforce_file_format=True)
