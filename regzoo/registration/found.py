"""What a model or a method finds of a pair: a transform, and what is told of it before it is scored."""

from dataclasses import dataclass, field, replace

from regzoo import backend, classical
from regzoo.models import RegistrationModel
from regzoo.registration.expected import methods
from regzoo.registration.expected.evidence import Asked
from regzoo.registration.network import NetworkPair, asked_again, predicted_transform
from regzoo.registration.orientation import gain_told, mirror_gain
from regzoo.registration.results import clock
from regzoo.registration.scores import Side, mean_dice, unscored
from regzoo.registration.sides import check_overlap, open_geometry, twins
from regzoo.registration.starts import method_start
from regzoo.registration.stripping import Shown
from regzoo.schema.calibration import Calibration
from regzoo.schema.card import Card
from regzoo.world.alignment import Start
from regzoo.world.images import Image
from regzoo.world.labels import shared_labels
from regzoo.world.transforms import Transform


@dataclass(frozen=True)
class Found:
    """What a model or a method found: a transform, the start it is held against, and what is told of it."""

    start: Transform
    transform: Transform
    facts: dict
    anatomy: Image | None
    """Where it is judged whether the images fit; None: everywhere."""
    lungs: bool = False
    against: list[str] = field(default_factory=list)
    """Warnings that speak against the whole result."""
    asked: Asked | None = None
    """What an error is expected by."""
    calibration: Calibration | None = None
    card: Card | None = None
    """The model's."""
    masks: dict[str, Image] = field(default_factory=dict)
    """Where a refinement compares the images, beside what it was given: a skull is not to be matched."""


def by_method(
    fixed: Side,
    moving: Side,
    names: list[str],
    how: Start,
    guidance: classical.Guidance,
    masks: dict[str, Image],
    seconds: dict[str, float],
    judged: bool,
) -> Found:
    """Registers by optimisation; looks at left and right, and asks once more, if the result is to be judged."""
    with clock(seconds, "start"):
        name, start = method_start(fixed.image, moving.image, how)
        check_overlap(fixed.image, moving.image, name)
    with clock(seconds, "optimisation"):
        transform, done = classical.optimise(fixed.image, moving.image, start, names, guidance)
    facts = {
        "method": ",".join(names),
        "loss": done[-1]["loss"],
        "backend": backend.NAME,
        "start": name,
        "optimisation": done,
        "warnings": open_geometry(fixed, moving) + twins(fixed, moving) + unscored(fixed, moving),
    }
    gain, asked, calibration = None, None, None
    if judged:
        with clock(seconds, "orientation"):
            gain = mirror_gain(fixed.image, moving.image, name, guidance)
        calibration = methods.calibration(names, fixed.image, guidance)
    if calibration is not None:
        with clock(seconds, "error"):
            asked = methods.asked_again(fixed.image, moving.image, start, transform, names, guidance, gain)
    against = gain_told(gain)
    facts["warnings"] += against
    anatomy = masks.get("fixed_mask")
    return Found(start, transform, facts, anatomy, against=against, asked=asked, calibration=calibration)


def by_model(model: RegistrationModel, pair: NetworkPair, seconds: dict[str, float], judged: bool) -> Found:
    """Registers by a network, and asks it again if an error is to be expected."""
    with clock(seconds, "network"):
        transform, doubted = predicted_transform(pair)
    facts, asked, calibration = pair.facts(model), None, getattr(model, "calibration", None)
    facts["warnings"] += doubted
    if judged and calibration is not None:
        with clock(seconds, "error"):
            asked = asked_again(pair)
    against = [*pair.against, *doubted]
    lungs = model.card.input.around == "lungs"
    return Found(pair.start, transform, facts, pair.lungs, lungs, against, asked, calibration, model.card)


def of_shown(found: Found, seen: Shown, given: dict[str, Image]) -> Found:
    """Adds what was stripped: heads are judged and refined in the brain, unless masks were given."""
    masks = {name: mask for name, mask in seen.masks.items() if name not in given}
    anatomy = seen.masks.get("fixed_mask", found.anatomy)
    return replace(found, facts=found.facts | seen.facts, anatomy=anatomy, masks=masks)


def refined(fixed: Side, moving: Side, found: Found, guidance: classical.Guidance, seconds: dict[str, float]) -> Found:
    """Improves what a model or a method found on this pair."""
    with clock(seconds, "refinement"):
        transform, done = classical.refine(fixed.image, moving.image, found.transform, guidance)
    facts = found.facts | {"loss": guidance.loss, "refinement": done}
    if fixed.labels and moving.labels and shared_labels(fixed.labels, moving.labels):
        before, after = (mean_dice(fixed, moving, each) for each in (found.transform, transform))
        if after < before:
            told = f"Refinement made labels overlap less: mean Dice {before:.3f} to {after:.3f}. Leave it out."
            facts["warnings"] = [*facts["warnings"], told]
    asked = None if "method" in facts else found.asked  # what a method is calibrated on was not refined
    return replace(found, transform=transform, facts=facts, asked=asked)
