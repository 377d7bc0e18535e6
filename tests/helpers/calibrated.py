"""Calibrations of known behaviour, and models that carry one."""

import json

from regzoo.hub import cards
from regzoo.schema.calibration import ERROR, LOOKS, PAIR, Calibration


def calibration(**changes):
    """Expects as many mm as other answers differ by, twice that at most; log odds are the mm less 5."""
    sums = {"offset": 0.0, "tables": {"disagreement": {"x": [0, 100], "y": [0, 100]}}}
    amount = {"log": sums, "expected": {"x": [0, 100], "y": [0, 100]}, "bound": {"x": [0, 100], "y": [0, 200]}}
    values = {
        "form": 1,
        "of": "constant-ddf@3",
        "data": "made up",
        "command": "none",
        "cases": 10,
        "failed": 5,
        "looks": {"middle": [0.5] * LOOKS, "spread": [1.0] * LOOKS},
        "usual": {name: [0.1, 0.2] for name in PAIR},
        "voxel": amount,
        "pair": amount,
        "risk": sums | {"offset": -5.0},
        "look_from": -1.0,
        "failed_from": 1.0,
    }
    return Calibration.model_validate(values | changes)


def calibrate(folder, **changes):
    """Writes a calibration into a zoo entry, and lists it on the card."""
    (folder / ERROR).write_text(json.dumps(calibration(**changes).model_dump(mode="json")))
    card = cards.read(folder)
    cards.write(folder, card.model_copy(update={"files": cards.manifest(folder)}), cards.read_body(folder))
    return folder
