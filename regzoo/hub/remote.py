"""Repositories on a hub, through huggingface_hub; what arrives is checked here, since plain HTTP checks sizes only."""

import contextlib
import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import regzoo
from regzoo.errors import InvalidError, MissingError, RegzooError
from regzoo.hub import cards, guard, store
from regzoo.hub.address import Address, may_have_token, parse, server
from regzoo.hub.guard import Answer, TransportError
from regzoo.io.files import atomic_file, atomic_folder
from regzoo.io.yaml_json import parse_json, read_text
from regzoo.schema.card import Card
from regzoo.schema.strict import validate

if TYPE_CHECKING:
    import huggingface_hub
    from huggingface_hub.utils import httpx

TIMEOUT = 20.0
"""Seconds without an answer after which a server counts as unreachable."""
WAITS = (0.5, 2.0)
"""Seconds before a request is repeated that a server failed on."""
_MOST = 1000
"""Repositories of an owner that are asked for, and looked at."""
_SPARE = 2**26
"""Bytes of a disk that a model leaves free."""
_REFS = "refs.json"
_REFS_LIMIT = 1024 * 1024


def home(address: Address) -> Path:
    """Returns the folder of the cache that holds a repository's pulled commits.

    Each server has its own: what a mirror sent is never taken for what the hub has.
    """
    return _of_server() / address.repo


def folder(address: Address) -> Path:
    """Returns the folder of the cache for one commit."""
    return home(address) / address.commit


def _of_server() -> Path:
    return store.cache_folder() / "hub" / re.sub(r"[^A-Za-z0-9.-]", "_", server().removeprefix("https://"))


def pulled(address: Address) -> Address | None:
    """Returns the commit that was pulled for a revision, without asking the server; None if there is none."""
    commit = address.commit or _refs(home(address)).get(address.revision or "main")
    return address.at(commit) if commit and (folder(address.at(commit)) / cards.README).is_file() else None


def all_pulled() -> dict[Path, Address]:
    """Returns the folder and the address of every commit in the cache, those of the present server first.

    Also of those that lost their card.
    """
    found = sorted((store.cache_folder() / "hub").glob("*/*/*/*"))
    folders = sorted(found, key=lambda folder: not folder.is_relative_to(_of_server()))
    addresses = {path: Address(f"{path.parent.parent.name}/{path.parent.name}", path.name) for path in folders}
    return {path: address for path, address in addresses.items() if address.commit}


def listing(owner: str) -> list[tuple[Card, Address]]:
    """Returns the cards of an owner's repositories with the tag `regzoo`, as the server tells them.

    Raises:
        TransportError: If the server cannot be reached, or fails.
    """
    # Not HfApi.list_models, which waits for ever (huggingface_hub 2.4).
    question = {"author": owner, "filter": "regzoo", "cardData": "true", "limit": str(_MOST)}
    told = []
    for item in _patiently(Address(owner), lambda: list(asked("GET", "/api/models", params=question).json()))[:_MOST]:
        with contextlib.suppress(InvalidError, AttributeError, TypeError):  # one that could not be pulled either
            values = (item.get("cardData") or {}).items()
            address = parse(f"hf://{item.get('id')}")
            told.append(
                (
                    validate(Card, {key: value for key, value in values if key in Card.model_fields}, str(address)),
                    address,
                )
            )
    return told


def asked(method: str, path: str, **content: object) -> "httpx.Response":
    """Asks the server a question that huggingface_hub has no fit method for, by its client; raises its errors."""
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    headers = build_hf_headers(token=client().token, library_name="regzoo", library_version=regzoo.__version__)
    reply = get_session().request(method, f"{server()}{path}", headers=headers, **content)
    hf_raise_for_status(reply)
    return reply


def pull(address: Address) -> Address:
    """Brings a revision into the cache, verified, and returns the address of its commit.

    A commit that is there is only verified; for a branch or a tag the server is asked once where it points.

    Raises:
        MissingError: If there is no such repository, revision or file, or it is private.
        DamagedError: If a file is not the one that the card lists. Nothing is kept.
        TransportError: If the server cannot be reached, or fails.
    """
    known = pulled(address)
    if known and offline():
        store.verify(folder(known), cards.read(folder(known)), "Pull it again with a network.")
        return known
    if known and address.commit and _is_whole(known):
        return known
    found, sizes = _look_up(address)
    target = folder(found)
    with store.claimed(target):
        if store.kept(target) is None:
            with guard.together(), atomic_folder(target) as fresh:
                _fill(fresh, found, sizes)
    _remember(address, found)
    return found


