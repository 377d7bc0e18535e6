"""cohort, bids: many pairs, each with a result of its own."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

import regzoo
from regzoo.cli.bar import shown
from regzoo.cli.door import typed
from regzoo.cli.machine import Device, Threads, take
from regzoo.cli.options import Json, Quiet
from regzoo.cli.output import print_json, visible
from regzoo.cli.registering import (
    Better,
    FailOn,
    Guided,
    Iterations,
    Loss,
    Method,
    NoError,
    Refine,
    Start,
    check_fail_on,
    entry_of,
    fail,
)
from regzoo.io.files import check_writable

if TYPE_CHECKING:
    from regzoo.registration.cohort import Cohort

commands = typer.Typer()

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME",
        help="name, name@version, a folder or hf://owner/repo[@revision]",
        show_default=False,
    ),
]


PairTable = Annotated[
    Path,
    typer.Argument(
        metavar="PAIRS",
        help="CSV with the columns fixed,moving and, where there are, fixed_labels,moving_labels,fixed_points,"
        "moving_points; paths are relative to the file.",
    ),
]
Row = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Only the N-th pair, the first is 1, as in a job array; writes no table.",
        show_default=False,
    ),
]
Workers = Annotated[
    int,
    typer.Option(metavar="N", min=1, help="Processes of this machine, among which its threads are shared out."),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Instead: tcp://HOST:PORT of a Dask scheduler, whose workers see the same files.",
        show_default=False,
    ),
]


@commands.command()
def cohort(
    ctx: typer.Context,
    pairs: PairTable,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write to, a folder a pair.")],
    model: Model = None,
    method: Method = None,
    refine: Refine = 0,
    loss: Loss = None,
    iterations: Iterations = None,
    guided: Guided = False,
    only_if_better: Better = False,
    start: Start = "auto",
    no_error: NoError = False,
    fail_on: FailOn = None,
    index: Row = None,
    collect: Annotated[bool, typer.Option("--collect", help="Only write the table, of what is there.")] = False,
    workers: Workers = 1,
    scheduler: Scheduler = None,
    device: Device = None,
    threads: Threads = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Register many pairs and keep every result. What is done and whole is left alone; exit code 1 if a pair failed.

    Exit code 1 is of pairs that could not be registered; with --fail-on, 3 is of those whose verdict is so bad.
    """
    check_fail_on(fail_on, no_error)
    if index is not None and collect:
        raise typer.BadParameter("Give one of --index and --collect.")
    from regzoo.data.tables import read_pairs

    entry = entry_of(model, method)  # this and the next before Keras, which takes seconds
    files = read_pairs(pairs, must_exist=False)
    check_writable(output, folder=True)
    take(device, threads)
    with shown(quiet):
        found = regzoo.cohort(
            files,
            output,
            entry,
            method=method,
            refine=refine,
            loss=loss,
            iterations=iterations,
            guided=guided,
            only_if_better=only_if_better,
            start=start,
            error=not no_error,
            index=index,
            collect=collect,
            workers=workers,
            scheduler=scheduler,
            command=typed(ctx),
            progress=_tell_failure,
        )
    print_json(found.rows) if as_json else typer.echo(_counted(found))
    if not quiet and index is None:
        typer.echo(f"Written to {output}: cohort.tsv, index.html", err=True)
    if set(found.counts()) - {"done"}:
        raise typer.Exit(1)
    fail([row.get("verdict") for row in found.rows], fail_on)


def _counted(found: "Cohort") -> str:
    told = ", ".join(f"{count} {status}" for status, count in found.counts().items())
    return f"{told}; {found.kept} of them before" if found.kept else told


@commands.command()
def bids(
    ctx: typer.Context,
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="BIDS dataset.")],
    output: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the derivatives.")],
    level: Annotated[
        Literal["participant", "group"],
        typer.Argument(metavar="LEVEL", help="participant: register. group: one table of what is in OUT."),
    ],
    more: Annotated[list[str] | None, typer.Argument(metavar="[LABEL]...", help="Further subjects.")] = None,
    participant_label: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL", help="Only these subjects, with or without sub-.", show_default="all"),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Template, or its name in TemplateFlow's folder.", show_default=False),
    ] = None,
    suffix: Annotated[str, typer.Option(metavar="NAME", help="Kind of image.")] = "T1w",
    model: Model = None,
    method: Method = None,
    device: Device = None,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Register the subjects of a BIDS dataset to a template. Writes BIDS derivatives; exit code 1 if one failed."""
    if more and not participant_label:
        raise typer.BadParameter(f"{' '.join(more)}: subjects follow --participant-label.")
    if level == "participant" and (template is None or (model is None) == (method is None)):
        raise typer.BadParameter("Give --template, and one of --model and --method.")
    entry = entry_of(model, method, needed=False)
    take(device, threads)
    from regzoo import backend  # noqa: F401 - first, since it keeps start-up chatter away
    from regzoo.registration.bids import group, participants

    if level == "group":
        typer.echo(f"{len(group(output, suffix))} images: {output / f'group_{suffix}.tsv'}")
        return
    labels = [*(participant_label or ()), *(more or ())]
    rows = participants(
        dataset, output, template, labels, suffix=suffix, model=entry, method=method, command=typed(ctx), progress=_tell
    )
    if not quiet:
        typer.echo(f"Written to {output}", err=True)
    if any(row["status"] == "failed" for row in rows):
        raise typer.Exit(1)


def _tell(row: dict) -> None:
    text = f"{row['file']}: {row['status']}"
    typer.echo(f"{text}: {visible(row['message'])}" if row["message"] else text, err=row["status"] == "failed")


def _tell_failure(row: dict) -> None:
    """Tells of a pair that failed, above the bar."""
    if row["status"] == "failed":
        typer.echo(f"error: {row['pair']}: {visible(row['message'])}", err=True)
