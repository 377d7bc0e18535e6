"""Reading a config of another project key by key, so that none is lost: each is taken, or left out with a reason."""

import difflib
from collections.abc import Iterable, Mapping

from regzoo.errors import InvalidError, invalid

Notes = list[str]
"""What was not carried over or should be looked at, each as `dotted.path: why.`"""


class Section:
    """A mapping in a config, of which every key must be taken or left out before `close`.

    Args:
        value: The mapping.
        path: Where it stands, dotted.
        notes: Where notes are added.

    Raises:
        InvalidError: If `value` is not a mapping.
    """

    def __init__(self, value: object, path: str, notes: Notes) -> None:
        if not isinstance(value, Mapping):
            raise invalid(path, "a mapping of keys to values", repr(value))
        self.path, self._notes = path, notes
        self._rest = dict(value)
        self._paths = {key: f"{path}.{key}" if path else key for key in value}
        self._known: set[str] = set()

    def __contains__(self, key: str) -> bool:
        """Says whether the key is there, not null and not taken yet."""
        return self._rest.get(key) is not None

    def at(self, key: str) -> str:
        """Returns the dotted path of a key."""
        return self._paths.get(key) or (f"{self.path}.{key}" if self.path else key)

    def lift(self, key: str, names: Mapping[str, str] | None = None) -> None:
        """Moves the keys of an inner mapping up to this one, renamed by `names`; their paths stay."""
        inner = Section(self.take(key), self.at(key), self._notes)
        for name, value in inner._rest.items():
            self.put((names or {}).get(name, name), value, inner.at(name))

    def put(self, key: str, value: object, path: str) -> None:
        """Sets a value, which stands elsewhere in the file."""
        self._rest[key], self._paths[key] = value, path

    def peek(self, key: str) -> object:
        """Returns a value without taking it, None where there is none."""
        return self._rest.get(key)

    def had(self, key: str) -> bool:
        """Says whether the file gives the key, be it null or taken already."""
        return key in self._paths

    def take(self, key: str, default: object = None) -> object:
        """Takes a value, or the default where the key is absent or null."""
        self._known.add(key)
        value = self._rest.pop(key, None)
        return default if value is None else value

    def section(self, key: str) -> "Section":
        """Takes a mapping; an absent one is empty."""
        return Section(self.take(key, {}), self.at(key), self._notes)

    def sections(self, key: str) -> list["Section"]:
        """Takes a mapping or a list of mappings; none if the key is absent or null."""
        value = self.take(key, [])
        if isinstance(value, list):
            return [Section(each, f"{self.at(key)}[{i}]", self._notes) for i, each in enumerate(value)]
        return [Section(value, self.at(key), self._notes)]

    def number(self, key: str, default: float | None = None) -> float:
        """Takes a number; PyYAML reads 1e-5 as text, so the text of a number counts."""
        value = self._taken(key, default, "a number")
        try:
            return float("" if isinstance(value, bool) else value)
        except (TypeError, ValueError):
            raise invalid(self.at(key), "a number", repr(value)) from None

    def integer(self, key: str, default: int | None = None) -> int:
        """Takes an integer."""
        value = self._taken(key, default, "an integer")
        if type(value) is not int:
            raise invalid(self.at(key), "an integer", repr(value))
        return value

    def integers(self, key: str, default: Iterable[int] | None = None) -> list[int]:
        """Takes a list of integers."""
        value = self._taken(key, default and list(default), "a list of integers")
        if not isinstance(value, list) or not value or any(type(each) is not int for each in value):
            raise invalid(self.at(key), "a list of integers", repr(value))
        return value

    def flag(self, key: str, default: bool | None = None) -> bool:
        """Takes true or false."""
        value = self._taken(key, default, "true or false")
        if not isinstance(value, bool):
            raise invalid(self.at(key), "true or false", repr(value))
        return value

    def choice(self, key: str, known: Iterable[str], default: str | None = None) -> str:
        """Takes one of the words."""
        known = list(known)
        value = self._taken(key, default, f"one of {', '.join(known)}")
        if value not in known:
            near = difflib.get_close_matches(str(value), known, n=1)
            raise invalid(
                self.at(key), f"one of {', '.join(known)}", repr(value), f"Did you mean '{near[0]}'?" if near else ""
            )
        return value

    def _taken(self, key: str, default: object, expected: str) -> object:
        value = self.take(key, default)
        if value is None:
            raise InvalidError(f"{self.at(key)}: the key is missing; expected {expected}.")
        return value

    def leave(self, keys: str | Iterable[str], why: str) -> None:
        """Leaves out keys, those that are there, for a reason."""
        for key in [keys] if isinstance(keys, str) else keys:
            if self.take(key) is not None:
                self.note(key, why)

    def only(self, key: str, value: object, why: str) -> None:
        """Takes a value that regzoo gives no choice of; any other one is left out for a reason."""
        received = self.take(key, value)
        if received != value:
            self.note(key, f"{why}; {received!r} is left out")

    def note(self, key: str | None, why: str) -> None:
        """Adds a note on a key, or with None on the whole section."""
        text = f"{self.path if key is None else self.at(key)}: {why}."
        self._notes.append("".join(letter if letter.isprintable() else "?" for letter in text))

    def close(self) -> None:
        """Leaves out what is left, as unknown."""
        known = set(self._known)
        for key in list(self._rest):
            near = difflib.get_close_matches(str(key), known, n=1)
            if self._rest.pop(key) is not None or key not in known:
                self.note(key, "unknown key, left out" + (f"; nearest is '{near[0]}'" if near else ""))