def read_card(address: Address) -> tuple[Card, Address] | None:
    """Returns the card that a repository has now and its commit, or None if there is no repository or no card."""
    with tempfile.TemporaryDirectory() as temporary:
        try:
            found, _ = _look_up(address)
            _download(found, cards.README, Path(temporary), cards.CARD_LIMIT)
        except MissingError:
            return None
        try:
            return cards.read(temporary, str(found)), found
        except InvalidError as error:
            problem = f"{address} holds a README.md that is no card of a model: {error}"
            raise InvalidError(f"{problem} Remove it there first, or choose another repository.") from None


def client() -> "huggingface_hub.HfApi":
    """Returns huggingface_hub's client for the configured server."""
    from huggingface_hub import HfApi

    url = server()
    token = None if may_have_token(url) else False
    return HfApi(endpoint=url, token=token, library_name="regzoo", library_version=regzoo.__version__)


@contextlib.contextmanager
def reported(address: Address, seconds: float | None = None, most: int = guard.ANSWER_LIMIT) -> Iterator[None]:
    """Turns huggingface_hub's errors into one line each, keeps its chatter away and limits how long it waits.

    Args:
        address: What is asked for.
        seconds: How long a server may stay silent; None: `TIMEOUT`.
        most: Bytes that an answer may have.
    """
    from huggingface_hub import errors
    from huggingface_hub.utils import httpx

    try:
        with _quiet(), guard.guarded(TIMEOUT if seconds is None else seconds, most):
            yield
    except RegzooError:
        raise
    except errors.RevisionNotFoundError:
        raise MissingError(f"{address}: the hub has no such revision.") from None
    except errors.GatedRepoError:
        raise MissingError(
            f"{address}: the hub gives access on request only; ask for it on the model's page."
        ) from None
    except errors.RepositoryNotFoundError as error:
        raise MissingError(f"{address}: the hub shows no such repository ({_status(error)}). {_login()}") from None
    except errors.OfflineModeIsEnabled:
        message = f"{address} has not been pulled, and HF_HUB_OFFLINE is set. Pull it once with a network."
        raise MissingError(message) from None
    except errors.LocalEntryNotFoundError as error:  # huggingface_hub's form of a request that failed
        raise _failure(address, error.__cause__ or error) from None
    except errors.EntryNotFoundError:
        raise MissingError(f"{address}: the repository lacks a file that its card lists, or the card.") from None
    except (httpx.HTTPError, httpx.InvalidURL, errors.FileMetadataError, ConnectionError) as error:
        raise _failure(address, error) from None
    except RuntimeError as error:  # huggingface_hub's form of an upload that failed
        raise _failure(address, error.__cause__ or error) from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:  # of reading the answer
        reason = f"answered what a hub does not ({type(error).__name__})"
        raise TransportError(f"{address}: {server()} {reason}.") from None
    except OSError as error:
        if "Consistency check failed" not in str(error):
            raise
        raise store.DamagedError(f"{address} arrived incomplete. Nothing was kept; try again.") from None


def _failure(address: Address, error: BaseException) -> RegzooError:
    """Returns the error for a server that failed or could not be reached."""
    status = _status(error)
    if status in (401, 403):
        return MissingError(f"{address}: the hub refuses access ({status}). {_login()}")
    again = pulled(address)
    advice = f"What was pulled before is {again}." if again else "Try again later."
    words = " ".join(str(getattr(error, "server_message", None) or "").split())[:200]
    reason = f"answered {status} {words}".rstrip() if status else f"did not answer ({type(error).__name__})"
    return TransportError(f"{address}: {server()} {reason}. {advice}")


def _login() -> str:
    if not may_have_token(server()):
        return f"If it is private: a token is sent over https only, and the server is {server()}."
    return "If it is private, log in with 'hf auth login' or set HF_TOKEN."


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences huggingface_hub's log, and its bars where no one watches them."""
    from huggingface_hub import utils

    level, bars = utils.logging.get_verbosity(), utils.are_progress_bars_disabled()
    utils.logging.set_verbosity_error()
    if not bars and not sys.stderr.isatty():
        utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.logging.set_verbosity(level)
        if not bars and not sys.stderr.isatty():
            utils.enable_progress_bars()


def _patiently(address: Address, call: Callable[[], Answer], size: int | None = None) -> Answer:
    """Calls again what a server failed on with a status of 5xx, until a deadline.

    Args:
        address: What is asked for.
        call: The question.
        size: Bytes that a file may have; None: the answer is no file.
    """
    from huggingface_hub.errors import HfHubHTTPError

    def calls() -> Answer:
        for wait in WAITS:
            try:
                return call()
            except HfHubHTTPError as error:
                if (_status(error) or 0) < 500:
                    raise
                time.sleep(wait)
        return call()

    # The client reads ahead of the bar that ends a file which is too long, with the better message.
    most = guard.ANSWER_LIMIT if size is None else size + guard.ANSWER_LIMIT
    with reported(address, most=most):
        return guard.within(str(address), guard.deadline(size or 0), calls)


