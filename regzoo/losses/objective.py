"""A weighted sum of losses, from their names and settings."""

import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence

from regzoo.errors import invalid, unknown
from regzoo.schema.losses import LOSSES


def named(kind: str) -> dict[str, Callable]:
    """Returns the losses of a kind, `"image"`, `"label"`, `"deformation"` or `"known"`, by their names in a recipe.

    Raises:
        InvalidError: If there is no such kind.

    Example:
        >>> {"bending", "elastic", "folding", "gradient"} <= set(named("deformation"))
        True
    """
    if kind not in LOSSES:
        raise unknown("kind of loss", kind, LOSSES)
    return {name: entry.function() for name, entry in LOSSES[kind].items()}


def weighted_terms(objective: Mapping[str, Mapping[str, Mapping]], spacing: Sequence[float]) -> list[tuple]:
    """Resolves the names of an objective.

    Args:
        objective: Kind, of `regzoo.schema.losses.LOSSES` -> loss name -> `weight` and the loss's own parameters.
        spacing: Millimetres a voxel, given to the losses that take it.

    Returns:
        Rows (kind, name, loss, weight); terms with weight 0 are left out.

    Raises:
        ValueError: If a kind, a loss or a setting is unknown, a weight is negative, or no weight is above 0.

    Example:
        >>> terms = weighted_terms({"image": {"lncc": {}}, "deformation": {"bending": {"weight": 2}}}, (1.0, 2.0))
        >>> [(kind, name, weight) for kind, name, loss, weight in terms]
        [('image', 'lncc', 1.0), ('deformation', 'bending', 2.0)]
    """
    rows = []
    for kind, chosen in objective.items():
        if kind not in LOSSES:
            raise unknown("kind of loss", kind, LOSSES)
        for name, settings in chosen.items():
            if name not in LOSSES[kind]:
                raise unknown(f"{kind} loss", name, LOSSES[kind])
            loss, weight = _resolved(f"{kind}.{name}", LOSSES[kind][name].function(), dict(settings), tuple(spacing))
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
