"""warp: transforms, applied to an image, a label map or points."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regzoo.cli.chain import HELP, composed, named, warnings_told
from regzoo.cli.options import Dicom
from regzoo.cli.output import print_dicom
from regzoo.io.files import check_writable

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from regzoo.world.images import Grid, Image
    from regzoo.world.transforms import Transform

commands = typer.Typer()


@commands.command()
def warp(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Image, 4-D series, label map or file of points.")],
    transform: Annotated[list[str], typer.Option(metavar="FILE", help=HELP)],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File to write; with --dicom, none is needed.")
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="Image whose grid the output gets, as the fixed image; not for points.", show_default=False),
    ] = None,
    labels: Annotated[bool, typer.Option("--labels", help="INPUT is a label map: nearest neighbour.")] = False,
    points: Annotated[
        bool,
        typer.Option(
            "--points",
            help="INPUT is a CSV x,y,z in RAS mm, or Slicer's .fcsv or .mrk.json, or a surface, .surf.gii or .ply: "
            "fixed space to moving space; other columns and triangles are kept.",
        ),
    ] = False,
    lps: Annotated[bool, typer.Option("--lps", help="CSV and PLY files, INPUT and OUTPUT, count in LPS mm.")] = False,
    inverse: Annotated[
        bool, typer.Option("--inverse", help="An image from fixed to moving space, points from moving to fixed space.")
    ] = False,
    volume: Annotated[
        int | None,
        typer.Option(metavar="N", help="Which volume of a 4-D file, from 0.", show_default="all of them"),
    ] = None,
    dicom: Dicom = None,
) -> None:
    """Apply transforms. To an image or a label map (moving to fixed space), or to points (fixed to moving space)."""
    _check_kind(source, points, labels, reference)
    _check_outputs(output, dicom, points or labels)
    if lps and not (points and {".csv", ".ply"} & {source.suffix.lower(), output.suffix.lower()}):
        raise typer.BadParameter("--lps goes with --points in CSV or PLY files; others say themselves how they count.")
    with warnings_told():
        mapping = composed(transform)
        if points:
            told = _warp_points(source, mapping, inverse, output, lps)
        else:
            told = _frames_told(transform, inverse, reference)
            mapping = mapping.inverse() if inverse else mapping
            told += _warp_image(source, mapping, reference, labels, volume, output, dicom)
    for text in told:
        typer.echo(f"warning: {text}", err=True)
    print_dicom(dicom, quiet=False)


def _check_kind(source: Path, points: bool, labels: bool, reference: Path | None) -> None:
    """Refuses options that do not go with what INPUT is."""
    from regzoo.io.landmarks import is_points
    from regzoo.io.surfaces import is_surface

    if (is_points(source) or is_surface(source)) and not points:
        raise typer.BadParameter("INPUT is a file of points: pass --points, and no --reference.")
    if points and reference is not None:
        raise typer.BadParameter("--reference goes with an image or a label map, not with --points.")
    if not points and reference is None:
        raise typer.BadParameter("--reference is missing: the image whose grid the output gets.")
    if points and labels:
        raise typer.BadParameter("INPUT is --points or --labels, not both.")


def _check_outputs(output: Path | None, dicom: Path | None, other: bool) -> None:
    """Refuses to write nothing, or points and labels as a series."""
    if output is None and dicom is None:
        raise typer.BadParameter("-o is missing: the file to write.")
    if dicom is not None and other:
        raise typer.BadParameter("--dicom goes with an image, not with --points or --labels.")
    if output is not None:
        check_writable(output, folder=False)


def _frames_told(transform: list[str], inverse: bool, reference: Path) -> list[str]:
    """Tells where a lone DICOM registration leads from another frame of reference than the one of a DICOM reference."""
    from regzoo.io.dicom import lies_elsewhere

    file, inverted = named(transform[0])
    if len(transform) > 1 or inverted != inverse or not lies_elsewhere(reference, Path(file)):
        return []
    advice = f"If it leads the other way, write --transform '[{file},1]'."
    return [f"{Path(file).name} leads from another frame of reference than that of {reference.name}. {advice}"]


def _warp_points(source: Path, mapping: "Transform", inverse: bool, output: Path, lps: bool) -> list[str]:
    given, save, told = _opened_points(source, output, lps)
    moved = mapping.invert_points(given) if inverse else mapping.apply_points(given)
    save(moved)
    beyond = int((~mapping.covers(moved if inverse else given)).sum())
    return told + ([f"{beyond} of {len(given)} points lie {_beyond(mapping)}."] if beyond else [])


def _opened_points(
    source: Path, output: Path, lps: bool
) -> "tuple[np.ndarray, Callable[[np.ndarray], None], list[str]]":
    """Returns the points of a file, what writes others in their place, and what the file leaves open."""
    from regzoo.io.landmarks import read_landmarks, write_points
    from regzoo.io.surfaces import is_surface, read_surface

    if is_surface(source):
        surface = read_surface(source, lps=lps)
        told = [f"{source.name}: {surface.remark}"] if surface.remark else []
        return surface.points, lambda moved: surface.write(output, moved), told
    landmarks = read_landmarks(source, lps=lps)
    return landmarks.points, lambda moved: write_points(output, moved, landmarks, lps=lps), []


def _warp_image(
    source: Path,
    mapping: "Transform",
    reference: Path,
    labels: bool,
    volume: int | None,
    output: Path | None,
    dicom: Path | None,
) -> list[str]:
    from regzoo.io.reading import check_voxels
    from regzoo.io.volumes import read_remark, writer
    from regzoo.world.dicom_results import DicomResult
    from regzoo.world.images import Grid, Image

    if output is not None:
        writer(output)  # what it cannot write is found out before the work
    grid = Grid.read(reference)
    image = Image.read(source, labels=labels, volume=volume, series=volume is None and not labels)
    check_voxels((output or dicom).name, (*grid.shape, image.channels or 1))
    saved = [_saver(source, image, labels, output)] if output else []
    if dicom is not None:
        series = DicomResult(dicom, reference, grid, image)
        saved.append(lambda moved: series.save(moved, mapping))
    remarks = {source: image.remark, reference: read_remark(reference)}
    told = [f"{file.name}: {remark}" for file, remark in remarks.items() if remark]
    if labels:
        moved = mapping.apply_labels(image, grid)
    else:  # as register does
        if _looks_like_labels(image.array):
            typer.echo("note: INPUT holds few different integers. If it is a label map, pass --labels.", err=True)
        moved = _moved(image, mapping, grid)
    for save in saved:
        save(moved)
    beyond = 1 - mapping.covered(grid)
    told += [f"{100 * beyond:.3g} % of the reference's voxels lie {_beyond(mapping)}."] * (beyond > 0)
    return told + _missed(source, image, mapping, reference, grid)


def _moved(image: "Image", mapping: "Transform", grid: "Grid") -> "Image":
    """Moves an image; around it stands its lowest value, of a series that of each volume, as if it were alone."""
    from regzoo.world.images import Image

    lowest = image.array.min((0, 1, 2))
    if (lowest == lowest.min()).all():
        return mapping.apply_image(image, grid, outside=float(lowest.min()))
    moved = mapping.apply_image(Image(image.array - lowest, image.affine), grid, outside=0.0)
    return Image(moved.array + lowest, grid.affine)


def _missed(source: Path, image: "Image", mapping: "Transform", reference: Path, grid: "Grid") -> list[str]:
    """Says that nothing of an image comes to lie on the reference."""
    import numpy as np

    def shows(*voxels: np.ndarray) -> bool:
        """Tells whether one of these voxels shows the image, each axis' given by themselves."""
        places = np.stack(np.meshgrid(*voxels, indexing="ij"), -1).reshape(-1, 3)
        places = places @ grid.affine[:3, :3].T + grid.affine[:3, 3]
        return bool(image.grid.covers(mapping.apply_points(places)).any())

    rows, *others = (np.arange(size) for size in grid.shape)
    # Some of them tell at once of nearly all images, else plane by plane.
    if shows(*(axis[:: max(1, len(axis) // 16)] for axis in (rows, *others))):
        return []
    if any(shows(rows[i : i + 1], *others) for i in rows):
        return []
    expected = "Is this transform, in this direction, one between these two images, and is their geometry right?"
    return [f"no voxel of {reference.name} shows anything of {source.name}. {expected}"]


def _saver(source: Path, image: "Image", labels: bool, output: Path) -> "Callable[[Image], None]":
    """Returns what writes the moved image: of a series, with the time from one volume to the next."""
    if labels or image.channels is None:
        return lambda moved: moved.save(output)
    from regzoo.io.volumes import read_step, series_writer

    write, step = series_writer(output), read_step(source)
    return lambda moved: write(moved.array, moved.affine, output, step)


def _beyond(mapping: "Transform") -> str:
    moves = "only the matrix moves them" if mapping.has_matrix else "nothing is moved"
    return f"beyond the grid of the transform's field, where {moves}"


def _looks_like_labels(array: "np.ndarray") -> bool:
    import numpy as np

    values = np.unique(array)
    return len(values) <= 32 and bool((values == np.rint(values)).all())
