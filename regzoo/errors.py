"""Argument checks, with one form of message: which argument, what was expected, what was received, what to do."""

import difflib
from collections.abc import Iterable


class RegzooError(Exception):
    """An error that is the user's to mend: one line, shown without a traceback by the command line."""


class InvalidError(RegzooError, ValueError):
    """A value or a file that cannot be used."""


class MissingError(RegzooError, FileNotFoundError):
    """A file or a name that is not there."""

    def __str__(self) -> str:
        """Returns the message; the base class would print an errno."""
        return str(self.args[0])


def invalid(what: str, expected: str, received: object, advice: str = "") -> InvalidError:
    """Builds the error for a bad value, to be raised: `invalid("ddf", "shape (B, *S, 3)", ddf.shape)`."""
    message = f"{what}: expected {expected}, received {received}."
    return InvalidError(f"{message} {advice}" if advice else message)


def unknown(kind: str, name: str, known: Iterable[str], advice: str = "") -> InvalidError:
    """Builds the error for a name that is not one of `known`, with the nearest of them as a suggestion."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return InvalidError(f"Unknown {kind} '{name}'.{hint} {advice or 'Known: ' + ', '.join(known) + '.'}")
