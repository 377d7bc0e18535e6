"""register, demo: pairs of images."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

import regzoo
from regzoo import hub
from regzoo.cli.bar import shown
from regzoo.cli.door import typed
from regzoo.cli.machine import Device, Threads, take, warn_of_memory
from regzoo.cli.options import Dicom, Json, Output, Quiet, Volume
from regzoo.cli.output import print_dicom, print_result, print_table, tell_licence, visible
from regzoo.io.files import check_apart, check_writable

if TYPE_CHECKING:
    from collections.abc import Callable

    from regzoo.registration.results import Result
    from regzoo.world.images import Image

commands = typer.Typer()

Fixed = Annotated[Path, typer.Argument(metavar="FIXED", help="Fixed image; the result lies on its grid.")]
Moving = Annotated[Path, typer.Argument(metavar="MOVING", help="Moving image.")]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="name, name@version, a folder or hf://owner/repo[@revision]; without it and --method, FIXED and MOVING "
        "are held against the cards of all models.",
        show_default=False,
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Instead of a model, by optimisation: rigid, similarity, affine, convex, ffd, ddf, dvf, demons; "
        "several in a row as affine,dvf.",
        show_default=False,
    ),
]
Refine = Annotated[
    int,
    typer.Option(
        metavar="N",
        help="Of a model: most steps that lower the image loss of its result on a pair; labels may then overlap less "
        "than the model, which may have been trained on them, left them.",
    ),
]
Loss = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Of --method and --refine: ssd, ncc, lncc; across modalities mi, nmi, mind. "
        "Demons always compare intensities, and convex MIND.",
        show_default="lncc",
    ),
]
Iterations = Annotated[
    int | None,
    typer.Option(metavar="N", help="Most steps of --method on each level of resolution.", show_default="100"),
]
Guided = Annotated[
    bool,
    typer.Option("--guided", help="In --method and --refine, the labels of both images count as much as the images."),
]
Better = Annotated[
    bool, typer.Option("--only-if-better", help="Keep the start where the registration fits hardly better.")
]
Gif = Annotated[bool, typer.Option("--gif", help="Write report.gif too: the fixed and the moving image in turn.")]
NoHtml = Annotated[bool, typer.Option("--no-html", help="Write no report.html: spares some seconds of large images.")]
NoError = Annotated[
    bool,
    typer.Option(
        "--no-error",
        help="Leave the expected error and the verdict out: spares four passes of a network, and the look of a "
        "method at left and right.",
    ),
]
NoStrip = Annotated[
    bool,
    typer.Option("--no-strip", help="Show a model of brains without skull a whole head as it is, and not stripped."),
]
FailOn = Annotated[
    Literal["failed", "look"] | None,
    typer.Option(
        metavar="VERDICT",
        help="Exit code 3 if the verdict is failed; with look, if look or failed. The result is written nevertheless.",
        show_default=False,
    ),
]
Labels = Annotated[Path | None, typer.Option(help="Label map on this image's grid.", show_default=False)]
Mask = Annotated[
    Path | None,
    typer.Option(
        help="On this image's grid: --method and --refine compare where it is not 0, and a model of lungs takes it for "
        "them.",
        show_default=False,
    ),
]
Points = Annotated[
    Path | None,
    typer.Option(
        help="Landmarks to score by, CSV x,y,z in RAS mm, or Slicer's .fcsv or .mrk.json, in one order.",
        show_default=False,
    ),
]
Start = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="How to start: center (image centre on image centre), world (scanner coordinates), mass (centres of "
        "mass), moments (and their axes), rigid (a quick search on coarse images, turned up to 30 degrees and more), "
        "affine (a network of the zoo, with --model). auto: as the model was trained (--method: center), unless the "
        "images match clearly better by rigid; the result says which.",
    ),
]


_BESIDE = tuple(f"{side}_{what}" for what in ("mask", "labels", "points") for side in ("fixed", "moving"))
"""What is given beside the images, as `regzoo.register` names it too."""


@commands.command()
def register(
    ctx: typer.Context,
    fixed: Fixed,
    moving: Moving,
    model: Model = None,
    method: Method = None,
    refine: Refine = 0,
    loss: Loss = None,
    iterations: Iterations = None,
    guided: Guided = False,
    only_if_better: Better = False,
    fixed_mask: Mask = None,
    moving_mask: Mask = None,
    fixed_labels: Labels = None,
    moving_labels: Labels = None,
    fixed_points: Points = None,
    moving_points: Points = None,
    fixed_volume: Volume = None,
    moving_volume: Volume = None,
    start: Start = "auto",
    no_error: NoError = False,
    no_strip: NoStrip = False,
    fail_on: FailOn = None,
    output: Output = Path("out"),
    gif: Gif = False,
    no_html: NoHtml = False,
    dicom: Dicom = None,
    device: Device = None,
    threads: Threads = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Register MOVING to FIXED. Writes the moved image, the transform, figures and verdict (result.json), a picture."""
    entry = _entry(model, method, fail_on, no_error)  # this and the images before Keras, which takes seconds
    images = _read(fixed, fixed_volume), _read(moving, moving_volume)
    if model is None and method is None:
        raise _print_candidates(*images)
    save = _saving(ctx, output, dicom, images, {"gif": gif, "html": not no_html})
    _take(device, threads, entry, *images)
    with shown(quiet):
        result = regzoo.register(
            *images,
            entry,
            method=method,
            refine=refine,
            loss=loss,
            iterations=iterations,
            guided=guided,
            only_if_better=only_if_better,
            **{name: ctx.params[name] for name in _BESIDE},
            start=start,
            error=not no_error,
            strip=not no_strip,
        )
        files = save(result)
    print_result(result, output, as_json, _print_result, quiet, files)
    print_dicom(dicom, quiet)
    fail([result.facts.get("verdict")], fail_on)


