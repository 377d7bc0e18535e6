"""finetune: a recipe in, a run folder out, which is itself a zoo entry."""

import os
import sys
from pathlib import Path

import keras

from regzoo import backend
from regzoo.data.kinds import Examples
from regzoo.errors import invalid
from regzoo.models import RegistrationModel, build
from regzoo.schema.inputs import InputConfig
from regzoo.schema.networks import ModelConfig
from regzoo.schema.recipe import Recipe, Training
from regzoo.training import parents, run
from regzoo.training.batches import Batches
from regzoo.training.callbacks import Bar, Checkpoint, Logs, Speed, StopAt, StopOnNaN
from regzoo.training.forecast import Forecast, slow_precision
from regzoo.training.looking import Callbacks
from regzoo.training.minutes import Clock, Minutes
from regzoo.training.recipe_data import data_of
from regzoo.training.validation import Validation


@backend.float32()
def finetune(
    recipe: Recipe | str | os.PathLike,
    output: str | os.PathLike | None = None,
    data: str | os.PathLike | None = None,
    *,
    quiet: bool = False,
) -> Path:
    """Trains the model of a recipe, from its parent or from scratch, and resumes where an earlier call was stopped.

    Args:
        recipe: The recipe or its file.
        output: Run folder; `runs/<name>` by default. It ends as a zoo entry: card, config, weights, recipe, scores.
        data: Folder that the recipe's `data.root` is relative to; by default `REGZOO_DATA`, or `data`.
        quiet: Whether to show no progress, and say nothing but what is doubtful.

    Returns:
        The run folder.

    Raises:
        RegzooError: If the recipe, the data or an earlier run in the same folder does not fit.

    Example:
        >>> import regzoo
        >>> recipe = '''
        ... name: shapes-ddf
        ... model: {backbone: {name: unet, channels: [2, 4]}, output: {name: ddf}}
        ... input: {shape: [16, 16, 16], spacing: [4, 4, 4]}
        ... data: {kind: shapes, root: none, validation_pairs: 1}
        ... augmentation: {affine: 0.1}
        ... loss: {known: {distance: {}}}
        ... training: {steps: 2, steps_per_epoch: 1, learning_rate: 1e-3}
        ... '''
        >>> recipe = regzoo.Recipe.parse(recipe, source="my recipe")
        >>> folder = regzoo.finetune(recipe, data=".")  # two steps on random shapes, for which no file is read
        >>> regzoo.load(folder).card.name
        'shapes-ddf'
    """
    clock = Clock()
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.read(recipe)
    folder = Path(output or Path("runs") / recipe.name)
    recipe = parents.pinned(recipe, folder)
    if run.is_finished(folder, recipe):
        return folder
    backend.seed(recipe.seed)
    model, config, inputs = _model(recipe)
    examples = data_of(recipe, data).examples(inputs)
    validation = Validation(model, examples.valid, inputs.spacing)
    start = clock.seconds
    before = validation()  # what cannot be scored is found out now, not after the first epoch
    took = clock.seconds - start
    with run.claimed(folder, recipe):
        checkpoint = Checkpoint(folder / "checkpoint.safetensors", validation, clock)
        checkpoint.set_model(model)
        checkpoint.restore()
        speed = Speed(_batches(recipe, examples, inputs))
        bar = Bar(recipe.training, checkpoint, speed, before, quiet)
        bar.warn(parents.licence_doubts(recipe) + slow_precision(recipe.training))
        _fit(folder, model, recipe, speed, checkpoint, _end(recipe.training, checkpoint, took), bar)
        run.publish(folder, recipe, config, inputs, checkpoint)
        bar.tell_kept()
    return folder


def _batches(recipe: Recipe, examples: Examples, inputs: InputConfig) -> Batches:
    settings = recipe.training
    sizes = {"steps": settings.steps_per_epoch, "batch_size": settings.batch_size}
    return Batches(examples, inputs.spacing, seed=recipe.seed, **sizes)


def _end(settings: Training, checkpoint: Checkpoint, validation_seconds: float) -> StopAt | Minutes:
    if settings.minutes:
        return Minutes(settings, checkpoint.clock, validation_seconds)
    return StopAt(settings.end)


def _fit(
    folder: Path,
    model: RegistrationModel,
    recipe: Recipe,
    speed: Speed,
    checkpoint: Checkpoint,
    end: StopAt | Minutes,
    bar: Bar,
) -> None:
    """Trains from the checkpoint's epoch to the end."""
    if checkpoint.epoch and end.is_over(checkpoint.history[-1]["step"]):
        return
    forecast = Forecast(recipe.training, bar.warn)
    callbacks = Callbacks([speed, checkpoint, Logs(folder, checkpoint), StopOnNaN(), bar, forecast, end], model)
    epochs = {"initial_epoch": checkpoint.epoch, "epochs": sys.maxsize}  # `end` stops it
    try:
        # Shuffled, the steps' order would hang on Python's random state, which a checkpoint does not hold.
        model.fit(speed.batches, shuffle=False, **epochs, verbose=0, callbacks=callbacks)
    finally:
        bar.on_train_end()


def _model(recipe: Recipe) -> tuple[RegistrationModel, ModelConfig, InputConfig]:
    """Builds the model, with the weights of its parent or parents if there are any, ready to be trained."""
    config, inputs = parents.config_and_input(recipe)
    _check_precision(recipe.training.precision)
    model = build(config, inputs.spacing, recipe.training.precision)
    parents.start_from_parents(model, config, recipe)
    objective = recipe.loss.model_dump(exclude_none=True, exclude={"symmetric"})
    model.supervise(objective, inputs.spacing, recipe.loss.symmetric)
    model.compile(optimizer=optimizer_of(recipe), jit_compile=backend.NAME == "jax")
    return model, config, inputs


def _check_precision(precision: str) -> None:
    if precision != "float32" and (backend.NAME, backend.device()) == ("torch", "cpu"):
        # Its AveragePooling3D has no bfloat16 there (torch 2.13).
        raise invalid("training.precision", "float32 under torch on a CPU", precision, "TensorFlow and JAX have it.")


def optimizer_of(recipe: Recipe) -> keras.optimizers.Optimizer:
    """Adam with a clipped gradient norm; without clipping, velocity models diverged."""
    settings = recipe.training
    rate = settings.learning_rate if settings.minutes else _schedule(settings)  # `Minutes` sets it anew
    average = {"use_ema": True, "ema_momentum": settings.average} if settings.average else {}
    # A name of its own would be numbered on a second run in one session, and its checkpoint not fit.
    constants = {"epsilon": settings.epsilon, "global_clipnorm": settings.clip_norm}
    return keras.optimizers.Adam(rate, **constants, name="adam", **average)


def _schedule(settings: Training) -> keras.optimizers.schedules.CosineDecay:
    rate, warmup = settings.learning_rate, settings.warmup
    start = {"warmup_target": rate, "warmup_steps": warmup} if warmup else {}
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else rate,
        settings.steps - warmup,
        alpha=0.01 if settings.schedule == "cosine" else 1.0,  # the share of the rate that the cosine ends at
        **start,
    )
