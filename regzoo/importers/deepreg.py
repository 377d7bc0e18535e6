"""DeepReg's configs as recipes: of version 0.1.1 and of 1.0, one file or several merged in order.

The recipe trains regzoo's networks of the same names by the same losses, not DeepReg's to the letter: there is no batch
normalisation, images keep their millimetres, and a random affine matrix acts about the image's centre.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from regzoo.errors import invalid
from regzoo.importers.deepreg_data import count_samples, read_data
from regzoo.importers.deepreg_losses import deformation_terms, image_terms, label_terms
from regzoo.importers.deepreg_model import model
from regzoo.importers.sections import Notes, Section
from regzoo.io.files import atomic_file
from regzoo.io.yaml_json import dump_yaml, parse_yaml, read_text
from regzoo.schema.recipe import RECIPE_LIMIT, Recipe
from regzoo.schema.strict import validate


@dataclass(frozen=True)
class Imported:
    """A recipe, and notes on what of the config it does not hold, each as `dotted.path: why.`, a line each."""

    recipe: Recipe
    notes: tuple[str, ...]

    def write(self, path: str | os.PathLike) -> None:
        """Writes the recipe, with the notes as comments in front; whole or not at all."""
        comments = "".join(f"# {note}\n" for note in ("Imported from DeepReg.", *self.notes))
        text = comments + dump_yaml(self.recipe.model_dump(mode="json", exclude_none=True))
        with atomic_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")


def import_deepreg(
    paths: Sequence[str | os.PathLike],
    *,
    name: str | None = None,
    spacing: Sequence[float] | None = None,
    steps_per_epoch: int | None = None,
    data: str | os.PathLike | None = None,
) -> Imported:
    """Turns a DeepReg config into a recipe.

    Args:
        paths: YAML files, merged in order: a later one's values replace an earlier one's.
        name: Name of the recipe; by default made of the first file's name.
        spacing: Millimetres a voxel of the config's image shape, to which DeepReg resizes images whatever their extent.
            None: 1 mm along each axis, with a note.
        steps_per_epoch: Training steps in one of DeepReg's epochs; None: the training images are counted.
        data: Folder that the config's folders are relative to, for counting; see `data_home`.

    Returns:
        The recipe, and a note for every key that has no counterpart.

    Raises:
        RegzooError: If a file cannot be read, a value is wrong, a needed key is missing, the backbone or method is not
            DeepReg's own, or neither `steps_per_epoch` nor the images tell how long an epoch is.
    """
    config: dict = {}
    for path in paths:
        config = _merged(config, parse_yaml(read_text(path, RECIPE_LIMIT), str(path)))
    return translate(config, name or _name(Path(paths[0])), spacing, steps_per_epoch, data)


def translate(
    config: Mapping,
    name: str,
    spacing: Sequence[float] | None = None,
    steps_per_epoch: int | None = None,
    data: str | os.PathLike | None = None,
) -> Imported:
    """Turns a config, already read, into a recipe; see `import_deepreg`."""
    notes: Notes = []
    top = Section(config, "", notes)
    dataset, train = top.section("dataset"), top.section("train")
    top.close()
    source, shape, labelled = read_data(dataset, spacing)
    spacing = tuple(spacing or (1.0, 1.0, 1.0))
    network = model(train, spacing)
    loss = _loss(train, network["output"]["name"], labelled, spacing)
    preprocess = train.section("preprocess")
    augmentation = _augmentation(preprocess, shape, spacing)
    batch_size = preprocess.integer("batch_size")
    preprocess.leave(("shuffle_buffer_num_batch", "num_parallel_calls"), "regzoo draws every step anew")
    preprocess.close()
    if steps_per_epoch is None:
        steps_per_epoch = max(count_samples(source, data) // batch_size, 1)
    recipe = {
        "name": name,
        "model": network,
        "input": {"spacing": spacing, "shape": shape, "intensity": _INTENSITY, "alignment": "center"},
        "data": source,
        "loss": loss,
        "augmentation": augmentation,
        "training": _training(train, batch_size, steps_per_epoch),
    }
    train.close()
    return Imported(validate(Recipe, recipe, "the recipe"), tuple(notes))


_INTENSITY = {"name": "percentiles", "low": 0, "high": 100}
"""DeepReg scales each image from its minimum and maximum to 0 and 1."""


def _name(path: Path) -> str:
    return "-".join(re.findall("[a-z0-9]+", path.stem.lower()))[:64].strip("-") or "deepreg"


def _merged(old: Mapping, new: Mapping) -> dict:
    merged = dict(old)
    for key, value in new.items():
        inner = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(inner, Mapping)
        merged[key] = _merged(inner, value) if both else value
    return merged


def _loss(train: Section, output: str, labelled: bool, spacing: Sequence[float]) -> dict:
    section = train.section("loss")
    if "dissimilarity" in section:  # 0.1.1
        section.lift("dissimilarity")
    found = {}
    if output == "conditional":
        section.leave(("image", "regularization"), "a conditional model has neither a moved image nor a field")
    else:
        found = {"image": image_terms(section), "deformation": deformation_terms(section, spacing)}
    if labelled:
        found["label"] = label_terms(section)
    section.leave("label", "left out, as in DeepReg, since the training images are not labeled")
    section.close()
    return found


def _augmentation(preprocess: Section, shape: Sequence[int], spacing: Sequence[float]) -> dict:
    """Returns the recipe's augmentation; DeepReg's default, of 0.1.1 too, is a random affine matrix."""
    if not preprocess.had("data_augmentation"):
        return {"affine": 0.1}
    found = {}
    for section in preprocess.sections("data_augmentation"):
        if section.choice("name", ("affine", "ddf")) == "affine":
            scale = section.number("scale", 0.1)
            found["affine"] = min(scale, 0.33)
            if scale > 0.33:
                section.note("scale", f"{scale:g} becomes 0.33, above which a draw may mirror the image")
        else:
            found["field"] = _field(section, shape, spacing)
        section.close()
    return found


def _field(section: Section, shape: Sequence[int], spacing: Sequence[float]) -> dict:
    """Returns a random field of about the given strength and roughness: DeepReg's is linear between few vectors."""
    points = section.integers("low_res_size", (1, 1, 1))
    if len(points) != 3 or min(points) < 1:
        raise invalid(section.at("low_res_size"), "three numbers of points", points)
    distances = np.array(shape) * spacing / points
    smoothness = min(float(distances.min()), 1000.0)
    if distances.max() > 1.01 * smoothness:
        section.note("low_res_size", f"regzoo's points are equally far apart along all axes, {smoothness:g} mm here")
    strength = section.number("field_strength", 1.0) * float(np.mean(spacing))
    section.note("name", "in its place a cubic B-spline field of similar strength and smoothness, in mm")
    if strength > 0.4 * smoothness:
        section.note("field_strength", f"{strength:g} mm becomes {0.4 * smoothness:g} mm, above which a field may fold")
    return {"strength": min(strength, 0.4 * smoothness), "smoothness": smoothness}


