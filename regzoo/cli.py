"""The command line: parse, call, print. Data goes to stdout, talk to stderr; heavy imports stay inside the commands."""

import json
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import typer.core

import regzoo
from regzoo import hub
from regzoo.checks import RegzooError
from regzoo.importers import commands

if TYPE_CHECKING:
    import numpy as np

_BACKENDS = "Run pip install 'regzoo[tensorflow]' (or [torch], [jax]), or set KERAS_BACKEND to one that is installed."


class _Door(typer.core.TyperGroup):
    """Runs a command and turns the user's errors into one line; a fault of regzoo itself keeps its traceback."""

    def invoke(self, ctx: typer.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)
            ctx.exit(130)
        except BrokenPipeError:  # `regzoo list | head`; without this Python complains again while it closes stdout
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(141)
        except ModuleNotFoundError as error:
            if ctx.params.get("debug") or error.name not in ("tensorflow", "torch", "jax"):
                raise
            typer.echo(f"error: {error.name} is not installed. {_BACKENDS}", err=True)
            ctx.exit(1)
        except (RegzooError, ValueError, OSError) as error:
            if ctx.params.get("debug"):
                raise
            typer.echo(f"error: {_message(error)}", err=True)
            ctx.exit(1)


app = typer.Typer(
    cls=_Door,
    help="A zoo of pretrained medical image registration models.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(commands.models, name="import")
app.add_typer(commands.recipes, name="recipe")

Model = Annotated[str, typer.Argument(metavar="MODEL", help="name, name@version or a folder", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main() -> None:
    """Runs the command line; the entry point of the `regzoo` script."""
    app(prog_name="regzoo")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"regzoo {regzoo.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    pass


@app.command("list")
def list_models(as_json: Json = False) -> None:
    """List the models: bundled with regzoo, and pulled."""
    from regzoo import cards

    models = hub.models()
    if as_json:
        _print_json([_facts(card, source) for card, source in models])
    else:
        _print_table([cards.row(card) | {"source": source} for card, source in models])


@app.command()
def show(model: Model, as_json: Json = False) -> None:
    """Show the card of a model."""
    from regzoo import cards

    entry = hub.find(model)
    if as_json:
        _print_json(_facts(entry.card, entry.source) | {"folder": str(entry.folder)})
        return
    _print_facts(cards.row(entry.card) | {"summary": entry.card.summary, "folder": str(entry.folder)})
    _print_scores(entry.card.scores)
    _print_markdown(cards.read_body(entry.folder))


@app.command()
def pull(model: Model) -> None:
    """Copy a model into the cache, verified, and print its folder."""
    typer.echo(hub.pull(model))


Labels = Annotated[Path | None, typer.Option(help="Label map on this image's grid.", show_default=False)]
Points = Annotated[Path | None, typer.Option(help="Landmarks, CSV x,y,z in RAS mm.", show_default=False)]
Volume = Annotated[int | None, typer.Option(help="Which volume of a 4-D file, from 0.", show_default=False)]
Start = Annotated[
    str | None, typer.Option(help="Start from image centres ('center') or scanner coordinates ('world').")
]
Data = Annotated[
    Path | None, typer.Option("--data", envvar="REGZOO_DATA", help="Folder that a recipe's data.root is relative to.")
]
Output = Annotated[Path, typer.Option("-o", "--output", help="Output folder.")]


@app.command()
def register(
    fixed: Annotated[Path, typer.Argument(help="Fixed image; the result lies on its grid.")],
    moving: Annotated[Path, typer.Argument(help="Moving image.")],
    model: Annotated[str, typer.Option("--model", "-m", help="name, name@version or a folder")],
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
    from regzoo.images import Image

    hub.resolve(model)  # this and the images before Keras, which takes seconds
    images = Image.read(fixed, volume=fixed_volume), Image.read(moving, volume=moving_volume)
    result = regzoo.register(
        *images,
        model,
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


@app.command()
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
    from regzoo.images import Grid, Image
    from regzoo.points import read_points, write_points
    from regzoo.transforms import Transform

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


@app.command()
def evaluate(
    model: Model,
    pairs: Annotated[Path | None, typer.Option(help="CSV: fixed,moving,fixed_labels,moving_labels,...")] = None,
    split: Annotated[str | None, typer.Option(help="Instead: 'valid' or 'test' of the model's own recipe.")] = None,
    data: Data = None,
    alignment: Start = None,
    output: Output = Path("scores"),
    record: Annotated[
        bool, typer.Option("--record", help="Write the figures of --split on the card of a folder.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Register many pairs, print a table per label and overall, and write one row a pair."""
    if (pairs is None) == (split is None):
        raise typer.BadParameter("Give one of --pairs and --split.")
    if record and (split is None or hub.find(model).source != "folder"):
        raise typer.BadParameter("--record goes with --split and a model's folder, such as runs/x.")
    folder = hub.resolve(model)
    from regzoo import datasets
    from regzoo.pairs_csv import read_pairs
    from regzoo.recipe import Recipe

    records = read_pairs(pairs) if pairs else datasets.split_pairs(Recipe.read(folder / "recipe.yaml"), split, data)
    found = regzoo.evaluate(model, records, alignment=alignment, progress=_print_progress)
    found.save(output)
    if record:
        found.record(folder, split, f"regzoo evaluate {found.model['name']} --split {split} --data FOLDER")
    summary = found.summary()
    if as_json:
        _print_json({"model": found.model, "pairs": len(found.rows), "summary": summary})
    else:
        _print_table([{"figure": key, **_numbers(values)} for key, values in summary.items()])
    doubtful = sum(bool(row["warnings"]) for row in found.rows)
    if doubtful:
        typer.echo(f"warning: {doubtful} of {len(found.rows)} pairs have warnings; see scores.csv", err=True)
    typer.echo(f"Written to {output}: scores.csv, summary.json", err=True)


@app.command()
def finetune(
    recipe: Annotated[Path, typer.Argument(help="Recipe, a YAML file.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Run folder; runs/NAME by default.")] = None,
    data: Data = None,
) -> None:
    """Train by a recipe, from its parent or from scratch; the same command resumes a stopped run."""
    from regzoo.recipe import Recipe

    checked = Recipe.read(recipe)  # before Keras, which takes seconds
    typer.echo(regzoo.finetune(checked, output, data))


@app.command()
def demo(
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder with real data sets; without it: synthetic.")
    ] = None,
    output: Output = Path("out"),
) -> None:
    """Register a pair with a bundled model and write the result: synthetic, or real where there is data."""
    from regzoo import backend, demo  # noqa: F401 - the backend first, since it keeps start-up chatter away

    for line in demo.run(output, data):
        typer.echo(line)


def _print_result(facts: dict) -> None:
    before, after = facts["scores"]["before"], facts["scores"]["after"]
    rows = [("correlation", before["ncc"], after["ncc"])] if "ncc" in after else []
    for key, unit in (("dice", ""), ("hd95", " mm")):
        rows += [
            (f"{key} of label {label}{unit}", before[key][label], after[key][label]) for label in after.get(key, {})
        ]
    if "tre" in after:
        rows.append(("landmark error (TRE) mm", before["tre"]["mean"], after["tre"]["mean"]))
    if rows:
        _print_table([{"figure": name, "before": f"{old:.3f}", "after": f"{new:.3f}"} for name, old, new in rows])
    if "jacobian" in facts:
        jacobian = facts["jacobian"]
        typer.echo(f"folds {100 * jacobian['folds']:.4f} % of voxels, SDlogJ {jacobian['sdlogj']:.3f}")
    if "transform" in facts:
        typer.echo(f"transform {facts['transform']}")
    seconds = facts["seconds"]
    typer.echo("seconds " + ", ".join(f"{step} {value:.2f}" for step, value in seconds.items()))
    for text in facts["warnings"]:
        typer.echo(f"warning: {text}", err=True)


def _print_progress(done: int, count: int, row: dict) -> None:
    shown = [f"{key} {row[key]:.3f}" for key in ("dice_before", "dice_after", "tre_before", "tre_after") if key in row]
    typer.echo(f"{done}/{count} {row['moving']} -> {row['fixed']} {' '.join(shown)}", err=True)


def _numbers(values: dict) -> dict[str, str]:
    return {key: "-" if value is None else f"{value:.4g}" for key, value in values.items()}


def _facts(card: "regzoo.cards.Card", source: str) -> dict:
    return card.model_dump(mode="json") | {"size": card.size, "source": source}


def _message(error: Exception) -> str:
    """Returns an error as one line that a terminal can show."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return _visible(" ".join(text.split())) or type(error).__name__


def _visible(text: str) -> str:
    """Returns text without the control characters by which a file could steer the terminal."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "", text)


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2))


def _print(*renderables: object) -> None:
    """Prints with rich: as wide as the terminal, or wide enough not to cut cells in a file or a pipe."""
    from rich.console import Console

    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = max(console.width, 160)
    console.print(*renderables)


def _print_table(rows: list[dict[str, str]]) -> None:
    if not rows:
        typer.echo("No models.", err=True)
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in rows[0]:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row.values()))
    _print(table)


def _print_facts(facts: dict[str, str]) -> None:
    for name, value in facts.items():
        if value:
            typer.echo(f"{name:<9} {value}")


def _print_scores(scores: Iterable["regzoo.cards.Score"]) -> None:
    rows = [
        {
            "score": score.text(),
            "pairs": str(score.pairs),
            "data": score.data,
            "against": ", ".join(f"{name} {'-' if value is None else value}" for name, value in score.baseline.items()),
            "command": score.command or "",
        }
        for score in scores
    ]
    if rows:
        _print_table(rows)


def _print_markdown(text: str) -> None:
    from rich.markdown import Markdown

    _print(Markdown(_visible(text), hyperlinks=False))


if __name__ == "__main__":
    main()
