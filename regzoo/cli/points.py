"""register-points: point sets and surfaces of labels."""

from pathlib import Path
from typing import Annotated

import typer

import regzoo
from regzoo.cli.door import typed
from regzoo.cli.options import Json, Output
from regzoo.cli.output import print_result, print_table
from regzoo.io.files import check_apart, check_writable

commands = typer.Typer()

_SOURCE = "CSV x,y,z in RAS mm, Slicer's .fcsv or .mrk.json, or a label map, whose surface is taken."
Landmarks = Annotated[
    Path | None,
    typer.Option(
        help="Landmarks to score by, CSV x,y,z in RAS mm, or Slicer's .fcsv or .mrk.json, in one order.",
        show_default=False,
    ),
]


@commands.command("register-points")
def register_points(
    ctx: typer.Context,
    fixed: Annotated[Path, typer.Argument(metavar="FIXED", help=_SOURCE)],
    moving: Annotated[Path, typer.Argument(metavar="MOVING", help=_SOURCE)],
    method: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="icp (rigid), icp-similarity, icp-affine, cpd-rigid, cpd-similarity, cpd-affine or cpd-deformable.",
        ),
    ] = "icp",
    label: Annotated[
        int | None, typer.Option(help="Label whose surface is taken.", show_default="the only one")
    ] = None,
    count: Annotated[int, typer.Option(min=4, help="Most points of a surface.")] = 2000,
    trim: Annotated[
        float | None, typer.Option(help="icp: share of the farthest matches left out.", show_default="none")
    ] = None,
    max_distance: Annotated[
        float | None, typer.Option(help="icp: matches farther apart, in mm, are left out.", show_default="none")
    ] = None,
    outliers: Annotated[
        float | None, typer.Option(help="cpd: expected share of outliers (w).", show_default="0.1")
    ] = None,
    beta: Annotated[
        float | None,
        typer.Option(help="cpd-deformable: width in mm that moves together.", show_default="twice the points' SD"),
    ] = None,
    lam: Annotated[
        float | None, typer.Option("--lambda", help="cpd-deformable: weight of smoothness.", show_default="10")
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(help="cpd-deformable: image whose grid the transform gets.", show_default="around the points"),
    ] = None,
    fixed_points: Landmarks = None,
    moving_points: Landmarks = None,
    output: Output = Path("out"),
    as_json: Json = False,
) -> None:
    """Register MOVING points to FIXED ones. Writes the transform (fixed to moving space), moved points and figures."""
    check_writable(output, folder=True)
    check_apart(output, [fixed, moving, *(each for each in (fixed_points, moving_points) if each)])
    given = {"trim": trim, "max_distance": max_distance, "outliers": outliers, "beta": beta, "lam": lam}
    result = regzoo.register_points(
        fixed,
        moving,
        method,
        label=label,
        count=count,
        reference=reference,
        fixed_points=fixed_points,
        moving_points=moving_points,
        **{name: value for name, value in given.items() if value is not None},
    )
    result.facts["command"] = typed(ctx)
    result.save(output)
    print_result(result, output, as_json, _print_result)


def _print_result(facts: dict) -> None:
    before, after = facts["scores"]["before"], facts["scores"]["after"]
    rows = [
        (f"nearest, from {side} points mm", before["nearest"][side], after["nearest"][side])
        for side in ("fixed", "moving")
    ]
    if "tre" in after:
        rows.append(("landmark error (TRE) mm", before["tre"]["mean"], after["tre"]["mean"]))
    print_table([{"figure": name, "before": f"{old:.3f}", "after": f"{new:.3f}"} for name, old, new in rows])
    if "jacobian" in facts:
        jacobian = facts["jacobian"]
        typer.echo(f"folds {100 * jacobian['folds']:.4f} % of voxels, SDlogJ {jacobian['sdlogj']:.3f}")
    typer.echo(f"iterations {facts['iterations']}, seconds {facts['seconds']['registration']:.2f}")
    for text in facts["warnings"]:
        typer.echo(f"warning: {text}", err=True)
