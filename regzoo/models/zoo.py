"""load: a name becomes a model with verified weights, under whatever backend Keras runs."""

import os

from regzoo import hub
from regzoo.hub import cards
from regzoo.models import RegistrationModel, build, weights


def load(name: str | os.PathLike) -> RegistrationModel:
    """Loads a model.

    Args:
        name: `name`, `name@version`, a folder, such as a run folder, or `hf://owner/repo[@revision]`.

    Returns:
        The Keras model; `model.card` is its `Card`, `model.source` the name by which these very bytes are found again.

    Raises:
        RegzooError: If there is no such model, or its files are damaged or do not fit its config.
    """
    entry = hub.take(name)
    card, config = entry.card, cards.read_config(entry.folder)
    card.input.check(config)
    model = build(config, card.input.spacing)
    weights.load(model, entry.folder / cards.WEIGHTS)
    model.card, model.source = card, entry.pin
    return model