def _entry(model: str | None, method: str | None, fail_on: str | None, no_error: bool) -> "hub.Entry | None":
    check_fail_on(fail_on, no_error)
    return entry_of(model, method, needed=False)


def _read(file: Path, volume: int | None) -> "Image":
    from regzoo.world.images import Image

    return Image.read(file, volume=volume)


_FIXED, _MOVING = 160, 80
"""Bytes a voxel of each image that a registration holds at once, about."""


def _take(device: str | None, threads: int | None, entry: "hub.Entry | None", fixed: "Image", moving: "Image") -> None:
    """Sets device and threads, and warns of images and of a network that will probably not fit into memory."""
    take(device, threads)
    from regzoo import backend

    needed = _FIXED * fixed.array.size + _MOVING * moving.array.size
    if entry is not None and entry.own() is None and backend.device() == "cpu":
        config, inputs = entry.config(), entry.card.input
        needed += inputs.memory(config, pairs=1 if config.dims == 3 else fixed.shape[2])
    warn_of_memory(needed, "Crop the images, or resample them to larger voxels, if it ends for want of it.")


def _saving(
    ctx: typer.Context, output: Path, dicom: Path | None, images: "tuple[Image, Image]", reports: dict[str, bool]
) -> "Callable[[Result], list[str]]":
    """Checks where a result goes; returns what saves it, as DICOM too if that is asked for, and names its files."""
    check_writable(output, folder=True)
    check_apart(output, [each for each in ctx.params.values() if isinstance(each, Path)])
    series = None
    if dicom is not None:
        from regzoo.world.dicom_results import DicomResult

        if dicom.absolute() == output.absolute():
            raise typer.BadParameter("--dicom names another folder than --output.")
        fixed, moving = images
        series = DicomResult(dicom, fixed.file, fixed.grid, moving)

    def save(result: "Result") -> list[str]:
        result.facts["command"] = typed(ctx)
        result.save(output, **reports)
        if series is not None:
            series.save(result.moved, result.transform)
        return result.files(**reports)

    return save


@commands.command()
def demo(
    ctx: typer.Context,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Folder that holds the data set hippocampus-mr, whose first test pair is registered.",
            show_default="two brains that come with regzoo",
        ),
    ] = None,
    output: Output = Path("out"),
    quiet: Quiet = False,
) -> None:
    """Register a real pair with a bundled model. Figures before and after are printed, the result is written."""
    check_writable(output, folder=True)
    with shown(quiet):
        from regzoo.registration import demo

        lines = [*demo.run(output, data, typed(ctx))]
    for line in lines:
        typer.echo(line)


def check_fail_on(fail_on: str | None, no_error: bool, scored: bool = False) -> None:
    """Refuses an exit code that hangs on a verdict which is not asked for, as where a card's scores are measured."""
    if fail_on and no_error:
        raise typer.BadParameter("Give one of --fail-on and --no-error.")
    if fail_on and scored:
        raise typer.BadParameter("--check and --record give no verdicts. Leave --fail-on out.")


def fail(verdicts: Iterable[str | None], least: str | None) -> None:
    """Ends with exit code 3 if a verdict is as bad as `least`, or worse."""
    from regzoo.registration.expected.verdict import worse

    if least and any(worse(word, least) for word in verdicts):
        raise typer.Exit(3)