def _training(train: Section, batch_size: int, steps_per_epoch: int) -> dict:
    optimizer = train.section("optimizer")
    name = optimizer.take("name", "Adam")
    if name in optimizer:  # 0.1.1
        optimizer.lift(name)
        optimizer.leave(("adam", "sgd", "rms"), "settings of an optimizer that is not used")
    if str(name).lower() != "adam":
        optimizer.note("name", f"regzoo trains by Adam and not by {name}; its learning rate may not suit")
    rate = optimizer.number("learning_rate", 1e-3)
    adam = str(name).lower() == "adam"  # others' epsilon, RMSprop's, means another thing
    epsilon = {"epsilon": optimizer.number("epsilon")} if adam and "epsilon" in optimizer else {}
    for key in ("beta_1", "beta_2", "epsilon", "amsgrad", "momentum", "nesterov", "rho", "decay"):
        optimizer.leave(key, "regzoo's Adam has Keras's own value")
    optimizer.close()
    epochs, period = train.integer("epochs"), train.integer("save_period", 1)
    train.leave("update_freq", "regzoo logs whenever it saves")
    return {
        "steps": epochs * steps_per_epoch,
        "steps_per_epoch": min(period, epochs) * steps_per_epoch,
        "batch_size": batch_size,
        "learning_rate": rate,
        "schedule": "constant",
        **epsilon,
    }
