"""list, show, pull, push, export, cache, verify: which models there are, and their bytes."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from regzoo import hub
from regzoo.cli.door import message
from regzoo.cli.options import Json, Model
from regzoo.cli.output import print_facts, print_json, print_markdown, print_table, tell_licence
from regzoo.errors import RegzooError
from regzoo.io.files import check_writable

if TYPE_CHECKING:
    import regzoo

commands = typer.Typer()


@commands.command("list")
def list_models(
    anatomy: Annotated[str, typer.Option(help="Only cards whose anatomy has these letters, as 'lung'.")] = "",
    modality: Annotated[str, typer.Option(help="Only cards whose modality has these letters, as 'ct'.")] = "",
    as_json: Json = False,
) -> None:
    """List the models. Those bundled with regzoo, those pulled, and those on the hub that REGZOO_HUB names."""
    from regzoo.hub import cards

    entries, problems = hub.survey()
    models = [(entry.card, _source(entry)) for entry in entries]
    try:
        models += [(card, str(address)) for card, address in hub.offered()]
    except RegzooError as error:
        typer.echo(f"warning: {message(error)}", err=True)
    _tell("warning", problems)
    wanted = {"anatomy": anatomy.lower(), "modality": modality.lower()}
    models = [each for each in models if all(_about(getattr(each[0], key), text) for key, text in wanted.items())]
    if as_json:
        print_json([_facts(card, source) for card, source in models])
    else:
        _print_models([cards.row(card) | {"source": source} for card, source in models])


@commands.command()
def show(model: Model, as_json: Json = False) -> None:
    """Show the card of a model."""
    from regzoo.hub import cards

    entry = hub.find(model)
    picture = entry.folder / cards.SAMPLE
    places = {"folder": str(entry.folder), "picture": str(picture) if picture.is_file() else ""}
    if as_json:
        print_json(_facts(entry.card, _source(entry)) | places)
        return
    peer = {"best peer": entry.card.peer.text()} if entry.card.peer else {}
    facts = {"summary": entry.card.summary, "source": _source(entry)}
    print_facts(cards.row(entry.card) | peer | facts | places)
    _print_scores(entry.card.scores)
    print_markdown(cards.read_body(entry.folder))


@commands.command()
def pull(model: Model) -> None:
    """Bring a model into the cache. It is verified, and its folder printed; and told if it may not be sold."""
    from regzoo.hub import cards

    folder = hub.pull(model)
    card = cards.read(folder)
    tell_licence(card)
    typer.echo(folder)


@commands.command()
def push(
    model: Model,
    target: Annotated[str, typer.Argument(metavar="TARGET", help="hf://owner/repo")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and list the files; upload nothing.")] = False,
) -> None:
    """Upload a model to a hub. In one commit, whose address is printed; needs 'hf auth login' or HF_TOKEN."""
    from regzoo.hub.push import package
    from regzoo.hub.push import push as upload

    ready = package(model, target)
    for remark in ready.remarks:
        typer.echo(f"warning: {remark}", err=True)
    if dry_run:
        print_table([{"file": name, "bytes": str(size)} for name, size in ready.sizes().items()])
        typer.echo(f"Nothing was uploaded to {ready.address}.", err=True)
        return
    typer.echo(upload(ready, private))


@commands.command()
def export(
    model: Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="FILE.keras, FILE.onnx, or a new folder.")],
    kind: Annotated[Literal["keras", "saved-model", "onnx"], typer.Option("--format", help="What to write.")] = "keras",
) -> None:
    """Write a model for other programs. A Keras file, a SavedModel (TensorFlow) or ONNX (PyTorch), checked by a run."""
    check_writable(output, folder=kind == "saved-model")
    entry = hub.take(model)  # before Keras, which takes seconds
    from regzoo import backend  # noqa: F401 - first, since it keeps start-up chatter away
    from regzoo.models.export import export as write

    typer.echo(write(entry, output, kind))


@commands.command()
def cache(
    remove: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="name, name@version, hf://owner/repo or one of its commits; may be given several times.",
        ),
    ] = None,
) -> None:
    """List the pulled models, or remove some."""
    from regzoo.hub.cards import human_size

    for name in remove or ():
        for folder in hub.remove(name):
            typer.echo(f"Removed {folder}.", err=True)
    if not remove:
        _tell("warning", hub.survey()[1])
        rows = hub.cached()
        _print_models(
            [
                {"model": entry.card.id, "size": human_size(entry.card.size), "folder": str(entry.folder)}
                for entry in rows
            ]
        )


@commands.command()
def verify(
    model: Annotated[str | None, typer.Argument(metavar="MODEL", help="Without it: every model that is here.")] = None,
) -> None:
    """Check a model's bytes against its card. Exit code 1 if any are wrong."""
    damaged = False
    entries, problems = ([hub.find(model)], []) if model else hub.survey()
    for entry in entries:
        try:
            hub.verify(entry.folder, entry.card)
            typer.echo(f"ok {entry.card.id} {entry.folder}")
        except RegzooError as error:
            damaged = True
            typer.echo(f"error: {message(error)} {entry.folder}", err=True)
    _tell("error", problems)
    if damaged or problems:
        raise typer.Exit(1)


def _print_models(rows: list[dict[str, str]]) -> None:
    print_table(rows)
    if not rows:
        typer.echo("No models.", err=True)


def _tell(kind: str, problems: list[RegzooError]) -> None:
    """Tells of cards that cannot be read."""
    for error in problems:
        typer.echo(f"{kind}: {message(error)}", err=True)


def _about(told: str, wanted: str) -> bool:
    """Tells whether a model for `told` may be used for what is wanted; one for any anatomy or modality may."""
    return told == "any" or wanted in told.lower()


def _source(entry: hub.Entry) -> str:
    return str(entry.address) if entry.address else entry.source


def _facts(card: "regzoo.schema.card.Card", source: str) -> dict:
    return card.model_dump(mode="json") | {"size": card.size, "source": source}


def _print_scores(scores: Iterable["regzoo.schema.card.Score"]) -> None:
    """Prints a table for each command and data that scores come from, which stand above it."""
    by_origin: dict[tuple, list[dict[str, str]]] = {}
    for score in scores:
        others = {name: "-" if value is None else f"{value:.4g}" for name, value in score.baseline.items()}
        row = {"score": score.text(), "pairs": str(score.pairs), "others": ", ".join(map(" ".join, others.items()))}
        by_origin.setdefault((score.data, score.command or ""), []).append(row)
    for (data, command), rows in by_origin.items():
        typer.echo("")
        print_facts({"scores": data, "command": command})
        print_table(rows)
