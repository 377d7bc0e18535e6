"""Recipes: everything that a training run depends on, in one strict YAML file."""

import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator

from regzoo.cache import expanded
from regzoo.errors import invalid
from regzoo.io.files import atomic_file
from regzoo.io.yaml_json import dump_yaml, parse_yaml, read_text
from regzoo.schema.augmentation import Augmentation
from regzoo.schema.card import About, Line, Name, Version
from regzoo.schema.data import KINDS, DataConfig
from regzoo.schema.inputs import InputConfig
from regzoo.schema.losses import Loss, active
from regzoo.schema.networks import ModelConfig
from regzoo.schema.registry import OneOf, those
from regzoo.schema.strict import Strict, validate

RECIPE_LIMIT = 64 * 1024


class Training(Strict):
    """Optimiser and schedule; the run is given steps or minutes."""

    steps: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Over which the learning rate's schedule goes; null: it goes over `minutes`."""
    minutes: Annotated[float, Field(gt=0, le=100_000)] | None = None
    """Over which the schedule goes instead, and all else that the run does: reading, validation, writing."""
    stop_after: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Steps after which the run ends although its schedule goes on; null: with the schedule."""
    batch_size: Annotated[int, Field(ge=1, le=256)] = 2
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 6e-4
    warmup: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Steps over which the learning rate rises from 0."""
    schedule: Literal["cosine", "constant"] = "cosine"
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share that a running average of the weights keeps in each step; it, not the last step, is scored. 0: none."""
    clip_norm: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    epsilon: Annotated[float, Field(gt=0, le=1)] = 1e-7
    """Adam's constant: a weight whose gradient is far smaller hardly moves. A pyramid's decoders gain nothing from what
    they say of both orders of a pair alike; at 1e-7 that grew until the difference drowned in its rounding."""
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    steps_per_epoch: Annotated[int, Field(ge=1, le=1_000_000)] = 250
    """A checkpoint, a validation and a log line follow each epoch."""
    frozen: tuple[Annotated[int, Field(ge=0, le=15)], ...] = ()
    """Places in the row of networks, counted from 0, of those that keep the weights of their parent."""

    @property
    def end(self) -> int | None:
        """The step after which the run ends; None: it is given minutes."""
        return self.stop_after if self.stop_after and self.stop_after < self.steps else self.steps

    @property
    def length(self) -> str:
        """How long the run is, such as `9000 steps` or `30 min`."""
        return f"{self.steps} steps" if self.steps else f"{self.minutes:g} min"

    @model_validator(mode="after")
    def _is_given_steps_or_minutes(self) -> "Training":
        if (self.steps is None) == (self.minutes is None):
            raise ValueError(f"expected steps or minutes, received {'both' if self.steps else 'neither'}. Give one")
        if self.minutes and self.stop_after:
            raise ValueError(f"stop_after: expected null in a run of minutes, received {self.stop_after}")
        return self

    @model_validator(mode="after")
    def _warmup_ends(self) -> "Training":
        if self.steps and self.warmup >= self.steps:
            raise ValueError(f"warmup ({self.warmup}) must be below steps ({self.steps})")
        return self


ModelName = Annotated[Line, StringConstraints(min_length=1)]


class Recipe(Strict):
    """One training run. `model` and `input` may be null where `parent` gives them.

    Example:
        >>> import regzoo
        >>> recipe = '''
        ... name: mine-dvf
        ... parent: hippocampus-mr-dvf
        ... data: {kind: unpaired, root: mine, labels: labels, label_values: [1, 2]}
        ... loss: {label: {dice: {}}, deformation: {gradient: {weight: 3.0}}}
        ... training: {steps: 1000, learning_rate: 1e-4}
        ... '''
        >>> regzoo.Recipe.parse(recipe, source="my recipe")  # or regzoo.Recipe.read("FILE.yaml")
        <Recipe mine-dvf@1 from hippocampus-mr-dvf: unpaired data, 1000 steps>
    """

    name: Name
    version: Version = "1"
    parent: ModelName | tuple[ModelName | None, ...] | None = None
    """Name, folder or `hf://owner/repo[@revision]` of a model to start from; a run pins it to a commit.

    A list names one for each network of the row, whose last network it starts from, or the one after `#`, counted from
    0, as in `brain-mr-dvf#0`; null: new weights."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    model: ModelConfig | None = None
    input: InputConfig | None = None
    data: Annotated[DataConfig, OneOf(KINDS, key="kind")]
    loss: Loss
    augmentation: Augmentation = Augmentation()
    training: Training
    card: About = About()

    def __repr__(self) -> str:
        parent = f" from {self.parent}" if self.parent else ""
        return f"<Recipe {self.name}@{self.version}{parent}: {self.data.kind} data, {self.training.length}>"

    def __str__(self) -> str:
        return repr(self)

    @model_validator(mode="after")
    def _has_a_model(self) -> "Recipe":
        absent = [name for name in ("model", "input") if getattr(self, name) is None]
        if not isinstance(self.parent, str) and absent:
            raise ValueError(f"{' and '.join(absent)}: expected a value, since parent is null or a list")
        if isinstance(self.parent, str) and re.search(r"#\d+$", self.parent) and not Path(self.parent).is_dir():
            raise ValueError(f"parent: expected a list where a network is named by its place, as in ['{self.parent}']")
        if isinstance(self.parent, tuple) and len(self.parent) != len(self.model.before) + 1:
            raise ValueError(
                f"parent: expected {len(self.model.before) + 1} names, one for each network, or one for all"
            )
        if self.model and self.input:
            self.input.check(self.model)
        return self

    @model_validator(mode="after")
    def _suits_its_data(self) -> "Recipe":
        if active(self.loss.known) and not self.data.knows_field:
            kinds = those(KINDS, lambda each: each.knows_field)
            raise ValueError(f"loss.known: expected data.kind {kinds}, where the field between the images is known")
        self.data.check(self)
        return self

    @classmethod
    def read(cls, path: str | os.PathLike) -> "Recipe":
        """Reads a recipe.

        Args:
            path: The YAML file.

        Returns:
            The recipe.

        Raises:
            MissingError: If there is no such file.
            InvalidError: If it is not YAML or a value is wrong: file, dotted path, expected, received.
        """
        return cls.parse(read_text(path, RECIPE_LIMIT), str(path))

    @classmethod
    def parse(cls, text: str, source: str) -> "Recipe":
        """Reads the text of a recipe; `source` is what to call it in an error. Raises InvalidError as `read` does."""
        return validate(cls, parse_yaml(text, source), source)

    def write(self, path: str | os.PathLike) -> None:
        """Writes the recipe, whole or not at all; `read` gives an equal one."""
        text = dump_yaml(self.model_dump(mode="json", exclude_none=True))
        with atomic_file(path) as temporary:
            temporary.write_text(text, encoding="utf-8", newline="\n")


def data_home(folder: str | os.PathLike | None = None) -> Path:
    """Returns the folder that `data.root` is relative to.

    Args:
        folder: The user's choice; None takes the environment variable `REGZOO_DATA`, or `data`.

    Raises:
        InvalidError: If there is no such folder.
    """
    home = expanded(folder or os.environ.get("REGZOO_DATA") or "data")
    if not home.is_dir():
        raise invalid("data home", "a folder", f"'{home}'", "Name it by --data or REGZOO_DATA.")
    return home
