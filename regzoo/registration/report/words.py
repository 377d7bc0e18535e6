"""What the figures of a registration mean, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

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
    "rigid": "as a quick rigid search laid them",
    "affine": "as an affine network laid them",
}
"""How the images lay before the registration, by the start in `result.json`."""


VERDICTS = {"good": "nothing amiss was found", "look": "look closely", "failed": "this registration failed"}
"""What a verdict says."""


def verdict(facts: Mapping) -> dict | None:
    """Returns the verdict, where there is one: its `word`, what it `says`, `reasons` and `look_at` in sentences."""
    word = facts.get("verdict")
    if word is None:
        return None
    told = {key: list(facts.get(key, ())) for key in ("reasons", "look_at")}
    return {"word": word, "says": VERDICTS.get(word, word), **told}


def maker(facts: Mapping) -> str:
    """Returns what registered: `brain-mr-dvf version 3, refined`."""
    model = facts.get("model")
    name = f"{model['name']} version {model['version']}" if model else facts.get("method", "unknown")
    return f"{name}{', refined' if 'refinement' in facts else ''}"


def done(facts: Mapping) -> str:
    """Returns what was done, in a sentence."""
    inputs = facts.get("inputs", {})
    moving, fixed = (inputs.get(name, {}).get("file", f"the {name} image") for name in ("moving", "fixed"))
    told = f"{maker(facts)} registered {moving} to {fixed}; they lay {started(facts)} at the start."
    return f"{told} {stripping(facts)}" if "stripped" in facts else told


def started(facts: Mapping) -> str:
    """Returns how the images lay at the start: `as a quick rigid search laid them (turned by 21 degrees, ...)`."""
    start = STARTS.get(facts["start"], facts["start"])
    return f"{start} ({facts['start_told']})" if facts.get("start_told") else start


def stripping(facts: Mapping) -> str:
    """Returns what was stripped of whole heads, in a sentence."""
    by = facts["stripped"]
    heads = [f"the {name} one ({by[name]:.2f} l of brain)" for name in ("fixed", "moving") if by.get(name)]
    return (
        f"Of whole heads, {' and '.join(heads)}, the model saw only the brain, found by {by['name']} version "
        f"{by['version']}; --no-strip shows it all."
    )


def sentences(facts: Mapping) -> Iterator[str]:
    """Yields what was done, the verdict and why, what to look at, what not to use the result for; a sentence a line."""
    if "verdict" not in facts:
        return
    yield facts["done"]
    yield f"VERDICT: {facts['verdict']}: {VERDICTS[facts['verdict']]}."
    yield from (f"  {text}" for text in (*facts["reasons"], *facts["look_at"]))
    yield "What it is for, and its limits:"
    yield from (f"  {text}" for text in facts["not_for"])


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


def error_rows(facts: Mapping) -> list[dict]:
    """Returns what error is expected, as `field_rows` does."""
    error = facts.get("error")
    if not error:
        return []
    return [
        {
            "name": "Expected error",
            "value": f"{error['mean']:.1f} mm on average, {error['p95']:.1f} mm in the worst twentieth",
            "meaning": "How far places in the anatomy are expected to be off, from what is seen without labels. "
            f"Of ten registrations that look like this one, nine are off by less than {error['bound']:.1f} mm on "
            "average; it was learned from pairs whose truth is known, most of them simulated.",
        }
    ]


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