_LABELS_SHOWN = 10


def entry_of(model: str | None, method: str | None, needed: bool = True) -> "hub.Entry | None":
    """Returns the zoo entry of a model's name, None for a method; both are refused, and neither where one is needed."""
    given = (model is not None) + (method is not None)
    if given > 1 or (needed and not given):
        raise typer.BadParameter("Give one of --model and --method.")
    entry = None if model is None else hub.take(model)
    if entry:
        tell_licence(entry.card)
    return entry


def _print_candidates(fixed: "regzoo.world.images.Image", moving: "regzoo.world.images.Image") -> typer.Exit:
    """Prints how the cards of all models fit two images; returns how the command ends."""
    from regzoo.hub import cards
    from regzoo.registration.candidates import candidates

    rows = []
    for card, against in candidates(fixed, moving):
        amiss = dict.fromkeys(sentence.split()[1] for sentence in against)  # intensities, spacing, size, slices
        rows.append(cards.row(card) | {"not as in training": ", ".join(amiss) or "-"})
    shown = ("name", "anatomy", "modality", "score", "not as in training")
    print_table([{key: row[key] for key in shown} for row in rows])
    typer.echo("Choose a model by --model NAME (regzoo show NAME), or --method affine,dvf without one.", err=True)
    return typer.Exit(2)


def _print_result(facts: dict) -> None:
    from regzoo.registration.report.words import sentences, started, stripping

    before, after = facts["scores"]["before"], facts["scores"]["after"]
    rows = [("correlation", before["ncc"], after["ncc"])] if "ncc" in after else []
    for key, unit in (("dice", ""), ("hd95", " mm"), ("centroid", " mm")):
        labels = list(after.get(key, {}))
        for way, name in _ways(f"mean_{key}", f"mean {key}").items():
            if way in after:
                rows.append((f"{name}{unit}", before[way], after[way]))
        if len(labels) <= _LABELS_SHOWN:
            rows += [(f"{key} of label {label}{unit}", before[key][label], after[key][label]) for label in labels]
    for way, name in _ways("tre", "landmark error (TRE) mm").items():
        if way in after:
            rows.append((name, before[way]["mean"], after[way]["mean"]))
    if rows:
        print_table([{"figure": name, "before": f"{old:.3f}", "after": f"{new:.3f}"} for name, old, new in rows])
        where = "; correlation: where before and after both show the moving image" if "ncc" in after else ""
        typer.echo(f"before: {started(facts)}, nothing else moved{where}")
    if len(after.get("dice", {})) > _LABELS_SHOWN:
        typer.echo(f"each of the {len(after['dice'])} labels: result.json")
    if "jacobian" in facts:
        jacobian = facts["jacobian"]
        typer.echo(f"folds {100 * jacobian['folds']:.4f} % of voxels, SDlogJ {jacobian['sdlogj']:.3f}")
        if "squeezed" in jacobian:
            shares = (f"{key} {100 * jacobian[key]:.1f} %" for key in ("squeezed", "stretched"))
            typer.echo(f"of the label voxels: {', '.join(shares)}")
    if "inverse_residual" in after:
        missed = after["inverse_residual"]
        typer.echo(f"inverse: misses by {missed['mean']:.4f} mm on average, {missed['max']:.3f} mm at most")
    for step in [*facts.get("optimisation", []), *([facts["refinement"]] if "refinement" in facts else [])]:
        for level in step.get("levels", [step]):
            typer.echo(_descent(step.get("method", "refinement"), level))
    if "transform" in facts:
        typer.echo(f"transform {facts['transform']}")
    seconds = facts["seconds"]
    typer.echo("seconds " + ", ".join(f"{step} {value:.2f}" for step, value in seconds.items()))
    for text in facts["warnings"]:
        typer.echo(f"warning: {text}", err=True)
    if "stripped" in facts and "done" not in facts:
        typer.echo(stripping(facts))
    for line in sentences(facts):
        typer.echo(visible(line))


def _ways(key: str, name: str) -> dict[str, str]:
    """Names a figure and the same by the map and by its inverse."""
    return {key: name, f"{key}_forward": f"{name}, by the map", f"{key}_inverse": f"{name}, by its inverse"}


def _descent(name: str, level: dict) -> str:
    """Tells what an optimisation did on a level."""
    return (
        f"{name}: loss {level['before']:.4g} to {level['after']:.4g} "
        f"in {level['iterations']} steps on {' x '.join(map(str, level['voxels']))} voxels"
    )
