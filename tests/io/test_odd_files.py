"""Files that are no plain files, and names that are no plain names: one error in one line, no wait, no abort."""

import json
import os
import subprocess
import sys

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image as PIL

from regzoo.errors import InvalidError, MissingError, RegzooError, invalid
from regzoo.io.files import LISTING, check_apart, check_listed, sha256
from regzoo.io.landmarks import read_landmarks
from regzoo.io.surfaces import read_surface
from regzoo.models import weights
from regzoo.world.images import Grid, Image
from regzoo.world.transforms import Transform

IMAGE = Image(np.arange(60, dtype="float32").reshape(5, 4, 3), np.diag([1.5, 1, 1, 1]))
pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux's devices and bytes as names")


@pipes
@pytest.mark.parametrize("pipe", [".hdr", ".img"])
def test_a_partner_that_is_a_pipe_is_not_waited_for(tmp_path, pipe):
    nibabel.save(nibabel.Nifti1Pair(IMAGE.array, IMAGE.affine), tmp_path / "a.img")
    (tmp_path / f"a{pipe}").unlink()
    os.mkfifo(tmp_path / f"a{pipe}")
    for read in (Image.read, Grid.read):
        with pytest.raises(MissingError):
            read(tmp_path / ("a.hdr" if pipe == ".img" else "a.img"))


@pipes
def test_weights_that_are_a_pipe_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "w.safetensors")
    with pytest.raises(MissingError, match="does not exist"):
        weights.read(tmp_path / "w.safetensors")


@linux
def test_weights_without_end_are_not_read(tmp_path):
    (tmp_path / "w.safetensors").symlink_to("/dev/zero")
    with pytest.raises(MissingError, match="does not exist"):
        weights.read(tmp_path / "w.safetensors")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(InvalidError, match="sparse: expected at most"):
        weights.read(tmp_path / "sparse")


@linux
def test_what_cannot_be_read_is_one_error(tmp_path):
    for name, read in {"a.mat": Transform.load, "a.mrk.json": read_landmarks}.items():
        (tmp_path / name).symlink_to("/proc/self/mem")
        with pytest.raises(InvalidError):
            read(tmp_path / name)


@linux
@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".dcm"])
def test_a_name_that_is_no_utf8_is_refused_where_simpleitk_would_end_the_process(tmp_path, suffix):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe" + suffix.encode())
    code = f"""
from pathlib import Path
import numpy as np
from regzoo.world.images import Image
path = Path({path!r})
image = Image(np.zeros((5, 4, 3), "float32"), np.eye(4))
for work in (lambda: image.save(path), lambda: Image.read(path)):
    try:
        work()
    except ValueError as error:
        print(ascii(str(error)))
    path.write_bytes(open({str(tmp_path / "sound")!r}, "rb").read())
"""
    if suffix == ".dcm":
        from dicom_series import write

        sound = next(write(tmp_path / "ct").iterdir())
        code = code.replace("lambda: image.save(path), ", "lambda: None, ")
    else:
        sound = tmp_path / f"a{suffix}"
        sitk.WriteImage(sitk.GetImageFromArray(IMAGE.array), sound)
    sound.rename(tmp_path / "sound")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("name of a file: expected UTF-8") == (1 if suffix == ".dcm" else 2), done.stdout


def test_an_error_is_one_line_whatever_names_have():
    text = str(invalid("a\nb\x1b[2J.nii", "a file", "a\u2028folder\r\n"))
    assert text == "a b [2J.nii: expected a file, received a folder  ."
    assert str(RegzooError()) == ""
    assert str(MissingError("a\nb")) == "a b"


def test_a_link_to_a_file_of_a_result_is_looked_at_where_that_lies(tmp_path):
    (tmp_path / "result").mkdir()
    (tmp_path / "links").mkdir()
    path, link = tmp_path / "result" / "transform.tfm", tmp_path / "links" / "transform.tfm"
    Transform.linear(np.eye(4)).save(path)
    (path.parent / LISTING).write_text(json.dumps({"files": {path.name: sha256(path)}}))
    link.symlink_to(path)
    check_listed(link)
    Transform.linear(np.diag([1.1, 1, 1, 1])).save(path)
    with pytest.raises(InvalidError, match=r"is not the file that result\.json beside it lists"):
        Transform.load(link)


