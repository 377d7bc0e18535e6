"""Calibrations of known behaviour, and models that carry one."""

import json

from regzoo.hub import cards
from regzoo.schema.calibration import ERROR, LOOKS, PAIR, Calibration


def calibration(**changes):
    """Expects as many mm as other answers differ by, in steps of 0.1 mm for pairs, twice that at most.

    The risk is a tenth of the mm.
    """
    sums = {"offset": 0.0, "tables": {"disagreement": {"x": [0, 100], "y": [0, 100]}}}
    ends = {"expected": {"x": [0, 100], "y": [0, 100]}, "bound": {"x": [0, 100], "y": [0, 200]}}
    values = {
        "form": 1,
        "of": "constant-ddf@3",
        "data": "made up",
        "command": "none",
        "cases": 10,
        "failed": 5,
        "looks": {"middle": [0.5] * LOOKS, "spread": [1.0] * LOOKS},
        "usual": {name: [0.1, 0.2] for name in PAIR},
        "voxel": {"log": sums} | ends,
        "pair": {"log": stairs(0.1, 100)} | ends,
        "risk": stairs(0.1, 100, 0.01),
        "look_from": 0.4,
        "failed_from": 0.6,
    }
    return Calibration.model_validate(values | changes)


def stairs(width, steps, rise=None):
    """Returns a forest of one tree that rounds the disagreement to a multiple of a width and says that times a rise."""
    asks, at, below, above = [], [], [], []
    for i in range(steps):
        asks += ["disagreement", None]
        at += [(i + 0.5) * width, i * (rise or width)]
        below += [2 * i + 1, 0]
        above += [2 * i + 2, 0]
    tree = {"asks": [*asks, None], "at": [*at, steps * (rise or width)], "below": [*below, 0], "above": [*above, 0]}
    return {"trees": [tree]}


def calibrate(folder, **changes):
    """Writes a calibration into a zoo entry, and lists it on the card."""
    (folder / ERROR).write_text(json.dumps(calibration(**changes).model_dump(mode="json")))
    card = cards.read(folder)
    cards.write(folder, card.model_copy(update={"files": cards.manifest(folder)}), cards.read_body(folder))
    return folder
