"""The verdict on a registration, in words: good, look or failed, why, where to look, and what not to do with it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from regzoo.registration.expected.expectation import Expected, forest_mean
from regzoo.schema.calibration import Calibration
from regzoo.schema.card import Card
from regzoo.world.matrices import map_points

VERDICTS = ("good", "look", "failed")
_WRONG = 5.0  # mm of mean error, from which on a registration counts as wrong
_PROBABLY_WRONG = "That is more than 5 mm: take it as failed unless the pictures show that it is not."
_REASONS = 3
_SAYS = {
    "disagreement": (
        "Asked again about these images, a little shifted, turned, brighter and noisier, or mirrored and exchanged, "
        "the model gave answers that differ by {0:.1f} mm on average (usual: {1:.1f} mm)."
    ),
    "remaining": "Asked to go on from its own result, the model would move it by {0:.1f} mm more (usual: {1:.1f} mm).",
    "remaining_most": "In places it would move its own result by {0:.1f} mm more (usual: {1:.1f} mm).",
    "disagreement_most": "In places such answers differ by {0:.1f} mm (usual: {1:.1f} mm).",
    "lncc": "The images match badly after it: {0:.0%} of the local structure does not agree (usual: {1:.0%}).",
    "lncc_most": "In places nothing matches after it: {0:.0%} of the structure does not agree (usual: {1:.0%}).",
    "mind": "The local patterns of the images differ after it by {0:.3f} (usual: {1:.3f}).",
    "turn": "It turns the anatomy by {0:.0f} degrees (usual: {1:.0f}).",
    "scale": "It stretches or shrinks the anatomy as a whole by {0:.0%} (usual: {1:.0%}).",
    "shift": "It moves the anatomy as a whole by {0:.1f} mm (usual: {1:.1f} mm).",
    "bending": "It bends the anatomy by {0:.1f} mm on average (usual: {1:.1f} mm).",
    "stretch": "It changes volumes strongly, by a factor of {0:.2f} on average (usual: {1:.2f}).",
    "unseen": "The moving image does not show {0:.0%} of the anatomy (usual: {1:.0%}).",
    "flatness": "The fixed image has little structure that a registration could hold on to.",
    "mirror": (
        "The mirror image of the moving image fits nearly as well as itself, or better: left and right may be "
        "exchanged, which nobody can tell where an image is as symmetric as a template. Check the headers."
    ),
    "strange": (
        "The images do not look like those that this was made for and calibrated on: another organ, contrast, noise "
        "or field of view?"
    ),
    "unlike": "The two images differ in what they show more than pairs usually do: contrast, noise or field of view.",
}
"""By kind of evidence, what more of it than usual means; the value and the usual one."""
_MOST = 20.0  # of a logarithm that is written as a factor
_AS_FACTOR, _AS_SHARE = ("stretch",), ("scale",)


def verdict(found: Expected | None, calibration: Calibration | None, against: Sequence[str]) -> dict[str, object]:
    """Returns the verdict: `verdict`, `reasons` and `look_at`, sentences, for `result.json`.

    Args:
        found: What is expected; None where nothing could be expected.
        calibration: By which it is expected.
        against: What else speaks against the registration, in sentences: the images are not what the model was made
            for, or are turned or mirrored.
    """
    if found is None:
        told = "How far off it is, is not known: what registered was never calibrated against a known truth."
        return {"verdict": "look", "reasons": [told, *against], "look_at": [_LOOK]}
    word = _word(found, calibration, against)
    reasons = [_amount(found)]
    if word != "good":
        reasons += [*against, *_unusual(found, calibration)]
    if word == "look" and found.facts["mean"] > _WRONG:
        reasons.insert(1, _PROBABLY_WRONG)
    places = [] if word == "failed" else [_worst_place(found)]  # of what is wrong everywhere, none is the first
    return {"verdict": word, "reasons": reasons, "look_at": [_LOOK, *places]}


def _word(found: Expected, calibration: Calibration, against: Sequence[str]) -> str:
    if found.facts["risk"] >= calibration.failed_from:
        return "failed"
    doubtful = found.facts["risk"] >= calibration.look_from or found.facts["bound"] > _WRONG or against
    return "look" if doubtful else "good"


def worse(word: str | None, least: str) -> bool:
    """Tells whether a verdict is as bad as another, or worse."""
    return word in VERDICTS and VERDICTS.index(word) >= VERDICTS.index(least)


def not_for(card: Card | None) -> list[str]:
    """Returns what a result is not to be used for, in sentences."""
    own = list(card.limits) if card else ["No model was used, so that no card says where this fails."]
    return [*own, "No diagnosis or treatment may rest on it alone."]


_LOOK = "Do edges of the fixed image and of the moved one run together where it matters to you? The report shows them."


def _amount(found: Expected) -> str:
    error = found.facts
    return (
        f"Expected error in the anatomy: {error['mean']:.1f} mm on average, {error['p95']:.1f} mm in its worst "
        f"twentieth; of ten registrations that look like this one, nine are off by less than {error['bound']:.1f} mm "
        "on average."
    )


def _unusual(found: Expected, calibration: Calibration) -> list[str]:
    """Says what of the evidence is unusual, what weighs most first: by how much less the risk were, were it usual."""
    weights = {}
    for name in calibration.risk.names:
        usual, most = calibration.usual[name]
        if found.pair[name] > most:
            weights[name] = found.facts["risk"] - forest_mean(calibration.risk, found.pair | {name: usual})
    names = sorted((name for name in weights if weights[name] > 0), key=lambda name: -weights[name])
    taken = [name for name in names if not (name.endswith("_most") and name.removesuffix("_most") in names)]
    return [_said(name, found.pair[name], calibration.usual[name][0]) for name in taken[:_REASONS]]


def _said(name: str, value: float, usual: float) -> str:
    if name in _AS_FACTOR:
        value, usual = (math.exp(min(each, _MOST)) for each in (value, usual))
    if name in _AS_SHARE:
        value, usual = (math.exp(min(each, _MOST)) - 1 for each in (value, usual))
    return _SAYS[name].format(value, usual)


def _worst_place(found: Expected) -> str:
    error = np.where(found.inside, found.error.array, 0)
    voxel = np.unravel_index(int(error.argmax()), error.shape)
    place = map_points(found.error.affine, np.array([voxel], float))[0]
    sides = (("right", "left"), ("front", "back"), ("up", "down"))
    where = ", ".join(f"{abs(mm):.0f} mm {way[int(mm < 0)]}" for mm, way in zip(place, sides, strict=True))
    return f"Look first {where} of the origin, where the expected error is largest: {error.max():.1f} mm."
