"""What a header says of a person goes into nothing that is written."""

import gzip
import json

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from nibabel.nifti1 import Nifti1Extension

import regzoo
from regzoo.world.images import Image

SHAPE = (24, 20, 12)
SECRETS = ("Doe^Jane", "DoeJane", "PID-4711", "19610203", "St Elsewhere")
"""Name, name in short, number, date of birth, hospital."""
TAGS = {"0010|0010": "Doe^Jane", "0010|0020": "PID-4711", "0010|0030": "19610203", "0008|0080": "St Elsewhere"}


def dicom(folder, array):
    folder.mkdir()
    for number in range(array.shape[2]):
        image = sitk.GetImageFromArray(array[:, :, number].T.astype(np.int16)[None])
        tags = TAGS | {"0008|0060": "CT", "0020|000d": "1.2.3", "0020|000e": "1.2.3.4", "0020|0013": str(number + 1)}
        tags |= {"0020|0032": f"0\\0\\{2 * number}", "0020|0037": "1\\0\\0\\0\\1\\0", "0018|0050": "2"}
        image.SetSpacing((2, 2, 2))
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(folder / f"{number:02}.dcm"))
        writer.Execute(image)
    return folder


def nifti(file, array):
    image = nib.Nifti1Image(array, np.diag([2.0, 2.0, 2.0, 1.0]))
    image.header["descrip"], image.header["db_name"] = "Doe^Jane 19610203", "DoeJane"
    image.header["aux_file"], image.header["intent_name"] = "St Elsewhere", "PID-4711"
    for code in (2, 4, 6):  # DICOM, AFNI, a comment
        content = b"\x10\x00\x10\x00PN\x08\x00Doe^Jane" if code == 2 else b"Doe^Jane PID-4711 19610203"
        image.header.extensions.append(Nifti1Extension(code, content))
    nib.save(image, file)
    return file


def told(file):
    """Returns every byte of a file, unpacked, in small letters."""
    data = file.read_bytes()
    return (gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data).lower()


def found(folder):
    """Returns which secret stands in which file, in ASCII or UTF-16."""
    return [
        (secret, file.name)
        for file in sorted(folder.rglob("*"))
        if file.is_file()
        for secret in SECRETS
        if any(secret.lower().encode(coding) in told(file) for coding in ("ascii", "utf-16-le"))
    ]


def test_nothing_that_is_written_names_a_patient(tmp_path):
    given, out = tmp_path / "given", tmp_path / "out"
    given.mkdir()
    places = np.moveaxis(np.indices(SHAPE), 0, -1)
    balls = [(1000 * np.exp(-((places - middle) ** 2).sum(-1) / 30)).round() for middle in ((11, 9, 6), (12, 9, 6))]
    fixed = dicom(given / "series", balls[0])
    moving = nifti(given / "moving.nii.gz", balls[1].astype(np.float32))
    labels = nifti(given / "labels.nii.gz", (balls[1] > 300).astype(np.uint8))
    assert {secret for secret, _ in found(fixed)} == {*SECRETS} - {"DoeJane"}
    assert {secret for secret, file in found(given) if file == "moving.nii.gz"} == set(SECRETS)
    result = regzoo.register(fixed, moving, method="rigid", iterations=1, moving_labels=labels)
    result.save(out)
    for suffix in ("nii", "mha", "nrrd"):
        for image in (result.moved, Image.read(fixed), Image.read(moving)):
            image.save(out / f"{id(image)}.{suffix}")
    for suffix in ("tfm", "h5", "mat", "nii"):
        result.transform.save(out / f"transform-again.{suffix}")
    assert found(out) == []
    facts = json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert {"moved.nii.gz", "moved_labels.nii.gz", "report.html", "report.png"} <= set(facts["files"])
    assert facts["inputs"]["fixed"]["file"] == "series"
    assert 'id="face"' in (out / "report.html").read_text(encoding="utf-8")
