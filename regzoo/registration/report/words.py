"""What the figures of a registration mean, in words."""

from __future__ import annotations

from collections.abc import Mapping

SCORES = {
    "mean_dice": (
        "Overlap of the labels (Dice)",
        "",
        "1: the labels cover each other; 0: they do not touch. Small labels reach lower values than large ones.",
    ),
    "mean_hd95": (
        "Distance of the outlines (HD95)",
        "mm",
        "95 of 100 places on an outline lie nearer than this to the other outline. 0 is best.",
    ),
    "mean_centroid": ("Distance of the label centres", "mm", "How far the labels' centres lie apart. 0 is best."),
    "tre": (
        "Distance of the landmarks (TRE)",
        "mm",
        "Mean distance between landmarks that mark the same anatomy, placed independently. 0 is best.",
    ),
    "ncc": (
        "Correlation of the intensities",
        "",
        "1: bright and dark agree everywhere. Where the two images show tissue in other shades it says little, and a "
        "high value does not prove that the anatomy fits.",
    ),
}
"""By key of `result.json`: what a score is called, its unit, and what it says."""

STARTS = {
    "center": "image centre on image centre",
    "world": "in scanner coordinates",
    "mass": "centre of mass on centre of mass",
    "moments": "centres of mass and their axes on each other",
}
"""How the images lay before the registration, by the alignment in `result.json`."""


_VERDICTS = {"good": "nothing amiss was found", "look": "look closely", "failed": "this registration failed"}


def verdict(facts: Mapping) -> dict | None:
    """Returns the verdict, where there is one: its `word`, what it `says`, and `reasons` in sentences."""
    word = facts.get("verdict")
    if word is None:
        return None
    return {"word": word, "says": _VERDICTS.get(word, word), "reasons": list(facts.get("reasons", ()))}


def maker(facts: Mapping) -> str:
    """Returns what registered: `brain-mr-dvf version 3, refined`."""
    model = facts.get("model")
    name = f"{model['name']} version {model['version']}" if model else facts.get("method", "unknown")
    return f"{name}{', refined' if 'refinement' in facts else ''}"


def score_rows(scores: Mapping[str, Mapping]) -> list[dict]:
    """Returns the headline scores: name, before and after as text with their unit, what they mean.

    Args:
        scores: `before` and `after`, as in `result.json`.
    """
    before, after = scores["before"], scores["after"]
    rows = []
    for key, (name, unit, meaning) in SCORES.items():
        if key in after:
            shown = (figure(side.get(key), unit) for side in (before, after))
            rows.append({"name": name, "meaning": meaning} | dict(zip(("before", "after"), shown, strict=True)))
    return rows


def field_rows(facts: Mapping) -> list[dict]:
    """Returns what is known of the transform itself: name, value as text, what it means."""
    jacobian, rows = facts.get("jacobian"), []
    if jacobian:
        rows = [
            {
                "name": "Places where tissue would be turned inside out (folds)",
                "value": f"{100 * jacobian['folds']:.3f} % of the image",
                "meaning": "Anatomy cannot do so: 0 is best, and where it happens nothing may be measured.",
            },
            {
                "name": "Unevenness of the change of volume (SDlogJ)",
                "value": f"{jacobian['sdlogj']:.3f}",
                "meaning": "0: all is squeezed or stretched alike; above 0.35 neighbouring places differ strongly.",
            },
        ]
    missed = facts.get("scores", {}).get("after", {}).get("inverse_residual")
    if missed:
        rows.append(
            {
                "name": "There and back again",
                "value": f"{missed['mean']:.3f} mm on average, {missed['max']:.2f} mm at most",
                "meaning": "How far a place ends from where it began when it is moved and moved back. 0 is best.",
            }
        )
    return rows


def figure(score: float | Mapping | None, unit: str) -> str:
    """Returns a score, or its mean, as text with its unit."""
    value = score["mean"] if isinstance(score, Mapping) else score
    if value is None or value != value:
        return "no value"
    return f"{value:.3f} {unit}".strip()
