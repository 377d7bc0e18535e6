"""The pairs of a cohort: their names, what is asked for each, whether it is done, and the doing of it."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from regzoo import hub, progress
from regzoo.data.tables import PairFiles
from regzoo.errors import RegzooError, invalid
from regzoo.io.files import LISTING, atomic_file, digests
from regzoo.io.provenance import provenance
from regzoo.io.yaml_json import parse_json, read_text
from regzoo.models import RegistrationModel
from regzoo.registration.figures import figures
from regzoo.registration.register import register
from regzoo.schema.result import ImageResult
from regzoo.schema.strict import validate

Row = dict[str, str | float | None]
_LISTING_LIMIT = 2**24


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


def pair_names(files: Sequence[PairFiles]) -> list[str]:
    """Returns a name for each pair that may be a folder's: MOVING_to_FIXED, a second one of a name with -2."""
    return distinct([f"{stem(each.moving)}_to_{stem(each.fixed)}" for each in files])


def distinct(names: Sequence[str]) -> list[str]:
    """Returns names of files that differ: a second one of a name with -2."""
    found, taken = [], set()
    for first in names:
        name, number = first, 1
        while name.lower() in taken:  # for on Windows and macOS, a and A are one file
            number += 1
            name = f"{first}-{number}"
        taken.add(name.lower())
        found.append(name)
    return found


def stem(file: Path) -> str:
    """Returns a file's name without what follows the first dot, as letters, digits, - and _, at most 60 of them."""
    first = file.name.lstrip(".").partition(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", first)[:60].strip("-") or "image"


def identity(model: hub.Entry | RegistrationModel | None) -> dict[str, str] | None:
    """Returns name, version and sha256 of the weights of a model; None of none."""
    card = getattr(model, "card", None)
    return card and {"name": card.name, "version": card.version, "sha256": card.digest}


def done(asked: Asked, pair: Pair, load: Callable[[], RegistrationModel] | None) -> tuple[Row, bool]:
    """Registers a pair unless that was done.

    Args:
        asked: What is asked for.
        pair: The pair.
        load: Gives the model; without it, nothing is registered.

    Returns:
        Its row, and whether it was done before.
    """
    failure = _failure(asked, pair)
    facts = whole(asked, pair)
    if facts is not None:
        failure.unlink(missing_ok=True)
        return _row(pair, "done", facts=facts), True
    if load is None:
        return _kept_failure(pair, failure), False
    try:
        with progress.heard_by(lambda *_: None):  # the bar is that of the cohort
            model = None if asked.model is None else _same(load(), asked.model)
            result = register(model=model, method=asked.method, **asked.options, **pair.files.sources())
        result.facts["command"] = asked.command
        result.save(asked.output / pair.name)
    except Exception as error:  # noqa: BLE001 - whatever it is, the other pairs are to be registered
        facts = whole(asked, pair)  # another process may have been faster
        if facts is None:
            return failed(asked, pair, error), False
    failure.unlink(missing_ok=True)
    return _row(pair, "done", facts=facts or _listing(asked.output / pair.name)), False


def _same(model: RegistrationModel, wanted: dict[str, str]) -> RegistrationModel:
    found = identity(model)
    if found != wanted:  # what a worker finds by the same name
        raise invalid("model", " ".join(wanted.values()), " ".join(found.values()), "Give each worker the same one.")
    return model


def whole(asked: Asked, pair: Pair) -> dict | None:
    """Returns what `result.json` of a pair says, if its folder holds a whole result of what is asked; else None."""
    folder = asked.output / pair.name
    try:
        facts = _listing(folder)
        validate(ImageResult, facts, LISTING)
        listed = facts["files"]
        if pair.files.spacing is not None or not listed or not asked.made(facts):
            return None
        inputs = provenance(pair.files.sources(), {}, "")["inputs"]
        return facts if listed.items() <= digests(folder).items() and facts.get("inputs") == inputs else None
    except (RegzooError, OSError):
        return None


def _listing(folder: Path) -> dict:
    return parse_json(read_text(folder / LISTING, _LISTING_LIMIT), str(folder / LISTING))


def in_words(error: BaseException) -> str:
    """Returns an error as one line: what a user can mend as it is, another with its kind."""
    told = " ".join(str(error).split())
    return told if isinstance(error, RegzooError) and told else f"{type(error).__name__}: {told}"


def failed(asked: Asked, pair: Pair, error: BaseException) -> Row:
    """Returns the row of a pair that failed, and keeps why, if the disk lets it."""
    file, message = _failure(asked, pair), in_words(error)
    try:
        with atomic_file(file) as temporary:
            temporary.write_text(message + "\n", encoding="utf-8")
    except OSError:
        file.unlink(missing_ok=True)  # an older one would be untrue
    return _row(pair, "failed", message)


def _failure(asked: Asked, pair: Pair) -> Path:
    return asked.output / f"{pair.name}.error.txt"


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
