"""Argument checks, with one form of message: which argument, what was expected, what was received, what to do."""

import difflib
import functools
import math
import re
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class RegzooError(Exception):
    """An error that is the user's to mend: one line, shown without a traceback by the command line."""

    def __str__(self) -> str:
        """Returns the message, a space in place of ends of lines and other control characters, which names may have."""
        return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", str(self.args[0])) if self.args else ""


class InvalidError(RegzooError, ValueError):
    """A value or a file that cannot be used."""


class MissingError(RegzooError, FileNotFoundError):
    """A file or a name that is not there."""


def invalid(what: str, expected: str, received: object, advice: str = "") -> InvalidError:
    """Builds the error for a bad value, to be raised: `invalid("ddf", "shape (B, *S, 3)", ddf.shape)`."""
    message = f"{what}: expected {expected}, received {received}."
    return InvalidError(f"{message} {advice}" if advice else message)


def checked_spacing(spacing: Iterable[float], dims: int | None = None) -> tuple[float, ...]:
    """Returns the millimetres a voxel of 2 or 3 axes, or of `dims`, as floats.

    Raises:
        InvalidError: If that is not what it is.
    """
    try:
        values = tuple(float(each) for each in spacing)
    except (TypeError, ValueError):
        values = ()
    if len(values) not in ((2, 3) if dims is None else (dims,)) or not all(0 < each < math.inf for each in values):
        raise invalid("spacing", f"{dims or '2 or 3'} numbers of mm above 0", spacing)
    return values


def unknown(kind: str, name: str, known: Iterable[str], advice: str = "") -> InvalidError:
    """Builds the error for a name that is not one of `known`, with the nearest of them as a suggestion."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return InvalidError(f"Unknown {kind} '{name}'.{hint} {advice or 'Known: ' + ', '.join(known) + '.'}")


def renamed(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorates a function whose argument has another name now: the old one is an error that gives the new one.

    Args:
        names: New names by the old ones.
    """

    def decorated(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for old, new in names.items():
                if old in kwargs:
                    raise invalid(old, f"{new}=, which is its name now", f"{old}={kwargs[old]!r}")
            return function(*args, **kwargs)

        return call

    return decorated
