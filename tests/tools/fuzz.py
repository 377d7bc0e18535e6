"""Hostile cards, configs, weights, recipes and NIfTI headers: each ends in a clean error or a correct load.

Many of them go through the command line too, where each must end without a traceback: in one line, if refused.
`python tests/tools/fuzz.py [COUNT]` prints how many there were, the slowest, and the peak of memory.
"""

import contextlib
import gzip
import io
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from typer.main import get_command

sys.path.append(str(Path(__file__).resolve().parents[1] / "helpers"))
import tiny_run

from regzoo import backend, cli, hub
from regzoo.errors import RegzooError
from regzoo.hub import cards
from regzoo.io.yaml_json import dump_yaml, parse_json
from regzoo.models import build, weights
from regzoo.schema.recipe import Recipe
from regzoo.world.images import Image

SEED, COUNT = 5, 10_000
COMMAND_LINE = get_command(cli.app)
AT_THE_COMMAND_LINE = {"card": 1, "config": 20, "weights": 20, "recipe": 10, "nifti": 1, "nifti.gz": 1}
"""One of so many; a network is built for each config, weights and most recipes."""
HOSTILE = (
    *(10**9, 10**30, -1, 0, 0.5, 1e308, True, None, "", "x" * 5000, "../x", "/etc/passwd", "\x00\x1b[2J", "hf://a/b"),
    *([], {}, [[[[]]]], {"class_name": "Lambda", "config": {}}, "!!python/object/apply:os.system [id]", [1] * 1000),
)
TOKENS = (
    b"999999999",
    b"-1",
    b"null",
    b"{",
    b"]",
    b"\x00",
    b"\xff\xfe",
    b"&a *a",
    b"!!python/name:os.system",
    b"NaN",
    b"1_0",
    b"1e999",
)


class Kinds:
    """For every kind of input: a sound one as bytes, and what reads it."""

    def __init__(self, folder):
        self.folder, recipe = folder, tiny_run.recipe()
        self.model = build(recipe.model)
        values = weights.arrays(self.model.variables)
        weights.save(folder / cards.WEIGHTS, values)
        (folder / cards.CONFIG).write_text(recipe.model.model_dump_json())
        card = cards.Card(name="tiny-ddf", version="1", input=recipe.input, files=cards.manifest(folder))
        cards.write(folder, card, "# tiny")
        recipe.write(folder / cards.RECIPE)
        nibabel.save(nibabel.Nifti1Image(np.arange(60, dtype="float32").reshape(3, 4, 5), np.eye(4)), folder / "x.nii")
        self.built = set()
        (folder / "empty").mkdir()
        (folder / "parent").mkdir()
        child = recipe.model_copy(update={"model": None, "input": None, "parent": str(folder / "parent")})
        child.write(folder / "child.yaml")
        raw = (folder / "x.nii").read_bytes()
        self.sound = {
            "card": ((folder / cards.README).read_bytes(), self.card),
            "config": ((folder / cards.CONFIG).read_bytes(), self.config),
            "weights": ((folder / cards.WEIGHTS).read_bytes(), self.weights),
            "recipe": ((folder / cards.RECIPE).read_bytes(), self.recipe),
            "nifti": (raw, lambda data: self.nifti(data, "y.nii")),
            "nifti.gz": (raw, lambda data: self.nifti(gzip.compress(data, 1), "y.nii.gz")),
        }

    def command(self, kind):
        """The command that reads what was written last; whatever that holds, it ends before anything is computed."""
        fine_tune = ["finetune", "--data", str(self.folder / "empty"), "--output", str(self.folder / "run")]
        match kind:
            case "card":
                return ["show", str(self.folder / "entry")]
            case "recipe":
                return [*fine_tune, str(self.folder / "other.yaml")]
            case "nifti" | "nifti.gz":
                file = self.folder / kind.replace("nifti", "y.nii")
                return ["register", str(file), str(self.folder / "none.nii"), "--method", "affine"]
        parent, sound = self.folder / "parent", self.folder
        hostile = sound / "entry" / cards.CONFIG if kind == "config" else sound / "other.safetensors"
        shutil.copy(hostile if kind == "config" else sound / cards.CONFIG, parent / cards.CONFIG)
        shutil.copy(hostile if kind == "weights" else sound / cards.WEIGHTS, parent / cards.WEIGHTS)
        cards.write(parent, cards.read(sound).model_copy(update={"files": cards.manifest(parent)}), "# tiny")
        return [*fine_tune, str(self.folder / "child.yaml")]

    def card(self, data):
        entry = self.folder / "entry"
        entry.mkdir(exist_ok=True)
        (entry / cards.README).write_bytes(data)
        hub.verify(entry.parent, cards.read(entry))

    def config(self, data):
        (self.folder / "entry").mkdir(exist_ok=True)
        (self.folder / "entry" / cards.CONFIG).write_bytes(data)
        config = cards.read_config(self.folder / "entry")
        if config not in self.built:
            self.built.add(config)
            weights.load(build(config), self.folder / cards.WEIGHTS)
            backend.keras.utils.clear_session()

    def weights(self, data):
        path = self.folder / "other.safetensors"
        path.write_bytes(data)
        weights.load(self.model, path)

    def recipe(self, data):
        path = self.folder / "other.yaml"
        path.write_bytes(data)
        Recipe.read(path)

    def nifti(self, data, name):
        (self.folder / name).write_bytes(data)
        Image.read(self.folder / name)


