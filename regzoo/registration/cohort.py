"""cohort: many pairs registered and kept, each in its own folder; what is done is not done again."""

import functools
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from regzoo import hub, progress
from regzoo.data.tables import PairFiles, pair_records, read_pairs
from regzoo.errors import invalid, renamed
from regzoo.io import remnants
from regzoo.io.files import check_writable
from regzoo.io.tsv import write_tsv
from regzoo.models import RegistrationModel, zoo
from regzoo.registration.checks import check_effort, checked_method
from regzoo.registration.pairs import Asked, Pair, Row, done, identity, pair_names
from regzoo.registration.report.overview import NAME as OVERVIEW
from regzoo.registration.report.overview import overview
from regzoo.registration.workers import on_workers
from regzoo.world.alignment import Start

TABLE = "cohort.tsv"
"""The table of a cohort, in its folder."""


@dataclass(frozen=True)
class Cohort:
    """What became of the pairs of a cohort.

    Args:
        rows: One record a pair: its name, its files, `status`, `message`, number of warnings, seconds, scores before
            and after. The status is `done`, `failed`, for which the message says why, or `missing`: not tried yet.
        kept: How many of them were done before, and not again.
    """

    rows: tuple[Row, ...]
    kept: int = 0

    def __repr__(self) -> str:
        told = ", ".join(f"{count} {status}" for status, count in self.counts().items())
        return f"<Cohort of {len(self.rows)}: {told}>"

    def counts(self) -> dict[str, int]:
        """Returns how many pairs have each status."""
        return dict(Counter(row["status"] for row in self.rows))

    def save(self, path: str | os.PathLike) -> None:
        """Writes the rows as a table, tabs between cells, n/a where there is no value."""
        write_tsv(path, self.rows)


@renamed(alignment="start")
def cohort(
    pairs: str | os.PathLike | Sequence[PairFiles | Mapping[str, str | os.PathLike | None]],
    output: str | os.PathLike,
    model: zoo.Model | None = None,
    *,
    method: str | Sequence[str] | None = None,
    refine: int = 0,
    loss: str | None = None,
    iterations: int | None = None,
    guided: bool = False,
    only_if_better: bool = False,
    start: Start = "auto",
    error: bool = True,
    index: int | None = None,
    collect: bool = False,
    workers: int = 1,
    scheduler: str | None = None,
    command: str | None = None,
    progress: Callable[[Row], None] | None = None,
) -> Cohort:
    """Registers every pair as `register` does, each into a folder of its own, and writes `cohort.tsv` and `index.html`.

    A pair is not done again where its folder holds a whole result (each file as `result.json` lists it) of the same
    input files, model and options. A pair that fails does not stop the others; why it failed is in the table and in
    NAME.error.txt until it succeeds.

    Args:
        pairs: A CSV file (see `regzoo.data.tables.read_pairs`), or its records; a record may be a dict whose keys are
            those of the CSV's header, with paths.
        output: Folder to write to.
        model: Name or folder of a zoo entry, or what `regzoo.load` gave.
        method: Instead of a model; this and the next six as in `register`.
        refine: Steps by which each result is improved.
        loss: Of `method` and `refine`.
        iterations: Of `method`.
        guided: Whether labels guide `method` and `refine`.
        only_if_better: Whether the start is kept where the registration fits hardly better.
        start: How to start.
        error: Whether an error is expected of each result, and a verdict given.
        index: Only this pair, the first is 1; no table is written.
        collect: Whether only the table is written, of what is there.
        workers: Processes of this machine, each with its share of the processors; more than one need Dask (extra
            `cluster`), and a script that calls this must do so under `if __name__ == "__main__":`.
        scheduler: Instead: address of a Dask scheduler, such as `"tcp://10.0.0.5:8786"`. Its workers see the same files
            at the same paths, and find the model by the same name.
        command: What `result.json` keeps as the command.
        progress: Called with the row of each pair that was looked at.

    Returns:
        The rows of the table; with `index`, that of the pair.

    Raises:
        RegzooError: If the table of pairs, the model, an option or the output folder cannot be used.

    Example:
        >>> import numpy as np
        >>> import regzoo
        >>> for name, shape in {"a": (12, 10, 8), "b": (12, 10, 9)}.items():
        ...     regzoo.Image(np.random.default_rng(0).random(shape), np.eye(4)).save(f"{name}.nii.gz")
        >>> pairs = [{"fixed": "a.nii.gz", "moving": "b.nii.gz"}, {"fixed": "b.nii.gz", "moving": "a.nii.gz"}]
        >>> found = regzoo.cohort(pairs, "cohort", method="rigid", iterations=1)
        >>> [(row["pair"], row["status"]) for row in found.rows]
        [('b_to_a', 'done'), ('a_to_b', 'done')]
    """
    options = {"refine": refine, "loss": loss, "iterations": iterations, "guided": guided}
    options |= {"only_if_better": only_if_better, "start": start} | ({} if error else {"error": False})
    names = checked_method(model, method, start)
    check_effort(names, loss, guided, refine, iterations)
    _check_workers(workers, scheduler)
    files = read_pairs(pairs, must_exist=False) if isinstance(pairs, str | os.PathLike) else pair_records(pairs)
    chosen = _chosen([*map(Pair, pair_names(files), files)], index)
    check_writable(output, folder=True)
    taken = model if model is None or isinstance(model, RegistrationModel) else hub.take(model)
    asked = Asked(Path(output), identity(taken), ",".join(names) or None, options, command)
    if (workers > 1 or scheduler) and not collect:
        outcomes = on_workers(asked, chosen, _address(taken), workers, scheduler)
    else:
        load = None if collect else functools.cache(functools.partial(zoo.load, taken))
        outcomes = (done(asked, pair, load) for pair in chosen)
    found = Cohort(*_gathered(outcomes, [pair.name for pair in chosen], progress))
    if index is None:
        found.save(asked.output / TABLE)
        overview(found.rows, asked.output / OVERVIEW)
        _sweep(asked.output, found)
    return found


