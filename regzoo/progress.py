"""How far a long computation is: it tells, and whoever asked hears. By default nobody does."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace

Listener = Callable[[str | None, float | None], None]
"""Hears the name of a stage that begins, or None for the one that goes on; and the share of it that is done, from 0 to
1, or None where that is not known."""


@dataclass(frozen=True)
class _Heard:
    """Who hears, and which part of the stage `step` counts in."""

    listener: Listener
    start: float = 0.0
    width: float = 1.0


_heard: ContextVar[_Heard | None] = ContextVar("heard", default=None)


@contextlib.contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Has a listener hear what is told in the block."""
    with _set(_Heard(listener)):
        yield


def stage(name: str) -> None:
    """Tells that a stage begins."""
    heard = _heard.get()
    if heard:
        heard.listener(name, None)


@contextlib.contextmanager
def part(i: int, of: int) -> Iterator[None]:
    """Says that the block is part `i`, from 0, of so many equal ones of what goes on."""
    heard = _heard.get()
    with _set(heard and replace(heard, start=heard.start + heard.width * i / of, width=heard.width / of)):
        yield


def step(done: int, of: int) -> None:
    """Tells that so many steps are done, of at most so many."""
    heard = _heard.get()
    if heard:
        heard.listener(None, heard.start + heard.width * done / of)


@contextlib.contextmanager
def _set(heard: _Heard | None) -> Iterator[None]:
    token = _heard.set(heard)
    try:
        yield
    finally:
        _heard.reset(token)
