"""Ctrl-C before a command has begun anything, or after it has ended all."""

import os


def stop(*_: object) -> None:
    """Ends the process at once, with one line: the handler of the signal."""
    os.write(2, b"stopped\n")
    os._exit(130)
