"""template: an average of many images."""

from pathlib import Path
from typing import Annotated

import typer

import regzoo
from regzoo.cli.bar import shown
from regzoo.cli.cohorts import Model
from regzoo.cli.door import typed
from regzoo.cli.machine import Device, Threads, take
from regzoo.cli.options import Json, Quiet
from regzoo.cli.output import print_result, print_table
from regzoo.cli.registering import Iterations, Loss, Method, Refine, entry_of
from regzoo.io.files import check_writable

commands = typer.Typer()

Lie = Annotated[
    str | None,
    typer.Option(
        "--alignment",
        metavar="NAME",
        help="How the images lie at the start: center (image centre on image centre), world (scanner coordinates) "
        "or mass (centres of mass).",
        show_default="as the model was trained; --method: center",
    ),
]


Begin = Annotated[
    str,
    typer.Option(
        metavar="FILE",
        help="What to begin from: mean (of the images as they lie), or an image, whose grid the template takes.",
    ),
]
Spacing = Annotated[
    float | None,
    typer.Option(
        metavar="MM",
        help="Voxels of so many mm along R, A and S, around that grid.",
        show_default="the grid of the start, of a mean that of the first image",
    ),
]
Symmetric = Annotated[
    bool,
    typer.Option("--symmetric", help="Make left and right the same, for studies that compare the two sides."),
]
Tolerance = Annotated[
    float,
    typer.Option(metavar="VOXELS", help="Stop when the maps changed by no more since the round before, in the mean."),
]
KeepIntensities = Annotated[
    bool,
    typer.Option(
        "--keep-intensities",
        help="Average images as they are, as those for a model of CT are; else each is scaled between its 1st and "
        "99th percentile.",
    ),
]


@commands.command()
def template(
    ctx: typer.Context,
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="Two images or more, of one contrast.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to.")],
    model: Model = None,
    method: Method = None,
    start: Begin = "mean",
    spacing: Spacing = None,
    symmetric: Symmetric = False,
    rounds: Annotated[int, typer.Option(metavar="N", min=1, help="Most rounds.")] = 10,
    tolerance: Tolerance = 0.1,
    keep_intensities: KeepIntensities = False,
    moved: Annotated[bool, typer.Option("--moved", help="Write each image as it lies on the template too.")] = False,
    refine: Refine = 0,
    loss: Loss = None,
    iterations: Iterations = None,
    alignment: Lie = None,
    device: Device = None,
    threads: Threads = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Average IMAGES without favouring any. Writes the template, and the transform from it to each image."""
    if len(images) < 2:
        raise typer.BadParameter("Give two images or more.")
    entry = entry_of(model, method)  # this and the next before Keras, which takes seconds
    check_writable(output, folder=True)
    take(device, threads)
    with shown(quiet):
        made = regzoo.template(
            images,
            output,
            entry,
            method=method,
            refine=refine,
            loss=loss,
            iterations=iterations,
            alignment=alignment,
            start=start,
            spacing=spacing,
            symmetric=symmetric,
            rounds=rounds,
            tolerance=tolerance,
            keep_intensities=keep_intensities,
            moved=moved,
            command=typed(ctx),
        )
    print_result(made, output, as_json, _tell, quiet)


def _tell(facts: dict) -> None:
    rows = []
    for number, each in enumerate(facts["rounds"], 1):
        shift, change = each["displacement"], each["change"]
        row = {"round": str(number), "mean displacement": f"{shift['voxels']:.3f} voxels, {shift['mm']:.3f} mm"}
        row |= {"at most": f"{shift['max_mm']:.2f} mm", "change": "-" if change is None else f"{change:.3f} voxels"}
        rows.append(row | {"seconds": f"{each['seconds']:.1f}"})
    print_table(rows)
    typer.echo("mean displacement: from the average to all images, before the round undid it")
    alike = {name: each["correlation"] for name, each in facts["subjects"].items()}
    known = {name: value for name, value in alike.items() if value is not None}
    if known:
        worst = min(known, key=known.get)
        typer.echo(f"{len(alike)} images; least alike to the template: {worst}, correlation {known[worst]:.3f}")
    typer.echo("seconds " + ", ".join(f"{step} {value:.2f}" for step, value in facts["seconds"].items()))
    for text in facts["warnings"]:
        typer.echo(f"warning: {text}", err=True)
