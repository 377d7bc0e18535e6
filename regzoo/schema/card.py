"""What a zoo entry says of itself: the front matter of its `README.md`."""

import re
import unicodedata
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue, StringConstraints, field_validator

from regzoo.schema.inputs import InputConfig
from regzoo.schema.strict import Strict

README, CONFIG, WEIGHTS, RECIPE, SCORES = "README.md", "config.json", "model.safetensors", "recipe.yaml", "scores.json"
REQUIRED = (CONFIG, WEIGHTS)
"""Files that a model cannot be loaded without: a card must list them, or they would be read unverified."""
WEIGHTS_LIMIT = 2**27
ENTRY_LIMIT = 4 * WEIGHTS_LIMIT + 2**26
"""Bytes of all files of an entry: the weights of the largest network in single precision, and what lies beside them."""
"""The most weights, roughly counted, that a config may ask for: half a gigabyte."""


def _printable(text: str) -> str:
    hidden = ("Cf", "Zl", "Zp")  # what turns or hides text in a terminal
    shown = text.isascii() or not any(unicodedata.category(c) in hidden for c in text)
    if not shown or re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", text):
        raise ValueError("expected text without control characters")
    return text


def _printable_value(value: JsonValue) -> JsonValue:
    """Refuses hidden characters anywhere in lists and mappings."""
    if isinstance(value, str):
        return _printable(value)
    for each in (*value, *value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ():
        _printable_value(each)
    return value


_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(1, 10))}
"""What Windows takes for a device, whatever follows a dot."""


