"""save: a model that was trained by hand becomes a zoo entry, which register, evaluate, load and push take."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
from keras import ops

from regzoo import backend
from regzoo.errors import InvalidError, RegzooError, invalid
from regzoo.hub import cards
from regzoo.io.files import atomic_folder
from regzoo.models import weights, zoo
from regzoo.models.base import RegistrationModel
from regzoo.models.own import OwnModel, build_own
from regzoo.schema.card import CONFIG, WEIGHTS, Card
from regzoo.schema.inputs import InputConfig
from regzoo.schema.networks import ModelConfig
from regzoo.schema.own import OwnConfig
from regzoo.schema.strict import validate

TOLERANCE = 1e-4
"""The largest difference in voxels between the fields of a model and of what was saved of it."""


def save(
    model: keras.Model,
    folder: str | os.PathLike,
    card: Mapping[str, object],
    network: str | None = None,
    settings: Mapping[str, object] | None = None,
) -> Path:
    """Makes a zoo entry of a model that was trained in Python.

    Args:
        model: What `regzoo.models.build` or `regzoo.load` gave; or any Keras model from `[fixed, moving]`, each
            (B, *S, 1), to a ddf (B, *S, D) in voxels.
        folder: The entry's folder, which does not exist.
        card: What the card says: `name` and `input` (the grid and the intensities that the model was trained on, as
            in a recipe), and what others need to know (`summary`, `anatomy`, `modality`, `license`, `data`, `limits`).
        network: For a Keras model of one's own, the name of the function in `regzoo.models.NETWORKS` that builds it:
            an entry holds weights and no code, so that whoever loads it must have that function.
        settings: The function's arguments.

    Returns:
        The folder. What was saved is loaded again and must give the same field.

    Raises:
        RegzooError: If the folder exists, the card is wrong or does not fit the model, or the function builds another
            network.

    Example:
        >>> import regzoo
        >>> config = {"backbone": {"name": "unet", "channels": [2, 4]}, "output": {"name": "ddf"}}
        >>> model = regzoo.models.build(config, spacing=(2.0, 2.0, 2.0))
        >>> card = {"name": "mine-ddf", "input": {"shape": (16, 12, 8), "spacing": (2.0, 2.0, 2.0)}}
        >>> folder = regzoo.save(model, "mine", card)
        >>> regzoo.load(folder).card
        <Card mine-ddf@1: (16, 12, 8), 2 x 2 x 2 mm, RAS>
    """
    folder = Path(folder)
    if folder.exists():
        raise InvalidError(f"{folder} exists. Choose another folder, or remove it: saved weights never change.")
    if not isinstance(card, Mapping):
        raise invalid("card", "a dict with 'name' and 'input'", repr(card))
    given = {"version": "1", "training": {"backend": backend.NAME, "keras": keras.__version__}} | dict(card)
    inputs = validate(InputConfig, dict(given.get("input", {})), "card: input")
    config, model = _described(model, inputs, network, {} if settings is None else settings)
    if model.takes == ("image",):  # it registers nothing
        given.setdefault("pipeline_tag", "image-segmentation")
    with atomic_folder(folder) as path:
        (path / CONFIG).write_text(json.dumps(config.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")
        weights.save(path / WEIGHTS, own_weights(model) if network else weights.arrays(model.variables))
        given |= {"input": inputs.model_dump(mode="json"), "files": [f.model_dump() for f in cards.manifest(path)]}
        written = validate(Card, given, "card")
        cards.write(path, written, f"# {written.name}\n\n{written.summary}\n")
        _compare(model, zoo.load(path), inputs.shape)
    model.card, model.source = written, str(folder)
    return folder


def _described(
    model: keras.Model, inputs: InputConfig, network: str | None, settings: Mapping[str, object]
) -> tuple[ModelConfig | OwnConfig, RegistrationModel]:
    """Returns a model's config, and the model as a registration model."""
    if network is None and getattr(model, "config", None) is None:
        raise invalid("network", "the name in regzoo.models.NETWORKS of the function that builds the model", None)
    if network is not None and getattr(model, "config", None) is not None:
        raise invalid("network", "none, for a model of regzoo's", repr(network))
    if not isinstance(settings, Mapping) or (settings and network is None):
        expected = (
            "a dict of the function's arguments" if network else "none without network, whose function takes them"
        )
        raise invalid("settings", expected, repr(settings))
    if network is None:
        inputs.check(model.config)
        if tuple(inputs.spacing) != tuple(model.spacing_mm):
            raise invalid("card: input.spacing", f"{model.spacing_mm}, for which the model was built", inputs.spacing)
        return model.config, model
    value = {"network": network, "dims": len(inputs.shape), "settings": dict(settings)}
    config = validate(OwnConfig, value, "network")
    model = model if isinstance(model, OwnModel) else OwnModel(model, name="own")
    taken = model.network.inputs[0].shape[1:-1]
    if len(taken) != len(inputs.shape) or any(n not in (None, own) for n, own in zip(taken, inputs.shape, strict=True)):
        raise invalid("card: input.shape", f"{taken}, which the network takes", inputs.shape)
    _check_built(model, build_own(config), config)
    return config, model


def _check_built(model: OwnModel, built: OwnModel, config: OwnConfig) -> None:
    """Refuses a function or settings that make another network, before anything is written."""
    shapes = [[tuple(variable.shape) for variable in each.variables] for each in (model, built)]
    if shapes[0] != shapes[1]:
        counts = [sum(int(np.prod(shape)) for shape in each) for each in shapes]
        raise invalid(
            "settings",
            f"the arguments with which '{config.network}' built this network of {counts[0]} weights",
            f"{config.settings}, with which it builds another, of {counts[1]}",
        )


def own_weights(model: RegistrationModel) -> dict[str, np.ndarray]:
    """Returns the weights by their place: layers that Keras named by counting have other names the next time."""
    return {f"{i:04d}": ops.convert_to_numpy(variable.value) for i, variable in enumerate(model.variables)}


def _compare(model: RegistrationModel, saved: RegistrationModel, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(1)
    given = {name: random.random((1, *shape, 1)).astype("float32") for name in model.takes}
    fields = [each.predict_on_batch(given) for each in (model, saved)]
    name = next(name for name in ("ddf", "labels", "mask") if name in fields[0])
    difference = float(np.abs(np.subtract(*(ops.convert_to_numpy(each[name]) for each in fields))).max())
    if not difference <= TOLERANCE:
        raise RegzooError(f"What was saved gives another {name}: it differs by {difference:.2g}. Nothing was kept.")
