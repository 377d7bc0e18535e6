"""Records that refuse what they do not know, and errors that name the place, what was expected and what to do."""

import difflib
import re
import reprlib
from typing import TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from regzoo.errors import InvalidError


class Strict(BaseModel):
    """A frozen record that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Record = TypeVar("Record", bound=BaseModel)


def validate(record: type[Record], value: dict, source: str) -> Record:
    """Builds a record from plain values, with errors in the project's form.

    Args:
        record: The kind of record.
        value: A dict, as read from YAML or JSON.
        source: The file that holds it, for the message.

    Returns:
        The record.

    Raises:
        InvalidError: One line: file, dotted path, expected, received; for an unknown key the nearest known one.
    """
    try:
        return record.model_validate(value)
    except ValidationError as error:
        raise InvalidError(f"{source}: {_explain(error, record)}") from None


_KIND = re.compile(r"(function-\w+|tuple|nullable)\[")
"""How pydantic, in the place of an error, names one of the kinds that a value may be."""


def _explain(error: ValidationError, record: type[BaseModel]) -> str:
    """Returns the first problem as one line; an unknown key goes first, since a missing one is often its twin."""
    problems = error.errors(include_url=False)
    first = min(problems, key=lambda problem: problem["type"] != "extra_forbidden")
    if any(
        _KIND.match(str(part)) for part in first["loc"]
    ):  # of kinds that a value may be, the one that it follows furthest
        first = max(problems, key=lambda problem: (problem["loc"][0] == first["loc"][0], len(problem["loc"])))
    more = f" ({len(problems) - 1} more.)" if len(problems) > 1 else ""
    return _line(first, record) + more


def _line(problem: dict, record: type[BaseModel]) -> str:
    """Returns `path: expected ..., received ....` for one of pydantic's problems."""
    kind, received = problem["type"], problem["input"]
    path, _ = _walk(record, problem["loc"])
    if kind == "extra_forbidden":
        _, owners = _walk(record, problem["loc"][:-1])
        return f"{path}: unknown key.{_nearest(str(problem['loc'][-1]), owners)}"
    if kind.startswith("union_tag"):
        path += f".{problem['ctx']['discriminator']}".replace("'", "")
    if kind in ("missing", "union_tag_not_found"):
        return f"{path}: the key is missing."
    if kind == "value_error":
        return f"{path}{': ' if path else ''}{problem['msg'].removeprefix('Value error, ').rstrip('.')}."
    expected = (
        problem["msg"]
        .partition(" or instance of")[0]
        .replace("Input should be", "expected")
        .replace("String should", "expected text to")
    )
    if kind == "union_tag_invalid":
        expected, received = f"expected {problem['ctx']['expected_tags']}", problem["ctx"]["tag"]
    advice = " Put it in quotes." if kind == "string_type" and isinstance(received, int | float) else ""
    return f"{path or 'the file'}: {expected}, received {_short(received)}.{advice}"


def _nearest(key: str, owners: list[type[BaseModel]]) -> str:
    known = sorted({name for owner in owners for name in owner.model_fields})
    near = difflib.get_close_matches(key, known, n=1)
    return f" Did you mean '{near[0]}'?" if near else f" Known: {', '.join(known)}."


def _short(value: object) -> str:
    try:
        return reprlib.repr(value)
    except ValueError:  # an integer of more digits than Python prints
        return "a very large number"


def _walk(record: type[BaseModel], location: tuple[str | int, ...]) -> tuple[str, list[type[BaseModel]]]:
    """Follows pydantic's location: the path as the user wrote it, and the records that may stand there."""
    path, records = "", [record]
    for key in location:
        if isinstance(key, str) and _KIND.match(key):  # pydantic's description of one of the kinds that a value may be
            continue
        owners = [owner for owner in records if key in owner.model_fields]
        tagged = [owner for owner in records if _tag(owner) == key]
        if isinstance(key, int):
            path += f"[{key}]"
        elif not owners and tagged:  # pydantic puts the chosen kind of a union into the location
            records = tagged
        else:
            path += f".{key[:80]}" if path else key[:80]
            records = [held for owner in owners for held in records_of(owner.model_fields[key])]
    return path, records


def records_of(field: FieldInfo) -> list[type[BaseModel]]:
    """Returns the records that a field may hold; where they are in a dict (`regzoo.schema.registry`), its own."""
    dynamic = [mark for mark in field.metadata if hasattr(mark, "records")]
    return dynamic[0].records() if dynamic else _records(field.annotation)


def _records(annotation: object) -> list[type[BaseModel]]:
    """Returns the records inside an annotation such as `tuple[X, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [held for part in get_args(annotation) for held in _records(part)]


def _tag(record: type[BaseModel]) -> object:
    """Returns the word that names this record among others in a union, or None."""
    field = record.model_fields.get("name") or record.model_fields.get("kind")
    return next(iter(get_args(field.annotation)), None) if field else None
