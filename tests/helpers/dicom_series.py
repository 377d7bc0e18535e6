"""DICOM series of known voxels at known places, written by pydicom: slices, and frames of one file."""

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid
from worlds import rotation

COLUMNS, ROWS, COUNT = 7, 6, 5
SPACING, STEP, ORIGIN = (2.5, 1.5), 4.0, np.array([-30.0, 20.5, 100.25])
WORLDS = {
    "axial": np.eye(3),
    "feet first": np.diag([1, 1, -1]),
    "sagittal": np.array([[0, 1, 0], [0, 0, -1], [1, 0, 0]]),
    "coronal": np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "oblique": rotation(0.3, -0.4, 0.2).T,
}
"""Rows: along a row, along a column, from slice to slice, in LPS."""


def voxels(seed=0):
    return np.random.default_rng(seed).integers(-500, 1500, (COUNT, ROWS, COLUMNS)).astype("int16")


def slice_of(pixels, place, axes, series, number):
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID, data.SeriesInstanceUID = CTImageStorage, generate_uid(), series
    data.StudyInstanceUID = data.FrameOfReferenceUID = "1.2.3"
    data.Modality, data.PatientName, data.PatientID, data.InstanceNumber = "CT", "Doe^Jane", "4711", number
    data.ImagePositionPatient = [f"{each:.8g}" for each in place]
    data.ImageOrientationPatient = [f"{each:.10f}" for each in axes[:2].ravel()]
    data.PixelSpacing, data.SliceThickness = list(SPACING), 9
    data.Rows, data.Columns = pixels.shape
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit, data.PixelRepresentation, data.SamplesPerPixel = 15, 1, 1
    data.PhotometricInterpretation, data.PixelData = "MONOCHROME2", pixels.tobytes()
    data.RescaleSlope, data.RescaleIntercept = 2, -1024
    return data


def write(folder, world="axial", series="1.2.3.4", change=lambda number, data: None, shuffle=True):
    """Writes a series, the names of its files in another order than the slices; `change` may alter one."""
    folder.mkdir(exist_ok=True)
    axes = WORLDS[world]
    names = np.random.default_rng(1).permutation(COUNT) if shuffle else range(COUNT)
    for number, pixels in enumerate(voxels()):
        data = slice_of(pixels, ORIGIN + number * STEP * axes[2], axes, series, COUNT - number)
        if change(number, data) is None:
            data.save_as(folder / f"{series}-{names[number]}.dcm", enforce_file_format=True)
    return folder


def frames_of(order, world="axial", shared=True, slopes=None):
    """Returns an enhanced CT with the slices in an order; `shared`: whether all have one record of what they share."""
    axes, data = WORLDS[world], slice_of(voxels()[0], ORIGIN, WORLDS[world], "1.2.3.9", 1)
    for name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"):
        delattr(data, name)
    del data.RescaleSlope, data.RescaleIntercept
    data.SOPClassUID, data.NumberOfFrames = EnhancedCTImageStorage, len(order)
    data.PixelData = voxels()[list(order)].tobytes()
    same = Dataset()
    same.PlaneOrientationSequence = [_dataset(ImageOrientationPatient=[f"{each:.10f}" for each in axes[:2].ravel()])]
    same.PixelMeasuresSequence = [_dataset(PixelSpacing=list(SPACING), SliceThickness=9)]
    data.PerFrameFunctionalGroupsSequence, data.SharedFunctionalGroupsSequence = [], [same if shared else Dataset()]
    for number in order:
        frame = Dataset()
        frame.PlanePositionSequence = [
            _dataset(ImagePositionPatient=[f"{each:.8g}" for each in ORIGIN + number * STEP * axes[2]])
        ]
        scale = _dataset(RescaleSlope=(slopes or {}).get(number, 2), RescaleIntercept=-1024, RescaleType="HU")
        frame.PixelValueTransformationSequence = [scale]
        if not shared:
            frame.update(same)
        data.PerFrameFunctionalGroupsSequence.append(frame)
    return data


def _dataset(**values):
    data = Dataset()
    for name, value in values.items():
        setattr(data, name, value)
    return data
