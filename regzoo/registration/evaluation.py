"""evaluate: a model on many pairs; one row a pair, a table per label and overall."""

import csv
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regzoo.data.tables import PairFiles, pair_records, read_pairs
from regzoo.errors import InvalidError, RegzooError, invalid, renamed
from regzoo.hub import cards
from regzoo.io.files import atomic_file, atomic_folder
from regzoo.io.yaml_json import parse_json, read_text
from regzoo.models import zoo
from regzoo.registration.expected.verdict import VERDICTS
from regzoo.registration.figures import VOLUME, figures
from regzoo.registration.pairs import pair_names
from regzoo.registration.register import register
from regzoo.registration.report.overview import NAME as INDEX
from regzoo.registration.report.overview import overview
from regzoo.schema.card import Score
from regzoo.world.alignment import Start

_HEADLINES = ("dice_after", "tre_after", "ncc_after")
_WORDS = ("fixed", "moving", "warnings", "verdict")  # columns that are no figures


@dataclass(frozen=True)
class Evaluation:
    """Scores of a model on pairs.

    Args:
        model: Name and version of the model; of refined results also `refine`, the steps.
        rows: One record a pair: file names, scores before and after, Jacobian figures, expected error and verdict,
            seconds, warnings.
    """

    model: dict
    rows: tuple[dict, ...]

    def __repr__(self) -> str:
        figures = self.summary()
        told = [f"{key} {figures[key]['mean']:.3f}" for key in _HEADLINES if figures.get(key, {}).get("count")]
        count = f"{len(self.rows)} pair{'s' * (len(self.rows) != 1)}"
        return f"<Evaluation {self.model['name']}@{self.model['version']}, {count}: {', '.join(told) or 'no scores'}>"

    def summary(self) -> dict[str, dict[str, float]]:
        """Returns mean, sd and count of every figure over the pairs that have it."""
        numbers = {key: [row[key] for row in self.rows if key in row] for key in self._keys() if key not in _WORDS}
        return {key: _spread(np.array(values, dtype=float)) for key, values in numbers.items()}

    def verdicts(self) -> dict[str, int]:
        """Returns how many pairs have each verdict, the best first; none where no error was asked for."""
        words = [row.get("verdict") for row in self.rows]
        return {word: words.count(word) for word in VERDICTS if word in words}

    def save(self, folder: str | os.PathLike) -> Path:
        """Writes scores.csv (one row a pair) and summary.json; both appear together."""
        with atomic_folder(folder) as path:
            with (path / "scores.csv").open("w", newline="", encoding="utf-8") as file:
                table = csv.DictWriter(file, self._keys())
                table.writeheader()
                table.writerows(self.rows)
            facts = {"model": self.model, "pairs": len(self.rows), "summary": self.summary()}
            facts["verdicts"] = self.verdicts()
            (path / "summary.json").write_text(json.dumps(facts, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        return Path(folder)

    def record(self, folder: str | os.PathLike, split: str, command: str) -> None:
        """Writes the figures of a split into a zoo entry: rows and summary to scores.json, means to its card.

        Args:
            folder: The entry, which is written to.
            split: Name of the split in scores.json.
            command: What prints the figures, for the card.

        Raises:
            InvalidError: If results were refined, since a card tells of the model alone.
        """
        if "refine" in self.model:
            raise invalid("refine", "0 for figures of a card, which tells of the model alone", self.model["refine"])
        folder = Path(folder)
        card, summary = cards.read(folder), self.summary()
        path = folder / cards.SCORES
        known = parse_json(read_text(path, SCORES_LIMIT), str(path)) if path.exists() else {}
        rows = [{key: _number_or_none(value) for key, value in row.items()} for row in self.rows]
        known[split] = {"pairs": len(rows), "summary": summary, "rows": rows}
        with atomic_file(path) as temporary:
            temporary.write_text(json.dumps(known, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        used = [source.name for source in card.data if split in (source.use or "")] or [
            source.name for source in card.data[:1]
        ]
        names = " and of ".join(re.split(r";|\. ", name)[0] for name in used)
        data = f"{split} pairs of {names or 'the recipe'}"
        shown = [key for key in summary if _ON_CARD.fullmatch(key) and summary[key]["count"]]
        single = [key for key in shown if _LABEL.fullmatch(key)]
        if len(single) > _LABELS_ON_CARD:
            shown = [key for key in shown if key not in single]
        scores = [_score(key, summary, data, command) for key in shown]
        others = [kept for kept in card.scores if not kept.data.startswith(f"{split} pairs")]
        scores = [*scores, *others] if split == "test" else [*others, *scores]  # a card's first score is its headline
        changed = card.model_copy(update={"scores": tuple(scores), "files": cards.manifest(folder)})
        cards.write(folder, changed, cards.read_body(folder))

    def check(self, scores: Sequence[Score]) -> list[dict]:
        """Compares a card's figures with these, within their tolerance; seconds hang on the machine and are left out.

        Args:
            scores: Figures of the card that were measured on the same pairs.

        Returns:
            One record a figure: metric, card, now, tolerance, agrees.
        """
        summary = self.summary()
        rows = []
        for score in scores:
            if score.unit == "s":
                continue
            now = summary.get(score.metric, summary.get(f"{score.metric}_after", {})).get("mean")
            agrees = now is not None and abs(now - score.value) <= score.tolerance
            rows.append({"metric": score.metric, "card": score.value, "now": now, "tolerance": score.tolerance})
            rows[-1]["agrees"] = agrees
        return rows

    def _keys(self) -> list[str]:
        return list(dict.fromkeys(key for row in self.rows for key in row))


# The figures that a card shows: overlap and distances both ways, regularity, and the time.
_ON_CARD = re.compile(
    rf"(dice|hd95)(_forward|_inverse|_\d+)?_after|tre(_inverse)?_after|centroid_after|inverse_residual|"
    rf"{'|'.join(VOLUME)}|network_seconds"
)
_LABEL = re.compile(r"(dice|hd95)_\d+_after")
_LABELS_ON_CARD = 16
"""Figures of single labels that a card shows; those of more are in scores.json alone."""
_UNITS = {
    **dict.fromkeys(("tre", "hd95", "centroid", "inverse"), "mm"),
    **{"network": "s", "folds": "of voxels", "folded": "of the volume"},
    **dict.fromkeys(("squeezed", "stretched"), "of label voxels"),
}
_TOLERANCES = {"folds": 1e-4, "folded_volume": 1e-4}
"""The largest difference where a card's default is too much."""
SCORES_LIMIT = 2**24


def _number_or_none(value: object) -> object:
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _score(key: str, summary: dict, data: str, command: str) -> Score:
    """Returns a figure for the card, beside the same figure before registration."""
    before = summary.get(key.replace("_after", "_before")) if key.endswith("_after") else None
    return Score(
        metric=key.removesuffix("_after"),
        value=round(summary[key]["mean"], 6),
        sd=round(summary[key]["sd"], 6),
        unit=_UNITS.get(key.split("_")[0]),
        data=data,
        pairs=summary[key]["count"],  # that have the figure
        command=command,
        tolerance=_TOLERANCES.get(key, 1e-3),
        baseline={"unregistered": round(before["mean"], 6)} if before and before["count"] else {},
    )


@renamed(alignment="start")
def evaluate(
    model: zoo.Model,
    pairs: str | os.PathLike | Sequence[PairFiles | Mapping[str, str | os.PathLike | None]],
    *,
    start: Start | None = None,
    refine: int = 0,
    error: bool = True,
    reports: str | os.PathLike | None = None,
    progress: Callable[[int, int, dict], None] | None = None,
) -> Evaluation:
    """Registers every pair and scores it.

    Args:
        model: Name or folder of a zoo entry, or what `regzoo.load` gave.
        pairs: A CSV file (see `read_pairs`), or its records; a record may be a dict whose keys are those of the CSV's
            header, with paths.
        start: How to start, as in `register`; None: as the model was trained, of which a card's scores tell.
        refine: Steps that improve each result on its own pair, as in `register`.
        error: Whether an error is expected of each result, and a verdict given, by a model that can. Its network is
            asked four times more for it.
        reports: Folder for `index.html`, a page over all pairs, the worst first by verdict, expected error and score,
            and a folder with the report of each,
            MOVING_to_FIXED; None: none. They take some seconds a pair.
        progress: Called after each pair with how many are done, how many there are, and the row.

    Returns:
        The scores; the first of several pairs, on which the network is compiled, has no seconds.

    Raises:
        RegzooError: If a file is missing or a pair cannot be registered; the message names the pair.

    Example:
        >>> import numpy as np
        >>> import regzoo
        >>> image = regzoo.Image(np.random.default_rng(0).random((48, 64, 48)), np.eye(4))
        >>> image.save("image.nii.gz")
        >>> scores = regzoo.evaluate("hippocampus-mr-dvf", [{"fixed": "image.nii.gz", "moving": "image.nii.gz"}])
        >>> round(scores.summary()["ncc_before"]["mean"], 3)
        1.0
        >>> scores.save("scores").name
        'scores'
    """
    records = read_pairs(pairs) if isinstance(pairs, str | os.PathLike) else pair_records(pairs)
    model = zoo.load(model)
    start = start or model.card.input.alignment
    rows, listed = [], []
    for number, (record, name) in enumerate(zip(records, pair_names(records), strict=True), start=1):
        try:
            result = register(model=model, start=start, refine=refine, error=error, **record.sources())
        except RegzooError as error:
            raise InvalidError(f"pair {number}, {record.moving} -> {record.fixed}: {error}") from error
        row = {"fixed": record.fixed.name, "moving": record.moving.name, **figures(result.facts)}
        if "verdict" in result.facts:
            row["verdict"] = result.facts["verdict"]
        if reports is not None:
            result.save_report(Path(reports) / name)
            listed.append(row | {"pair": name, "status": "done", "warnings": len(result.facts["warnings"])})
        if number == 1 < len(records):  # while the network is compiled, its time says nothing of the others
            row = {key: value for key, value in row.items() if not key.endswith("_seconds")}
        rows.append(row)
        if progress:
            progress(number, len(records), rows[-1])
    if reports is not None:
        overview(listed, Path(reports) / INDEX)
    refined = {"refine": refine} if refine else {}
    return Evaluation({"name": model.card.name, "version": model.card.version} | refined, tuple(rows))


def _spread(values: np.ndarray) -> dict[str, float]:
    known = values[np.isfinite(values)]
    if not known.size:
        return {"mean": None, "sd": None, "median": None, "count": 0}
    middle = {"mean": float(known.mean()), "sd": float(known.std()), "median": float(np.median(known))}
    return middle | {"count": int(known.size)}
