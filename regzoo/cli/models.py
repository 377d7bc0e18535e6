"""list, show, pull: which models there are."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import typer

from regzoo import hub
from regzoo.cli.options import Json, Model
from regzoo.cli.output import print_facts, print_json, print_markdown, print_table

if TYPE_CHECKING:
    import regzoo

commands = typer.Typer()


@commands.command("list")
def list_models(as_json: Json = False) -> None:
    """List the models: bundled with regzoo, and pulled."""
    from regzoo import cards

    models = hub.models()
    if as_json:
        print_json([_facts(card, source) for card, source in models])
    else:
        print_table([cards.row(card) | {"source": source} for card, source in models])


@commands.command()
def show(model: Model, as_json: Json = False) -> None:
    """Show the card of a model."""
    from regzoo import cards

    entry = hub.find(model)
    if as_json:
        print_json(_facts(entry.card, entry.source) | {"folder": str(entry.folder)})
        return
    print_facts(cards.row(entry.card) | {"summary": entry.card.summary, "folder": str(entry.folder)})
    _print_scores(entry.card.scores)
    print_markdown(cards.read_body(entry.folder))


@commands.command()
def pull(model: Model) -> None:
    """Copy a model into the cache, verified, and print its folder."""
    typer.echo(hub.pull(model))


def _facts(card: "regzoo.cards.Card", source: str) -> dict:
    return card.model_dump(mode="json") | {"size": card.size, "source": source}


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
        print_table(rows)
