"""finetune: a recipe in, a run folder out, which is itself a zoo entry."""

import contextlib
import itertools
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
from filelock import FileLock, Timeout

from regzoo import backend, hub
from regzoo.data import datasets
from regzoo.data.draws import Draw, Paired, sides
from regzoo.data.reader import Reader, label_values
from regzoo.errors import InvalidError, invalid
from regzoo.hub import cards
from regzoo.io.files import atomic_file
from regzoo.models import RegistrationModel, build, weights
from regzoo.schema.data import BreathingData, ShapesData
from regzoo.schema.inputs import InputConfig
from regzoo.schema.losses import active
from regzoo.schema.networks import WEIGHTS_LIMIT, ModelConfig, StageConfig
from regzoo.schema.recipe import Recipe
from regzoo.training.batches import Batches, MadeAhead
from regzoo.training.callbacks import Bar, Checkpoint, Logs, StopAt, StopOnNaN
from regzoo.training.simulated import BreathingBatches, ShapesBatches, chests
from regzoo.training.validation import KnownField, KnownLabels, Validation

_ADVICE = "Choose another --output, or remove it."


def finetune(
    recipe: Recipe | str | os.PathLike, output: str | os.PathLike | None = None, data: str | os.PathLike | None = None
) -> Path:
    """Trains the model of a recipe, from its parent or from scratch, and resumes where an earlier call was stopped.

    Args:
        recipe: The recipe or its file.
        output: Run folder; `runs/<name>` by default. It ends as a zoo entry: card, config, weights, recipe, scores.
        data: Folder that the recipe's `data.root` is relative to; by default `REGZOO_DATA`, or `data`.

    Returns:
        The run folder.

    Raises:
        RegzooError: If the recipe, the data or an earlier run in the same folder does not fit.
    """
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.read(recipe)
    folder = Path(output or Path("runs") / recipe.name)
    recipe = _pinned(recipe, folder)
    if _is_finished(folder, recipe):
        return folder
    backend.seed(recipe.seed)
    model, config, inputs = _model(recipe)
    objective = recipe.loss.model_dump(exclude_none=True, exclude={"symmetric"})
    model.supervise(objective, inputs.spacing, recipe.loss.symmetric)
    model.compile(optimizer=_optimizer(recipe), jit_compile=backend.NAME == "jax")
    source = _source(recipe, inputs, model, data)
    source.check()
    source.validation()  # what cannot be scored is found out now, not after the first epoch
    with _claimed(folder, recipe):
        checkpoint = Checkpoint(folder / "checkpoint.safetensors", source.validation)
        checkpoint.set_model(model)
        checkpoint.restore()
        _fit(recipe, folder, model, checkpoint, source.batches)
        _publish(folder, recipe, config, inputs, checkpoint)
    return folder


def _pinned(recipe: Recipe, folder: Path) -> Recipe:
    """Returns the recipe with its parents pinned: as an earlier call did in this folder, else to what is here."""
    kept = folder / cards.RECIPE
    names = _listed(recipe.parent)
    earlier = _listed(Recipe.read(kept).parent) if kept.exists() else []
    earlier += [None] * (len(names) - len(earlier))
    pins = tuple(_pin(name, pinned) for name, pinned in zip(names, earlier, strict=False))
    return recipe.model_copy(update={"parent": pins if isinstance(recipe.parent, tuple) else pins[0]})


def _pin(name: str | None, earlier: str | None) -> str | None:
    if name is None:
        return None
    model, place = _network(name)
    pinned, same = _network(earlier or "")
    if earlier and place == same and model in (pinned, pinned.partition("@")[0]):
        return earlier
    return hub.pin(model) + ("" if place < 0 else f"#{place}")


def _listed(parent: str | tuple[str | None, ...] | None) -> list[str | None]:
    return list(parent) if isinstance(parent, tuple) else [parent]


def _is_finished(folder: Path, recipe: Recipe) -> bool:
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


