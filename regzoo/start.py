"""The way into the command line: Ctrl-C is answered from here on, while all the rest is imported."""

import os
import signal

from regzoo.stopping import stop


def main() -> None:
    """Runs the command line; the entry point of the `regzoo` script."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else a shell switched it off
        signal.signal(signal.SIGINT, stop)
    # NumPy's threads spin while they wait, which took as much of the processor again as what they do.
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
    from regzoo import cli

    cli.main()
