"""Which models a run starts from: names pinned to a commit, weights taken over, networks that stay as they are."""

import itertools
from pathlib import Path

from regzoo import hub
from regzoo.errors import InvalidError, invalid
from regzoo.hub import cards
from regzoo.models import RegistrationModel, weights
from regzoo.schema.inputs import InputConfig
from regzoo.schema.licences import expected
from regzoo.schema.networks import ModelConfig, StageConfig
from regzoo.schema.recipe import Recipe


def pinned(recipe: Recipe, folder: Path) -> Recipe:
    """Returns the recipe with its parents pinned: as an earlier call did in this folder, else to what is here."""
    kept = folder / cards.RECIPE
    names = _listed(recipe.parent)
    earlier = _listed(Recipe.read(kept).parent) if kept.exists() else []
    earlier += [None] * (len(names) - len(earlier))
    pins = tuple(_pin(name, before) for name, before in zip(names, earlier, strict=False))
    return recipe.model_copy(update={"parent": pins if isinstance(recipe.parent, tuple) else pins[0]})


def _pin(name: str | None, earlier: str | None) -> str | None:
    if name is None:
        return None
    model, place = _network(name)
    pinned, same = _network(earlier or "")
    if earlier and place == same and model in (pinned, pinned.partition("@")[0], pinned.rpartition(":")[0]):
        return earlier
    return hub.pin(model) + ("" if place < 0 else f"#{place}")


def _listed(parent: str | tuple[str | None, ...] | None) -> list[str | None]:
    return list(parent) if isinstance(parent, tuple) else [parent]


def licence_doubts(recipe: Recipe) -> list[str]:
    """Says which parents do not allow the licence of the recipe's card; a run that stays at home needs none."""
    models = dict.fromkeys(_network(name)[0] for name in filter(None, _listed(recipe.parent)))
    wanted = {model: expected(hub.find(model).card.license, recipe.card.license) for model in models}
    return [
        f"card.license: expected for the parent {model} {each}, received {recipe.card.license}. It cannot be pushed so."
        for model, each in wanted.items()
        if each
    ]


def config_and_input(recipe: Recipe) -> tuple[ModelConfig, InputConfig]:
    """Returns what a recipe says of network and input, or its parent where the recipe leaves it out."""
    entry = hub.take(recipe.parent) if isinstance(recipe.parent, str) else None
    config = recipe.model or entry.config()
    inputs = recipe.input or entry.card.input
    inputs.check(config)
    return config, inputs


def start_from_parents(model: RegistrationModel, config: ModelConfig, recipe: Recipe) -> None:
    """Gives a model the weights of its parent, or each of its networks those of its own; freezes what the recipe says.

    Args:
        model: As `config` builds it.
        config: Its networks.
        recipe: Its `parent` and `training.frozen`.

    Raises:
        InvalidError: If a parent has networks of another kind, or what is to be frozen has no parent.
    """
    networks = config.row
    if isinstance(recipe.parent, str):
        _start_whole(model, networks, recipe.parent)
        parents = (recipe.parent,) * len(networks)
    else:
        parents = recipe.parent or (None,) * len(networks)
        for i, parent in enumerate(parents):
            if parent:
                _start_network(model, networks, i, parent)
    _freeze(model, recipe.training.frozen, parents)


def _start_whole(model: RegistrationModel, networks: tuple[StageConfig | ModelConfig, ...], parent: str) -> None:
    entry = hub.take(parent)
    theirs = entry.config()
    for mine, other in itertools.zip_longest(networks, theirs.row):
        _check_same_kind(mine, other, parent)
    weights.load(model, entry.weights())


def _start_network(
    model: RegistrationModel, networks: tuple[StageConfig | ModelConfig, ...], i: int, parent: str
) -> None:
    """Gives network i of a row the weights of one network of a parent."""
    name, place = _network(parent)
    entry = hub.take(name)
    row = entry.config().row
    if place >= len(row):
        raise invalid(f"parent[{i}]", f"a network of 0 to {len(row) - 1} after #", parent)
    _check_same_kind(networks[i], row[place], parent)
    here = f"stage{i}/" if len(networks) > 1 else ""
    there = f"stage{place % len(row)}/" if len(row) > 1 else ""
    values, _ = weights.read(entry.weights(), there)
    renamed = {here + path[len(there) :]: value for path, value in values.items()}
    mine = [variable for variable in model.variables if variable.path.startswith(here)]
    weights.assign(mine, renamed, source=str(entry.folder))


def _freeze(model: RegistrationModel, places: tuple[int, ...], parents: tuple[str | None, ...]) -> None:
    """Keeps the networks at these places of the row as they are."""
    if len({*places}) == len(parents):
        raise invalid("training.frozen", "fewer places than the row has networks: one at least must train", [*places])
    for i in places:
        if i >= len(parents):
            raise invalid("training.frozen", f"places in a row of {len(parents)}, from 0", i)
        if parents[i] is None:
            received = "networks that start from a parent"
            raise invalid("training.frozen", received, i, "It would stay as random as it is.")
        for variable in model.variables:
            if variable.path.startswith(f"stage{i}/"):
                variable.trainable = False


def _check_same_kind(
    mine: StageConfig | ModelConfig | None, theirs: StageConfig | ModelConfig | None, parent: str
) -> None:
    """Refuses weights of a network of another kind, which might fit and would mean something else."""
    if mine and theirs and getattr(theirs.output, "symmetric", False) and not getattr(mine.output, "symmetric", False):
        # What such a network predicts in one direction alone was never trained.
        raise InvalidError(f"model.output.symmetric: expected true, as the parent {parent} has it, received false.")
    seen = [each and (each.backbone, each.descriptor, each.flow) for each in (mine, theirs)]
    if seen[0] != seen[1] or (mine and theirs.output.name not in mine.output.starts_from):
        raise InvalidError(
            f"model: expected the backbone, output, descriptor and flow of each network of the parent {parent}, "
            "received others. Only passes, starts, shrink, level, steps, mirrored, rounds, smoothing and steepest may "
            "differ, and symmetric where the parent is not."
        )


def _network(parent: str) -> tuple[str, int]:
    """Splits `name#1` into a model and the place of its network; without a place it is the last, -1."""
    if Path(parent).is_dir():  # which may have a # in its name
        return parent, -1
    name, mark, place = parent.rpartition("#")
    return (name, int(place)) if mark and place.isdecimal() else (parent, -1)