def mutated(data, draw, header):
    """Returns bytes with some of them changed, cut, repeated or overwritten by what parsers trip on."""
    data = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 3, 8))):
        end = max(min(len(data), header), 1)
        at = draw.randrange(end)
        match draw.randrange(6):
            case 0:
                data[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                data[at : at + 1] = bytes([data[at] ^ (1 << draw.randrange(8))]) if data else b"x"
            case 2:
                token = draw.choice(TOKENS)
                data[at : at + draw.choice((0, len(token)))] = token
            case 3:
                del data[at : at + draw.randrange(1, 40)]
            case 4:
                data[at : at + 2] = draw.choice((b"\xff\x7f", b"\x00\x80", b"\xff\xff", b"\x00\x00"))
            case 5:
                data[at:at] = data[at : at + draw.randrange(1, 200)]
    return bytes(data)


def places(value, path=()):
    """Yields the path of every value in a document."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def replaced(value, path, new):
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


def documents(document):
    """Documents like a sound one, with values of other kinds, sizes and signs in some places."""
    trees = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=8,
    )
    numbers = st.integers(1, 600)
    hostile = st.sampled_from(HOSTILE) | numbers | st.lists(numbers, min_size=2, max_size=7) | trees
    change = st.tuples(st.sampled_from(list(places(document))[1:]), hostile)

    def changed(changes):
        value = document
        for path, new in changes:
            try:
                value = replaced(value, path, new)
            except (KeyError, IndexError, TypeError):
                continue  # an earlier change took the place away
        return value

    return st.lists(change, min_size=1, max_size=3).map(changed)


def generate(document, count, use):
    """Calls `use` with hypothesis's variants of a document, the same ones each time."""

    @seed(SEED)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(documents(document))
    def examine(value):
        use(value)

    examine()


def check_command(command, data):
    code = 0
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as told:
        try:
            COMMAND_LINE.main(command, prog_name="regzoo")
        except SystemExit as ended:
            code = ended.code
        except Exception as error:
            raise AssertionError(f"{command}: {data[:4000]!r}") from error
    said = told.getvalue()
    if code and (code, said[:7], said.count("\n")) != (1, "error: ", 1):
        raise AssertionError(f"{command}: {data[:4000]!r}\n{said}")


def main(count):
    seen = Counter()
    report = {
        "inputs": 0,
        "commands": 0,
        "seconds": 0.0,
        "slowest": 0.0,
        "slowest_kind": "",
        "errors": Counter(),
        "loads": Counter(),
    }
    with tempfile.TemporaryDirectory() as name:
        kinds = Kinds(Path(name))

        def attempt(kind, data):
            started = time.perf_counter()
            try:
                kinds.sound[kind][1](data)
                report["loads"][kind] += 1
            except RegzooError:
                report["errors"][kind] += 1
            seen[kind] += 1
            if seen[kind] % AT_THE_COMMAND_LINE[kind] == 0:
                report["commands"] += 1
                check_command(kinds.command(kind), data)
            seconds = time.perf_counter() - started
            report["inputs"] += 1
            report["seconds"] += seconds
            if seconds > report["slowest"]:
                report["slowest"], report["slowest_kind"] = seconds, kind

        texts = {
            "card": (lambda value: f"---\n{dump_yaml(value)}---\n".encode("utf-8", "replace")),
            "config": (lambda value: json.dumps(value).encode()),
            "recipe": (lambda value: dump_yaml(value).encode("utf-8", "replace")),
        }
        share = count // 10
        for kind, write in texts.items():
            generate(sound_document(kinds, kind), share, lambda value, k=kind, w=write: attempt(k, w(value)))
        draw = random.Random(SEED)
        for i in range(count - report["inputs"]):
            kind = list(kinds.sound)[i % len(kinds.sound)]
            sound = kinds.sound[kind][0]
            attempt(kind, mutated(sound, draw, 352 if "nifti" in kind else 4096))
    status = Path("/proc/self/status").read_text()  # not getrusage, which counts the parent before `exec` too
    report["peak_gib"] = int(status.split("VmHWM:")[1].split()[0]) / 2**20  # Linux counts KiB
    print(json.dumps(report))


def sound_document(kinds, kind):
    """Returns the document behind a sound input, as plain values."""
    if kind == "config":
        return parse_json(kinds.sound[kind][0].decode(), kind)
    path = kinds.folder / cards.RECIPE
    value = cards.read(kinds.folder) if kind == "card" else Recipe.read(path)
    return value.model_dump(mode="json", exclude_none=True)


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"  # a hostile parent asks no server
    main(int(sys.argv[1]) if len(sys.argv) > 1 else COUNT)
