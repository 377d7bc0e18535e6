"""Pairs of a cohort on several processes, of this machine or of a Dask cluster; Dask is imported where it is needed."""

import contextlib
import dataclasses
import functools
import logging
import os
import threading
from collections.abc import Iterator, Sequence

from regzoo.errors import MissingError, invalid
from regzoo.models import zoo
from regzoo.processors import processors, threads
from regzoo.registration.pairs import Asked, Pair, Row, done, failed

PATIENCE = 300.0
"""Seconds to wait for a scheduler that went away; one that was never there gets a tenth."""
GROWTH = 2**31
"""Bytes by which a worker may have grown since its first pair: XLA never frees what it compiled for a shape."""
_one_at_a_time = threading.Lock()
"""A worker may have several threads; a backend computes one pair on all of its own."""


def on_workers(
    asked: Asked, pairs: Sequence[Pair], model: str | None, workers: int, scheduler: str | None
) -> Iterator[tuple[Row, bool]]:
    """Yields for each pair, as it is done, what `regzoo.registration.pairs.done` gives.

    What was computed when a worker died is given to another one, and what a scheduler forgot that died is asked of the
    one that follows it at its address: results lie in the cohort's folder, nothing in anyone's memory.

    Args:
        asked: What is asked for.
        pairs: The pairs.
        model: By which name a worker finds the model; None for a method.
        workers: Processes to start on this machine, unless there is a scheduler.
        scheduler: Address of a Dask scheduler, whose workers see the same files at the same paths.

    Raises:
        MissingError: If Dask is not installed.
        InvalidError: If the scheduler does not answer.
    """
    distributed = _distributed()
    asked = dataclasses.replace(asked, output=asked.output.absolute())
    left = {pair.name: pair for pair in pairs}
    with contextlib.nullcontext(scheduler) if scheduler else _local(distributed, min(workers, len(pairs))) as address:
        patience = PATIENCE / 10
        while left:
            with _client(distributed, address, patience) as client:
                restarted = False
                for name, outcome in _outcomes(distributed, client, asked, [*left.values()], model):
                    if isinstance(outcome, BaseException) and restarted:
                        continue  # asked for again, for that may be why its workers died
                    pair = left.pop(name)
                    if isinstance(outcome, BaseException):  # its worker died, several times
                        outcome = failed(asked, pair, outcome), False, None
                    row, before, large = outcome
                    yield row | {"fixed": str(pair.files.fixed), "moving": str(pair.files.moving)}, before
                    # The pair that it has begun meanwhile begins anew; a cluster's workers may work for others too.
                    if large and left and not scheduler:
                        restarted = True
                        with contextlib.suppress(KeyError, OSError, RuntimeError, ValueError):  # it has gone by itself
                            client.restart_workers([large], timeout=30, raise_for_error=False)
            patience = PATIENCE


def _distributed() -> object:
    try:
        import distributed
    except ModuleNotFoundError:
        raise MissingError(
            "Dask, which several workers need, is not installed. Run pip install 'regzoo[cluster]'."
        ) from None
    return distributed


@contextlib.contextmanager
def _local(distributed: object, workers: int) -> Iterator[str]:
    """Starts worker processes on this machine, which share its processors; gives the address of their scheduler."""
    import dask

    shared = threads(max(1, processors() // workers))
    # Any free port of this machine alone: with None, Dask takes 8787, and warns where another cohort has it.
    # No limit of memory: a worker above one is paused, and one pair alone would wait for ever.
    settings = {"n_workers": workers, "threads_per_worker": 1, "memory_limit": 0, "dashboard_address": "127.0.0.1:0"}
    with (
        dask.config.set({"distributed.nanny.pre-spawn-environ": shared}),
        distributed.LocalCluster(**settings, silence_logs=logging.CRITICAL) as cluster,
    ):
        yield cluster.scheduler_address


def _client(distributed: object, address: str, patience: float) -> object:
    try:
        return distributed.Client(address, timeout=patience, set_as_default=False)
    except (OSError, ValueError) as error:
        told = "What is done stays done: call again, and only the rest is."
        raise invalid("scheduler", "the address of a Dask scheduler that answers", address, told) from error


def _outcomes(
    distributed: object, client: object, asked: Asked, pairs: Sequence[Pair], model: str | None
) -> Iterator[tuple[str, tuple | BaseException]]:
    """Yields name and outcome of each pair that a worker answered for; those that the scheduler forgot are left out."""
    futures = {client.submit(register_here, asked, _absolute(pair), model, pure=False): pair.name for pair in pairs}
    for future in distributed.as_completed(futures, loop=client.loop):
        if future.status == "finished":
            with contextlib.suppress(distributed.CancelledError, OSError):  # it went with its worker: asked for again
                yield futures[future], future.result()
        elif future.status == "error":
            yield futures[future], future.exception()


def _absolute(pair: Pair) -> Pair:
    paths = {key: value.absolute() for key, value in vars(pair.files).items() if isinstance(value, os.PathLike)}
    return dataclasses.replace(pair, files=dataclasses.replace(pair.files, **paths))


def register_here(asked: Asked, pair: Pair, model: str | None) -> tuple[Row, bool, str | None]:
    """Registers a pair, on a worker; the last of the outcome is the worker's address if its process has grown."""
    with _one_at_a_time:
        outcome = done(asked, pair, functools.partial(_loaded, model, asked.model and asked.model["sha256"]))
        return *outcome, grown(_distributed().get_worker())


def grown(worker: object) -> str | None:
    """Returns a worker's address if its process has grown since its first pair, and Dask has a nanny to restart it."""
    return worker.address if _resident() > _first() + GROWTH and worker.nanny else None


@functools.cache
def _first() -> int:
    return _resident()


def _resident() -> int:
    """Returns how many bytes of memory this process has."""
    import psutil  # which Dask needs too

    return psutil.Process().memory_info().rss


@functools.lru_cache(maxsize=1)
def _loaded(name: str, digest: str) -> zoo.RegistrationModel:
    """Returns a model, which a worker keeps for its next pair; a folder of the same name may hold another later."""
    return zoo.load(name)
