"""What SimpleITK, the extra `itk`, reads for regzoo: MetaImage (.mha, .mhd), NRRD, and PNG and TIFF as 2-D images."""

import contextlib
import errno
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from regzoo.errors import invalid
from regzoo.hushed import hushed
from regzoo.io.extras import needed
from regzoo.io.files import atomic_file
from regzoo.io.lps import LPS
from regzoo.io.volumes import itk_header
from regzoo.io.volumes.volume import Format, Volume

_VOICES = re.compile(
    r"WARNING: In |\w+ \(0x[0-9a-f]+\): |Meta\w+: |Uncompress failed|.* required and not defined|.* defined prior to "
    r"|\s*ideal = |libpng \w+: |_?TIFF\w+: |\[nrrd\]|LZW|ZIP|Deflate|JPEG|Fax|PackBits"
)
"""How lines begin that ITK, MetaIO, libpng, libtiff and NrrdIO say."""
_TYPES = ("UInt8", "Int8", "UInt16", "Int16", "UInt32", "Int32", "UInt64", "Int64", "Float32", "Float64")


def simpleitk() -> ModuleType:
    """Returns SimpleITK.

    Raises:
        MissingError: If it is not installed.
    """
    return needed("SimpleITK", "itk")


@contextlib.contextmanager
def _told() -> Iterator[Callable[[], list[str]]]:
    """Takes the places in ITK's source code and its pointers out of an error; yields what gives the lines that it says.

    Raises:
        ValueError: With the reason.
    """
    others: list[str] = []
    try:
        with hushed() as said:

            def lines() -> list[str]:
                return [line for line in said().splitlines() if _VOICES.match(line)]

            try:
                yield lines
            except RuntimeError as error:
                text = str(error).split("ERROR: ")[-1]
                # MetaIO says what is wrong there, and nothing of it in the error, which ends in C's last one.
                reason = " ".join(lines()) if "Reason: " in text and lines() else text
                raise ValueError(" ".join(re.sub(r"\w+\(0x[0-9a-f]+\): *", "", reason).split())) from error
            finally:
                others += [line for line in said().splitlines() if line and not _VOICES.match(line)]
    finally:
        for line in others:  # of other threads
            sys.stderr.write(f"{line}\n")


def opened_by(name: str, path: Path) -> object:
    """Returns SimpleITK's reader of a file by one of ITK's classes, with the header read.

    Raises:
        ValueError: If ITK cannot.
    """
    reader = simpleitk().ImageFileReader()
    reader.SetImageIO(name)
    reader.SetFileName(_name(path))
    _notes(reader)
    return reader


