"""Repositories on a hub, through huggingface_hub; what arrives is checked here, since plain HTTP checks sizes only."""

import contextlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import regzoo
from regzoo import cards
from regzoo.cards import Card
from regzoo.checks import InvalidError, MissingError, RegzooError
from regzoo.config import validate
from regzoo.documents import parse_json, read_text
from regzoo.files import atomic_file, atomic_folder
from regzoo.hub import store
from regzoo.hub.address import Address, configured, parse

if TYPE_CHECKING:
    import huggingface_hub

TIMEOUT = 20.0
"""Seconds without an answer after which a server counts as unreachable."""
WAITS = (0.5, 2.0)
"""Seconds before a request is repeated that a server failed on."""
_REFS = "refs.json"
_REFS_LIMIT = 1024 * 1024
_LOGIN = "If it is private, log in with 'hf auth login' or set HF_TOKEN."
Answer = TypeVar("Answer")


class TransportError(RegzooError):
    """A hub that could not be reached, or failed."""


def home(address: Address) -> Path:
    """Returns the folder of the cache that holds a repository's pulled commits."""
    return store.cache_folder() / "hub" / address.repo


def pulled(address: Address) -> Address | None:
    """Returns the commit that was pulled for a revision, without asking the server; None if there is none."""
    commit = address.commit or _refs(home(address)).get(address.revision or "main")
    return address.at(commit) if commit and (home(address) / commit / cards.README).is_file() else None


def all_pulled() -> list[Address]:
    """Returns the address of every commit in the cache."""
    folders = [path.parent for path in (store.cache_folder() / "hub").glob(f"*/*/*/{cards.README}")]
    addresses = [Address(f"{path.parent.parent.name}/{path.parent.name}", path.name) for path in sorted(folders)]
    return [address for address in addresses if address.commit]


def listing(owner: str) -> list[tuple[Card, Address]]:
    """Returns the cards of an owner's repositories with the tag `regzoo`, as the server tells them.

    Raises:
        TransportError: If the server cannot be reached, or fails.
    """
    call = client().list_models
    found = _patiently(Address(owner), lambda: list(call(author=owner, filter="regzoo", cardData=True, limit=1000)))
    told = []
    for info in found:
        with contextlib.suppress(InvalidError, AttributeError):  # one that could not be pulled either
            values = (info.card_data.to_dict() if info.card_data else {}).items()
            card = validate(Card, {key: value for key, value in values if key in Card.model_fields}, info.id)
            told.append((card, parse(f"hf://{info.id}")))
    return told


def pull(address: Address) -> Address:
    """Brings a revision into the cache, verified, and returns the address of its commit.

    A commit that is there is only verified; for a branch or a tag the server is asked once where it points.

    Raises:
        MissingError: If there is no such repository, revision or file, or it is private.
        DamagedError: If a file is not the one that the card lists. Nothing is kept.
        TransportError: If the server cannot be reached, or fails.
    """
    known = pulled(address)
    if known and (address.commit or offline()):
        return _verified(known)
    found, sizes = _look_up(address)
    target = home(found) / found.commit
    with store.claimed(target):
        if store.kept(target) is None:
            with atomic_folder(target) as folder:
                _fill(folder, found, sizes)
    _remember(address, found)
    return found


def read_card(address: Address) -> Card | None:
    """Returns the card that a repository has now, or None if there is no repository or no card."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            found, _ = _look_up(address)
            _download(found, cards.README, Path(folder))
        except MissingError:
            return None
        try:
            return cards.read(folder, str(found))
        except InvalidError as error:
            problem = f"{address} holds a README.md that is no card of a model: {error}"
            raise InvalidError(f"{problem} Remove it there first, or choose another repository.") from None


def client() -> "huggingface_hub.HfApi":
    """Returns huggingface_hub's client for the configured server."""
    from huggingface_hub import HfApi

    hub = configured()
    return HfApi(endpoint=hub and hub.endpoint, library_name="regzoo", library_version=regzoo.__version__)


@contextlib.contextmanager
def reported(address: Address) -> Iterator[None]:
    """Turns huggingface_hub's errors into one line each, and keeps its chatter away."""
    from huggingface_hub import errors
    from huggingface_hub.utils import httpx

    try:
        with _quiet():
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
        raise MissingError(f"{address}: the hub shows no such repository ({_status(error)}). {_LOGIN}") from None
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
        raise TransportError(f"{address}: {client().endpoint} {reason}.") from None
    except OSError as error:
        if "Consistency check failed" not in str(error):
            raise
        raise store.DamagedError(f"{address} arrived incomplete. Nothing was kept; try again.") from None


def _failure(address: Address, error: BaseException) -> RegzooError:
    """Returns the error for a server that failed or could not be reached."""
    status = _status(error)
    if status in (401, 403):
        return MissingError(f"{address}: the hub refuses access ({status}). {_LOGIN}")
    again = pulled(address)
    advice = f"What was pulled before is {again}." if again else "Try again later."
    words = " ".join(str(getattr(error, "server_message", None) or "").split())[:200]
    reason = f"answered {status} {words}".rstrip() if status else f"did not answer ({type(error).__name__})"
    return TransportError(f"{address}: {client().endpoint} {reason}. {advice}")


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


def _patiently(address: Address, call: Callable[[], Answer]) -> Answer:
    """Calls again what a server failed on with a status of 5xx."""
    from huggingface_hub.errors import HfHubHTTPError

    with reported(address):
        for wait in WAITS:
            try:
                return call()
            except HfHubHTTPError as error:
                if (_status(error) or 0) < 500:
                    raise
                time.sleep(wait)
        return call()


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
        raise TransportError(f"{address}: expected a commit from {client().endpoint}, received '{info.sha}'.")
    sizes = {file.rfilename: file.size for file in info.siblings or () if isinstance(file.size, int)}
    return found, sizes


def _fill(folder: Path, address: Address, sizes: dict[str, int]) -> None:
    """Downloads the card, then what it lists, verified; nothing else of the repository."""
    if sizes.get(cards.README, 0) > cards.CARD_LIMIT:
        raise InvalidError(f"{address}: expected a card of at most {cards.CARD_LIMIT // 1024} KiB.")
    _download(address, cards.README, folder)
    card = cards.read(folder, f"{address}: {cards.README}")
    for file in card.files:  # before a byte of a large file is fetched
        if sizes.get(file.path, file.bytes) != file.bytes:
            problem = f"{file.path} has {sizes[file.path]} bytes, expected {file.bytes}"
            raise store.DamagedError(f"{card.name} is damaged: {problem}. Nothing was kept; tell {address.repo}.")
    for file in card.files:
        _download(address, file.path, folder)
    store.verify(folder, card, f"Nothing was kept; try again, or tell {address.repo}.")


def _download(address: Address, name: str, folder: Path) -> None:
    """Downloads one file of a commit, past every cache, into a folder."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".transport-") as transport:
        _patiently(
            address,
            lambda: client().hf_hub_download(
                address.repo, name, revision=address.commit, local_dir=transport, cache_dir=transport
            ),
        )
        shutil.move(Path(transport) / name, folder / name)


def _verified(address: Address) -> Address:
    target = home(address) / address.commit
    with store.claimed(target):
        store.kept(target)
    return address


def _refs(folder: Path) -> dict[str, str]:
    """Returns which commit each revision was; a damaged file tells of none, and the next pull writes it anew."""
    path = folder / _REFS
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
        refs = _refs(path.parent) | {address.revision or "main": found.commit}
        with atomic_file(path) as temporary:
            temporary.write_text(json.dumps(refs, indent=1) + "\n", encoding="utf-8")
