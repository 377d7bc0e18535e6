"""cohort: many pairs registered and kept, each in its own folder; what is done is not done again."""

import functools
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from regzoo import hub, progress
from regzoo.data.tables import PairFiles, pair_records, read_pairs
from regzoo.errors import RegzooError, invalid
from regzoo.io.files import LISTING, atomic_file, check_writable, digests
from regzoo.io.provenance import provenance
from regzoo.io.tsv import write_tsv
from regzoo.io.yaml_json import parse_json, read_text
from regzoo.models import RegistrationModel, zoo
from regzoo.registration.evaluation import figures
from regzoo.registration.register import check_effort, checked_method, register
from regzoo.world.alignment import Alignment

TABLE = "cohort.tsv"
"""The table of a cohort, in its folder."""
Row = dict[str, str | float | None]
_LISTING_LIMIT = 2**24


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


@dataclass(frozen=True)
class Asked:
    """What is asked for each pair of a cohort, and where its folders belong."""

    output: Path
    model: dict[str, str] | None
    """Name, version and sha256 of the weights; None for a method."""
    method: str | None
    options: dict
    """As `result.json` keeps them."""
    command: str | None = None

    def made(self, facts: Mapping) -> bool:
        """Tells whether a result was made in this way."""
        model = facts.get("model")
        known = model and {key: model.get(key) for key in ("name", "version", "sha256")}
        return (known, facts.get("method"), facts.get("options")) == (self.model, self.method, self.options)


@dataclass(frozen=True)
class Pair:
    """A pair of a cohort."""

    name: str
    files: PairFiles = field(repr=False)


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
    alignment: Alignment | None = None,
    index: int | None = None,
    collect: bool = False,
    command: str | None = None,
    progress: Callable[[Row], None] | None = None,
) -> Cohort:
    """Registers every pair as `register` does, each into a folder of its own, and writes `cohort.tsv`.

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
        alignment: How to start.
        index: Only this pair, the first is 1; no table is written.
        collect: Whether only the table is written, of what is there.
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
    options |= {"only_if_better": only_if_better, "alignment": alignment}
    names = checked_method(model, method, alignment)
    check_effort(names, loss, guided, refine, iterations)
    files = read_pairs(pairs, must_exist=False) if isinstance(pairs, str | os.PathLike) else pair_records(pairs)
    chosen = _chosen([*map(Pair, pair_names(files), files)], index)
    check_writable(output, folder=True)
    taken = model if model is None or isinstance(model, RegistrationModel) else hub.take(model)
    asked = Asked(Path(output), _identity(taken), ",".join(names) or None, options, command)
    load = functools.cache(functools.partial(zoo.load, taken))
    found = Cohort(*_gathered((done(asked, pair, None if collect else load) for pair in chosen), len(chosen), progress))
    if index is None:
        found.save(asked.output / TABLE)
        _sweep(asked.output, found)
    return found


def _identity(model: hub.Entry | RegistrationModel | None) -> dict[str, str] | None:
    card = getattr(model, "card", None)
    return card and {"name": card.name, "version": card.version, "sha256": card.digest}


def _chosen(pairs: list[Pair], index: int | None) -> list[Pair]:
    if index is None:
        return pairs
    if isinstance(index, bool) or not isinstance(index, int) or not 1 <= index <= len(pairs):
        raise invalid("index", f"a pair from 1 to {len(pairs)}", index, "The first line below the header is 1.")
    return [pairs[index - 1]]


def _gathered(
    done: Iterable[tuple[Row, bool]], count: int, hear: Callable[[Row], None] | None
) -> tuple[tuple[Row, ...], int]:
    """Returns the rows as they come, and how many were there before; tells of each."""
    rows, kept = [], 0
    progress.stage("registering")
    for row, before in done:
        rows.append(row)
        kept += before
        progress.step(len(rows), count)
        if hear:
            hear(row)
    return tuple(rows), kept


def pair_names(files: Sequence[PairFiles]) -> list[str]:
    """Returns a name for each pair that may be a folder's: MOVING_to_FIXED, a second one of a name with -2."""
    names, seen = [], Counter()
    for each in files:
        name = f"{_stem(each.moving)}_to_{_stem(each.fixed)}"
        seen[name.lower()] += 1  # for on Windows and macOS, a and A are one folder
        names.append(name if seen[name.lower()] == 1 else f"{name}-{seen[name.lower()]}")
    return names


