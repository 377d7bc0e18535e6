"""transform: transform files composed, inverted, converted, or said in figures."""

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regzoo.cli.chain import HELP, composed, named, warnings_told
from regzoo.cli.door import typed
from regzoo.cli.options import Json
from regzoo.cli.output import print_facts, print_json
from regzoo.io.files import check_writable

if TYPE_CHECKING:
    from regzoo.world.images import Grid
    from regzoo.world.transforms import Transform

commands = typer.Typer()


Written = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        help="File to write, in the format of its suffix; with a BIDS name, .._from-A_to-B_mode-image_xfm.h5, also "
        "the JSON file beside it.",
    ),
]
Reference = Annotated[
    Path | None,
    typer.Option(
        help="Image on whose grid a field is written and measured: the fixed one; with --inverse, the moving one.",
        show_default="the grid of the first field",
    ),
]
Moving = Annotated[
    Path | None,
    typer.Option(
        help="With --reference, where a file counts in the voxels of both images (FSL's .mat; to write, .lta and "
        "learn2reg): the moving one; with --inverse, the fixed one.",
        show_default=False,
    ),
]
Form = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="ants: OUT is a prefix, to which 0GenericAffine.mat, 1Warp.nii.gz and 1InverseWarp.nii.gz are added. "
        "fsl: a matrix of FLIRT's. learn2reg: displacements in voxels, .nii.gz, for images of one grid.",
        show_default="by the suffix of OUT",
    ),
]


@commands.command()
def transform(
    ctx: typer.Context,
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help=HELP, show_default=False)],
    output: Written = None,
    inverse: Annotated[bool, typer.Option("--inverse", help="Invert the whole of it.")] = False,
    reference: Reference = None,
    moving: Moving = None,
    form: Form = None,
    as_json: Json = False,
) -> None:
    """Compose, invert, convert transforms; print what they are."""
    from regzoo.world.images import Grid
    from regzoo.world.transform_facts import transform_facts

    if form is not None and output is None:
        raise typer.BadParameter("--form goes with -o.")
    if output is not None:
        check_writable(output, folder=False)
    if moving is not None:
        _check_moving(files, reference, output, form)
    with warnings_told():
        images = [each and Grid.read(each) for each in (reference, moving)]
        whole = composed(files, *(reversed(images) if inverse else images))
        grid = images[0] or whole.grid
        whole = whole.inverse() if inverse else whole
        if reference is None:
            _check_guess(whole, grid)
        if output is not None:
            whole.save(output, grid, moving=images[1], form=form)
            _describe(output, files, typed(ctx))
            return
        facts = transform_facts(whole, grid)
        print_json(facts) if as_json else _print(facts)


def _describe(output: Path, files: list[str], command: str) -> None:
    """Writes the JSON file that belongs to a transform of a BIDS name, unless there is one."""
    import regzoo
    from regzoo.io.bids_names import describe_xfm, json_beside
    from regzoo.io.files import sha256

    beside = json_beside(output)
    if beside is None:
        return
    if beside.exists():
        typer.echo(f"note: {beside.name} is there already, and stays as it is.", err=True)
        return
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    inputs = {Path(named(each)[0]).name: sha256(named(each)[0]) for each in files}
    told = {"date": date, "command": command, "versions": {"regzoo": regzoo.__version__}, "inputs": inputs}
    describe_xfm(output, {"Regzoo": told})


def _check_moving(files: list[str], reference: Path | None, output: Path | None, form: str | None) -> None:
    """Refuses a moving image that no file asks for, or that stands alone."""
    from regzoo.io.transforms import counts_in_voxels, writer

    if reference is None:
        raise typer.BadParameter("--moving goes with --reference.")
    written = output and writer(output, form)
    asked = written and (written.write_between or written.one_grid)
    if not asked and not any(counts_in_voxels(Path(named(each)[0])) for each in files):
        raise typer.BadParameter("--moving goes with FSL's .mat, and with .lta or learn2reg to write.")


def _check_guess(whole: "Transform", grid: "Grid | None") -> None:
    """Warns where a field's grid is taken that may not be that of the fixed image."""
    if grid is None or whole.matrix is not None or whole.starts_on(grid):
        return
    text = f"the grid is that of the first field, {grid.text()}, which may lie elsewhere than the fixed image"
    typer.echo(f"warning: {text}. Pass --reference.", err=True)


def _print(facts: dict) -> None:
    lines = {f"step {number}": _step(step) for number, step in enumerate(facts["steps"], 1)} or {"steps": "none"}
    if "grid" in facts:
        low, high = facts["extent_mm"]
        sides = (f"{name} {a:.1f} to {b:.1f}" for name, a, b in zip("RAS", low, high, strict=True))
        lines |= {"grid": facts["grid"], "extent": f"{', '.join(sides)} mm"}
        lines["moves"] = "at most {max:.4g} mm, on average {mean:.4g} mm".format(**facts["displacement_mm"])
    if "folds" in facts:
        lines["folds"] = f"{100 * facts['folds']:.2g} % of voxels, {100 * facts['folded_volume']:.2g} % of the volume"
    print_facts(lines | {"inverse": facts["inverse"]})


def _step(step: dict) -> str:
    if step["kind"] != "matrix":
        return f"{step['kind']} on {step['grid']}"
    r, a, s = step["rotation_degrees"]
    scales, shift = (" ".join(f"{value:.4g}" for value in step[key]) for key in ("scales", "shift_mm"))
    angle = (r**2 + a**2 + s**2) ** 0.5
    turn = f"turns {angle:.4g} degrees (about R {r:.4g}, A {a:.4g}, S {s:.4g})"
    return f"matrix: {turn}, scales {scales} (volume {step['volume']:.4g}), shifts {shift} mm"
