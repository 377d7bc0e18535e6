"""finetune: a recipe in, a run folder out, which is itself a zoo entry."""

import importlib.metadata
import json
import os
import platform
from pathlib import Path

import keras
import numpy as np
from keras import ops

from regzoo import __version__, backend, cards, datasets, hub
from regzoo.callbacks import Bar, Checkpoint, Logs, StopOnNaN
from regzoo.checks import InvalidError
from regzoo.config import InputConfig, ModelConfig
from regzoo.fields import jacobian_determinant
from regzoo.files import atomic_file
from regzoo.losses import ncc
from regzoo.models import RegistrationModel, build, weights
from regzoo.pairs import Batches, Draw, Files, Placed, Reader, label_values, paired, sides, unpaired
from regzoo.pairs_csv import read_pairs
from regzoo.recipe import Recipe, data_home
from regzoo.warping import warp


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
    backend.seed(recipe.seed)
    model, config, inputs = _model(recipe)
    draw, valid, values = _data(recipe, data)
    _claim(folder, recipe)
    settings, reader = recipe.training, Reader(inputs, values)
    model.supervise(recipe.loss.model_dump(exclude_none=True), inputs.spacing)
    model.compile(optimizer=_optimizer(recipe), jit_compile=backend.NAME == "jax")
    checkpoint = Checkpoint(folder / "checkpoint.safetensors", Validation(model, reader, valid))
    checkpoint.set_model(model)
    checkpoint.restore()
    epochs = -(-settings.steps // settings.steps_per_epoch)
    if checkpoint.epoch < epochs:
        batches = Batches(
            reader,
            draw,
            steps=settings.steps_per_epoch,
            batch_size=settings.batch_size,
            affine=recipe.augmentation.affine,
            seed=recipe.seed,
            epoch=checkpoint.epoch,
        )
        bar = Bar(epochs, settings.steps_per_epoch, checkpoint)
        callbacks = [checkpoint, Logs(folder, checkpoint), StopOnNaN(), bar]
        model.fit(batches, initial_epoch=checkpoint.epoch, epochs=epochs, verbose=0, callbacks=callbacks)
    _publish(folder, recipe, config, inputs, checkpoint)
    return folder


def _claim(folder: Path, recipe: Recipe) -> None:
    """Makes the run folder the recipe's, or refuses one that holds another run."""
    kept = folder / "recipe.yaml"
    if kept.exists():
        if Recipe.read(kept) != recipe:
            raise InvalidError(f"{folder} holds a run of another recipe. Choose another --output, or remove it.")
        return
    folder.mkdir(parents=True, exist_ok=True)
    recipe.write(kept)


def _model(recipe: Recipe) -> tuple[RegistrationModel, ModelConfig, InputConfig]:
    """Builds the model, with its parent's weights if there is one."""
    if recipe.parent is None:
        return build(recipe.model, recipe.training.precision), recipe.model, recipe.input
    folder = hub.resolve(recipe.parent)
    config, inputs = cards.read_config(folder), recipe.input or cards.read(folder).input
    if recipe.model not in (None, config):
        raise InvalidError(f"model: expected null or the config of the parent {recipe.parent}, received another.")
    model = build(config, recipe.training.precision)
    weights.load(model, folder / "model.safetensors")
    return model, config, inputs


def _data(recipe: Recipe, home: str | os.PathLike | None) -> tuple[Draw, list[tuple[Files, Files]], tuple[int, ...]]:
    """Returns the draw of training pairs, the (fixed, moving) pairs for validation, and the label values."""
    valid = [sides(pair) for pair in datasets.split_pairs(recipe, "valid", home)]
    if recipe.data.kind == "unpaired":
        files = [sides(pair)[0] for pair in datasets.train_images(recipe, home)]
        draw = unpaired(files)
    else:
        pairs = [sides(pair) for pair in read_pairs(data_home(home) / recipe.data.root / recipe.data.train)]
        files, draw = [side for pair in pairs for side in pair], paired(pairs)
    return draw, valid, recipe.data.label_values or label_values(files)


def _optimizer(recipe: Recipe) -> keras.optimizers.Optimizer:
    """Adam with a clipped gradient norm; without clipping, velocity models diverged."""
    settings = recipe.training
    rate = settings.learning_rate
    if settings.schedule == "cosine":
        start = {"warmup_target": rate, "warmup_steps": settings.warmup} if settings.warmup else {}
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if start else rate, settings.steps - settings.warmup, alpha=0.01, **start
        )
    return keras.optimizers.Adam(rate, global_clipnorm=settings.clip_norm)


class Validation:
    """Scores a model on fixed pairs, on the network's grid: hard Dice by nearest neighbour, or image similarity.

    Args:
        model: The model.
        reader: Reads a pair.
        pairs: (fixed, moving) files.
    """

    def __init__(self, model: RegistrationModel, reader: Reader, pairs: list[tuple[Files, Files]]) -> None:
        self.model, self.reader, self.pairs = model, reader, pairs

    def __call__(self) -> dict[str, float]:
        """Returns the means over the pairs: `valid_dice` (or `valid_ncc` without labels) and `valid_folds`."""
        rows = [self._score(*self.reader.pair(*pair)) for pair in self.pairs]
        return {key: float(np.nanmean([row[key] for row in rows])) for key in rows[0]}

    def _score(self, fixed: Placed, moving: Placed) -> dict[str, float]:
        batch = {"fixed": fixed.image[None], "moving": moving.image[None]}
        ddf = self.model.predict_on_batch(batch)["ddf"]
        folds = float(np.mean(ops.convert_to_numpy(backend.compiled(jacobian_determinant)(ddf)) <= 0))
        if fixed.labels is None:
            moved = warp(moving.image[None], ddf)
            return {"valid_ncc": 1 - float(ncc(fixed.image[None], moved)[0]), "valid_folds": folds}
        moved = ops.convert_to_numpy(warp(moving.labels[None], ddf, method="nearest"))[0]
        both = 2.0 * np.sum(moved * fixed.labels, axis=(0, 1, 2), dtype="float64")
        total = np.sum(moved, axis=(0, 1, 2), dtype="float64") + np.sum(fixed.labels, axis=(0, 1, 2))
        score = np.divide(both, total, out=np.full(len(total), np.nan), where=total > 0)
        return {"valid_dice": float(np.nanmean(score)), "valid_folds": folds}


def _publish(folder: Path, recipe: Recipe, config: ModelConfig, inputs: InputConfig, checkpoint: Checkpoint) -> None:
    """Makes the run folder a zoo entry with the weights that scored best on the validation pairs."""
    weights.save(folder / "model.safetensors", checkpoint.best)
    best = checkpoint.history[checkpoint.best_epoch - 1]
    settings = recipe.training
    facts = {
        "steps": checkpoint.epoch * settings.steps_per_epoch,
        "chosen_at_step": checkpoint.best_epoch * settings.steps_per_epoch,
        "hours": round(checkpoint.seconds / 3600, 2),
        "seed": recipe.seed,
        "parent": recipe.parent,
        "backend": backend.NAME,
        "versions": {name: importlib.metadata.version(name) for name in ("keras", "numpy")} | {"regzoo": __version__},
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
