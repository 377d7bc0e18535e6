"""What `error.json` says: how evidence without labels becomes an expected error in mm, of one model or of methods.

Sums of tables, read by linear interpolation; each rises or stays, so that more of what speaks against a registration
never makes it look better. `tests/tools/expected_error.py` fits them.
"""

import itertools
from typing import Annotated, Literal

from pydantic import Field, model_validator

from regzoo.schema.strict import Strict

ERROR = "error.json"
ERROR_LIMIT = 2**18
LOOKS = 8
"""Figures of what an image looks like."""
Numbers = Annotated[tuple[float, ...], Field(min_length=1, max_length=256)]
BOTH = ("disagreement", "lncc", "mind", "stretch", "bending", "flatness", "unseen")
VOXEL = (*BOTH, "pair_log")
PAIR = (*BOTH, "disagreement_most", "lncc_most", "turn", "scale", "shift", "mirror", "strange", "unlike")
"""What there is of evidence, by `regzoo.registration.expected`; `pair_log` is what is expected of the pair."""


class Table(Strict):
    """Values `y` at places `x`; between them linear, beyond them as at the ends."""

    x: Numbers
    y: Numbers

    @model_validator(mode="after")
    def _rising(self) -> "Table":
        if len(self.x) != len(self.y):
            raise ValueError(f"expected as many y as x, {len(self.x)}, received {len(self.y)}")
        for name, values in (("x", self.x), ("y", self.y)):
            if any(b < a for a, b in itertools.pairwise(values)):
                raise ValueError(f"expected {name} that rise")
        return self


class Sum(Strict):
    """A sum of tables, one for each kind of evidence that it looks at."""

    offset: float
    tables: Annotated[dict[str, Table], Field(max_length=64)]


class Amount(Strict):
    """An error in mm from a sum: the logarithm of it, what is expected, and what 9 of 10 do not exceed."""

    log: Sum
    expected: Table
    bound: Table


class Looks(Strict):
    """What the images look like that the model was calibrated on; see `regzoo.registration.expected.evidence.looks`."""

    middle: Annotated[tuple[float, ...], Field(min_length=LOOKS, max_length=LOOKS)]
    spread: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=LOOKS, max_length=LOOKS)]


class Calibration(Strict):
    """How evidence becomes an expected error."""

    form: Literal[1]
    """Changes when a key changes its meaning or goes."""
    of: str
    """The model, `name@version`, or `methods`."""
    data: str
    """What it was fitted on, in words."""
    command: str
    cases: Annotated[int, Field(ge=1)]
    failed: Annotated[int, Field(ge=0)]
    """How many of the cases were wrong."""
    looks: Looks
    usual: dict[str, tuple[float, float]]
    """Of pairs that were not wrong, of each kind of evidence the median and what 95 of 100 do not exceed."""
    voxel: Amount
    pair: Amount
    risk: Sum
    """Log odds that a pair is wrong, among cases of which half are."""
    look_from: float
    failed_from: float
    """Log odds from which on a pair is to be looked at, and is called failed."""

    @model_validator(mode="after")
    def _known(self) -> "Calibration":
        looked_at = {"voxel": (self.voxel.log, VOXEL), "pair": (self.pair.log, PAIR), "risk": (self.risk, PAIR)}
        for name, (found, known) in looked_at.items():
            strange = sorted(set(found.tables) - set(known))
            if strange:
                raise ValueError(f"expected in {name} tables of {', '.join(known)}, received {strange[0]}")
        missing = sorted(set(self.risk.tables) - set(self.usual))
        if missing:
            raise ValueError(f"expected in usual what risk looks at, {missing[0]}")
        return self
