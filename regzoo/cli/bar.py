"""The progress bar of a terminal: one line, with the time left of each stage, gone when the work is done."""

import contextlib
import os
import sys
from collections.abc import Iterator

from regzoo import progress

_STAGES = {
    "load": "loading the model",
    "read": "reading",
    "optimisation": "optimising",
    "orientation": "comparing left and right",
    "refinement": "refining",
    "warp": "moving",
    "scores": "scoring",
    "picture": "drawing",
}
"""What a stage is called on the terminal; another by its own name."""


@contextlib.contextmanager
def shown(quiet: bool) -> Iterator[None]:
    """Shows how far the block is, where stderr is a terminal and the user does not want it quiet."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description:<17}"),
        BarColumn(20),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        TimeRemainingColumn(),
    )
    # A stream of its own: while a backend is imported, stderr leads nowhere.
    with os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding=sys.stderr.encoding, errors="replace") as stream:
        bar = Progress(
            *columns, console=Console(file=stream), transient=True, redirect_stdout=False, redirect_stderr=False
        )
        tasks = [bar.add_task("starting", total=None, left="")]

        def hear(name: str | None, share: float | None) -> None:
            if name:  # a new task, for one that had an end keeps it
                bar.remove_task(tasks.pop())
                tasks.append(bar.add_task(_STAGES.get(name, name), total=None, left=""))
            else:
                bar.update(tasks[0], total=1.0, completed=share, left="left")

        with bar, progress.heard_by(hear):
            yield
