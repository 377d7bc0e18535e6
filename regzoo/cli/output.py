"""How the command line prints: data to stdout; heavy imports stay inside the functions."""

import json
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import typer

from regzoo.schema.licences import non_commercial

if TYPE_CHECKING:
    from regzoo.schema.card import Card


def tell_licence(card: "Card") -> None:
    """Says on standard error if a model's licence allows no commercial use."""
    if non_commercial(card.license):
        typer.echo(f"warning: {card.id} is not for commercial use: its licence is {card.license}.", err=True)


class Saved(Protocol):
    """A result that was written to a folder."""

    facts: dict

    def files(self) -> list[str]:
        """Returns the names of what was written."""


_HIDDEN = ("Cc", "Cf", "Zl", "Zp", "Cs")


def visible(text: str) -> str:
    """Returns text in which each character that could steer a terminal, or turn or hide text, is its code in words."""
    return "".join(
        char if char in "\n\t" or unicodedata.category(char) not in _HIDDEN else _escape(char) for char in text
    )


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def print_json(value: object) -> None:
    """Prints a value as JSON."""
    typer.echo(json.dumps(value, indent=2))


def print_result(
    result: Saved,
    folder: Path,
    as_json: bool,
    tell: Callable[[dict], None],
    quiet: bool = False,
    files: Sequence[str] = (),
) -> None:
    """Prints the result.json that was written to a folder, or tells its facts; and unless quiet, what was written.

    `files` are the names of that where they are not those of `result.files()`.
    """
    if as_json:
        typer.echo((folder / "result.json").read_text(encoding="utf-8"))
    else:
        tell(result.facts)
    if not quiet:
        typer.echo(f"Written to {folder}: {', '.join(files or result.files())}", err=True)


def print_dicom(folder: Path | None, quiet: bool) -> None:
    """Tells, unless quiet, what `--dicom` wrote."""
    if folder is not None and not quiet:
        typer.echo(f"Written to {folder}, with all that names the patient: moved, transform.dcm", err=True)


def _print(renderable: object, width: int) -> None:
    """Prints with rich: as wide as the terminal, or up to `width` columns in a file or a pipe."""
    from rich.console import Console

    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = width
    console.print(renderable)


def print_table(rows: list[dict[str, str]]) -> None:
    """Prints rows of cells under the first row's keys; nothing if there are none."""
    if not rows:
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in rows[0]:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(cell)) for cell in row.values()))
    _print(table, width=10_000)  # a row stays on one line


def print_facts(facts: dict[str, str]) -> None:
    """Prints one line for each name that has a text."""
    for name, value in facts.items():
        if value:
            typer.echo(f"{name:<9} {visible(value)}")


def print_markdown(text: str) -> None:
    """Prints Markdown without links, which a terminal would hide behind other text."""
    from rich.markdown import Markdown

    _print(Markdown(visible(text), hyperlinks=False), width=160)