def _name(path: Path) -> str:
    """Returns a path as SimpleITK takes it: of another, it ends the process.

    Raises:
        InvalidError: If it has bytes that are no UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise invalid("name of a file", "UTF-8", ascii(str(path)), "Rename it.") from None
    return str(path)


def _notes(reader: object) -> list[str]:
    """Returns the lines that ITK says while it reads a header.

    Raises:
        ValueError: If it cannot.
    """
    with _told() as said:
        reader.ReadImageInformation()
        return said()


def pixels(reader: object) -> object:
    """Returns the image of SimpleITK that a reader reads.

    Raises:
        ValueError: If ITK cannot, or says more than of the header: it goes on with voxels that it could not unpack.
    """
    known = _notes(reader)
    with _told() as said:
        image = reader.Execute()
        more = [line for line in said() if line not in known]
    if more:
        raise ValueError(more[0])
    return image


def _opener(name: str, header: Callable[[Path], itk_header.Header]) -> Callable:
    @contextlib.contextmanager
    def opened(path: Path) -> Iterator[Volume]:
        head = header(path)
        yield _volume(opened_by(name, path), head)

    return opened


def _volume(reader: object, head: itk_header.Header) -> Volume:
    shape, kind = reader.GetSize(), dtype_of(reader)
    if 0 in shape:
        raise ValueError("its header tells of no voxels")
    notes = _notes(reader)
    if any("CRC error" in line for line in notes):  # of which PNG's library only warns
        raise ValueError(notes[0])
    if head.picture and len(shape) > 2:
        raise invalid(head.voxels.name, "one picture", f"{shape[2]} pages", "Write them as one volume, .nrrd.")

    def values(volume: int | None) -> _Pixels:
        head.check(math.prod(shape) * kind.itemsize)
        if volume is not None:
            reader.SetExtractSize((*shape[:3], 0))
            reader.SetExtractIndex((0, 0, 0, volume))
        return _Pixels(pixels(reader), bool(kind.shape))

    held = math.prod(shape) * kind.itemsize
    said = f"the header is faulty, ITK says: {notes[0].rstrip('.')}." if notes else ""
    remark = " ".join(filter(None, (said, head.remark)))
    return Volume(shape, kind, LPS if head.picture else affine_of(reader), values, head.most, remark, held=held)


class _Pixels:
    """The pixels of an image of SimpleITK, without a copy of them.

    Args:
        image: The image, which is kept, for the pixels are its own.
        vectors: Whether a pixel is several numbers, which are the last axis.
    """

    def __init__(self, image: object, vectors: bool) -> None:
        self._image, array = image, simpleitk().GetArrayViewFromImage(image).T
        self._array = np.moveaxis(array, 0, -1) if vectors else array
        self.shape, self.dtype = self._array.shape, self._array.dtype

    def __getitem__(self, places: tuple[slice, ...]) -> np.ndarray:
        return self._array[places]


def dtype_of(reader: object) -> np.dtype:
    """Returns the type of a voxel; of colour and vectors, one of several numbers, such as `(float32, (3,))`."""
    sitk, count = simpleitk(), reader.GetNumberOfComponents()
    prefix, shape = ("sitk", ()) if count == 1 else ("sitkVector", (count,))
    known = {getattr(sitk, prefix + name): np.dtype((name.lower(), shape)) for name in _TYPES}
    return known.get(reader.GetPixelID(), np.dtype(complex))


def affine_of(image: object) -> np.ndarray:
    """Returns voxel to RAS mm, (4, 4), of what has ITK's geometry; in 2-D, the third axis runs along S."""
    count = image.GetDimension()
    axes = np.reshape(image.GetDirection(), (count, count)) * image.GetSpacing()
    affine, used = np.eye(4), min(count, 3)
    affine[:used, :used], affine[:used, 3] = axes[:used, :used], image.GetOrigin()[:used]
    return LPS @ affine


def _write(array: np.ndarray, affine: np.ndarray, path: Path) -> None:
    """Writes an array in its own type, compressed; channels as a fourth axis, as in NIfTI."""
    save(simpleitk().GetImageFromArray(np.ascontiguousarray(array.T), isVector=False), affine, path)


def save(image: object, affine: np.ndarray, path: Path) -> None:
    """Writes SimpleITK's image, compressed, with another affine in RAS mm; a fourth axis has steps of 1."""
    sitk, count = simpleitk(), image.GetDimension()
    lps = LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    direction = np.eye(count)
    direction[:3, :3] = lps[:3, :3] / spacing
    image.SetSpacing([*spacing, 1.0][:count])
    image.SetOrigin([*lps[:3, 3], 0.0][:count])
    image.SetDirection(direction.ravel())
    with atomic_file(path) as temporary:
        try:
            sitk.WriteImage(image, _name(temporary), useCompression=True)
        except RuntimeError:  # whose text has ITK's source files and no reason
            raise OSError(errno.EIO, "not written whole; is the disk full?", str(path)) from None


MHA = Format(_opener("MetaImageIO", itk_header.meta), _write)
MHD = Format(MHA.open)
NRRD = Format(_opener("NrrdImageIO", itk_header.nrrd), _write)
PNG, TIFF = (Format(_opener(f"{name}ImageIO", itk_header.picture)) for name in ("PNG", "TIFF"))
