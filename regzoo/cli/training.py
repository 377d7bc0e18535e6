"""evaluate, finetune: many pairs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import regzoo
from regzoo import hub
from regzoo.cli.machine import Device, Threads, take, warn_of_memory
from regzoo.cli.options import Data, Json, Model, Output, Quiet
from regzoo.cli.output import print_json, print_table, tell_licence
from regzoo.cli.registering import FailOn, NoError, Refine, check_fail_on, fail
from regzoo.errors import invalid
from regzoo.io.files import check_writable

if TYPE_CHECKING:
    import regzoo.hub.cards
    from regzoo.registration.evaluation import Evaluation

commands = typer.Typer()

StartTrained = Annotated[
    str | None,
    typer.Option(
        "--start",
        metavar="NAME",
        help="How to start, as in register: auto, center, world, mass, moments, rigid, affine.",
        show_default="as the model was trained, of which its card tells",
    ),
]


@commands.command()
def evaluate(
    model: Model,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="CSV with the columns fixed,moving and, where there are, fixed_labels,moving_labels,fixed_points,"
            "moving_points; paths are relative to the file.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Instead: valid or test of the model's own recipe.", show_default=False),
    ] = None,
    data: Data = None,
    start: StartTrained = None,
    refine: Refine = 0,
    output: Output = Path("scores"),
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Instead: run the card's own command again and compare; exit code 1 if they differ."
        ),
    ] = False,
    record: Annotated[
        bool, typer.Option("--record", help="Write the figures of --split on the card too; MODEL is a folder.")
    ] = False,
    no_reports: Annotated[
        bool, typer.Option("--no-reports", help="Write no index.html and no report of each pair: some seconds a pair.")
    ] = False,
    no_error: NoError = False,
    fail_on: FailOn = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Register many pairs and score them. Prints a table over all pairs, writes a row and a report for each."""
    if [pairs is not None, split is not None, check].count(True) != 1:
        raise typer.BadParameter("Give one of --pairs, --split and --check.")
    check_fail_on(fail_on, no_error, check or record)
    if refine and (check or record):
        raise typer.BadParameter("--refine goes with neither --check nor --record: a card tells of the model alone")
    check_writable(output, folder=True)
    entry = hub.take(model)
    tell_licence(entry.card)
    if check:
        split, scores = _own_scores(entry.card)
    if record and (split is None or entry.source != "folder"):
        raise typer.BadParameter("--record goes with --split and a model's folder, such as runs/x.")
    records = _pairs(entry, pairs, split, data)
    reports, hear = None if check or no_reports else output, None if quiet else _print_progress
    error = not (no_error or check or record)
    found = regzoo.evaluate(entry, records, start=start, refine=refine, error=error, reports=reports, progress=hear)
    found.save(output)
    if record:
        found.record(entry.folder, split, f"regzoo evaluate {found.model['name']} --split {split} --data FOLDER")
    if check:
        _print_check(found.check(scores), as_json)
    else:
        _print_scores(found, as_json)
    _tell_written(found, output, pages=bool(reports), quiet=quiet)
    fail([row.get("verdict") for row in found.rows], fail_on)


def _pairs(entry: "hub.Entry", pairs: Path | None, split: str | None, data: Path | None) -> list:
    """Reads a table of pairs, or takes those of a split of the model's own recipe."""
    from regzoo.data.tables import read_pairs
    from regzoo.schema.recipe import RECIPE_LIMIT, Recipe
    from regzoo.training.recipe_data import split_pairs

    if pairs:
        return read_pairs(pairs)
    recipe = Recipe.parse(entry.text("recipe.yaml", RECIPE_LIMIT), str(entry.folder / "recipe.yaml"))
    return split_pairs(recipe, split, data)


def _own_scores(card: "regzoo.schema.card.Card") -> tuple[str, list["regzoo.schema.card.Score"]]:
    """Returns the split that the command of a card's first score names, and all scores of that command."""
    command = card.scores[0].command if card.scores else None
    words = (command or "").split()
    if words[:2] != ["regzoo", "evaluate"] or "--split" not in words[:-1]:
        raise invalid(f"{card.name}: its scores' command", "regzoo evaluate NAME --split SPLIT", command)
    return words[words.index("--split") + 1], [score for score in card.scores if score.command == command]


def _tell_written(found: "Evaluation", output: Path, pages: bool, quiet: bool) -> None:
    doubtful = sum(bool(row["warnings"]) for row in found.rows)
    if doubtful:
        typer.echo(f"warning: {doubtful} of {len(found.rows)} pairs have warnings; see scores.csv", err=True)
    if not quiet:
        typer.echo(f"Written to {output}: scores.csv, summary.json{', index.html' * pages}", err=True)


def _print_scores(found: "Evaluation", as_json: bool) -> None:
    summary, verdicts = found.summary(), found.verdicts()
    if as_json:
        print_json({"model": found.model, "pairs": len(found.rows), "summary": summary, "verdicts": verdicts})
        return
    print_table([{"figure": key, **_numbers(values)} for key, values in summary.items()])
    if verdicts:
        typer.echo(f"verdicts: {', '.join(f'{count} {word}' for word, count in verdicts.items())}")


def _print_check(rows: list[dict], as_json: bool) -> None:
    """Prints what a card says beside what was measured; exit code 1 if they differ."""
    if as_json:
        print_json(rows)
    else:
        shown = ("metric", "card", "now", "tolerance")
        print_table([{key: str(row[key]) for key in shown} | {"": "" if row["agrees"] else "differs"} for row in rows])
    if not all(row["agrees"] for row in rows):
        raise typer.Exit(1)


@commands.command()
def finetune(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="Recipe, a YAML file.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder of the run.", show_default="runs/NAME")
    ] = None,
    data: Data = None,
    device: Device = None,
    threads: Threads = None,
    quiet: Quiet = False,
) -> None:
    """Train by a recipe. From its parent or from scratch; the same command resumes a run that was stopped."""
    from regzoo.schema.recipe import Recipe

    checked = Recipe.read(recipe)  # this and the next before Keras, which takes seconds
    folder = output or Path("runs") / checked.name
    check_writable(folder, folder=True)
    take(device, threads)
    _warn_of_memory(checked)
    typer.echo(regzoo.finetune(checked, folder, data, quiet=quiet))


def _warn_of_memory(recipe: "regzoo.schema.recipe.Recipe") -> None:
    """Warns of a network that will probably not fit into memory with all that its training keeps."""
    from regzoo import backend
    from regzoo.training import parents

    if backend.device() != "cpu":  # whose own memory is told by nobody before it is taken
        return
    config, inputs = parents.config_and_input(recipe)
    needed = inputs.memory(config, recipe.training.batch_size, trained=True)
    warn_of_memory(needed, "Lower training.batch_size or input.shape, or train on a GPU, if it ends for want of it.")


def _print_progress(done: int, count: int, row: dict) -> None:
    shown = [f"{key} {row[key]:.3f}" for key in ("dice_before", "dice_after", "tre_before", "tre_after") if key in row]
    typer.echo(f"{done}/{count} {row['moving']} -> {row['fixed']} {' '.join(shown)}", err=True)


def _numbers(values: dict) -> dict[str, str]:
    return {key: "-" if value is None else f"{value:.4g}" for key, value in values.items()}