def test_a_result_does_not_take_the_place_of_what_it_is_made_of(tmp_path):
    IMAGE.save(tmp_path / "moved.nii.gz")
    check_apart(tmp_path, [tmp_path / "fixed.nii.gz", tmp_path / "other" / "moved.nii.gz"])
    (tmp_path / "link").symlink_to(tmp_path)
    for folder in (tmp_path, tmp_path / "link"):
        with pytest.raises(InvalidError, match=r"output: expected another folder than that of .*moved\.nii\.gz, which"):
            check_apart(folder, [tmp_path / "moved.nii.gz"])


def test_a_surface_of_complex_numbers_or_of_none_is_refused(tmp_path):
    points = np.arange(9, dtype="complex64").reshape(3, 3) * (1 + 2j)
    array = nibabel.gifti.GiftiDataArray(points.real.astype("float32"), intent="NIFTI_INTENT_POINTSET")
    array.data, array.datatype = points, nibabel.nifti1.data_type_codes["complex64"]
    (tmp_path / "a.surf.gii").write_bytes(nibabel.gifti.GiftiImage(darrays=[array]).to_xml(mode="force"))
    with pytest.raises(InvalidError, match="expected points in real numbers, received complex64"):
        read_surface(tmp_path / "a.surf.gii")
    empty = nibabel.gifti.GiftiDataArray(np.zeros((0, 3), "float32"), "NIFTI_INTENT_POINTSET", encoding="ASCII")
    nibabel.save(nibabel.gifti.GiftiImage(darrays=[empty]), tmp_path / "b.surf.gii")
    with pytest.raises(InvalidError):
        read_surface(tmp_path / "b.surf.gii")


def test_a_tiff_that_does_not_tell_how_it_is_packed_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    PIL.fromarray(np.random.default_rng(0).integers(0, 255, (6, 10)).astype("uint8")).save(
        path, compression="tiff_adobe_deflate"
    )
    entry = b"\x03\x01\x03\x00\x01\x00\x00\x00\x08\x00"  # tag 259, one short number, deflate
    data = path.read_bytes()
    assert data.count(entry) == 1
    for other in (b"\x02" + entry[1:], entry[:2] + b"\x02" + entry[3:]):
        path.write_bytes(data.replace(entry, other))
        with pytest.raises(InvalidError, match="does not tell how it is packed"):
            Image.read(path)


HEADER = (
    "ply\nformat ascii 1.0\nelement vertex {}\nproperty float x\nproperty float y\nproperty float z\n{}end_header\n"
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEADER.format(1, "") + "1.00000000000000000000000000000000000000e2 2 3\n", "more than 32 letters"),
        (HEADER.format(1, "") + "1_0 2 3\n", "a '_' within a number"),
        (HEADER.format(1, "element face 99999999\nproperty list uchar int v\n") + "1 2 3\n", "more than 16777216"),
        (HEADER.format(1, "") + "1 2 3\n" + "\n" * 34_000_000, "more lines than its header tells of"),
    ],
)
def test_a_ply_of_odd_numbers_or_too_many_rows_is_refused(tmp_path, text, words):
    (tmp_path / "a.ply").write_text(text)
    with pytest.raises(InvalidError, match=words):
        read_surface(tmp_path / "a.ply")


def test_landmarks_of_an_endless_header_or_of_too_many_columns_are_refused(tmp_path):
    (tmp_path / "a.fcsv").write_text("#\n" * 100_000)
    with pytest.raises(InvalidError, match="expected its two lines within the first 1000, received none of them"):
        read_landmarks(tmp_path / "a.fcsv")
    (tmp_path / "a.csv").write_text(",".join(["x", "y", "z", *map(str, range(998))]) + "\n1,2,3\n")
    with pytest.raises(InvalidError, match="expected at most 1000 columns, received 1001"):
        read_landmarks(tmp_path / "a.csv")
