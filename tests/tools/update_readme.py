"""Writes what the READMEs show of cards and schemas: the table of models, and the defaults of recipes.

`python tests/tools/update_readme.py`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from regzoo.hub import cards
from regzoo.schema.card import About
from regzoo.schema.networks import StageConfig
from regzoo.schema.recipe import Recipe
from regzoo.schema.strict import records_of

README = Path(__file__).resolve().parents[2] / "README.md"
RECIPES = README.parent / "recipes" / "README.md"
_LEFT_OUT = About, StageConfig  # the card, which is text; and what goes before a model, which is like it


def entries() -> dict[str, Path]:
    """Returns the bundled models, and those of `zoo_noncommercial`, which are in no wheel: name -> folder."""
    others = README.parent.glob(f"zoo_noncommercial/*/{cards.README}")
    return cards.bundled() | {path.parent.name: path.parent for path in others}


def table() -> str:
    return cards.model_table({f"{path.parent.name}/{path.name}": cards.read(path) for path in entries().values()})


def defaults() -> str:
    """Returns the table of every key of a recipe with its default."""
    rows = ("| of | keys and their defaults |", "| --- | --- |", *dict.fromkeys(_rows(Recipe, "")))
    return "\n".join(("<!-- defaults -->", *rows, "<!-- /defaults -->"))


def _rows(record: type[BaseModel], path: str, tag: str = "") -> Iterator[str]:
    """Yields the line of a record, then those of what it holds."""
    fields = {key: field for key, field in record.model_fields.items() if not _is_tag(key, field)}
    holds = {key: [each for each in records_of(field) if each not in _LEFT_OUT] for key, field in fields.items()}
    shown = [_told(key, field) for key, field in fields.items() if not holds[key] or field.default is None]
    if shown and not all(holds.values()):
        yield f"| {f'`{path}` {tag}'.strip() if path else 'the recipe'} | {', '.join(shown)} |"
    for key, held in holds.items():
        for each in held:
            yield from _rows(each, f"{path}.{key}".lstrip("."), _tag(each) or tag)


def _is_tag(key: str, field: FieldInfo) -> bool:
    """Tells whether a field is the word that names its record among others that may stand in its place."""
    return key in ("name", "kind") and get_origin(field.annotation) is Literal


def _tag(record: type[BaseModel]) -> str:
    words = [get_args(field.annotation)[0] for key, field in record.model_fields.items() if _is_tag(key, field)]
    return f"*{words[0]}*" if words else ""


def _told(key: str, field: FieldInfo) -> str:
    if field.is_required():
        return f"{key} (needed)"
    return f"{key} {_yaml(field.get_default(call_default_factory=True))}"


def _yaml(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, BaseModel):
        return "{}"
    return value if isinstance(value, str) else json.dumps(value).removesuffix(".0")


def updated(text: str, block: str) -> str:
    """Returns a page with what lies between the markers of a block replaced by it."""
    first, last = block.splitlines()[0], block.splitlines()[-1]
    return text.split(first, 1)[0] + block + text.split(last, 1)[1]


if __name__ == "__main__":
    for path, block in ((README, table()), (RECIPES, defaults())):
        path.write_text(updated(path.read_text(encoding="utf-8"), block), encoding="utf-8", newline="\n")
