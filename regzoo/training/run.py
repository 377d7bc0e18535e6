"""A run's folder: whose it is, whether it is finished, and what makes it a zoo entry."""

import contextlib
import json
import os
import platform
import reprlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel

from regzoo import backend, hub
from regzoo.errors import InvalidError
from regzoo.hub import cards
from regzoo.io.files import atomic_file
from regzoo.models import weights
from regzoo.schema.inputs import InputConfig
from regzoo.schema.networks import ModelConfig
from regzoo.schema.recipe import Recipe
from regzoo.training.callbacks import Checkpoint, Logs

_ADVICE = "Choose another --output, or remove it."


def is_finished(folder: Path, recipe: Recipe) -> bool:
    """Says whether the folder holds this recipe's finished run, verified; refuses one that holds another run."""
    kept = folder / cards.RECIPE
    if kept.exists() and Recipe.read(kept) != recipe:
        raise InvalidError(
            f"{folder} holds a run of another recipe: {_difference(Recipe.read(kept), recipe)}. {_ADVICE}"
        )
    if not kept.exists() or not (folder / cards.README).exists():
        return False
    # The card is written last, and a person may have added to it since: a finished run is not written again.
    hub.verify(folder, cards.read(folder), f"Remove {folder / cards.README} to write it again.")
    return True


def _difference(kept: BaseModel, recipe: BaseModel, place: str = "") -> str:
    """Returns the first thing in which two recipes differ, as `training.steps is 100, not 200`."""
    here = dict(recipe)
    for name, there in kept:
        other = here.get(name)
        if there == other:
            continue
        path = f"{place}.{name}" if place else name
        if isinstance(there, BaseModel) and type(there) is type(other):
            return _difference(there, other, path)
        if isinstance(there, BaseModel) or isinstance(other, BaseModel):
            return f"its {path} is another"
        return f"its {path} is {reprlib.repr(there)}, not {reprlib.repr(other)}"
    raise AssertionError("recipes that are equal have no difference")


@contextlib.contextmanager
def claimed(folder: Path, recipe: Recipe) -> Iterator[None]:
    """Makes the run folder the recipe's, for this process alone."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            for remnant in folder.glob(".regzoo-*"):  # files half written by a process that was killed
                shutil.rmtree(remnant, ignore_errors=True)
            if not (folder / cards.RECIPE).exists():
                recipe.write(folder / cards.RECIPE)
            yield
    except Timeout:
        message = f"Another process is training in {folder}. Wait for it, or choose another --output."
        raise InvalidError(message) from None


def publish(folder: Path, recipe: Recipe, config: ModelConfig, inputs: InputConfig, checkpoint: Checkpoint) -> None:
    """Makes the run folder a zoo entry with the weights that scored best on the validation pairs."""
    Logs(folder, checkpoint).table()  # the last line is missing after a kill behind the last checkpoint
    weights.save(folder / cards.WEIGHTS, checkpoint.best)
    best = checkpoint.history[checkpoint.best_epoch - 1]
    facts = {
        "steps": checkpoint.history[-1]["step"],
        "chosen_at_step": best["step"],
        "hours": round(checkpoint.seconds / 3600, 2),
        **({"minutes": round(checkpoint.seconds / 60, 2)} if recipe.training.minutes else {}),
        "seed": recipe.seed,
        "parent": list(recipe.parent) if isinstance(recipe.parent, tuple) else recipe.parent,
        **({"rotation": recipe.augmentation.rotation} if recipe.augmentation.rotation else {}),
        "backend": backend.NAME,
        "versions": backend.versions(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {backend.device()}",
    }
    for name, value in (("config.json", config.model_dump(mode="json")), ("scores.json", {"valid": best})):
        with atomic_file(folder / name) as path:
            path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    card = cards.Card(
        **recipe.card.model_dump(),
        name=recipe.name,
        version=recipe.version,
        input=inputs,
        recipe="recipe.yaml",
        training=facts,
        files=cards.manifest(folder),
    )
    cards.write(folder, card, f"# {recipe.name}\n\n{recipe.card.summary}\n")
