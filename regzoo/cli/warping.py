"""warp: transforms, applied to an image, a label map or points."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regzoo.cli.chain import HELP, composed, warnings_told
from regzoo.cli.options import Volume
from regzoo.io.files import check_writable

if TYPE_CHECKING:
    import numpy as np

    from regzoo.world.transforms import Transform

commands = typer.Typer()


@commands.command()
def warp(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Image, label map or file of points.")],
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
            help="INPUT is a CSV x,y,z in RAS mm, or Slicer's .fcsv or .mrk.json: fixed space to moving space; other "
            "columns are kept.",
        ),
    ] = False,
    lps: Annotated[bool, typer.Option("--lps", help="CSV files, INPUT and OUTPUT, count in LPS mm.")] = False,
    inverse: Annotated[
        bool, typer.Option("--inverse", help="An image from fixed to moving space, points from moving to fixed space.")
    ] = False,
    volume: Volume = None,
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

    if is_points(source) and not points:
        raise typer.BadParameter("INPUT is a file of points: pass --points, and no --reference.")
    if points and reference is not None:
        raise typer.BadParameter("--reference goes with an image or a label map, not with --points.")
    if not points and reference is None:
        raise typer.BadParameter("--reference is missing: the image whose grid the output gets.")
    if points and labels:
        raise typer.BadParameter("INPUT is --points or --labels, not both.")


def _warp_points(source: Path, mapping: "Transform", inverse: bool, output: Path, lps: bool) -> list[str]:
    from regzoo.io.landmarks import read_landmarks, write_points

    landmarks = read_landmarks(source, lps=lps)
    given = landmarks.points
    moved = mapping.invert_points(given) if inverse else mapping.apply_points(given)
    write_points(output, moved, landmarks, lps=lps)
    beyond = int((~mapping.covers(moved if inverse else given)).sum())
    return [f"{beyond} of {len(given)} points lie {_beyond(mapping)}."] if beyond else []


def _warp_image(
    source: Path, mapping: "Transform", reference: Path, labels: bool, volume: int | None, output: Path
) -> list[str]:
    from regzoo.io.volumes import read_remark, writer
    from regzoo.world.images import Grid, Image

    writer(output)  # what it cannot write is found out before the work
    image, grid = Image.read(source, labels=labels, volume=volume), Grid.read(reference)
    remarks = {source: image.remark, reference: read_remark(reference)}
    told = [f"{file.name}: {remark}" for file, remark in remarks.items() if remark]
    if labels:
        mapping.apply_labels(image, grid).save(output)
    else:  # as register does
        if _looks_like_labels(image.array):
            typer.echo("note: INPUT holds few different integers. If it is a label map, pass --labels.", err=True)
        mapping.apply_image(image, grid, outside=float(image.array.min())).save(output)
    beyond = 1 - mapping.covered(grid)
    return told + [f"{100 * beyond:.2g} % of the reference's voxels lie {_beyond(mapping)}."] * (beyond > 0)


def _beyond(mapping: "Transform") -> str:
    moves = "only the matrix moves them" if mapping.has_matrix else "nothing is moved"
    return f"beyond the grid of the transform's field, where {moves}"


def _looks_like_labels(array: "np.ndarray") -> bool:
    import numpy as np

    values = np.unique(array)
    return len(values) <= 32 and bool((values == np.rint(values)).all())
