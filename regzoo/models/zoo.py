"""load: a name becomes a model with verified weights, under whatever backend Keras runs."""

import os

from regzoo import hub
from regzoo.errors import invalid
from regzoo.hub import cards
from regzoo.models import RegistrationModel, build, weights
from regzoo.models.own import OwnModel, build_own
from regzoo.schema.own import OwnConfig

Model = str | os.PathLike | hub.Entry | RegistrationModel
"""What a model may be given as."""


def load(name: Model) -> RegistrationModel:
    """Loads a model.

    Args:
        name: `name`, `name@version`, a folder, such as a run folder, or `hf://owner/repo[@revision]`; or an entry that
            `hub.take` gave. A loaded model is returned as it is.

    Returns:
        The Keras model; `model.card` is its `Card`, `model.source` the name by which these very bytes are found again,
        `model.calibration` what is known of its error, or None.

    Raises:
        RegzooError: If there is no such model, or its files are damaged or do not fit its config.

    Example:
        >>> import numpy as np
        >>> import regzoo
        >>> model = regzoo.load("hippocampus-mr-dvf")
        >>> model.card.input.shape, model.card.input.spacing
        ((48, 64, 48), (1.0, 1.0, 1.0))
        >>> image = np.zeros((1, 48, 64, 48, 1), "float32")
        >>> tuple(model({"fixed": image, "moving": image})["ddf"].shape)
        (1, 48, 64, 48, 3)
    """
    if isinstance(name, RegistrationModel):
        return name
    if not isinstance(name, str | os.PathLike | hub.Entry):
        raise invalid("model", "a name, a folder, hf://owner/repo or a loaded model", f"a {type(name).__name__}")
    entry = hub.take(name)
    card, own = entry.card, entry.own()
    if own:
        model = _own(own, card.input.shape, entry.weights())
    else:
        config = entry.config()
        card.input.check(config)
        if card.registers != config.output.registers:
            raise invalid(f"{card.id}: pipeline_tag", f"another, of the output {config.output.name}", card.pipeline_tag)
        model = build(config, card.input.spacing)
        weights.load(model, entry.weights())
    model.card, model.source, model.calibration = card, entry.pin, entry.calibration()
    return model


def _own(config: OwnConfig, shape: tuple[int, ...], data: bytes) -> OwnModel:
    """Builds a network of one's own and gives it its weights, which are kept by their place."""
    if config.dims != len(shape):
        raise invalid("input.shape", f"{config.dims} values, as dims of config.json says", list(shape))
    model = build_own(config)
    places = {f"{i:04d}": variable.path for i, variable in enumerate(model.variables)}
    values = {places.get(name, name): value for name, value in weights.read(data)[0].items()}
    weights.assign(model.variables, values, source=cards.WEIGHTS)
    return model