def _plain(path: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", path):
        raise ValueError(f"expected a plain file name inside the folder, received {path!r}")
    if path.endswith(".") or path.partition(".")[0].upper() in _DEVICES:
        raise ValueError(f"expected a name that is a file on every system, received {path!r}")
    if path.lower() == README.lower():
        raise ValueError("the card cannot list itself")
    return path


Text = Annotated[str, StringConstraints(max_length=4000), AfterValidator(_printable)]
Line = Annotated[Text, StringConstraints(max_length=400, pattern=r"^[^\n]*$")]
Name = Annotated[str, StringConstraints(max_length=64, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Version = Annotated[str, StringConstraints(max_length=16, pattern=r"^[0-9]+(\.[0-9]+)*$")]
License = Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9.+-]*$")]
Url = Annotated[Line, StringConstraints(pattern=r"^https?://\S+$")]
Dataset = Annotated[str, StringConstraints(max_length=200, pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")]
"""The owner/name of the same data among the data sets of Hugging Face, if it is there."""
Count = Annotated[int, Field(ge=1, le=10**9)]


class FileEntry(Strict):
    """One file of a zoo entry, as it must be."""

    path: Annotated[str, AfterValidator(_plain)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=0)]


class DataSource(Strict):
    """Data that a model was trained or scored on."""

    name: Line
    url: Url | None = None
    dataset: Dataset | None = None
    license: Line
    subjects: Count | None = None
    use: Line | None = None
    """What it served for: `train`, `valid`, `test`, or words."""


class Score(Strict):
    """One measured figure, what it was measured on and the command that prints it."""

    metric: Line
    value: float
    sd: Annotated[float, Field(ge=0)] | None = None
    unit: Line | None = None
    data: Line
    dataset: Dataset | None = None
    pairs: Count
    command: Line | None = None
    tolerance: Annotated[float, Field(ge=0, le=1)] = 1e-3
    """The largest difference of a figure that is measured again, in its unit."""
    baseline: Annotated[dict[Line, float | None], Field(default_factory=dict, max_length=32)]
    """The same figure by other means, such as `unregistered`."""

    def text(self) -> str:
        """Returns `dice 0.852 ± 0.021`; what rounds to 0 is told from 0."""
        spread = "" if self.sd is None or self.pairs == 1 else f" ± {_digits(self.sd)}"
        value = _digits(self.value)
        unit, alone = f" {self.unit}" if self.unit else "", " (1 pair)" if self.pairs == 1 else ""
        return f"{self.metric} {value}{spread}{unit}{alone}"


class Peer(Strict):
    """The best that another program (or, where none was run, this project's optimisation) reached on the same pairs."""

    name: Line
    measure: Line
    """What the two figures are: `dice`, `dice by the map, labels of at least 100 voxels`, `tre`."""
    value: float
    model: float
    """The model's own."""
    unit: Line | None = None
    seconds: Annotated[float, Field(gt=0)] | None = None
    """Of a pair; None: not measured."""
    command: Line
    """What printed the value."""

    def text(self) -> str:
        """Returns `Greedy 0.787 beside 0.820 (dice by the map), 2.4 s`."""
        unit, seconds = f" {self.unit}" if self.unit else "", f", {self.seconds:g} s" if self.seconds else ""
        return f"{self.name} {_digits(self.value)} beside {_digits(self.model)}{unit} ({self.measure}){seconds}"


class About(Strict):
    """What only a person can say of a model; a recipe may carry it, and training copies it into the card."""

    summary: Line = ""
    anatomy: Line = ""
    modality: Line = ""
    license: License | None = None
    data: Annotated[tuple[DataSource, ...], Field(max_length=64)] = ()
    limits: Annotated[tuple[Text, ...], Field(max_length=64)] = ()
    citation: Annotated[tuple[Text, ...], Field(max_length=64)] = ()


class Card(About):
    """The front matter of a zoo entry's README.md, which a Hugging Face hub reads as a model card too."""

    library_name: Literal["keras"] = "keras"
    pipeline_tag: Literal["image-to-image", "image-segmentation"] = "image-to-image"
    """The second: it finds something in one image, such as the brain in a head, and registers nothing."""
    tags: Annotated[tuple[Line, ...], Field(max_length=64)] = ("regzoo", "image-registration", "medical-imaging")
    name: Name
    version: Version
    input: InputConfig
    config: Literal["config.json"] = CONFIG
    files: Annotated[tuple[FileEntry, ...], Field(max_length=64)]
    recipe: Literal["recipe.yaml"] | None = None
    training: Annotated[
        dict[Line, Annotated[JsonValue, AfterValidator(_printable_value)]], Field(default_factory=dict, max_length=64)
    ]
    """Facts of the training run: seed, steps, hours, versions of Keras and of the backend."""
    scores: Annotated[tuple[Score, ...], Field(max_length=256)] = ()
    peer: Peer | None = None

    @field_validator("files")
    @classmethod
    def _listed_once_and_complete(cls, files: tuple[FileEntry, ...]) -> tuple[FileEntry, ...]:
        names = [file.path.lower() for file in files]
        if len(set(names)) < len(names):
            raise ValueError("a file is listed twice")
        size = sum(file.bytes for file in files)
        if size > ENTRY_LIMIT:
            raise ValueError(f"expected files of at most {ENTRY_LIMIT} bytes in all, received {size}")
        absent = [name for name in REQUIRED if name not in [file.path for file in files]]
        if absent:
            raise ValueError(f"{' and '.join(absent)} must be listed")
        return files

    def __repr__(self) -> str:
        spacing = " x ".join(f"{value:.4g}" for value in self.input.spacing)
        axes = self.input.axes if len(self.input.shape) == 3 else "slices"
        grid = f"{self.input.shape}, {spacing} mm, {axes}"
        about = ", ".join(each for each in (self.anatomy, self.modality) if each)
        return f"<Card {self.id}: {', '.join(each for each in (about, grid, self.headline) if each)}>"

    def __str__(self) -> str:
        return repr(self)

    @property
    def headline(self) -> str:
        """The first score as text, `dice 0.852 ± 0.021`, empty if there is none."""
        return self.scores[0].text() if self.scores else ""

    @property
    def id(self) -> str:
        """`name@version`, which never means other weights."""
        return f"{self.name}@{self.version}"

    @property
    def registers(self) -> bool:
        """Whether it registers two images."""
        return self.pipeline_tag == "image-to-image"

    @property
    def digest(self) -> str:
        """The sha256 of its weights."""
        return next(file.sha256 for file in self.files if file.path == WEIGHTS)

    @property
    def size(self) -> int:
        """Bytes of all listed files."""
        return sum(file.bytes for file in self.files)


def _digits(value: float) -> str:
    return f"{value:.2g}" if 0 < abs(value) < 5e-4 else f"{value:.3f}"
