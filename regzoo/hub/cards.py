"""Cards: what a zoo entry says of itself, read from and written to the front matter of its `README.md`.

A zoo entry is a folder with `README.md`, `config.json`, `model.safetensors`, and usually `recipe.yaml` and
`scores.json`. The same folder is a bundled model, a run of a training and a repository on a hub.
"""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING

from regzoo.cache import expanded
from regzoo.errors import InvalidError, MissingError, invalid
from regzoo.io.files import atomic_file, sha256
from regzoo.io.yaml_json import dump_yaml, parse_json, parse_yaml, read_text
from regzoo.schema.calibration import ERROR
from regzoo.schema.card import (
    CONFIG,
    README,
    RECIPE,
    REQUIRED,
    SCORES,
    WEIGHTS,
    Card,
    FileEntry,
)
from regzoo.schema.own import OwnConfig
from regzoo.schema.strict import validate

if TYPE_CHECKING:
    from regzoo.schema.networks import ModelConfig

SAMPLE, WORST = "sample.png", "worst.png"
"""Pictures of the test pair in the middle and of the three worst, by score; a body may show others too."""
FOREIGN = (
    *("base_model", "base_model_relation", "datasets", "model-index", "model_name", "eval_results", "new_version"),
    *("language", "license_name", "license_link", "metrics", "thumbnail", "widget", "inference", "viewer"),
    *("instance_prompt", "co2_eq_emissions", "extra_gated_prompt", "extra_gated_heading", "extra_gated_description"),
    *("extra_gated_button_content", "extra_gated_fields", "extra_gated_eu_disallowed", "pretty_name"),
)
"""What a hub's pages know of a card, in their own words: derived when a model is pushed, or added there by hand."""

CARD_LIMIT = 256 * 1024
CONFIG_LIMIT = 64 * 1024


_ORDER = (
    *("library_name", "pipeline_tag", "license", "tags", "name", "version", "summary", "anatomy", "modality"),
    *("input", "config", "files", "data", "recipe", "training", "scores", "peer", "limits", "citation"),
)


def read(folder: str | os.PathLike, source: str | None = None) -> Card:
    """Reads the card of a zoo entry.

    Args:
        folder: The entry's folder.
        source: What to call the file in an error; None: its path.

    Returns:
        The card.

    Raises:
        MissingError: If there is no `README.md`.
        InvalidError: If it has no front matter, or a field is wrong: file, dotted path, expected, received.
    """
    path = Path(folder) / README
    source = source or str(path)
    front, _ = _split(path, source)
    fields = parse_yaml(front, source)
    return validate(Card, {key: value for key, value in fields.items() if key not in FOREIGN}, source)


def read_body(folder: str | os.PathLike) -> str:
    """Returns the text of an entry's `README.md` below the front matter."""
    path = Path(folder) / README
    return _split(path, str(path))[1]


def write(folder: str | os.PathLike, card: Card, body: str) -> None:
    """Writes `README.md`: the card as front matter, then the body. Whole or not at all.

    Args:
        folder: The entry's folder.
        card: The card.
        body: Markdown for a reader.

    Raises:
        InvalidError: If the result would not be read back as the same card (it is too large).
    """
    with atomic_file(Path(folder) / README) as path:
        path.write_text(text(card, body), encoding="utf-8", newline="\n")
        if read(path.parent) != card:
            raise InvalidError(f"The card of {card.name} is not read back as it was written.")


def text(card: Card, body: str, derived: Mapping[str, object] = MappingProxyType({})) -> str:
    """Returns the text of a `README.md`: the card, and what is derived from it, as front matter, then the body."""
    fields = card.model_dump(mode="json", exclude_none=True)
    front = dump_yaml({key: fields[key] for key in _ORDER if key in fields} | dict(derived))
    return f"---\n{front}---\n\n{body.strip()}\n"


def manifest(folder: str | os.PathLike) -> tuple[FileEntry, ...]:
    """Lists the files of a zoo entry with sha256 and size, for its card. Logs and checkpoints are no part of it.

    Args:
        folder: The entry's folder.

    Returns:
        Entries for config, weights, recipe, scores, calibration and pictures, as far as they exist.

    Raises:
        MissingError: If there is no config or no weights.
    """
    folder = Path(folder)
    for name in REQUIRED:
        if not (folder / name).is_file():
            raise MissingError(f"{folder} has no {name}.")
    paths = [folder / name for name in (CONFIG, WEIGHTS, RECIPE, SCORES, ERROR) if (folder / name).is_file()]
    paths += sorted(folder.glob("*.png"))
    return tuple(FileEntry(path=path.name, sha256=sha256(path), bytes=path.stat().st_size) for path in paths)


def read_config(folder: str | os.PathLike) -> "ModelConfig":
    """Reads and checks the `config.json` of a zoo entry; raises MissingError or InvalidError."""
    path = Path(folder) / CONFIG
    return parse_config(read_text(path, CONFIG_LIMIT), str(path))


