"""A weighted sum of losses, from their names and settings."""

import inspect
from collections.abc import Callable, Mapping, Sequence

from regzoo.backend import Tensor
from regzoo.errors import checked_spacing, invalid, unknown
from regzoo.schema.losses import LOSSES, Term, Terms, active
from regzoo.schema.strict import validate


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
        spacing: Millimetres a voxel, D values, given to the losses that take it.

    Returns:
        Rows (kind, name, loss, weight); terms with weight 0 are left out.

    Raises:
        InvalidError: If a kind, a loss or a setting is unknown or out of its range, no weight is above 0, or spacing is
            no spacing.

    Example:
        >>> terms = weighted_terms({"image": {"lncc": {}}, "deformation": {"bending": {"weight": 2}}}, (1.0, 2.0))
        >>> [(kind, name, weight) for kind, name, loss, weight in terms]
        [('image', 'lncc', 1.0), ('deformation', 'bending', 2.0)]
    """
    if not isinstance(objective, Mapping):
        raise invalid("objective", 'a dict such as {"image": {"lncc": {"weight": 1.0}}}', repr(objective))
    terms, spacing = validate(Terms, dict(objective), "objective"), checked_spacing(spacing)
    rows = [
        (kind, name, _resolved(f"{kind} loss {name}", LOSSES[kind][name].function(), term, spacing), term.weight)
        for kind, chosen in terms
        for name, term in active(chosen).items()
    ]
    if not rows:
        raise invalid("objective", "at least one loss with a weight above 0", "none")
    return rows


def _resolved(what: str, loss: Callable, term: Term, spacing: tuple[float, ...]) -> Callable:
    """Returns the loss with its settings and the grid's spacing; what it gives is checked, as it may be the user's."""
    settings, takes = term.model_dump(exclude={"weight"}), inspect.signature(loss).parameters
    needed = {*settings, *["mask"] * what.startswith("image")}
    if not needed <= takes.keys():
        raise invalid(what, f"a function of {', '.join(sorted(needed))}", f"one of {', '.join(takes)}")
    if "spacing" in takes:
        settings["spacing"] = spacing

    def checked(*given: Tensor) -> Tensor:
        value = loss(*given, **settings)
        if len(value.shape) != 1:
            raise invalid(what, "one value for each item of the batch, shape (B,)", f"shape {tuple(value.shape)}")
        return value

    return checked
