"""Fixtures shared by the tests."""

import gc
import os
import signal
import sys
from pathlib import Path

import pytest

import regzoo  # noqa: F401 - before Keras, as its users have it: it sets what TensorFlow reads at its import


def pytest_sessionstart() -> None:
    """Heeds Ctrl-C: a shell that runs the tests in the background has them, and so what they start, ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks slow what is so under this backend alone."""
    for item in items:
        if any(os.environ.get("KERAS_BACKEND") in mark.args for mark in item.iter_markers("slow_under")):
            item.add_marker("slow")


@pytest.fixture(scope="session")
def data_home() -> Path:
    """The folder of the real data sets; tests that ask for it are skipped where there is none."""
    default = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
    home = Path(os.environ.get("REGZOO_DATA", default))
    if not home.is_dir():
        pytest.skip(f"no real data at {home}; name its folder by REGZOO_DATA")
    return home


@pytest.fixture(autouse=True, scope="module")
def _compiled_freed():
    """Frees what a file's tests compiled: kept to the end, it comes to many gigabytes.

    What is left after that stays to the end; `freeze` spares every later collection the seconds that it takes to look.
    """
    yield
    backend = sys.modules.get("regzoo.backend")
    if backend is not None:
        backend._kept.cache_clear()
        backend.keras.utils.clear_session()
    gc.collect()
    gc.freeze()