def parse_config(text: str, source: str) -> "ModelConfig":
    """Checks the text of a `config.json`, of a network of regzoo's; `source` is what to call it in an error."""
    from regzoo.schema.networks import ModelConfig  # slow to import, and a card is read without it

    own = parse_own(text, source)
    if own:
        advice = (
            "Only register, evaluate, push and load take another; the Keras model itself is regzoo.load(...).network, "
            "which has a save of its own."
        )
        raise invalid(source, "a network of regzoo's", f"'{own.network}', its user's own", advice)
    return validate(ModelConfig, parse_json(text, source), source)


def parse_own(text: str, source: str) -> OwnConfig | None:
    """Checks the text of a `config.json` whose network is its user's own; None if it is one of regzoo's."""
    value = parse_json(text, source)
    return validate(OwnConfig, value, source) if "network" in value else None


def publishable(card: Card) -> list[str]:
    """Returns the fields that a card still needs before others may rely on it; empty if none."""
    needed = ("license", "summary", "anatomy", "modality", "data", "scores", "limits")
    missing = [field for field in needed if not getattr(card, field)]
    return missing + [f"scores[{i}].command" for i, score in enumerate(card.scores) if not score.command]


def zoo_folder() -> Path:
    """Returns the folder of the bundled entries: in the wheel, or `zoo_cards` in a source checkout.

    The environment variable `REGZOO_ZOO` names another folder.
    """
    if os.environ.get("REGZOO_ZOO"):
        return expanded(os.environ["REGZOO_ZOO"])
    package = Path(__file__).resolve().parents[1]
    checkout = package.parent / "zoo_cards"
    return checkout if (package.parent / "pyproject.toml").is_file() else package / "zoo_cards"


def bundled() -> dict[str, Path]:
    """Returns the bundled entries: name -> folder."""
    return {path.parent.name: path.parent for path in sorted(zoo_folder().glob(f"*/{README}"))}


def human_size(count: int) -> str:
    """Returns a number of bytes for a reader: `3.6 MB`."""
    power = min(int(math.log(max(count, 1), 1000)), 4)
    return f"{count / 1000**power:.{1 if power else 0}f} {('B', 'kB', 'MB', 'GB', 'TB')[power]}"


def row(card: Card) -> dict[str, str]:
    """Returns a card's line in a table of models: column -> text."""
    return {
        "name": card.name,
        "version": card.version,
        "anatomy": card.anatomy,
        "modality": card.modality,
        "size": human_size(card.size),
        "licence": card.license or "",
        "score": _headline(card),
    }


def _headline(card: Card) -> str:
    """Returns a card's first score: `dice 0.744 ± 0.021 (map 0.833, inverse 0.656), before 0.560`."""
    return _told(card, card.scores[0].metric) if card.scores else ""


def _told(card: Card, metric: str) -> str:
    """Returns a figure, the same by the map and by its inverse, and what it was without the model; or nothing."""
    scores = {score.metric: score for score in reversed(card.scores)}
    if metric not in scores:
        return ""
    found = scores[metric].text()
    ways = {"map": f"{metric}_forward", "inverse": f"{metric}_inverse"}
    known = [f"{way} {scores[key].value:.3f}" for way, key in ways.items() if key in scores]
    before = scores[metric].baseline.get("unregistered")
    return found + (f" ({', '.join(known)})" if known else "") + ("" if before is None else f", before {before:.3f}")


def model_table(cards: Mapping[str, Card]) -> str:
    """Returns the Markdown table of models for the README, between its `<!-- models -->` markers.

    Args:
        cards: Folder of the entry, from the README's, -> its card.
    """
    ordered = sorted(cards.items(), key=lambda each: (each[1].name, each[1].version))
    rows = [row(card) | _more(card) | {"link": _link(card.name, place)} for place, card in ordered]
    header = ("name", "version", "anatomy", "modality", "size", "licence", "score", "HD95", "best peer", "seconds")
    lines = [header, ["---"] * len(header)]
    lines += [[entry["link"], *(_cell(entry[column]) for column in header[1:])] for entry in rows]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"<!-- models -->\n{table}\n<!-- /models -->"


def _more(card: Card) -> dict[str, str]:
    """Returns what only the table of the README has room for."""
    return {
        "HD95": _told(card, "hd95").removeprefix("hd95 "),
        "best peer": card.peer.text() if card.peer else "",
        "seconds": next((_seconds(score.value) for score in card.scores if score.metric == "network_seconds"), ""),
    }


def _seconds(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def _link(name: str, place: str) -> str:
    return f"[{name}]({PurePosixPath(place) / README})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _split(path: Path, source: str) -> tuple[str, str]:
    """Returns the front matter and the body of a card."""
    text = read_text(path, CARD_LIMIT)
    match = re.match(r"---[ \t]*\n(.*?\n)---[ \t]*(?:\n(.*))?\Z", text, re.DOTALL)
    if not match:
        raise InvalidError(f"{source}: expected front matter between two lines of '---', as a model's card has it.")
    return match[1], (match[2] or "").strip("\n")
