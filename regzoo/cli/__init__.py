"""The command line: parse, call, print. Data goes to stdout, talk to stderr; heavy imports stay inside the commands."""

from typing import Annotated

import typer

import regzoo
from regzoo.cli import (
    averaging,
    cohorts,
    importing,
    machine,
    models,
    points,
    registering,
    training,
    transforming,
    warping,
)
from regzoo.cli.door import Door

app = typer.Typer(
    cls=Door,
    help="A zoo of pretrained medical image registration models.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for part in (models, registering, cohorts, averaging, warping, transforming, points, training, machine):
    app.add_typer(part.commands)
app.add_typer(importing.models, name="import")
app.add_typer(importing.recipes, name="recipe")


def main() -> None:
    """Runs the command line; `regzoo.start` calls it."""
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
