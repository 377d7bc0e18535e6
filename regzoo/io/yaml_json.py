"""YAML and JSON from a stranger, read strictly: bounded in size and depth, no aliases, tags, repeated keys or NaN."""

import json
import math
import os
from collections import Counter
from pathlib import Path

import yaml

from regzoo.errors import InvalidError, invalid
from regzoo.io.reading import check_file

DEPTH = 24
"""Levels of nesting that a document may have; the deepest card or recipe has seven."""

# libyaml is several times faster; its recursive composer has no depth check of its own, hence `_scan`.
_BASE = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_BASE):
    """A safe loader that refuses repeated keys, which YAML forbids and PyYAML lets pass, and merged mappings."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):  # by which a key is given twice unseen
            raise yaml.constructor.ConstructorError(None, None, "merge keys (<<) are not allowed", node.start_mark)
        twice = _repeated([key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"'{twice}' is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_text(path: str | os.PathLike, limit: int) -> str:
    """Returns the UTF-8 text of a file of at most `limit` bytes, with Unix line ends.

    Args:
        path: The file.
        limit: The largest size in bytes; a larger file is refused before it is read.

    Returns:
        The text, without a byte order mark.

    Raises:
        MissingError: If there is no such file.
        InvalidError: If it is larger than `limit` or is not UTF-8.
    """
    path = Path(path)
    check_file(path)
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise InvalidError(f"{path} cannot be read ({error.strerror}).") from None
    if len(data) > limit:
        raise invalid(str(path), f"at most {limit // 1024} KiB", f"{path.stat().st_size // 1024} KiB")
    return decoded(data, str(path))


def decoded(data: bytes, source: str) -> str:
    """Returns UTF-8 text without a byte order mark, with Unix line ends; `source` is what to call it in an error."""
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InvalidError(f"{source}: expected UTF-8 text, received a bad byte at offset {error.start}.") from None


def parse_yaml(text: str, source: str) -> dict:
    """Returns the mapping that a YAML text holds.

    Args:
        text: The text, its size already bounded by `read_text`.
        source: What to call it in an error.

    Returns:
        A dict of plain values.

    Raises:
        InvalidError: If it is not YAML, not a mapping, nested too deep, or holds an alias, a tag, a repeated key or
            a number that is not finite.
    """
    try:
        _scan(text, source)
        value = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise InvalidError(f"{source}: not valid YAML{_place(error)}.") from None
    except (ValueError, OverflowError) as error:
        if isinstance(error, InvalidError):
            raise
        raise InvalidError(f"{source}: not valid YAML: {error}.") from None
    return _mapping(value, source)


def parse_json(text: str, source: str) -> dict:
    """Returns the mapping that a JSON text holds; raises InvalidError under the same rules as `parse_yaml`."""
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise invalid(source, f"at most {DEPTH} levels of nesting", "more") from None
    except ValueError as error:
        raise InvalidError(f"{source}: not valid JSON: {error}.") from None
    return _mapping(value, source)


def dump_yaml(value: dict) -> str:
    """Returns plain values as YAML, keys in their own order."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=110)


def _scan(text: str, source: str) -> None:
    """Walks the events without building anything, so that an alias bomb or a deep nest costs nothing."""
    depth = 0
    for event in yaml.parse(text, Loader=_BASE):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        line = event.start_mark.line + 1
        if depth > DEPTH:
            raise invalid(f"{source}, line {line}", f"at most {DEPTH} levels of nesting", "more")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise InvalidError(f"{source}, line {line}: anchors and aliases (& and *) are not allowed.")
        if getattr(event, "tag", None):
            raise InvalidError(f"{source}, line {line}: tags ({event.tag}) are not allowed.")


def _place(error: yaml.YAMLError) -> str:
    """Returns where and what of a YAML error, on one line."""
    mark = getattr(error, "problem_mark", None)
    line = f", line {mark.line + 1}" if mark else ""
    return f"{line}: {getattr(error, 'problem', None) or 'a character that YAML does not allow'}"


def _unique(pairs: list[tuple[str, object]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"'{_repeated([key for key, _ in pairs])}' is given twice")
    return found


def _repeated(keys: list[str]) -> str | None:
    key, count = max(Counter(keys).items(), key=lambda item: item[1], default=("", 0))
    return key if count > 1 else None


def _mapping(value: object, source: str) -> dict:
    if not isinstance(value, dict):
        raise invalid(source, "a mapping of keys to values", type(value).__name__)
    _check(value, source, "", 1)
    return value


def _check(value: object, source: str, path: str, depth: int) -> None:
    """Refuses keys that are not text, numbers that are not finite, and (for JSON) too many levels."""
    if isinstance(value, float) and not math.isfinite(value):
        raise invalid(f"{source}: {path}", "a finite number", value)
    if depth > DEPTH:
        raise invalid(source, f"at most {DEPTH} levels of nesting", "more")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise invalid(f"{source}: {path or 'the top level'}", "keys that are text", repr(key))
            _check(item, source, f"{path}.{key}" if path else key, depth + 1)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _check(item, source, f"{path}[{i}]", depth + 1)