def _difference(kept: Recipe, recipe: Recipe) -> str:
    """Returns the first thing in which two recipes differ, as `seed is 1, not 2`."""
    name = next(name for name in Recipe.model_fields if getattr(kept, name) != getattr(recipe, name))
    there, here = getattr(kept, name), getattr(recipe, name)
    if isinstance(there, str | int | None) and isinstance(here, str | int | None):
        return f"its {name} is {there}, not {here}"
    return f"its {name} is another"


@contextlib.contextmanager
def _claimed(folder: Path, recipe: Recipe) -> Iterator[None]:
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


def _fit(recipe: Recipe, folder: Path, model: RegistrationModel, checkpoint: Checkpoint, batches: MadeAhead) -> None:
    """Trains from the checkpoint's epoch to the last."""
    settings = recipe.training
    epochs = -(-settings.end // settings.steps_per_epoch)
    if checkpoint.epoch == epochs:
        return
    start = keras.callbacks.LambdaCallback(on_epoch_begin=batches.start)
    bar = Bar(settings.end, settings.steps_per_epoch, checkpoint)
    stops = StopOnNaN(), StopAt(settings.end, settings.steps_per_epoch)
    callbacks = [start, checkpoint, Logs(folder, checkpoint), *stops, bar]
    try:
        # Shuffled, the steps' order would hang on Python's random state, which a checkpoint does not hold.
        model.fit(batches, shuffle=False, initial_epoch=checkpoint.epoch, epochs=epochs, verbose=0, callbacks=callbacks)
    finally:
        bar.on_train_end()


def _model(recipe: Recipe) -> tuple[RegistrationModel, ModelConfig, InputConfig]:
    """Builds the model, with the weights of its parent or parents if there are any."""
    whole = recipe.parent if isinstance(recipe.parent, str) else None
    folder = hub.resolve(whole) if whole else None
    config = recipe.model or cards.read_config(folder)
    inputs = recipe.input or cards.read(folder).input
    inputs.check(config)
    _check_precision(recipe.training.precision)
    model = build(config, inputs.spacing, recipe.training.precision)
    networks = (*config.before, config)
    if whole:
        theirs = cards.read_config(folder)
        for mine, other in itertools.zip_longest(networks, (*theirs.before, theirs)):
            _check_alike(mine, other, whole)
        weights.load(model, folder / cards.WEIGHTS)
    for i, parent in enumerate(recipe.parent if isinstance(recipe.parent, tuple) else ()):
        if parent:
            name, place = _network(parent)
            theirs = cards.read_config(hub.resolve(name))
            row = (*theirs.before, theirs)
            if place >= len(row):
                raise invalid(f"parent[{i}]", f"a network of 0 to {len(row) - 1} after #", parent)
            _check_alike(networks[i], row[place], parent)
            prefixes = (f"stage{i}/" if config.before else "", f"stage{place % len(row)}/" if theirs.before else "")
            _start_network(model, *prefixes, hub.resolve(name))
    frozen = recipe.training.frozen
    parents = recipe.parent if isinstance(recipe.parent, tuple) else (whole,) * len(networks)
    if len({*frozen}) == len(networks):
        raise invalid("training.frozen", "fewer places than the row has networks: one at least must train", [*frozen])
    for i in frozen:
        if i >= len(networks):
            raise invalid("training.frozen", f"places in a row of {len(networks)}, from 0", i)
        if parents[i] is None:
            raise invalid(
                "training.frozen", "networks that start from a parent", i, "It would stay as random as it is."
            )
        for variable in model.variables:
            if variable.path.startswith(f"stage{i}/"):
                variable.trainable = False
    return model, config, inputs


def _check_alike(mine: StageConfig | ModelConfig | None, theirs: StageConfig | ModelConfig | None, parent: str) -> None:
    """Refuses weights of a network of another kind, which might fit and would mean something else."""
    kinds = [each and (each.backbone, each.output.name, each.descriptor, each.flow) for each in (mine, theirs)]
    if mine and theirs and (mine.output.name, theirs.output.name) == ("fitted", "dvf"):
        # A matrix can be fitted to the velocities of a network that was trained to bend: they point the same way.
        kinds[0] = (mine.backbone, theirs.output.name, mine.descriptor, mine.flow)
    if mine and theirs and getattr(theirs.output, "symmetric", False) and not getattr(mine.output, "symmetric", False):
        # What such a network predicts in one direction alone was never trained.
        raise InvalidError(f"model.output.symmetric: expected true, as the parent {parent} has it, received false.")
    if kinds[0] != kinds[1]:
        raise InvalidError(
            f"model: expected the backbone, output, descriptor and flow of each network of the parent {parent}, "
            "received others. Only passes, shrink, level and steps may differ, and symmetric where the parent is not."
        )


def _network(parent: str) -> tuple[str, int]:
    """Splits `name#1` into a model and the place of its network; without a place it is the last, -1."""
    if Path(parent).is_dir():  # which may have a # in its name
        return parent, -1
    name, mark, place = parent.rpartition("#")
    return (name, int(place)) if mark and place.isdecimal() else (parent, -1)


def _start_network(model: RegistrationModel, prefix: str, theirs: str, folder: Path) -> None:
    """Gives the network whose variables' paths begin with `prefix` the weights of another model's, `theirs`."""
    weights.check_size(folder / cards.WEIGHTS, WEIGHTS_LIMIT)
    values, _ = weights.read(folder / cards.WEIGHTS, theirs)
    renamed = {prefix + name[len(theirs) :]: value for name, value in values.items()}
    mine = [variable for variable in model.variables if variable.path.startswith(prefix)]
    weights.assign(mine, renamed, source=str(folder))


def _check_precision(precision: str) -> None:
    if precision != "float32" and (backend.NAME, backend.device()) == ("torch", "cpu"):
        # Its AveragePooling3D has no bfloat16 there (torch 2.13).
        raise invalid("training.precision", "float32 under torch on a CPU", precision, "TensorFlow and JAX have it.")


@dataclass(frozen=True)
class _Source:
    """What a run trains and validates on; `check` reads everything once."""

    batches: MadeAhead
    validation: Validation | KnownField | KnownLabels
    check: Callable[[], object]


def _source(recipe: Recipe, inputs: InputConfig, model: RegistrationModel, home: str | os.PathLike | None) -> _Source:
    if isinstance(recipe.data, BreathingData):
        return _simulated(recipe, inputs, model, home)
    if isinstance(recipe.data, ShapesData):
        return _shapes(recipe, inputs, model)
    return _read(recipe, inputs, model, home)


def _read(recipe: Recipe, inputs: InputConfig, model: RegistrationModel, home: str | os.PathLike | None) -> _Source:
    """Pairs of files."""
    valid = [sides(pair) for pair in datasets.split_pairs(recipe, "valid", home)]
    draw = datasets.train_draw(recipe, home)
    if active(recipe.loss.label):
        _check_labels(draw, alone=not active(recipe.loss.image))
    values = recipe.data.label_values or label_values([*draw.items, *itertools.chain(*valid)])
    reader = Reader(inputs, values)
    batches = Batches(
        reader,
        draw,
        steps=recipe.training.steps_per_epoch,
        batch_size=recipe.training.batch_size,
        seed=recipe.seed,
        augmentation=recipe.augmentation,
        labels=recipe.data.label_sampling if active(recipe.loss.label) else None,
    )
    return _Source(batches, Validation(model, reader, valid), lambda: reader.check(draw.items))


def _simulated(
    recipe: Recipe, inputs: InputConfig, model: RegistrationModel, home: str | os.PathLike | None
) -> _Source:
    """Pairs that are simulated from single images, those to validate on from images of their own."""
    train, valid = (chests(recipe, inputs, split, home) for split in ("train", "valid"))
    settings, prior = recipe.training, recipe.data.prior
    batches = BreathingBatches(
        train,
        inputs.intensity,
        steps=settings.steps_per_epoch,
        batch_size=settings.batch_size,
        seed=recipe.seed,
        prior=prior,
    )
    real = prior.model_copy(update={"anatomy": 0.0})  # a patient as he is
    count = recipe.data.validation_pairs
    pairs = BreathingBatches(valid, inputs.intensity, steps=count, batch_size=1, seed=recipe.seed, prior=real)
    made = [pairs.make(0, step) for step in range(count)]
    return _Source(batches, KnownField(model, made, inputs.spacing), lambda: None)


def _shapes(recipe: Recipe, inputs: InputConfig, model: RegistrationModel) -> _Source:
    """Pairs of random shapes; those to validate on are drawn by another seed."""
    settings, count = recipe.training, recipe.data.validation_pairs
    drawn = recipe.data, inputs, recipe.augmentation
    batches = ShapesBatches(*drawn, steps=settings.steps_per_epoch, batch_size=settings.batch_size, seed=recipe.seed)
    pairs = ShapesBatches(*drawn, steps=count, batch_size=1, seed=recipe.seed + 1)
    return _Source(batches, KnownLabels(model, [pairs.make(0, step) for step in range(count)]), lambda: None)


def _check_labels(draw: Draw, alone: bool) -> None:
    """Refuses data without labels to compare, and images without labels where a pair has no other loss (`alone`)."""
    without = [files for files in draw.items if files.labels is None]
    if alone and without:
        raise invalid("training data", "labels for every image, since no image loss is used", f"none for {without[0]}")
    if isinstance(draw, Paired):
        labelled = any(fixed.labels and moving.labels for fixed, moving in draw.pairs)
    else:
        labelled = len(without) < len(draw.items) - 1
    if not labelled:
        raise invalid("training data", "a pair with labels, since loss.label has a weight above 0", "none")


def _optimizer(recipe: Recipe) -> keras.optimizers.Optimizer:
    """Adam with a clipped gradient norm; without clipping, velocity models diverged."""
    settings = recipe.training
    rate, warmup = settings.learning_rate, settings.warmup
    start = {"warmup_target": rate, "warmup_steps": warmup} if warmup else {}
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else rate,
        settings.steps - warmup,
        alpha=0.01 if settings.schedule == "cosine" else 1.0,  # the share of the rate that the cosine ends at
        **start,
    )
    # A name of its own would be numbered on a second run in one session, and its checkpoint not fit.
    if settings.average and backend.NAME == "jax":
        # Keras reads the averages at the end of fit, when JAX has taken their values away (3.15).
        raise invalid("training.average", "0 under JAX", settings.average, "TensorFlow and torch have it.")
    average = {"use_ema": True, "ema_momentum": settings.average} if settings.average else {}
    return keras.optimizers.Adam(schedule, global_clipnorm=settings.clip_norm, name="adam", **average)


def _publish(folder: Path, recipe: Recipe, config: ModelConfig, inputs: InputConfig, checkpoint: Checkpoint) -> None:
    """Makes the run folder a zoo entry with the weights that scored best on the validation pairs."""
    Logs(folder, checkpoint).table()  # the last line is missing after a kill behind the last checkpoint
    weights.save(folder / cards.WEIGHTS, checkpoint.best)
    best = checkpoint.history[checkpoint.best_epoch - 1]
    settings = recipe.training
    facts = {
        "steps": min(checkpoint.epoch * settings.steps_per_epoch, settings.end),
        "chosen_at_step": min(checkpoint.best_epoch * settings.steps_per_epoch, settings.end),
        "hours": round(checkpoint.seconds / 3600, 2),
        "seed": recipe.seed,
        "parent": list(recipe.parent) if isinstance(recipe.parent, tuple) else recipe.parent,
        "backend": backend.NAME,
        "versions": {name: sys.modules[name].__version__ for name in ("regzoo", "keras", "numpy", backend.NAME)},
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
