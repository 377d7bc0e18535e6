"""What a config may name: plain dicts of name -> Entry. One entry adds a loss, a backbone or an output."""

import functools
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Union

from pydantic import BaseModel, Field, GetCoreSchemaHandler, TypeAdapter, create_model
from pydantic_core import CoreSchema, core_schema

from regzoo.schema.strict import Strict


@dataclass(frozen=True)
class Entry:
    """One thing that a config may name.

    Args:
        config: What may be said of it, and what it can do.
        made_by: The function that makes it, or is it; or where that is, as `"regzoo.losses.image:ssd"`, since a config
            is read without Keras.
    """

    config: type[BaseModel]
    made_by: Callable | str

    def function(self) -> Callable:
        """Returns the function, imported on first use."""
        if callable(self.made_by):
            return self.made_by
        module, _, name = self.made_by.partition(":")
        return getattr(importlib.import_module(module), name)


Entries = dict[str, Entry]


def those(entries: Mapping[str, Entry], able: Callable[[type[BaseModel]], bool], joined_by: str = "or") -> str:
    """Returns the names of the entries whose config is able, for messages: `"ddf, dvf or fitted"`."""
    names = [name for name, entry in entries.items() if able(entry.config)]
    return f" {joined_by} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


class _Dynamic:
    """How pydantic reads a field whose kinds are in a dict, as the dict is when a value is read."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def records(self) -> list[type[BaseModel]]:
        """Returns the records that may stand here."""
        raise NotImplementedError

    def read(self, value: object) -> BaseModel:
        """Returns the record that a plain value is; a record stays as it is.

        Raises:
            ValidationError: If it is none. pydantic adds it to what else is wrong, at its place.
        """
        raise NotImplementedError


class OneOf(_Dynamic):
    """A field that is one of the kinds in a dict; one of its own keys says which.

    Args:
        entries: The dict.
        able: A capability without which a kind may not stand here.
        key: The key that says which.
    """

    def __init__(self, entries: Mapping[str, Entry], able: str | None = None, key: str = "name") -> None:
        self.entries, self.able, self.key = entries, able, key

    def records(self) -> list[type[BaseModel]]:
        """Returns the config of each kind."""
        found = [entry.config for entry in self.entries.values()]
        return [each for each in found if self.able is None or getattr(each, self.able)]

    def read(self, value: object) -> BaseModel:
        """Returns the record of the kind that the key says."""
        return _union(tuple(self.records()), self.key).validate_python(value)


class AnyOf(_Dynamic):
    """A field with one optional key for each of the kinds in a dict.

    Args:
        entries: The dict.
        name: Name of the record.
        doc: What it is.
    """

    def __init__(self, entries: Mapping[str, Entry], name: str, doc: str) -> None:
        self.entries, self.name, self.doc = entries, name, doc

    def records(self) -> list[type[BaseModel]]:
        """Returns the one record with all keys."""
        return [_keys(self.name, self.doc, tuple((name, each.config) for name, each in self.entries.items()))]

    def read(self, value: object) -> BaseModel:
        """Returns the record of the keys that are given."""
        return self.records()[0].model_validate(value)


@functools.lru_cache
def _union(kinds: tuple[type[BaseModel], ...], key: str) -> TypeAdapter:
    return TypeAdapter(Annotated[Union[kinds], Field(discriminator=key)])  # noqa: UP007 - of a tuple


@functools.lru_cache
def _keys(name: str, doc: str, kinds: tuple[tuple[str, type[BaseModel]], ...]) -> type[BaseModel]:
    return create_model(name, __base__=Strict, __doc__=doc, **{key: (kind | None, None) for key, kind in kinds})
