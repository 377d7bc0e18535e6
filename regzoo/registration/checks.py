"""What a registration is asked for: refused before anything is computed if it is nothing, or does not go together."""

from collections.abc import Sequence
from typing import get_args

from regzoo import classical
from regzoo.errors import InvalidError, invalid, unknown
from regzoo.models import RegistrationModel
from regzoo.registration.scores import Side
from regzoo.world.alignment import Start
from regzoo.world.images import Image


def checked_method(model: object, method: object, start: object) -> list[str]:
    """Returns the names of the methods, none for a model, if there is one of the two and the start suits it."""
    if (model is None) == (method is None):
        advice = "" if model is not None else "regzoo.candidates(fixed, moving) lists the models that fit two images."
        raise invalid("model and method", "one of the two", "neither" if model is None else "both", advice)
    known = [name for name in get_args(Start) if method is None or name != "affine"]
    if start not in known:
        raise invalid("start", f"one of {', '.join(known)}", repr(start))
    names = method.split(",") if isinstance(method, str) else [*method] if isinstance(method, Sequence) else []
    if method is not None and not (names and all(isinstance(name, str) for name in names)):
        raise invalid("method", "names such as 'affine,dvf'", repr(method))
    names = [name.strip() for name in names]
    for name in names:
        if name not in classical.METHODS:
            raise unknown("method", name, classical.METHODS)
    return names


def check_effort(names: list[str], loss: object, guided: bool, refine: object, iterations: object) -> None:
    """Refuses settings that are none, or that neither a method nor a refinement would heed."""
    if loss is not None and (not isinstance(loss, str) or loss not in classical.IMAGE_LOSSES):
        raise unknown("image loss", str(loss), classical.IMAGE_LOSSES)
    if isinstance(refine, bool) or not isinstance(refine, int) or refine < 0:
        raise invalid("refine", "a number of steps from 0", refine)
    if iterations is not None and (isinstance(iterations, bool) or not isinstance(iterations, int) or iterations < 1):
        raise invalid("iterations", "a number of steps from 1", iterations)
    if guided and not (names or refine):
        raise invalid("guided", "a method or refine, which labels guide", "neither")
    if loss is not None and not (names or refine):
        raise invalid("loss", "a method or refine, which lower it", f"'{loss}' with a model alone")
    own = [classical.METHODS[name].loss for name in names]
    if loss is not None and names and not refine and all(own) and loss not in own:
        raise invalid("loss", f"none, or {' or '.join(own)}, which {', '.join(names)} always compare by", f"'{loss}'")
    if iterations is not None and not names:
        raise invalid("iterations", "a method, whose levels have them", "a model", "refine counts its own steps.")


def check_given(
    fixed: Side, moving: Side, masks: dict[str, Image], model: RegistrationModel | None, refine: int
) -> None:
    """Refuses sides that do not suit each other, or what is asked for."""
    if model is None:
        if fixed.image.shape[2] > 1 and moving.image.shape[2] == 1:
            raise invalid("moving", "a volume, as fixed is", "one slice", "Take the slice as the fixed image.")
        return
    if refine:
        _check_refinable(model, fixed.image)
    elif masks and model.card.input.around != "lungs":
        raise invalid("masks", "method, refine or a model of lungs, which look at them", "a model that does not")


def with_card(model: RegistrationModel) -> RegistrationModel:
    """Returns the model if it has a card and registers; refuses it otherwise."""
    if not hasattr(model, "card"):
        raise invalid("model", "a model with a card, as regzoo.load gives it", f"a {type(model).__name__} without")
    if not model.card.registers:
        raise invalid("model", "one that registers two images", f"{model.card.id}, which looks at one")
    return model


def _check_refinable(model: RegistrationModel, fixed: Image) -> None:
    if not model.has_field:
        raise InvalidError("refine: a conditional model has no transform to improve. Leave it out.")
    if len(model.card.input.shape) == 2 and fixed.shape[2] > 1:
        raise InvalidError(
            "refine: a 2-D model registers slice by slice, and refinement would move between slices. "
            "Give one slice, or leave refine out."
        )
