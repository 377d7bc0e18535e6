"""warp: transforms, applied to an image, a label map or points."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regzoo.cli.chain import HELP, composed, warnings_told
from regzoo.io.files import check_writable

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from regzoo.world.images import Image
    from regzoo.world.transforms import Transform

commands = typer.Typer()


@commands.command()
def warp(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Image, 4-D series, label map or file of points.")],
    transform: Annotated[list[str], typer.Option(metavar="FILE", help=HELP)],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")],
    reference: Annotated[
        Path | None,
        typer.Option(help="Image whose grid the output gets, as the fixed image; not for points.", show_default=False),
    ] = None,
    labels: Annotated[bool, typer.Option("--labels", help="INPUT is a label map: nearest neighbour.")] = False,
    points: Annotated[
        bool,
        typer.Option(
            "--points",
            help="INPUT is a CSV x,y,z in RAS mm, or Slicer's .fcsv or .mrk.json, or a surface, .surf.gii: "
            "fixed space to moving space; other columns and triangles are kept.",
        ),
    ] = False,
    lps: Annotated[bool, typer.Option("--lps", help="CSV files, INPUT and OUTPUT, count in LPS mm.")] = False,
    inverse: Annotated[
        bool, typer.Option("--inverse", help="An image from fixed to moving space, points from moving to fixed space.")
    ] = False,
    volume: Annotated[
        int | None,
        typer.Option(metavar="N", help="Which volume of a 4-D file, from 0.", show_default="all of them"),
    ] = None,
) -> None:
    """Apply transforms. To an image or a label map (moving to fixed space), or to points (fixed to moving space)."""
    _check_kind(source, points, labels, reference)
    if lps and not (points and ".csv" in (source.suffix.lower(), output.suffix.lower())):
        raise typer.BadParameter("--lps goes with --points in CSV files; others say themselves how they count.")
    check_writable(output, folder=False)
    with warnings_told():
        mapping = composed(transform)
        if points:
            told = _warp_points(source, mapping, inverse, output, lps)
        else:
            told = _warp_image(source, mapping.inverse() if inverse else mapping, reference, labels, volume, output)
    for text in told:
        typer.echo(f"warning: {text}", err=True)


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


def _warp_points(source: Path, mapping: "Transform", inverse: bool, output: Path, lps: bool) -> list[str]:
    given, save = _opened_points(source, output, lps)
    moved = mapping.invert_points(given) if inverse else mapping.apply_points(given)
    save(moved)
    beyond = int((~mapping.covers(moved if inverse else given)).sum())
    return [f"{beyond} of {len(given)} points lie {_beyond(mapping)}."] if beyond else []


def _opened_points(source: Path, output: Path, lps: bool) -> "tuple[np.ndarray, Callable[[np.ndarray], None]]":
    """Returns the points of a file, and what writes others in their place."""
    from regzoo.io.landmarks import read_landmarks, write_points
    from regzoo.io.surfaces import is_surface, read_surface, write_surface

    if is_surface(source):
        points, surface = read_surface(source)
        return points, lambda moved: write_surface(output, moved, surface)
    landmarks = read_landmarks(source, lps=lps)
    return landmarks.points, lambda moved: write_points(output, moved, landmarks, lps=lps)


def _warp_image(
    source: Path, mapping: "Transform", reference: Path, labels: bool, volume: int | None, output: Path
) -> list[str]:
    from regzoo.io.reading import check_voxels
    from regzoo.io.volumes import read_remark, writer
    from regzoo.world.images import Grid, Image

    writer(output)  # what it cannot write is found out before the work
    grid = Grid.read(reference)
    image = Image.read(source, labels=labels, volume=volume, series=volume is None and not labels)
    check_voxels(output.name, (*grid.shape, image.channels or 1))
    save = _saver(source, image, labels, output)
    remarks = {source: image.remark, reference: read_remark(reference)}
    told = [f"{file.name}: {remark}" for file, remark in remarks.items() if remark]
    if labels:
        save(mapping.apply_labels(image, grid))
    else:  # as register does
        if _looks_like_labels(image.array):
            typer.echo("note: INPUT holds few different integers. If it is a label map, pass --labels.", err=True)
        save(mapping.apply_image(image, grid, outside=float(image.array.min())))
    beyond = 1 - mapping.covered(grid)
    return told + [f"{100 * beyond:.2g} % of the reference's voxels lie {_beyond(mapping)}."] * (beyond > 0)


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
