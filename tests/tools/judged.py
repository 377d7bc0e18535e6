"""What `expected_error.py` fits an expected error for: a model of the zoo, or methods, asked as `register` does."""

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import sections
from known_truth import Case, breaths

import regzoo
from regzoo import hub
from regzoo.classical import Guidance, optimise
from regzoo.data.tables import PairFiles, read_pairs
from regzoo.errors import InvalidError
from regzoo.hub import cards
from regzoo.registration.expected import methods
from regzoo.registration.expected.evidence import Evidence, evidence
from regzoo.registration.network import asked_again, network_pair, predicted_transform
from regzoo.registration.orientation import mirror_gain
from regzoo.registration.sides import check_overlap, read_side
from regzoo.registration.starts import method_start
from regzoo.registration.stripping import shown
from regzoo.schema.calibration import ERROR, Calibration
from regzoo.schema.recipe import Recipe
from regzoo.training import recipe_data
from regzoo.world.transforms import Transform

SETS = {"hippocampus-mr-dvf": 0.80, "brain-mr-dvf": 0.70}
"""Models on whose pairs methods are judged, and the Dice that methods usually reach there."""
BREATHS = 120
"""Simulated pairs of scans that a model of breathing is fitted on, of all cases."""
PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide.md"


@dataclass(frozen=True)
class OfModel:
    """A model of the zoo.

    Args:
        name: Its name.
        data: Folder of the data sets.
        listed: List in it to fit on, where a recipe simulates what it validates on.
    """

    name: str
    data: str
    listed: str | None = None

    @cached_property
    def model(self) -> object:
        """The model, loaded when it is first asked."""
        return regzoo.load(self.name)

    @property
    def folder(self) -> Path:
        """Its entry."""
        return cards.zoo_folder() / self.name

    @property
    def of(self) -> str:
        """What the calibration is of."""
        return cards.read(self.folder).id

    @property
    def flat(self) -> bool:
        """Whether it registers slices, each alone."""
        return len(cards.read(self.folder).input.shape) == 2

    @property
    def source(self) -> str:
        """What it is fitted on, in words."""
        card = cards.read(self.folder)
        return self.listed or f"valid of {card.data[0].name if card.data else self.name}"

    def pairs(self, split: str) -> list[PairFiles]:
        """Returns the pairs of a split, or those of the list."""
        if self.listed and split == "valid":
            return read_pairs(Path(self.data) / self.listed)
        return recipe_data.split_pairs(Recipe.read(hub.resolve(self.name) / cards.RECIPE), split, self.data)

    def breaths(self, split: str, share: float) -> Iterable[tuple[str, Callable[[], Case]]]:
        """Returns simulated pairs of scans by name, if it was validated on such."""
        recipe = Recipe.read(hub.resolve(self.name) / cards.RECIPE)
        simulated = split == "valid" and recipe.data.kind == "breathing"
        return breaths(recipe, Path(self.data), math.ceil(share * BREATHS)) if simulated else ()

    def usual_dice(self, case: Case) -> float:
        """Returns its mean Dice by the map, or that of its first label, nan for one that has none."""
        wanted = "dice_1" if case.first else "dice_forward"
        return next((score.value for score in cards.read(self.folder).scores if score.metric == wanted), np.nan)

    def judged(self, case: Case) -> tuple[Evidence, Transform]:
        """Registers a case as `register` does, and gathers the evidence."""
        sides = [read_side(name, image, None) for name, image in (("fixed", case.fixed), ("moving", case.moving))]
        pair = network_pair(self.model, *shown(self.model, tuple(sides), strip=True).sides, "auto", {})
        transform = predicted_transform(pair)[0].within(case.fixed.grid)
        return evidence(asked_again(pair), transform, pair.start), transform

    def write(self, calibration: str) -> None:
        """Writes the calibration into the entry."""
        (self.folder / ERROR).write_text(calibration, encoding="utf-8")
        card = cards.read(self.folder).model_copy(update={"files": cards.manifest(self.folder)})
        cards.write(self.folder, card, cards.read_body(self.folder))

    def read(self) -> Calibration:
        """Returns the calibration."""
        return Calibration.model_validate_json((self.folder / ERROR).read_text(encoding="utf-8"))

    def record(self, text: str) -> None:
        """Writes the table into the card, between its marks or at its end."""
        sections.write(self.folder, "expected error", text)


@dataclass(frozen=True)
class OfMethods:
    """Methods, one after another, judged on the pairs of two models.

    Args:
        name: Their names, `affine,dvf`.
        data: Folder of the data sets.
    """

    name: str
    data: str
    flat = False
    source = f"valid of {' and '.join(SETS)}"

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.name.split(","))

    @property
    def of(self) -> str:
        """What the calibration is of."""
        return f"methods {self.name}"

    @property
    def file(self) -> Path:
        """The calibration, beside the code that reads it."""
        return Path(methods.__file__).with_name(methods.CALIBRATED[self.names])

    def pairs(self, split: str) -> list[PairFiles]:
        """Returns the pairs of a split, of one model and the other in turn."""
        of_each = [OfModel(name, self.data).pairs(split) for name in SETS]
        return [pair for both in itertools.zip_longest(*of_each) for pair in both if pair is not None]

    def breaths(self, split: str, share: float) -> Iterable[tuple[str, Callable[[], Case]]]:
        """Returns none."""
        return ()

    def usual_dice(self, case: Case) -> float:
        """Returns the Dice that methods usually reach: hippocampi come as crops of less than 10 cm."""
        crop = np.ptp(case.fixed.grid.box(), axis=0).max() < 100
        return SETS["hippocampus-mr-dvf" if crop else "brain-mr-dvf"]

    def judged(self, case: Case) -> tuple[Evidence, Transform]:
        """Registers a case as `register` does, and gathers the evidence."""
        fixed, moving, guidance = case.fixed, case.moving, Guidance()
        name, start = method_start(fixed, moving, "auto")
        check_overlap(fixed, moving, name)
        found, _ = optimise(fixed, moving, start, self.names, guidance)
        gain = mirror_gain(fixed, moving, name, guidance)
        asked = methods.asked_again(fixed, moving, start, found, self.names, guidance, gain)
        if asked is None:
            raise InvalidError("The pair, changed a little, cannot be registered.")
        transform = found.within(fixed.grid)
        return evidence(asked, transform, start), transform

    def write(self, calibration: str) -> None:
        """Writes the calibration beside the code."""
        self.file.write_text(calibration, encoding="utf-8")

    def read(self) -> Calibration:
        """Returns the calibration."""
        return Calibration.model_validate_json(self.file.read_text(encoding="utf-8"))

    def record(self, text: str) -> None:
        """Writes the table into the guide, between its marks."""
        PAGE.write_text(sections.put(PAGE.read_text(encoding="utf-8"), f"expected error of {self.name}", text), "utf-8")


def subject(name: str, data: str, listed: str | None) -> OfModel | OfMethods:
    """Returns what has a name: methods that can be asked again, or a model."""
    return OfMethods(name, data) if tuple(name.split(",")) in methods.CALIBRATED else OfModel(name, data, listed)
