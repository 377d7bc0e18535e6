"""What a server may do to its client: a token stays with its own server, every answer has a size, every call an end."""

import contextlib
import contextvars
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from regzoo.errors import RegzooError
from regzoo.hub.address import may_have_token, server

if TYPE_CHECKING:
    from huggingface_hub.utils import httpx

ANSWER_LIMIT = 32 * 2**20
"""Bytes of an answer that is no file; a list of 1,000 models with their cards has a tenth of it."""
_ERROR_LIMIT = 2**20
_DEADLINE = 60.0
"""Seconds after which a call has failed, whatever the server still sends."""
_SLOWEST = 16 * 1024
"""Bytes a second of a file below which the connection counts as dead."""
_IN_ALL = 300.0
"""Seconds in which all calls that belong together end, beside those for their bytes."""
_ETAG = re.compile(r'(W/)?"?[A-Za-z0-9._-]{1,128}"?')
_IGNORED = ("X-Xet-Hash", "X-Xet-Refresh-Route", "Link", "RateLimit", "RateLimit-Policy", "Retry-After")
"""Headers by which a server would have the client go elsewhere with its token, or sleep as long as it likes.

Without them a file comes by plain HTTP, and what failed is tried again soon.
"""
Answer = TypeVar("Answer")
_watched: contextvars.ContextVar[tuple[float, int] | None] = contextvars.ContextVar("watched", default=None)
"""What `guarded` was told: a thread that `within` gave up keeps it for as long as it lives."""
_going_on: list[tuple[float, int]] = []
"""The same of every call that goes on, for threads that the client starts by itself."""


class TransportError(RegzooError):
    """A hub that could not be reached, or failed."""


_ends: contextvars.ContextVar[list[float] | None] = contextvars.ContextVar("ends", default=None)
"""When the calls that go on together have failed."""


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Gives the calls of the block one end, beside the one that each has; `expect` defers it."""
    before = _ends.set([time.monotonic() + _IN_ALL])
    try:
        yield
    finally:
        _ends.reset(before)


def expect(size: int) -> None:
    """Defers the end of the calls that go on together by what so many bytes may take."""
    ends = _ends.get()
    if ends:
        ends[0] += size / _SLOWEST


def deadline(size: int = 0) -> float:
    """Returns the seconds after which a call has failed that brings so many bytes."""
    return _DEADLINE + size / _SLOWEST


@contextlib.contextmanager
def guarded(silence: float, most: int = ANSWER_LIMIT) -> Iterator[None]:
    """Keeps a watch on huggingface_hub's shared HTTP client.

    Args:
        silence: Seconds for which a server may stay silent; by itself the client waits for ever.
        most: Bytes that an answer may have.

    Raises:
        TransportError: In the call, when an answer is larger, packed, or has a name for a file that is a path.
    """
    from huggingface_hub.utils import get_session

    session = get_session()
    hooks = session.event_hooks
    if _sent not in hooks["request"]:  # they stay, and leave alone what nobody watches
        session.event_hooks = {"request": [*hooks["request"], _sent], "response": [_received, *hooks["response"]]}
    told = (silence, most)
    before = _watched.set(told)
    _going_on.append(told)
    try:
        yield
    finally:
        _going_on.remove(told)
        _watched.reset(before)


def within(what: str, seconds: float, call: Callable[[], Answer]) -> Answer:
    """Calls in a thread of its own: there is an end even where a server sends a byte a second, and Ctrl-C works.

    Raises:
        TransportError: After so many seconds.
    """
    results: queue.SimpleQueue = queue.SimpleQueue()

    def work() -> None:
        try:
            results.put((call(), None))
        except BaseException as error:  # noqa: BLE001 - raised again by the one who waits
            results.put((None, error))

    threading.Thread(target=contextvars.copy_context().run, args=(work,), name=what, daemon=True).start()
    begun, ends = time.monotonic(), _ends.get()
    end = min([begun + seconds, *(ends or ())])
    while time.monotonic() < end:
        with contextlib.suppress(queue.Empty):
            value, error = results.get(timeout=0.2)  # short, for Windows sees Ctrl-C only in between
            if error is not None:
                raise error
            return value
    waited = time.monotonic() - begun
    raise TransportError(f"{what}: {server()} did not finish its answer in {waited:.0f} seconds. Try again later.")


def _watch() -> tuple[float, int] | None:
    return _watched.get() or (_going_on[-1] if _going_on else None)


def _sent(request: "httpx.Request") -> None:
    """Takes the token from a request to another server, and asks for bytes as they are, without long silence."""
    watch = _watch()
    if watch is None:
        return
    limits = request.extensions.get("timeout", {})
    kinds = ("connect", "read", "write", "pool")
    request.extensions["timeout"] = {kind: min(limits.get(kind) or watch[0], watch[0]) for kind in kinds}
    url, own = str(request.url), server()
    if not (_origin(url) == _origin(own) and may_have_token(url)):
        request.headers.pop("Authorization", None)
    request.headers["Accept-Encoding"] = "identity"


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def _received(response: "httpx.Response") -> None:
    watch = _watch()
    if watch is None:
        return
    for name in _IGNORED:
        response.headers.pop(name, None)
    for name in ("ETag", "X-Linked-ETag"):
        if not _ETAG.fullmatch(response.headers.get(name, "none")):
            raise TransportError(f"{server()} answered with the {name} {response.headers[name][:80]!r}, no plain word.")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise TransportError(f"{server()} answered with packed bytes ({response.headers['Content-Encoding'][:80]}).")
    response.stream = _bounded(response.stream, _ERROR_LIMIT if response.status_code >= 400 else watch[1])


def _bounded(stream: "httpx.SyncByteStream", most: int) -> "httpx.SyncByteStream":
    from huggingface_hub.utils import httpx

    class Bounded(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            received = 0
            for piece in stream:
                received += len(piece)
                if received > most:
                    raise TransportError(f"{server()} answered with more than {most} bytes. Nothing was kept.")
                yield piece

        def close(self) -> None:
            stream.close()

    return Bounded()