def offline() -> bool:
    """Says whether huggingface_hub is told to ask no server (`HF_HUB_OFFLINE`)."""
    import huggingface_hub

    return huggingface_hub.is_offline_mode()


def _look_up(address: Address) -> tuple[Address, dict[str, int]]:
    """Asks the server for the commit of a revision, and the sizes of its files as far as it tells them."""
    info = _patiently(
        address,
        lambda: client().model_info(
            address.repo, revision=address.revision or "main", files_metadata=True, timeout=TIMEOUT
        ),
    )
    found = address.at(info.sha if isinstance(info.sha, str) else "")
    if found.commit is None:
        raise TransportError(f"{address}: expected a commit from {server()}, received '{info.sha}'.")
    sizes = {file.rfilename: file.size for file in info.siblings or () if isinstance(file.size, int)}
    return found, sizes


def _fill(target: Path, address: Address, sizes: dict[str, int]) -> None:
    """Downloads the card, then what it lists, verified; nothing else of the repository."""
    if sizes.get(cards.README, 0) > cards.CARD_LIMIT:
        raise InvalidError(f"{address}: expected a card of at most {cards.CARD_LIMIT // 1024} KiB.")
    _download(address, cards.README, target, cards.CARD_LIMIT)
    card = cards.read(target, f"{address}: {cards.README}")
    store.check_pin(address, card)
    for file in card.files:  # before a byte of a large file is fetched
        if sizes.get(file.path, file.bytes) != file.bytes:
            problem = f"{file.path} has {sizes[file.path]} bytes, expected {file.bytes}"
            raise store.DamagedError(f"{card.name} is damaged: {problem}. Nothing was kept; tell {address.repo}.")
    free = shutil.disk_usage(target).free
    if card.size + _SPARE > free:
        needed = f"{cards.human_size(card.size)}, and {cards.human_size(free)} are free at {target.parent}"
        raise InvalidError(f"{address} needs {needed}. Make room, or set REGZOO_CACHE to another place.")
    guard.expect(card.size)
    for file in card.files:
        _download(address, file.path, target, file.bytes)
    store.verify(target, card, f"Nothing was kept; try again, or tell {address.repo}.")


def _download(address: Address, name: str, target: Path, limit: int) -> None:
    """Downloads one file of a commit, past every cache, into a folder; ends when more than `limit` bytes come."""
    with tempfile.TemporaryDirectory(dir=target, prefix=".transport-", ignore_cleanup_errors=True) as transport:
        _patiently(
            address,
            lambda: client().hf_hub_download(
                address.repo,
                name,
                revision=address.commit,
                local_dir=transport,
                cache_dir=transport,
                tqdm_class=_bar(f"{address}: {name}", limit),
            ),
            limit,
        )
        shutil.move(Path(transport) / name, target / name)


def _bar(what: str, limit: int) -> type:
    """Returns huggingface_hub's progress bar, which ends a download that is longer than it may be.

    The server tells a size before, which nothing binds it to; without an end it would fill the disk.
    """
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):
        received = 0

        def update(self, n: float | None = 1) -> bool | None:
            Bar.received += int(n or 0)
            if Bar.received > limit:
                raise store.DamagedError(f"{what} has more than {limit} bytes. Nothing was kept.")
            return super().update(n)

    return Bar


def _is_whole(address: Address) -> bool:
    with store.claimed(folder(address)):
        return store.kept(folder(address)) is not None


def _refs(place: Path) -> dict[str, str]:
    """Returns which commit each revision was; a damaged file tells of none, and the next pull writes it anew."""
    path = place / _REFS
    if not path.is_file():
        return {}
    try:
        found = parse_json(read_text(path, _REFS_LIMIT), str(path))
    except InvalidError:
        return {}
    whole = isinstance(found, dict) and all(isinstance(each, str) for each in found.values())
    return {name: commit for name, commit in found.items() if Address("", commit).commit} if whole else {}


def _remember(address: Address, found: Address) -> None:
    """Notes which commit a revision was when it was pulled."""
    path = home(address) / _REFS
    with store.claimed(path):
        known = _refs(path.parent)
        refs = known | {address.revision or "main": found.commit}
        if refs == known:  # the cache may be read-only
            return
        if path.is_dir():
            store.discard(path)
        with atomic_file(path) as temporary:
            temporary.write_text(json.dumps(refs, indent=1) + "\n", encoding="utf-8")
