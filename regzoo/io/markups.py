"""Control points of Slicer's markups, .mrk.json: RAS millimetres, and what they are called."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from regzoo.errors import invalid
from regzoo.io.files import atomic_file
from regzoo.io.numbers import FAR
from regzoo.io.yaml_json import parse_json, read_text

HEADER = ("label", "description")
_LIMIT = 2**24
"""Bytes: some 30,000 points; JSON takes thirty times as much in memory."""
_SCHEMA = (  # by which Slicer knows the format
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
_SIGNS = {"LPS": -1.0, "RAS": 1.0}


def read(path: Path) -> tuple[np.ndarray, tuple[tuple[str, ...], ...]]:
    """Returns points (N, 3) in RAS mm, and what `HEADER` names of each.

    Raises:
        MissingError: If there is no such file.
        InvalidError: If it is no list of markups with one entry, in mm, whose points all have a position.
    """
    markups = parse_json(read_text(path, _LIMIT), path.name).get("markups")
    if not isinstance(markups, list) or len(markups) != 1 or not isinstance(markups[0], dict):
        received = len(markups) if isinstance(markups, list) else "none"
        raise invalid(f"{path.name}: markups", "one list of control points", received, "Save each by itself in Slicer.")
    system, unit = (
        markups[0].get(key, usual) for key, usual in (("coordinateSystem", "LPS"), ("coordinateUnits", "mm"))
    )
    if not isinstance(system, str) or system not in _SIGNS:
        raise invalid(f"{path.name}: coordinateSystem", "LPS or RAS", system)
    if unit not in ("mm", ["mm", "mm", "mm"]):
        raise invalid(f"{path.name}: coordinateUnits", "mm", unit)
    found = markups[0].get("controlPoints")
    if not isinstance(found, list) or not found:
        raise invalid(f"{path.name}: controlPoints", "at least one", found)
    points = np.array([_position(point, f"{path.name}: control point {n}") for n, point in enumerate(found, 1)])
    rows = tuple(tuple(str(point.get(name, "")) for name in HEADER) for point in found)
    return points * (_SIGNS[system], _SIGNS[system], 1), rows


def _position(point: object, what: str) -> list[float]:
    if not isinstance(point, dict) or point.get("positionStatus", "defined") != "defined":
        raise invalid(what, "a point with a defined position", point, "Place it or remove it in Slicer.")
    place = point.get("position")
    numbers = isinstance(place, list) and all(type(each) in (int, float) and abs(each) < FAR for each in place)
    if not numbers or len(place) != 3:
        raise invalid(f"{what}: position", "three finite numbers", place)
    return [float(each) for each in place]


def write(path: Path, points: np.ndarray, names: Sequence[str], descriptions: Sequence[str]) -> None:
    """Writes points (N, 3) in RAS mm as fiducials in LPS, Slicer's own choice.

    Args:
        path: The file.
        points: What to write.
        names: What each is called; empty: by their number.
        descriptions: What is said of each; empty: nothing.
    """
    labels, told = names or [str(n + 1) for n in range(len(points))], descriptions or [""] * len(points)
    fiducials = {"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm"}
    markup = fiducials | {"controlPoints": [*_control_points(points, labels, told)]}
    text = json.dumps({"@schema": _SCHEMA, "markups": [markup]}, indent=1)
    with atomic_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8", newline="\n")


def _control_points(points: np.ndarray, labels: Sequence[str], told: Sequence[str]) -> Iterable[dict]:
    for number, (point, label, text) in enumerate(zip(points * (-1.0, -1.0, 1.0), labels, told, strict=True), 1):
        position = [round(value, 6) for value in point.tolist()]
        yield {
            "id": str(number),
            "label": label,
            "description": text,
            "position": position,
            "positionStatus": "defined",
        }