def _check_workers(workers: object, scheduler: object) -> None:
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise invalid("workers", "a number of processes from 1", workers)
    if scheduler is not None and workers > 1:
        raise invalid("workers and scheduler", "one of the two", "both", "A scheduler has workers of its own.")


def _address(model: hub.Entry | RegistrationModel | None) -> str | None:
    """Returns the name by which another process finds a model."""
    found = model.pin if isinstance(model, hub.Entry) else getattr(model, "source", None)
    if model is not None and found is None:
        raise invalid("model", "a name or a folder, which workers can load", "a model without", "Save it first.")
    return str(Path(found).absolute()) if found and Path(found).is_dir() else found


def _chosen(pairs: list[Pair], index: int | None) -> list[Pair]:
    if index is None:
        return pairs
    if isinstance(index, bool) or not isinstance(index, int) or not 1 <= index <= len(pairs):
        raise invalid("index", f"a pair from 1 to {len(pairs)}", index, "The first line below the header is 1.")
    return [pairs[index - 1]]


def _gathered(
    done: Iterable[tuple[Row, bool]], names: list[str], hear: Callable[[Row], None] | None
) -> tuple[tuple[Row, ...], int]:
    """Returns the rows in the order of names, and how many were there before; tells of each as it comes."""
    rows, kept = [], 0
    progress.stage("registering")
    for row, before in done:
        rows.append(row)
        kept += before
        progress.step(len(rows), len(names))
        if hear:
            hear(row)
    places = {name: place for place, name in enumerate(names)}
    return tuple(sorted(rows, key=lambda row: places[row["pair"]])), kept


def _sweep(output: Path, found: Cohort) -> None:
    """Removes what processes that were killed left beside whole results, which nobody will finish."""
    for row in found.rows:
        if row["status"] == "done":
            for leftover in _leftovers(output, row["pair"]):
                shutil.rmtree(leftover, ignore_errors=True)


def _leftovers(output: Path, name: str) -> Iterator[Path]:
    yield from remnants.left(output, name)
    yield from remnants.left(output / name)
