"""finetune: a recipe in, a run folder out, which is itself a zoo entry."""

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras

from regzoo import backend
from regzoo.data import datasets
from regzoo.data.draws import Draw, Paired, sides
from regzoo.data.reader import Reader, label_values
from regzoo.errors import invalid
from regzoo.models import RegistrationModel, build
from regzoo.schema.data import BreathingData, ShapesData
from regzoo.schema.inputs import InputConfig
from regzoo.schema.losses import active
from regzoo.schema.networks import ModelConfig
from regzoo.schema.recipe import Recipe
from regzoo.training import parents, run
from regzoo.training.batches import Batches, MadeAhead
from regzoo.training.callbacks import Bar, Checkpoint, Logs, StopAt, StopOnNaN
from regzoo.training.simulated import BreathingBatches, ShapesBatches, chests
from regzoo.training.validation import KnownField, KnownLabels, Validation


@backend.float32()
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
    recipe = parents.pinned(recipe, folder)
    if run.is_finished(folder, recipe):
        return folder
    backend.seed(recipe.seed)
    model, config, inputs = _model(recipe)
    objective = recipe.loss.model_dump(exclude_none=True, exclude={"symmetric"})
    model.supervise(objective, inputs.spacing, recipe.loss.symmetric)
    model.compile(optimizer=_optimizer(recipe), jit_compile=backend.NAME == "jax")
    source = _source(recipe, inputs, model, data)
    source.check()
    source.validation()  # what cannot be scored is found out now, not after the first epoch
    with run.claimed(folder, recipe):
        checkpoint = Checkpoint(folder / "checkpoint.safetensors", source.validation)
        checkpoint.set_model(model)
        checkpoint.restore()
        _fit(recipe, folder, model, checkpoint, source.batches)
        run.publish(folder, recipe, config, inputs, checkpoint)
    return folder


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
    config, inputs = parents.config_and_input(recipe)
    _check_precision(recipe.training.precision)
    model = build(config, inputs.spacing, recipe.training.precision)
    parents.start_from_parents(model, config, recipe)
    return model, config, inputs


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
