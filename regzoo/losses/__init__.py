"""Losses: two images, two label maps, one field or two in; one value a batch item out, lower is better."""

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence

from regzoo.errors import invalid, unknown
from regzoo.losses.deformation import bending, elastic, folding, gradient
from regzoo.losses.image import lncc, ncc, ssd
from regzoo.losses.known import distance
from regzoo.losses.label import centroid, cross_entropy, dice, jaccard, label_ssd
from regzoo.losses.multimodal import mi, mind, nmi

IMAGE = {"ssd": ssd, "ncc": ncc, "lncc": lncc, "mi": mi, "nmi": nmi, "mind": mind}
LABEL = {"dice": dice, "jaccard": jaccard, "cross_entropy": cross_entropy, "ssd": label_ssd, "centroid": centroid}
DEFORMATION = {"gradient": gradient, "bending": bending, "elastic": elastic, "folding": folding}
KNOWN = {"distance": distance}
KINDS = {"image": IMAGE, "label": LABEL, "deformation": DEFORMATION, "known": KNOWN}


def weighted_terms(objective: Mapping[str, Mapping[str, Mapping]], spacing: Sequence[float]) -> list[tuple]:
    """Resolves the names of an objective.

    Args:
        objective: Kind, of `KINDS` -> loss name -> `weight` and the loss's own parameters.
        spacing: Millimetres a voxel, given to the losses that take it.

    Returns:
        Rows (kind, name, loss, weight); terms with weight 0 are left out.

    Raises:
        ValueError: If a kind, a loss or a setting is unknown, a weight is negative, or no weight is above 0.
    """
    rows = []
    for kind, chosen in objective.items():
        if kind not in KINDS:
            raise unknown("kind of loss", kind, KINDS)
        for name, settings in chosen.items():
            if name not in KINDS[kind]:
                raise unknown(f"{kind} loss", name, KINDS[kind])
            loss, weight = _resolved(f"{kind}.{name}", KINDS[kind][name], dict(settings), tuple(spacing))
            if weight > 0:
                rows.append((kind, name, loss, weight))
    if not rows:
        raise invalid("objective", "at least one loss with a weight above 0", "none")
    return rows


def _resolved(name: str, loss: Callable, settings: dict, spacing: tuple[float, ...]) -> tuple[Callable, float]:
    """Returns the loss with its settings and the grid's spacing, and its weight."""
    weight = float(settings.pop("weight", 1.0))
    if not 0 <= weight < math.inf:
        raise invalid(f"{name}.weight", "a number of at least 0", weight)
    known = set(settings_of(loss))
    for key in settings:
        if key not in known:
            raise unknown(f"setting of {name}", key, known | {"weight"})
    if "spacing" in inspect.signature(loss).parameters:
        settings["spacing"] = spacing
    return functools.partial(loss, **settings), weight


def settings_of(loss: Callable) -> dict[str, object]:
    """Returns the settings of a loss that an objective may give, and their defaults, which are not spacing and mask."""
    parameters = inspect.signature(loss).parameters.values()
    return {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.default is not parameter.empty and parameter.name not in ("spacing", "mask")
    }
