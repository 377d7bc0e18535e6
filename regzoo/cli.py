"""The command line: parse, call, print. Data goes to stdout, talk to stderr; heavy imports stay inside the commands."""

import json
import os
import re
import sys
from collections.abc import Iterable
from typing import Annotated

import typer
import typer.core

import regzoo
from regzoo.checks import RegzooError


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
    from regzoo import cards, hub

    models = hub.models()
    if as_json:
        _print_json([_facts(card, source) for card, source in models])
    else:
        _print_table([cards.row(card) | {"source": source} for card, source in models])


@app.command()
def show(model: Model, as_json: Json = False) -> None:
    """Show the card of a model."""
    from regzoo import cards, hub

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
    from regzoo import hub

    typer.echo(hub.pull(model))


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
