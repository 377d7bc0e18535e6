"""Ctrl-C, which a library may swallow while it is imported or called: it is repeated until the command has ended."""

import _thread
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

from regzoo.stopping import stop

PATIENCE = 2.0
"""Seconds before an interrupt is repeated; what is cleaned up behind one takes less."""


@contextlib.contextmanager
def insistent() -> Iterator[None]:
    """Ends the block by KeyboardInterrupt, whatever becomes of the first one, once the user has asked for it."""
    in_charge, before = threading.current_thread() is threading.main_thread(), signal.getsignal(signal.SIGINT)
    if not in_charge or before not in (signal.default_int_handler, stop):
        yield
        return
    asked, ended, screen = [], threading.Event(), _Screen()

    def heard(*_: object) -> None:  # without a lock, which the main thread might hold
        if ended.is_set():
            return
        if _backend_is_loading():
            screen.tell_stopped()
            os._exit(130)
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
        signal.signal(signal.SIGINT, before)
        screen.close()
    if asked:  # also where what was interrupted made another error of it, or went on to its end
        raise KeyboardInterrupt


def _backend_is_loading() -> bool:
    """Tells whether a backend is being imported: nothing is begun yet, and half of its C++ crashes if it is left."""
    backend = sys.modules.get("regzoo.backend")
    return backend is not None and not hasattr(backend, "Tensor")  # its first name after the imports


class _Screen:
    """Where stderr leads, also while a backend is imported, when it leads nowhere."""

    def __init__(self) -> None:
        try:
            self._file = os.dup(sys.stderr.fileno())
        except (OSError, ValueError, AttributeError):  # in a test, or where there is none
            self._file = None

    def tell_stopped(self) -> None:
        """Prints what the door would print; on a terminal the line is emptied and the cursor shown again."""
        if self._file is not None:
            clear = b"\r\x1b[2K\x1b[?25h" if os.isatty(self._file) else b""
            os.write(self._file, clear + b"stopped\n")

    def close(self) -> None:
        """Closes it."""
        if self._file is not None:
            os.close(self._file)


def _interrupt() -> None:
    """Interrupts the main thread; what it waits for too, where the system can."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
    else:
        _thread.interrupt_main()
