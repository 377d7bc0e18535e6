"""What `error.json` says: how evidence without labels becomes an expected error in mm, of one model or of methods.

Of a pair, forests of trees; of each voxel, sums of tables, read by linear interpolation, which rise or stay, so that
more of what speaks against a place never makes it look better. `tests/tools/expected_error.py` fits them.
"""

import itertools
from typing import Annotated, Literal, TypeVar

from pydantic import Field, model_validator

from regzoo.schema.strict import Strict

ERROR = "error.json"
ERROR_LIMIT = 2**19
LOOKS = 8
"""Figures of what an image looks like."""
Number = Annotated[float, Field(ge=-1e6, le=1e6)]
Usual = Annotated[float, Field(ge=-100, le=1e4)]
Share = Annotated[float, Field(ge=0, le=1)]
Numbers = Annotated[tuple[Number, ...], Field(min_length=1, max_length=256)]
T = TypeVar("T")
Nodes = Annotated[tuple[T, ...], Field(min_length=1, max_length=1024)]
BOTH = ("disagreement", "remaining", "lncc", "mind", "stretch", "bending", "flatness", "unseen")
VOXEL = (*BOTH, "pair_log")
PAIR = (
    *BOTH,
    "disagreement_most",
    "remaining_most",
    "lncc_most",
    "turn",
    "scale",
    "shift",
    "mirror",
    "strange",
    "unlike",
)
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


class Tree(Strict):
    """Questions, each with where the next one stands: at node `i`, is evidence `asks[i]` at most `at[i]`?"""

    asks: Nodes[str | None]
    """None: it ends there."""
    at: Nodes[Number]
    """Where it ends, what the tree says."""
    below: Nodes[int]
    above: Nodes[int]
    """The next node, behind this one; 0 where it ends."""

    @model_validator(mode="after")
    def _ends(self) -> "Tree":
        if len({len(each) for each in (self.asks, self.at, self.below, self.above)}) != 1:
            raise ValueError("expected asks, at, below and above of one length")
        for node, (name, *nexts) in enumerate(zip(self.asks, self.below, self.above, strict=True)):
            if name is not None and not all(node < each < len(self.asks) for each in nexts):
                raise ValueError(f"expected next nodes behind node {node}, below {len(self.asks)}, received {nexts}")
        return self


class Forest(Strict):
    """The mean of what trees say."""

    trees: Annotated[tuple[Tree, ...], Field(min_length=1, max_length=200)]

    @property
    def names(self) -> set[str]:
        """The kinds of evidence that it looks at."""
        return {name for tree in self.trees for name in tree.asks if name is not None}


class VoxelAmount(Strict):
    """An error in mm from a sum: the logarithm of it, what is expected, and what 9 of 10 do not exceed."""

    log: Sum
    expected: Table
    bound: Table


class PairAmount(Strict):
    """The same from a forest."""

    log: Forest
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
    usual: dict[str, tuple[Usual, Usual]]
    """Of pairs that were not wrong, of each kind of evidence the median and what 95 of 100 do not exceed."""
    voxel: VoxelAmount
    pair: PairAmount
    risk: Forest
    """Share of the cases like a pair that are wrong, were half of all wrong: from 0 to 1."""
    look_from: Share
    failed_from: Share
    """Risk from which on a pair is to be looked at, and is called failed."""

    @model_validator(mode="after")
    def _known(self) -> "Calibration":
        looked_at = {
            "voxel": (self.voxel.log.tables.keys(), VOXEL),
            "pair": (self.pair.log.names, PAIR),
            "risk": (self.risk.names, PAIR),
        }
        for name, (found, known) in looked_at.items():
            strange = sorted(set(found) - set(known))
            if strange:
                raise ValueError(f"expected in {name} evidence of {', '.join(known)}, received {strange[0]}")
        said = [tree.at[i] for tree in self.risk.trees for i, name in enumerate(tree.asks) if name is None]
        if not 0 <= min(said) <= max(said) <= 1:
            raise ValueError("expected in risk shares from 0 to 1")
        if self.look_from > self.failed_from:
            raise ValueError(f"expected look_from up to failed_from, {self.failed_from}, received {self.look_from}")
        for name, amount in (("voxel", self.voxel), ("pair", self.pair)):
            if min(amount.expected.y[0], amount.bound.y[0]) < 0 or max(amount.expected.y[-1], amount.bound.y[-1]) > 1e4:
                raise ValueError(f"expected in {name} errors from 0 to 10,000 mm")
        missing = sorted(self.risk.names - set(self.usual))
        if missing:
            raise ValueError(f"expected in usual what risk looks at, {missing[0]}")
        return self