def _stem(file: Path) -> str:
    """Returns a file's name without what follows the first dot, as letters, digits, - and _, at most 60 of them."""
    stem = file.name.lstrip(".").partition(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem)[:60].strip("-") or "image"


def done(asked: Asked, pair: Pair, load: Callable[[], RegistrationModel] | None) -> tuple[Row, bool]:
    """Registers a pair unless that was done.

    Args:
        asked: What is asked for.
        pair: The pair.
        load: Gives the model; without it, nothing is registered.

    Returns:
        Its row, and whether it was done before.
    """
    folder, failure = asked.output / pair.name, asked.output / f"{pair.name}.error.txt"
    facts = whole(asked, pair)
    if facts is not None:
        failure.unlink(missing_ok=True)
        return _row(pair, "done", facts=facts), True
    if load is None:
        return _kept_failure(pair, failure), False
    try:
        with progress.heard_by(lambda *_: None):  # the bar is that of the cohort
            model = None if asked.model is None else load()
            result = register(model=model, method=asked.method, **asked.options, **pair.files.sources())
        result.facts["command"] = asked.command
        result.save(folder)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other pairs are to be registered
        facts = whole(asked, pair)  # another process may have been faster
        if facts is None:
            return _failed(pair, error, failure), False
    failure.unlink(missing_ok=True)
    return _row(pair, "done", facts=facts or _listing(folder)), False


def whole(asked: Asked, pair: Pair) -> dict | None:
    """Returns what `result.json` of a pair says, if its folder holds a whole result of what is asked; else None."""
    folder = asked.output / pair.name
    try:
        facts = _listing(folder)
        listed = facts.get("files")
        if pair.files.spacing is not None or not isinstance(listed, dict) or not asked.made(facts):
            return None
        inputs = provenance(pair.files.sources(), {}, "")["inputs"]
        return facts if listed.items() <= digests(folder).items() and facts.get("inputs") == inputs else None
    except (RegzooError, OSError):
        return None


def _listing(folder: Path) -> dict:
    return parse_json(read_text(folder / LISTING, _LISTING_LIMIT), str(folder / LISTING))


def _failed(pair: Pair, error: Exception, file: Path) -> Row:
    """Returns the row of a pair that failed, and keeps why, if the disk lets it."""
    told = " ".join(str(error).split())
    message = told if isinstance(error, RegzooError) and told else f"{type(error).__name__}: {told}"
    try:
        with atomic_file(file) as temporary:
            temporary.write_text(message + "\n", encoding="utf-8")
    except OSError:
        file.unlink(missing_ok=True)  # an older one would be untrue
    return _row(pair, "failed", message)


def _kept_failure(pair: Pair, file: Path) -> Row:
    if not file.is_file():
        return _row(pair, "missing")
    return _row(pair, "failed", " ".join(read_text(file, _LISTING_LIMIT).split()))


def _row(pair: Pair, status: str, message: str | None = None, facts: Mapping | None = None) -> Row:
    row: Row = {"pair": pair.name, "fixed": str(pair.files.fixed), "moving": str(pair.files.moving)}
    row |= {"status": status, "message": message}
    if facts is None:
        return row
    told = {"verdict": facts["verdict"]} if "verdict" in facts else {}
    told |= {"warnings": len(facts["warnings"]), "seconds": round(sum(facts["seconds"].values()), 3)}
    return row | told | {key: value for key, value in figures(facts).items() if key not in told}


def _sweep(output: Path, found: Cohort) -> None:
    """Removes what processes that were killed left beside whole results, which nobody will finish."""
    for row in found.rows:
        if row["status"] == "done":
            for leftover in _leftovers(output, row["pair"]):
                shutil.rmtree(leftover, ignore_errors=True)


def _leftovers(output: Path, name: str) -> Iterator[Path]:
    yield from output.glob(f".{name}-????????")
    yield from (output / name).glob(".regzoo-*")
