"""register, warp, demo: pairs of images."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import regzoo
from regzoo import hub
from regzoo.cli.options import Json, Output, Start
from regzoo.cli.output import print_table

if TYPE_CHECKING:
    import numpy as np

commands = typer.Typer()

Labels = Annotated[Path | None, typer.Option(help="Label map on this image's grid.", show_default=False)]
Mask = Annotated[
    Path | None,
    typer.Option(help="On this image's grid: --method and --refine compare where it is not 0.", show_default=False),
]
Points = Annotated[Path | None, typer.Option(help="Landmarks, CSV x,y,z in RAS mm.", show_default=False)]
Volume = Annotated[int | None, typer.Option(help="Which volume of a 4-D file, from 0.", show_default=False)]


@commands.command()
def register(
    fixed: Annotated[Path, typer.Argument(help="Fixed image; the result lies on its grid.")],
    moving: Annotated[Path, typer.Argument(help="Moving image.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="name, name@version, a folder or hf://owner/repo[@revision]", show_default=False
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="Instead of a model, by optimisation: rigid, similarity, affine, convex, ffd, ddf, dvf, demons; "
            "several in a row as affine,dvf.",
            show_default=False,
        ),
    ] = None,
    refine: Annotated[
        int,
        typer.Option(
            help="Steps to lower the image loss on this pair; a model trained on labels may overlap them less."
        ),
    ] = 0,
    loss: Annotated[
        str,
        typer.Option(
            help="Of --method and --refine: ssd, ncc, lncc; across modalities mi, nmi, mind. "
            "Demons compare intensities and convex MIND, whatever it is."
        ),
    ] = "lncc",
    iterations: Annotated[int, typer.Option(help="Most steps of --method on each level.")] = 100,
    guided: Annotated[
        bool,
        typer.Option(
            "--guided", help="In --method and --refine, the labels of both images count as much as the images."
        ),
    ] = False,
    fixed_mask: Mask = None,
    moving_mask: Mask = None,
    fixed_labels: Labels = None,
    moving_labels: Labels = None,
    fixed_points: Points = None,
    moving_points: Points = None,
    fixed_volume: Volume = None,
    moving_volume: Volume = None,
    alignment: Start = None,
    output: Output = Path("out"),
    as_json: Json = False,
) -> None:
    """Register MOVING to FIXED and write the moved image, the transform, figures and a picture."""
    from regzoo.world.images import Image

    if model is not None and method is not None:
        raise typer.BadParameter("Give one of --model and --method.")
    entry = None if model is None else hub.take(model)  # this and the images before Keras, which takes seconds
    images = Image.read(fixed, volume=fixed_volume), Image.read(moving, volume=moving_volume)
    if model is None and method is None:
        _print_candidates(*images)
        typer.echo("Choose a model by --model NAME (regzoo show NAME), or --method affine,dvf without one.", err=True)
        raise typer.Exit(2)
    result = regzoo.register(
        *images,
        entry,
        method=method,
        refine=refine,
        loss=loss,
        iterations=iterations,
        guided=guided,
        fixed_mask=fixed_mask,
        moving_mask=moving_mask,
        fixed_labels=fixed_labels,
        moving_labels=moving_labels,
        fixed_points=fixed_points,
        moving_points=moving_points,
        alignment=alignment,
    )
    result.save(output)
    if as_json:
        typer.echo((output / "result.json").read_text(encoding="utf-8"))
    else:
        _print_result(result.facts)
    typer.echo(f"Written to {output}: report.png, result.json and what was moved.", err=True)


@commands.command()
def warp(
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="Image, label map or CSV of points.")],
    transform: Annotated[Path, typer.Option(help="Transform file: .nii.gz, .nii, .h5, .tfm or .txt.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")],
    reference: Annotated[Path | None, typer.Option(help="Image whose grid the output gets.")] = None,
    labels: Annotated[bool, typer.Option("--labels", help="INPUT is a label map: nearest neighbour.")] = False,
    points: Annotated[
        bool, typer.Option("--points", help="INPUT is a CSV x,y,z in RAS mm: fixed space to moving space.")
    ] = False,
    inverse: Annotated[bool, typer.Option("--inverse", help="The other way round.")] = False,
    volume: Volume = None,
) -> None:
    """Apply a transform to an image (moving to fixed space), a label map, or points (fixed to moving space)."""
    from regzoo.io.landmarks import read_points, write_points
    from regzoo.world.images import Grid, Image
    from regzoo.world.transforms import Transform

    if source.suffix == ".csv" and not points:
        raise typer.BadParameter("INPUT is a CSV file: pass --points, and no --reference.")
    if points == (reference is not None):
        raise typer.BadParameter("--reference goes with an image or a label map, and only with those.")
    if points and labels:
        raise typer.BadParameter("INPUT is --points or --labels, not both.")
    mapping = Transform.load(transform)
    if points:
        write_points(output, (mapping.invert_points if inverse else mapping.apply_points)(read_points(source)))
        return
    mapping = mapping.inverse() if inverse else mapping
    image = Image.read(source, labels=labels, volume=volume)
    grid = Grid.read(reference)
    if labels:
        mapping.apply_labels(image, grid).save(output)
    else:  # as register does
        if _looks_like_labels(image.array):
            typer.echo("note: INPUT holds few different integers. If it is a label map, pass --labels.", err=True)
        mapping.apply_image(image, grid, outside=float(image.array.min())).save(output)


def _looks_like_labels(array: "np.ndarray") -> bool:
    import numpy as np

    values = np.unique(array)
    return len(values) <= 32 and bool((values == np.rint(values)).all())


@commands.command()
def demo(
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder with real data sets; without it: synthetic.")
    ] = None,
    output: Output = Path("out"),
) -> None:
    """Register a pair with a bundled model and write the result: synthetic, or real where there is data."""
    from regzoo.registration import demo

    for line in demo.run(output, data):
        typer.echo(line)


_LABELS_SHOWN = 10


def _print_candidates(fixed: "regzoo.world.images.Image", moving: "regzoo.world.images.Image") -> None:
    from regzoo.hub import cards
    from regzoo.registration.candidates import candidates

    rows = []
    for card, against in candidates(fixed, moving):
        amiss = dict.fromkeys(sentence.split()[1] for sentence in against)  # intensities, spacing, size, slices
        rows.append(cards.row(card) | {"misfits": ", ".join(amiss) or "-"})
    print_table([{key: row[key] for key in ("name", "anatomy", "modality", "score", "misfits")} for row in rows])


def _print_result(facts: dict) -> None:
    before, after = facts["scores"]["before"], facts["scores"]["after"]
    rows = [("correlation", before["ncc"], after["ncc"])] if "ncc" in after else []
    for key, unit in (("dice", ""), ("hd95", " mm"), ("centroid", " mm")):
        labels = list(after.get(key, {}))
        if len(labels) > 1 and f"mean_{key}" in after:
            rows.append((f"mean {key}{unit}", before[f"mean_{key}"], after[f"mean_{key}"]))
        if len(labels) <= _LABELS_SHOWN:
            rows += [(f"{key} of label {label}{unit}", before[key][label], after[key][label]) for label in labels]
    if "tre" in after:
        rows.append(("landmark error (TRE) mm", before["tre"]["mean"], after["tre"]["mean"]))
    if rows:
        print_table([{"figure": name, "before": f"{old:.3f}", "after": f"{new:.3f}"} for name, old, new in rows])
    if len(after.get("dice", {})) > _LABELS_SHOWN:
        typer.echo(f"each of the {len(after['dice'])} labels: result.json")
    if "jacobian" in facts:
        jacobian = facts["jacobian"]
        typer.echo(f"folds {100 * jacobian['folds']:.4f} % of voxels, SDlogJ {jacobian['sdlogj']:.3f}")
    for step in [*facts.get("optimisation", []), *([facts["refinement"]] if "refinement" in facts else [])]:
        for level in step.get("levels", [step]):
            typer.echo(_descent(step.get("method", "refinement"), level))
    if "transform" in facts:
        typer.echo(f"transform {facts['transform']}")
    seconds = facts["seconds"]
    typer.echo("seconds " + ", ".join(f"{step} {value:.2f}" for step, value in seconds.items()))
    for text in facts["warnings"]:
        typer.echo(f"warning: {text}", err=True)


def _descent(name: str, level: dict) -> str:
    """Tells what an optimisation did on a level."""
    return (
        f"{name}: loss {level['before']:.4g} to {level['after']:.4g} "
        f"in {level['iterations']} steps on {' x '.join(map(str, level['voxels']))} voxels"
    )
