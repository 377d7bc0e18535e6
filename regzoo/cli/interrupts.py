"""Ctrl-C, which a library may swallow while it is imported or called: it is repeated until the command has ended."""

import _thread
import contextlib
import signal
import threading
import time
from collections.abc import Iterator

PATIENCE = 2.0
"""Seconds before an interrupt is repeated; what is cleaned up behind one takes less."""


@contextlib.contextmanager
def insistent() -> Iterator[None]:
    """Ends the block by KeyboardInterrupt, whatever becomes of the first one, once the user has asked for it."""
    in_charge = threading.current_thread() is threading.main_thread()
    if not in_charge or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    asked, ended = [], threading.Event()

    def heard(*_: object) -> None:  # without a lock, which the main thread might hold
        if not ended.is_set():
            asked.append(time.monotonic())
            raise KeyboardInterrupt

    def repeat() -> None:
        while not ended.wait(PATIENCE / 4):
            if asked and time.monotonic() - asked[-1] > PATIENCE:
                _interrupt()

    watch = threading.Thread(target=repeat, name="interrupts", daemon=True)
    signal.signal(signal.SIGINT, heard)
    watch.start()
    try:
        yield
    except BaseException:
        if not asked:
            raise
    finally:
        ended.set()
        watch.join()
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if asked:  # also where what was interrupted made another error of it, or went on to its end
        raise KeyboardInterrupt


def _interrupt() -> None:
    """Interrupts the main thread; what it waits for too, where the system can."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    else:
        _thread.interrupt_main()
